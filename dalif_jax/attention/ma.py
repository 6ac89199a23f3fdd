"""MA (MA-SNN, Yao et al., TPAMI 2023): factors in time (T), over channels (C) and in space (S).

    f(v) = W2 relu(W1 v)                         no biases
    T    d[t] = sigmoid(f(mean) + f(max))        of each timestep's values
    C    d[c] = sigmoid(f(mean) + f(max))        of each channel's, over all timesteps
    S    d[h, w] = sigmoid(conv [mean, max])     of each place's, over all timesteps and channels
    y    = relu(S(C(T(x))))                      those that `axes` names, in its order

Each sees what the one before made. r = 5 in time on DVS128 Gesture, 2 on CIFAR10-DVS. On linear
layers T alone acts, where `axes` has it. The final rectification takes all negative currents: no
membrane is ever pushed down. The gradient of a maximum goes to the first of equal values, as in the
authors' PyTorch.

Paper: https://arxiv.org/abs/2209.13929

Certainty: code. The equations, their order and r are those of the authors' public code.

Differences:
  1. From the paper: which network of five layers gave 98.23 % on DVS128 Gesture is not public;
     PLIFNet is our choice.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.attention.piece import Attention, kernel_init, maximum, smooth, wide


class MA(Attention):
    """x [B, T, ..., C] -> the same shape, at least 0."""

    axes: str = "TCS"
    time_reduction: int = 5  # T over the width of the hidden layer
    channel_reduction: int = 8
    kernel: int = 3  # side of the convolution in space: 3 or 7 in the authors' code

    refuses_stream = "its factors come from all timesteps"

    @nn.compact
    def __call__(self, x, train: bool):
        acting = self._acting(x.ndim == 5)
        if not acting:
            return x
        y = wide(x)
        for axis in acting:
            y = y * {"T": self._time, "C": self._channels, "S": self._space}[axis](y)
        return jax.nn.relu(y).astype(x.dtype)

    def _time(self, x):
        over = tuple(range(2, x.ndim))
        # The authors' arrays are [B, T, C, H, W]: of equal values the first channel's counts.
        largest = maximum(x, (x.ndim - 1, *over[:-1]))
        d = self._factors("time", x.mean(over), largest, self.time_reduction)
        return jnp.expand_dims(d, over)

    def _channels(self, x):
        largest = maximum(x, (1, 2, 3))
        d = self._factors("channel", x.mean((1, 2, 3)), largest, self.channel_reduction)
        return d[:, None, None, None]

    def _space(self, x):
        kernel = self.param("space", kernel_init, (self.kernel, self.kernel, 2, 1))
        pooled = jnp.stack([x.mean((1, 4)), maximum(x, (1, 4))], -1)
        return jax.nn.sigmoid(smooth(pooled, kernel))[:, None]

    def _factors(self, name, mean, largest, reduction):
        """[B, N] twice -> [B, N]."""
        n = mean.shape[-1]
        w1 = self.param(f"{name}_down", kernel_init, (n, n // reduction))
        w2 = self.param(f"{name}_up", kernel_init, (n // reduction, n))
        f = lambda v: jax.nn.relu(v @ w1) @ w2  # noqa: E731
        return jax.nn.sigmoid(f(mean) + f(largest))

    @nn.nowrap
    def _acting(self, in_space):
        return self.axes if in_space else "T" * ("T" in self.axes)

    @nn.nowrap
    def misfit(self, timesteps):
        if not self.axes or set(self.axes) - set("TCS") or len(set(self.axes)) < len(self.axes):
            return f"attention_options.axes={self.axes!r}: some of T, C and S expected, once each"
        for key in ("time_reduction", "channel_reduction", "kernel"):
            if getattr(self, key) < 1:
                return f"attention_options.{key}={getattr(self, key)} must be at least 1"
        if self.kernel % 2 == 0:
            return f"attention_options.kernel={self.kernel} must be odd"
        if "T" in self.axes and timesteps < self.time_reduction:
            return (
                f"attention_options.time_reduction={self.time_reduction} needs at least as many "
                f"timesteps, and timesteps={timesteps}"
            )
        return ""

    @nn.nowrap
    def macs(self, shape):
        T, *size, C = shape
        each = {
            "T": 4 * T * (T // self.time_reduction),
            "C": 4 * C * (C // self.channel_reduction),
            "S": math.prod(size) * 2 * self.kernel**2,
        }
        return sum(each[axis] + math.prod(shape) for axis in self._acting(bool(size)))
