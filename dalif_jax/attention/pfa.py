"""PFA (Deng et al., "Tensor decomposition based attention module for SNNs", 2024): a factor for
every value, a sum of R products of a map in space, one in time and one over channels.

    S_r[h, w] = sigmoid(conv_r of the mean over channels)     3x3, T -> R, bias
    U_r[t]    = sigmoid(linear_r of the means over space)     C -> R, bias, the same for all t
    V_r[c]    = sigmoid(linear_r of the means over space)     T -> R, bias, the same for all c
    y         = relu(x sum_r w_r S_r U_r V_r)

It acts on what pools give, in front of the next convolution (`model_options.pool_attention`);
linear layers pass unchanged. A network with it is tied to its T.

Paper: https://arxiv.org/abs/2310.14576

Certainty: code. The equations are those of the authors' public code, whose w are softmaxed and
never trained: 1 / R each, as here.

Differences:
  1. From the authors' code: `learn_weights=True`, w by gradient, is ours.
  2. From the authors' code: that for generating images has no w, a plain sum; it is not here.
  3. From the paper: where it acts in ResNet-19, and with which R, is not public; in front of each
     stage (`model_options.stage_attention`) and R = 8 are our choice.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.attention.piece import Attention, bias_init, kernel_init, smooth, wide


class PFA(Attention):
    """x [B, T, H, W, C] -> the same shape, from 0 to max(x, 0)."""

    rank: int = 8
    learn_weights: bool = False  # w, softmaxed, by gradient

    refuses_stream = "its factors come from all timesteps"

    @nn.compact
    def __call__(self, x, train: bool):
        if x.ndim == 3:
            return x
        T, R = x.shape[1], self.rank
        y = wide(x)
        means = y.mean((2, 3))
        maps = jnp.moveaxis(y.mean(4), 1, -1)
        space = smooth(maps, self.param("space", kernel_init, (3, 3, T, R)))
        space = jax.nn.sigmoid(space + self.param("space_bias", bias_init(9 * T), (R,)))
        time = self._linear("time", means)
        channel = self._linear("channel", means.swapaxes(1, 2))
        w = self.param("weights", nn.initializers.ones, (R,), jnp.result_type(float))
        w = jax.nn.softmax(w if self.learn_weights else jax.lax.stop_gradient(w))
        factor = jnp.einsum("bhwr,btr,bcr,r->bthwc", space, time, channel, w.astype(y.dtype))
        return jax.nn.relu(factor * y).astype(x.dtype)

    def _linear(self, name, x):
        """[B, N, M] -> sigmoid [B, N, R]."""
        kernel = self.param(name, kernel_init, (x.shape[-1], self.rank))
        bias = self.param(f"{name}_bias", bias_init(x.shape[-1]), (self.rank,))
        return jax.nn.sigmoid(x @ kernel + bias)

    @nn.nowrap
    def misfit(self, timesteps):
        return "" if self.rank >= 1 else f"attention_options.rank={self.rank} must be at least 1"

    @nn.nowrap
    def macs(self, shape):
        T, *size, C = shape
        if not size:
            return 0
        places = math.prod(size)
        # The maps of space, of time and of channels; then w, three products and a sum a value.
        return self.rank * (9 * T * places + 2 * T * C + 3 * math.prod(shape)) + math.prod(shape)
