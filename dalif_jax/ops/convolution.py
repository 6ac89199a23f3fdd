"""Convolution in the form that is fast where it runs: the compiler's, or products on a CPU.

XLA:CPU is at the speed of a matrix product for convolutions of large maps, but its weight gradients
run at a quarter of it, and everything of small maps with many channels at a half; on 2x2 maps with
512 channels it drops to a hundredth. There convolutions are sums of products (products.py), by
shape. `jax.lax.platform_dependent` decides while lowering, so programs for GPU and TPU never hold
these forms. A CPU that does not multiply bfloat16 takes those of float32, and rounds their results.
"""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from dalif_jax.ops import products
from dalif_jax.ops.recompute import axes_of

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
    if feature_group_count == 1 and all(d == 1 for pair in dilations for d in pair):
        y = _convolve(x, axes_of(x, kernel), tuple(strides), tuple(map(tuple, padding)))
    else:
        y = lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=LAYOUT,
            feature_group_count=feature_group_count, **kwargs,
        )  # fmt: skip
    return checkpoint_name(y, CONVOLUTIONS)


@functools.cache
def multiplies_bfloat16():
    """Whether this machine's CPU has products of bfloat16. Elsewhere the compiler makes them of
    float32, and what is fast for 16 bits is slower than float32 itself."""
    info = Path("/proc/cpuinfo")
    return info.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(info.read_text().split())


def _multiplied(dtype):
    """The dtype in which this machine's CPU multiplies numbers of `dtype`."""
    return jnp.float32 if dtype == jnp.bfloat16 and not multiplies_bfloat16() else dtype


def forward_form(x_shape, kernel_shape, strides, padding, dtype=jnp.float32):
    """compiler, products.products or .written: the fastest on a CPU."""
    if kernel_shape[:2] == (1, 1):
        return compiler if any(map(any, padding)) else products.products
    if _short(dtype):
        return products.written
    size = products.output_size(x_shape, kernel_shape, strides, padding)
    if max(size) <= 2:
        return products.products
    # Each of a kernel's products reads and writes all of the output, which must be worth it.
    values = x_shape[0] * size[0] * size[1] * kernel_shape[3]
    channels = 128 if max(size) <= 8 else 256 if values <= 2**19 else math.inf
    return products.products if min(kernel_shape[2:]) >= channels else compiler


def input_form(x_shape, kernel_shape, strides, padding, dtype=jnp.float32):
    """compiler, products.products, both to be differentiated, or products.written_input: the
    fastest on a CPU for the input's gradient."""
    # A stride leaves the compiler holes to multiply.
    if max(strides) > 1 and min(kernel_shape[2:]) >= 64:
        return products.products
    if _short(dtype) and kernel_shape[:2] != (1, 1):
        if math.prod(kernel_shape) > math.prod(x_shape):  # turning it round costs more than it
            return products.products
        within = all(max(pad) < k for pad, k in zip(padding, kernel_shape, strict=False))
        return products.written_input if max(strides) == 1 and within else compiler
    return forward_form(x_shape, kernel_shape, strides, padding, dtype)


def weight_form(x_shape, kernel_shape, strides, padding, dtype=jnp.float32):
    """compiler, or products.shifted, .patches or .turned: the fastest on a CPU for the kernel's
    gradient."""
    if kernel_shape[:2] == (1, 1):
        return forward_form(x_shape, kernel_shape, strides, padding, dtype)
    if kernel_shape[2] < 16:  # written out they are few, but for a large kernel's
        return products.patches if max(kernel_shape[:2]) <= 3 else compiler
    if _short(dtype) and kernel_shape[3] >= 128:
        return products.turned
    if tuple(strides) == (1, 1):
        size = products.output_size(x_shape, kernel_shape, strides, padding)
        small = max(size) <= 2 and not _short(dtype)
        return products.products if small else products.shifted
    return products.patches if kernel_shape[2] >= 64 else compiler


def _short(dtype):
    """Of 16 bits, on a CPU that multiplies them: its products are twice as fast with them, the
    compiler's convolutions are not."""
    return jnp.dtype(dtype).itemsize == 2


# A custom derivative: each of the three has a form of its own, and differentiating through
# `platform_dependent` would keep the intermediates of all.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, strides, padding):
    form = forward_form(x.shape, kernel.shape, strides, padding, _multiplied(x.dtype))
    return _where(form, compiler, x, kernel, strides=strides, padding=padding)


def _forward(x, kernel, strides, padding):
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, gradient):
    x, kernel = residuals
    told = {"strides": strides, "padding": padding}
    shapes = x.shape, kernel.shape, strides, padding, _multiplied(x.dtype)
    own = weight_form(*shapes)

    def transposed(form, place):
        """The gradient of the argument at `place`."""

        def of(x, kernel, gradient, **told):
            return jax.vjp(functools.partial(form, **told), x, kernel)[1](gradient)[place]

        return of

    def of_kernel(x, kernel, gradient, **told):
        return own(x, gradient, kernel.shape[:2], **told).astype(kernel.dtype)

    default = [transposed(compiler, place) for place in (0, 1)]
    first = {
        compiler: default[0], products.products: transposed(products.products, 0),
        products.written_input: products.written_input,
    }  # fmt: skip
    second = {compiler: default[1], products.products: transposed(products.products, 1)}
    chosen = first[input_form(*shapes)], second.get(own, of_kernel)
    return tuple(
        _where(cpu, other, x, kernel, gradient, **told)
        for cpu, other in zip(chosen, default, strict=True)
    )


_convolve.defvjp(_forward, _backward)


def _where(cpu, default, *arguments, **told):
    dtype = arguments[0].dtype
    if _multiplied(dtype) != dtype:
        cpu = functools.partial(_widened, cpu, _multiplied(dtype))
    if cpu is default:
        return default(*arguments, **told)
    return lax.platform_dependent(
        *arguments,
        cpu=functools.partial(cpu, **told),
        default=functools.partial(default, **told),
    )


def _widened(form, wide, *arguments, **told):
    """What a form gives of numbers of the dtype `wide`, in that of the arguments."""
    return form(*(v.astype(wide) for v in arguments), **told).astype(arguments[0].dtype)


def compiler(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)
