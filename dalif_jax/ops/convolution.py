"""Convolution in the form that is fast where it runs: the compiler's, or products on a CPU.

XLA:CPU is at the speed of a matrix product for convolutions of large maps, but its weight gradients
run at a quarter of it, and everything of small maps with many channels at a half; on 2x2 maps with
512 channels it drops to a hundredth. There convolutions are sums of products (products.py), by
shape. `jax.lax.platform_dependent` decides while lowering, so programs for GPU and TPU never hold
these forms. benchmarks/convolution.py measures them.
"""

import functools

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from dalif_jax.ops import products

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
        y = _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))
    else:
        y = lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=LAYOUT,
            feature_group_count=feature_group_count, **kwargs,
        )  # fmt: skip
    return checkpoint_name(y, CONVOLUTIONS)


def forward_form(x_shape, kernel_shape, strides, padding):
    """compiler or products.products: the faster on a CPU."""
    if kernel_shape[:2] == (1, 1):
        return compiler if any(map(any, padding)) else products.products
    size = products.output_size(x_shape, kernel_shape, strides, padding)
    if max(size) <= 2:
        return products.products
    # Each of a kernel's products reads and writes all of the output, which must be worth it.
    values = x_shape[0] * size[0] * size[1] * kernel_shape[3]
    small = max(size) <= 8 or values <= 2**19
    return products.products if small and min(kernel_shape[2:]) >= 256 else compiler


def weight_form(x_shape, kernel_shape, strides, padding):
    """compiler, or products.shifted or .patches: the faster on a CPU for the kernel's gradient."""
    size = products.output_size(x_shape, kernel_shape, strides, padding)
    if kernel_shape[:2] == (1, 1) or max(size) <= 2:
        return forward_form(x_shape, kernel_shape, strides, padding)
    if kernel_shape[2] < 16:
        return products.patches
    return products.shifted if tuple(strides) == (1, 1) else compiler


# A custom derivative: each of the three has a form of its own, and differentiating through
# `platform_dependent` would keep the intermediates of all.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, strides, padding):
    form = forward_form(x.shape, kernel.shape, strides, padding)
    return _where(form, compiler, x, kernel, strides=strides, padding=padding)


def _forward(x, kernel, strides, padding):
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, gradient):
    x, kernel = residuals
    told = {"strides": strides, "padding": padding}

    def of_input(x, kernel, gradient, **told):
        return jax.vjp(lambda x: compiler(x, kernel, **told), x)[1](gradient)[0]

    def of_kernel(x, kernel, gradient, **told):
        return jax.vjp(lambda kernel: compiler(x, kernel, **told), kernel)[1](gradient)[0]

    def input_by_products(x, kernel, gradient, **told):
        return jax.vjp(lambda x: products.products(x, kernel, **told), x)[1](gradient)[0]

    def kernel_by_products(x, kernel, gradient, **told):
        form = weight_form(x.shape, kernel.shape, strides, padding)
        if form is products.products:
            return jax.vjp(lambda k: form(x, k, **told), kernel)[1](gradient)[0]
        return form(x, gradient, kernel.shape[:2], **told).astype(kernel.dtype)

    given = x, kernel, gradient
    by_products = forward_form(x.shape, kernel.shape, strides, padding) is not compiler
    # A stride leaves the compiler holes to multiply.
    by_products |= max(strides) > 1 and min(kernel.shape[2:]) >= 64
    first = _where(input_by_products if by_products else of_input, of_input, *given, **told)
    own = weight_form(x.shape, kernel.shape, strides, padding) is not compiler
    return first, _where(kernel_by_products if own else of_kernel, of_kernel, *given, **told)


_convolve.defvjp(_forward, _backward)


def _where(cpu, default, *arguments, **told):
    if cpu is default:
        return default(*arguments, **told)
    return lax.platform_dependent(
        *arguments,
        cpu=functools.partial(cpu, **told),
        default=functools.partial(default, **told),
    )


def compiler(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)
