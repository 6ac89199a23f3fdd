"""Weight gradients of bfloat16 layers, summed across devices in float32.

The compiler sums what a layer's gradient is computed in, and rounds to eight bits after every
addition on its way from device to device. Here each device's own share is computed in bfloat16, as
fast as before, and widened before the sum. (A gradient computed in float32 at once would also do,
but XLA then widens the activations on GPUs: twice the memory, and no tensor cores.)
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

BATCH = PartitionSpec("data")
WHOLE = PartitionSpec()


def widely_summed(apply, mesh):
    """`apply(x, weights)` for weights wider than x, whose gradient is summed in their dtype.

    Args:
      apply: linear in both, weights in x's dtype; x's first axis is the batch, sharded over `data`.
      mesh: of the devices.
    Returns:
      A function of (x, weights); their gradients in their own dtypes.
    """

    @jax.custom_vjp
    def wide(x, weights):
        return apply(x, weights.astype(x.dtype))

    def forward(x, weights):
        # Not wide(x, weights): rematerialisation must see the name of the result it is to keep.
        return apply(x, weights.astype(x.dtype)), (x, weights)

    def backward(residuals, gradient):
        x, weights = residuals
        narrow = weights.astype(x.dtype)

        def own(x, narrow, gradient):
            (share,) = jax.vjp(lambda w: apply(x, w), narrow)[1](gradient)
            return jax.lax.psum(share.astype(weights.dtype), "data")

        total = jax.shard_map(
            own, mesh=mesh, in_specs=(BATCH, WHOLE, BATCH), out_specs=WHOLE, check_vma=False
        )
        (to_x,) = jax.vjp(lambda x: apply(x, narrow), x)[1](gradient)
        return to_x, total(x, narrow, gradient)

    wide.defvjp(forward, backward)
    return wide


def inputs_only(inputs, kernel, bias, dtype=None, inexact=True):
    """For Flax's `promote_dtype`: weights keep their dtype, for `widely_summed` to see it."""
    return inputs.astype(dtype), kernel, bias


class Conv(nn.Conv):
    """Flax's Conv, with its bias added in the parameters' dtype and its result in its own."""

    def __call__(self, x):
        return super().__call__(x).astype(self.dtype)


class Dense(nn.Dense):
    """Flax's Dense, likewise."""

    def __call__(self, x):
        return super().__call__(x).astype(self.dtype)


def layers(dtype, mesh, convolve):
    """(Conv, its keywords, Dense, its keywords) for activations of `dtype` on `mesh`.

    Plain Flax where there is nothing to sum or nothing to widen.
    """
    if mesh is None or mesh.size == 1 or jnp.dtype(dtype).itemsize > 2:
        return nn.Conv, {"conv_general_dilated": convolve}, nn.Dense, {}

    def conv(x, kernel, *arguments, **keys):
        return widely_summed(lambda x, w: convolve(x, w, *arguments, **keys), mesh)(x, kernel)

    def dot(x, kernel, dimensions, **keys):
        product = lambda x, w: jax.lax.dot_general(x, w, dimensions, **keys)  # noqa: E731
        return widely_summed(product, mesh)(x, kernel)

    return (
        Conv, {"conv_general_dilated": conv, "promote_dtype": inputs_only},
        Dense, {"dot_general": dot, "promote_dtype": inputs_only},
    )  # fmt: skip
