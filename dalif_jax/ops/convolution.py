"""Convolution in the form that is fast where it runs: the compiler's, or sums of products on CPU.

XLA:CPU runs convolutions at about 100 GFLOP/s on two cores, except on the smallest maps: on 2x2
maps with 512 channels it drops to 2, and a deep network's last stage takes most of its step. There
a convolution is written as one matrix product for each position of the kernel, over the part of the
map which that position reaches; products with padding are left out, 20 of 36 on a 2x2 map. A 1x1
convolution is one product. `jax.lax.platform_dependent` decides while lowering, so programs for GPU
and TPU never hold these forms.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

# Up to this output height and width the sum of products is the faster form on CPU.
SMALL_MAP = 2
# The name under which rematerialisation finds the outputs that are worth keeping.
CONVOLUTIONS = "convolution"
LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(
    x, kernel, strides, padding, *, dimension_numbers=None, feature_group_count=1, **kwargs
):
    """2-D cross-correlation, for `flax.linen.Conv(conv_general_dilated=convolve)`.

    Args:
      x: [N, H, W, C].
      kernel: [kh, kw, C, O], of the same dtype.
      strides: (sh, sw).
      padding: ((top, bottom), (left, right)).
      dimension_numbers: taken for the caller's sake; the layout is Flax's, named above.
      feature_group_count, **kwargs: as in `jax.lax.conv_general_dilated`; groups and dilations
        always take the compiler's form.
    Returns:
      [N, H', W', O] in x's dtype.
    """
    dilations = (kwargs.get(key) or () for key in ("lhs_dilation", "rhs_dilation"))
    ordinary = feature_group_count == 1 and all(d == 1 for pair in dilations for d in pair)
    if ordinary and _prefers_products(x.shape, kernel.shape, strides, padding):
        y = _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))
    else:
        y = lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=LAYOUT,
            feature_group_count=feature_group_count, **kwargs,
        )  # fmt: skip
    return checkpoint_name(y, CONVOLUTIONS)


def _prefers_products(x_shape, kernel_shape, strides, padding):
    if kernel_shape[:2] == (1, 1):
        return not any(map(any, padding))
    out = output_size(x_shape, kernel_shape, strides, padding)
    return max(out) <= SMALL_MAP


def output_size(x_shape, kernel_shape, strides, padding):
    """(H', W') of a convolution."""
    return tuple(
        (size + sum(pad) - k) // stride + 1
        for size, k, stride, pad in zip(
            x_shape[1:3], kernel_shape[:2], strides, padding, strict=True
        )
    )


# A custom derivative, because differentiating through `platform_dependent` would keep the
# intermediates of both forms.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, strides, padding):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(products, strides=strides, padding=padding),
        default=functools.partial(_compiler, strides=strides, padding=padding),
    )


def _forward(x, kernel, strides, padding):
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, gradient):
    def of(form):
        def transposed(x, kernel, gradient):
            return jax.vjp(functools.partial(form, strides=strides, padding=padding), x, kernel)[1](
                gradient
            )

        return transposed

    return lax.platform_dependent(*residuals, gradient, cpu=of(products), default=of(_compiler))


_convolve.defvjp(_forward, _backward)


def _compiler(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def products(x, kernel, strides, padding):
    """The sum over kernel positions of (the part of x it reaches) @ (its [C, O] weights)."""
    size = output_size(x.shape, kernel.shape, strides, padding)
    total = jnp.zeros((x.shape[0], *size, kernel.shape[-1]), x.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows, to_rows = _reach(i, x.shape[1], size[0], strides[0], padding[0][0])
            columns, to_columns = _reach(j, x.shape[2], size[1], strides[1], padding[1][0])
            part = x[:, rows, columns]
            if not part.size:
                continue
            pads = ((0, 0), to_rows, to_columns, (0, 0))
            total += jnp.pad(jnp.einsum("nhwc,co->nhwo", part, kernel[i, j]), pads)
    return total


def _reach(offset, size, out, stride, pad):
    """Which inputs kernel row `offset` meets, as a slice, and how many outputs lie before and
    after those it serves."""
    first = max(0, -(-(pad - offset) // stride))  # smallest output whose input is inside
    last = min(out - 1, (size - 1 + pad - offset) // stride)
    count = max(0, last - first + 1)
    start = first * stride + offset - pad
    return slice(start, start + (count - 1) * stride + 1 if count else start, stride), (
        first,
        out - first - count,
    )
