"""The spike's forward and its surrogate derivatives, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.surrogates import SURROGATES, spike


def test_fires_at_the_threshold_and_above():
    v = jnp.array([-1e-6, 0.0, 1e-6])
    np.testing.assert_array_equal(spike(v), [0.0, 1.0, 1.0])


def test_rectangle_is_the_papers():
    """Eq. 11 with a = 1: 1 where |v| < 1/2, else 0."""
    v = jnp.array([-0.6, -0.5, -0.49, 0.0, 0.49, 0.5, 0.6])
    derivative = jax.vmap(jax.grad(spike))(v)
    np.testing.assert_array_equal(derivative, [0, 0, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_each_surrogate_is_a_density_around_the_threshold(name, width, x64):
    """Symmetric, highest at the threshold, area 1 but for arctan's tails, known in closed form, and
    the bell, which is dampened."""
    v = jnp.arange(-200_000, 200_001) * 1e-4
    g = SURROGATES[name].derivative(v, width)
    area = {"arctan": 2 / np.pi * np.arctan(np.pi * 20.0 / width), "bell": 0.3}.get(name, 1.0)
    np.testing.assert_allclose(jnp.trapezoid(g, v), area, atol=1e-3)
    np.testing.assert_allclose(g, g[::-1], atol=1e-12)
    assert g[v.size // 2] == g.max()


def test_smooth_surrogates_are_derivatives_of_their_functions(x64):
    v = jnp.linspace(-0.45, 0.45, 91)
    smooth = {
        "arctan": lambda v: jnp.arctan(jnp.pi * v) / jnp.pi,
        "sigmoid": lambda v: jax.nn.sigmoid(4 * v),
        # The public code's form: clip to [0, 1], centre, k = 3.
        "tanh": lambda v: (
            (jnp.tanh(3 * (jnp.clip(v + 0.5, 0, 1) - 0.5)) + jnp.tanh(1.5)) / (2 * jnp.tanh(1.5))
        ),
        "triangle": lambda v: v - jnp.sign(v) * v * v / 2,
    }
    for name, f in smooth.items():
        expected = jax.vmap(jax.grad(f))(v)
        got = jax.vmap(jax.grad(lambda v, name=name: spike(v, name, 1.0)))(v)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12, err_msg=name)


def test_the_width_may_be_traced_and_of_the_shape_of_the_distance(x64):
    """One a neuron, or one that training sharpens: the slope of each, and none for the width."""
    v, widths = jnp.linspace(-0.6, 0.6, 13), jnp.linspace(0.5, 2.0, 13)
    for name, kind in SURROGATES.items():
        for strict in (False, True):

            def fired(v, width, name=name, strict=strict):
                return spike(v, name, width, strict).sum()

            slope, of_width = jax.jit(jax.grad(fired, (0, 1)))(v, widths)
            expected = [kind.derivative(x, float(w)) for x, w in zip(v, widths, strict=True)]
            np.testing.assert_allclose(slope, expected, rtol=1e-12, err_msg=name)
            assert not of_width.any()
            assert fired(jnp.zeros(3), jnp.float64(1.0)) == (0 if strict else 3)


def test_dtype_is_kept_and_spikes_are_exact_in_bfloat16():
    v = jnp.linspace(-2, 2, 101, dtype=jnp.bfloat16)
    s, gradient = spike(v), jax.vmap(jax.grad(spike))(v)
    assert s.dtype == gradient.dtype == jnp.bfloat16
    assert set(np.asarray(s, np.float32)) == {0.0, 1.0}
