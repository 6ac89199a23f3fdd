"""What an attention module is: the base that each file of this folder fills in for one of them."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp


class Attention(nn.Module):
    """A Flax module of (x [B, T, H, W, C] or [B, T, C], train) -> the same shape; its fields are
    its options.

    Its parameters are arrays of its own, no layers inside it, and `macs` says what it multiplies.
    """

    layer: ClassVar[str] = "attention"
    refuses_stream: ClassVar[str] = ""  # why it needs more than the timestep at hand

    @nn.nowrap
    def misfit(self, timesteps):
        """Why it cannot be for so many timesteps, else ""."""
        return ""

    @nn.nowrap
    def macs(self, shape):
        """Multiplications of one call on an example of `shape`, (T, H, W, C) or (T, C)."""
        return 0


def kernel_init(key, shape, dtype=None):
    """PyTorch's, uniform to 1 / sqrt(fan in), of all axes but the last."""
    return bias_init(math.prod(shape[:-1]))(key, shape, dtype)


def bias_init(fan_in):
    """PyTorch's of a bias, uniform to 1 / sqrt(fan in)."""

    def init(key, shape, dtype=None):
        bound = max(fan_in, 1) ** -0.5
        return jax.random.uniform(key, shape, dtype or jnp.result_type(float), -bound, bound)

    return init


def wide(x):
    """x in at least float32: what is averaged over many values."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def maximum(x, axes):
    """Maximum of x over `axes`. Its gradient goes to the first maximum in the order of `axes`.

    PyTorch's torch.max(dim) and AdaptiveMaxPool break ties in the same way. The derivative of
    jnp.max compares x with the maximum. XLA may compute x twice with different rounding, so that
    no position matches and the gradient is NaN. Positions from argmax cannot differ.
    """
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    first = jax.lax.stop_gradient(rows).argmax(-1, keepdims=True)
    positions = jax.lax.broadcasted_iota(first.dtype, rows.shape, rows.ndim - 1)
    return jnp.where(positions == first, rows, 0).sum(-1)


def smooth(maps, kernel):
    """[B, H, W, M] through a convolution [k, k, M, N] with as much padding: [B, H, W, N]."""
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        maps, kernel.astype(maps.dtype), (1, 1), ((pad, pad),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
