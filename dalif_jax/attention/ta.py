"""TA (TA-SNN, Yao et al., ICCV 2021): a factor for each timestep, from the currents of all.

    m[t] = mean of x[t] over space and channels
    d    = sigmoid(W2 relu(W1 m + b1) + b2)      W1 [T / r, T], W2 [T, T / r]
    y[t] = d[t] x[t]

The authors' code has it in front of every neuron layer, linear ones too, and r = 16 on DVS128
Gesture, 5 on CIFAR10-DVS. A network with it is tied to its T.

Paper: https://arxiv.org/abs/2107.11711

Certainty: code. The equations and r are those of the authors' public code.

Differences:
  1. From the paper: that frames of a low score may be dropped is not in the authors' code, and not
     here.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.attention.piece import Attention, bias_init, kernel_init, wide


class TA(Attention):
    """x [B, T, ..., C] -> the same shape."""

    reduction: int = 16  # T over the width of the hidden layer

    refuses_stream = "its factors come from all timesteps"

    @nn.compact
    def __call__(self, x, train: bool):
        T = x.shape[1]
        hidden = T // self.reduction
        w1 = self.param("down", kernel_init, (T, hidden))
        b1 = self.param("down_bias", bias_init(T), (hidden,))
        w2 = self.param("up", kernel_init, (hidden, T))
        b2 = self.param("up_bias", bias_init(hidden), (T,))
        m = wide(x).mean(tuple(range(2, x.ndim)))
        d = jax.nn.sigmoid(jax.nn.relu(m @ w1 + b1) @ w2 + b2)
        return x * jnp.expand_dims(d, tuple(range(2, x.ndim))).astype(x.dtype)

    @nn.nowrap
    def misfit(self, timesteps):
        if self.reduction < 1:
            return f"attention_options.reduction={self.reduction} must be at least 1"
        if timesteps < self.reduction:
            return (
                f"attention_options.reduction={self.reduction} needs at least as many timesteps, "
                f"and timesteps={timesteps}"
            )
        return ""

    @nn.nowrap
    def macs(self, shape):
        T = shape[0]
        return 2 * T * (T // self.reduction) + math.prod(shape)
