"""The CPU's products against the compiler's convolution, and where which is taken."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.ops import convolution, products

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


def gradients(form, g, x, weights, strides, padding):
    y, pull = jax.vjp(lambda x, w: form(x, w, strides, padding), x, weights)
    return y, *pull(g)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 2**22])
def test_products_are_the_convolution_and_so_are_their_gradients(x64, monkeypatch, shape, size):
    """In bands of few rows and of all."""
    monkeypatch.setattr(products, "BYTES", size)
    x, weights, *rest = given = arguments(*shape)
    g = jnp.asarray(np.random.default_rng(1).normal(size=convolution.compiler(*given).shape))
    expected = gradients(convolution.compiler, g, *given)
    for form in (products.products, convolution.convolve):
        for a, b in zip(gradients(form, g, *given), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(products.written(*given), expected[0], rtol=0, atol=1e-12)
    forms = (products.patches, products.turned)
    if rest[0] == (1, 1):
        forms += (products.shifted,)
        found = products.written_input(x, weights, g, *rest)
        np.testing.assert_allclose(found, expected[1], rtol=0, atol=1e-12)
    for form in forms:
        found = form(x, g, weights.shape[:2], *rest)
        np.testing.assert_allclose(found, expected[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [((0, 1), (2, 0)), ((2, 0), (0, 0)), ((3, 3), (3, 3))])
def test_any_padding(x64, padding):
    x, weights, strides, _ = arguments(6, 5, 3, 1, 1)
    g = jnp.asarray(np.random.default_rng(1).normal(
        size=convolution.compiler(x, weights, strides, padding).shape
    ))  # fmt: skip
    expected = gradients(convolution.compiler, g, x, weights, strides, padding)
    for form in (products.shifted, products.patches, products.turned):
        found = form(x, g, weights.shape[:2], strides, padding)
        np.testing.assert_allclose(found, expected[2], rtol=0, atol=1e-12)
    for a, b in zip(
        gradients(convolution.convolve, g, x, weights, strides, padding), expected, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_sums_of_bfloat16_are_float32():
    x, _, strides, padding = arguments(16, 16, 3, 1, 1)
    x, g = (jnp.abs(v).astype(jnp.bfloat16) for v in (x, x[..., :3]))
    exact = products.shifted(*(v.astype(jnp.float32) for v in (x, g)), (3, 3), strides, padding)
    for form in (products.shifted, products.patches, products.turned):
        found = form(x, g, (3, 3), strides, padding)
        np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 1), (2, 0)), ((3, 3), (3, 3))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("multiplies", [True, False])
def test_bfloat16_is_rounded_once(monkeypatch, multiplies, padding, stride):
    """Each of the three is what float32 gives of the same numbers, rounded to 16 bits, whether or
    not the CPU multiplies them."""
    monkeypatch.setattr(convolution, "multiplies_bfloat16", lambda: multiplies)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 8, 6, 16)), jnp.bfloat16)
    weights = jnp.asarray(rng.normal(size=(3, 3, 16, 5)), jnp.bfloat16)
    given = x, weights, (stride, stride), padding
    wide = (*(v.astype(jnp.float32) for v in given[:2]), *given[2:])
    y = convolution.compiler(*wide)
    g = jnp.asarray(rng.normal(size=y.shape), jnp.bfloat16)
    expected = gradients(convolution.compiler, g.astype(jnp.float32), *wide)
    found = gradients(convolution.convolve, g, *given)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8, atol=1e-4)


# images, side, channels in and out, kernel, stride.
@pytest.mark.parametrize(
    ("case", "forward", "weight"),
    [
        ((32, 32, 64, 64, 3, 1), "compiler", "shifted"),
        ((16, 16, 256, 256, 3, 1), "compiler", "shifted"),
        ((8, 16, 256, 256, 3, 1), "products", "shifted"),
        ((8, 8, 512, 512, 3, 1), "products", "shifted"),
        ((32, 8, 128, 128, 3, 1), "products", "shifted"),
        ((32, 2, 64, 64, 3, 1), "products", "products"),
        ((16, 32, 3, 64, 3, 1), "compiler", "patches"),
        ((1, 224, 3, 64, 7, 2), "compiler", "compiler"),
        ((4, 56, 64, 128, 3, 2), "compiler", "patches"),
        ((4, 56, 32, 64, 3, 2), "compiler", "compiler"),
        ((32, 4, 256, 512, 3, 2), "products", "patches"),
        ((4, 28, 128, 256, 3, 2), "compiler", "patches"),
        ((4, 56, 64, 128, 1, 2), "products", "products"),
    ],
)
def test_the_form_is_chosen_by_the_shape(case, forward, weight):
    images, size, channels, out, kernel, stride = case
    given = (images, size, size, channels), (kernel, kernel, channels, out), (stride, stride)
    padding = ((kernel // 2,) * 2,) * 2
    assert convolution.forward_form(*given, padding).__name__ == forward
    assert convolution.weight_form(*given, padding).__name__ == weight
    short = convolution.forward_form(*given, padding, jnp.bfloat16)
    assert short == (products.products if kernel == 1 else products.written)


def gradient(x, weights, strides, padding):
    total = lambda x, w: convolution.convolve(x, w, strides, padding).sum()  # noqa: E731
    return jax.jit(jax.grad(total, (0, 1))).trace(x, weights)


@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize("channels", [4, 256])  # float32's form: the compiler's, products
def test_a_cpu_multiplies_bfloat16_where_it_can(monkeypatch, multiplies, channels):
    monkeypatch.setattr(convolution, "multiplies_bfloat16", lambda: multiplies)
    x, weights = jnp.ones((8, 16, 16, channels)), jnp.ones((3, 3, channels, channels))
    x, weights = (v.astype(jnp.bfloat16) for v in (x, weights))
    traced = gradient(x, weights, (1, 1), ((1, 1), (1, 1)))
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    found = re.findall(r"stablehlo\.(?:convolution|dot_general).*: \(tensor<[^>]*x(\w+)>", text)
    assert set(found) == {"bf16" if multiplies else "f32"} and len(found) >= 2


def test_other_platforms_keep_the_compilers_form():
    def holds(traced, platform):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return "stablehlo.convolution" in text, "stablehlo.dot_general" in text

    large, small = (gradient(*arguments(size, size, 3, 1, 1)) for size in (8, 2))
    assert holds(large, "cpu") == (True, True)
    assert holds(small, "cpu") == (False, True)
    for platform in ("cuda", "tpu"):
        for traced in (large, small):
            assert holds(traced, platform) == (True, False)
