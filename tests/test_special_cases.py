"""What a neuron is where its numbers make it another: the same spikes, on drawn currents."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import neurons


def draw(timesteps=6, shape=(3, 5)):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(0.8, 1.5, (shape[0], timesteps, *shape[1:])))


def logit(p):
    return jnp.log(p / (1 - p))


def test_plif_is_a_leaky_neuron_with_both_decays_tied(x64):
    x, q = draw(), 0.3
    plif = neurons.simulate(neurons.options("plif"), {"w": logit(q)}, x)
    lif = neurons.simulate(neurons.options("lif", alpha=q, beta=1 - q), {}, x)
    np.testing.assert_array_equal(plif[1], lif[1])
    np.testing.assert_allclose(plif[2][0], lif[2][0], rtol=1e-12)
    assert 0.02 < plif[1].mean() < 0.9


def test_glif_with_its_gates_open_is_a_leaky_neuron(x64):
    """A = G = 1, c = 1: h = tau h (1 - s) + x, hard reset; V the threshold."""
    x, far = draw(), jnp.float64(60.0)
    raw = {"gate_a": far, "gate_b": far, "gate_g": far, "leak": logit(0.06), "drop": logit(0.5),
           "tau": logit(0.25), "v": logit(0.5), "c": jnp.full(6, far)}  # fmt: skip
    options = neurons.options("glif")
    _, s, (h, v) = neurons.simulate(options, raw, x)
    _, expected, (membranes, _) = neurons.simulate(
        neurons.options("lif", alpha=1.0, beta=0.25, threshold=0.5), {}, x
    )
    np.testing.assert_array_equal(s, expected)
    np.testing.assert_allclose(h, membranes, atol=1e-12)
    np.testing.assert_allclose(v, 0.5)
    # G = 0: what a spike takes away is `drop`, whatever the membrane.
    h, s, expected = np.zeros((3, 5)), np.zeros((3, 5)), []
    for t in range(6):
        h = 0.25 * h + np.asarray(x[:, t]) - 0.4 * s
        s = (h > 0.5).astype(float)
        expected.append(s)
    soft = raw | {"gate_g": -far, "drop": logit(0.4)}
    got = neurons.simulate(options, soft, x)[1]
    np.testing.assert_array_equal(got, np.stack(expected, 1))


def test_alif_that_does_not_adapt_is_reset_by_its_threshold(x64):
    x = draw()
    options = neurons.options("alif", decay=0.5, adaptation=0.0, threshold=0.4)
    h, s, expected = np.zeros((3, 5)), np.zeros((3, 5)), []
    for t in range(6):
        h = 0.5 * h + 0.5 * np.asarray(x[:, t]) - 0.4 * s
        s = (h > 0.4).astype(float)
        expected.append(s)
    np.testing.assert_array_equal(neurons.simulate(options, {}, x)[1], np.stack(expected, 1))


# (neuron, options, numbers) and the leaky neuron's options that it then is, on any current.
IS_LIF = {
    "lsg, b frozen": ("lsg", {}, {"b": math.log(0.3 / 0.7)}, {"beta": 0.3}),
    "ltmd, w frozen": ("ltmd", {}, {"w": math.atanh(0.7)}, {"threshold": 0.7}),
    "mlf, one threshold": ("mlf", {"thresholds": (0.9, math.inf, math.inf)}, {},
                           {"threshold": 0.9}),
    "klif, k = 1": ("klif", {}, {"k": 1.0}, {"alpha": 0.5, "beta": 0.5}),
    "imlif, no links": ("imlif", {"window": 2},
                        {"link0": [1.0] * 6, "link1": [0.0] * 6, "link2": [0.0] * 6}, {}),
    "plif, w = 0": ("plif", {}, {"w": 0.0}, {"alpha": 0.5, "beta": 0.5}),
    "folded": ("folded", {}, {"alpha": [0.8] * 5, "beta": [0.3] * 5, "V": [1.0] * 5,
                              "sign": [1.0] * 5}, {"alpha": 0.8, "beta": 0.3}),
}  # fmt: skip


@pytest.mark.parametrize("case", IS_LIF)
def test_which_is_a_leaky_neuron_when(case, x64):
    name, given, raw, lif = IS_LIF[case]
    x = draw()
    if name == "klif":
        x = jnp.abs(x)  # while membranes are not below 0
    _, s, (h, _) = neurons.simulate(
        neurons.options(name, **given), jax.tree.map(jnp.asarray, raw, is_leaf=is_list), x
    )
    _, expected, (membranes, _) = neurons.simulate(neurons.options("lif", **lif), {}, x)
    np.testing.assert_array_equal(s, expected)
    np.testing.assert_allclose(h, membranes, atol=1e-12)
    assert 0.02 < s.mean() < 0.98


def is_list(value):
    return isinstance(value, list)


def test_dalif_with_complementary_decays_is_plif(x64):
    x, q = draw(), 0.3
    both = neurons.simulate(
        neurons.options("dalif"), {"a": jnp.arctanh(q), "b": jnp.arctanh(1 - q)}, x
    )
    plif = neurons.simulate(neurons.options("plif"), {"w": logit(q)}, x)
    np.testing.assert_array_equal(both[1], plif[1])
    np.testing.assert_allclose(both[2][0], plif[2][0], atol=1e-12)


def test_a_linked_window_is_a_lower_triangular_matrix(x64):
    """i[t] = sum_s W[t, s] x[s] for s <= t, and nothing of what comes later."""
    x, rng = draw(), np.random.default_rng(3)
    options = neurons.options("imlif", window=5, threshold=1e9)
    raw = {f"link{k}": jnp.asarray(rng.normal(size=6)) for k in range(6)}
    matrix = np.zeros((6, 6))
    for t in range(6):
        for k in range(t + 1):
            matrix[t, t - k] = raw[f"link{k}"][t]
    _, _, (h, _) = neurons.simulate(options, raw, x)
    current, u = np.einsum("ts,bsc->btc", matrix, x), 0.0
    for t in range(6):
        u = 0.25 * u + current[:, t]
        np.testing.assert_allclose(h[:, t], u, atol=1e-12)


def test_diet_is_a_leaky_neuron_that_a_spike_takes_its_threshold_off(x64):
    x = draw()
    h, s, expected = np.zeros((3, 5)), np.zeros((3, 5)), []
    for t in range(6):
        h = 0.9 * (h - 0.7 * s) + np.asarray(x[:, t])
        s = (h > 0.7).astype(float)
        expected.append(s)
    raw = {"leak": jnp.asarray(0.9), "threshold": jnp.asarray(0.7)}
    np.testing.assert_array_equal(
        neurons.simulate(neurons.options("diet"), raw, x)[1], np.stack(expected, 1)
    )
    limited = neurons.NEURONS["diet"].constrain({"leak": jnp.asarray(1.2), "threshold": 0.7})
    assert limited == {"leak": 1.0, "threshold": 0.7}


# ---- Losses.
