"""The CPU's sums of products against the compiler's convolution, and where which is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.ops import convolution

# height, width, kernel, stride, padding: shapes of the networks, and odd ones.
SHAPES = [
    (2, 2, 3, 1, 1), (1, 1, 3, 1, 1), (4, 4, 3, 2, 1), (3, 2, 3, 1, 1), (5, 3, 3, 2, 1),
    (4, 4, 1, 2, 0), (7, 5, 1, 1, 0), (3, 3, 5, 2, 2), (2, 2, 7, 2, 3),
]  # fmt: skip


def arguments(height, width, kernel, stride, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, height, width, 4)))
    weights = jnp.asarray(rng.normal(size=(kernel, kernel, 4, 5)))
    return x, weights, (stride, stride), ((padding, padding),) * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_the_convolution_and_so_are_their_gradients(x64, shape):
    x, weights, strides, padding = arguments(*shape)

    def compiler(x, weights):
        return jax.lax.conv_general_dilated(
            x, weights, strides, padding, dimension_numbers=convolution.LAYOUT
        )

    g = jnp.asarray(np.random.default_rng(1).normal(size=compiler(x, weights).shape))
    expected, pull_expected = jax.vjp(compiler, x, weights)
    for form in (convolution.products, convolution.convolve):
        got, pull = jax.vjp(lambda x, w, form=form: form(x, w, strides, padding), x, weights)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
        for a, b in zip(pull(g), pull_expected(g), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_large_maps_and_other_platforms_keep_the_compilers_form():
    def gradient(x, weights, strides, padding):
        total = lambda x, w: convolution.convolve(x, w, strides, padding).sum()  # noqa: E731
        return jax.jit(jax.grad(total, (0, 1))).trace(x, weights)

    def holds(traced, platform):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return "stablehlo.convolution" in text, "stablehlo.dot_general" in text

    large = gradient(*arguments(8, 8, 3, 1, 1))
    assert holds(large, "cpu") == (True, False)
    small = gradient(*arguments(2, 2, 3, 1, 1))
    assert holds(small, "cpu") == (False, True)
    for platform in ("cuda", "tpu"):
        assert holds(small, platform) == (True, False)
