"""Neurons and losses of the compared systems, by numbers worked out elsewhere.

The numbers are those of each paper's public code, or of its equations in another program (PyTorch,
float64); gradients are of sum_t t s[t]. What every neuron must do stands below them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import losses, neurons

# name, options, raw numbers, x, membranes, spikes, {"x" or a number: gradient}.
WORKED = {
    "plif": (
        "plif", {"surrogate": "arctan", "detach_reset": True}, {"w": 0.0}, [1.2, 1.6, 0.8, 2.4],
        [0.6, 1.1, 0.4, 1.4], [0, 1, 0, 1],
        {"x": [0.6489482, 0.9101698, 0.7171756, 0.7754533], "w": 1.9067774},
    ),
    "plif, equality fires": (
        "plif", {"surrogate": "arctan", "detach_reset": True}, {"w": 0.0}, [1.2, 1.2, 1.2, 2.0],
        [0.6, 0.9, 1.05, 1.0], [0, 0, 1, 1], {},
    ),
    "glif": (
        "glif", {"gates": (0.55, 0.65, 0.55)}, None, [0.9, 0.5, 0.8, 0.4],
        [0.579375, 0.2375473, 0.6514340, 0.1890979], [1, 0, 1, 0],
        {"x": [0.4093973, 1.7966091, 1.5629770, 2.7]},
    ),
    "glif, gates half open": (
        "glif", {"gates": (0.5, 0.5, 0.5)}, None, [0.9, 0.5, 0.8, 0.4],
        [0.64375, 0.2949219, 0.7530762, 0.2540863], [1, 0, 1, 0], {},
    ),
    "alif": (
        "alif", {"threshold": 0.5}, None, [2.0] * 6,
        [0.4, 0.72, 0.476, 0.7808, 0.36264, 0.690112], [0, 1, 0, 1, 0, 0], {},
    ),
    "alif, as its code": (
        "alif", {"threshold": 0.5, "order": "official"}, None, [2.0] * 6,
        [0.4, 0.72, 0.976, 0.5008, -0.04136, 0.366912], [0, 0, 1, 1, 0, 0], {},
    ),
}  # fmt: skip


def numbers_of(options, timesteps, channels=1):
    """A layer's numbers where they start, as a run would draw them."""
    layer = neurons.SpikingNeuron(options)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, timesteps, channels)), False)
    return variables.get("params", {})


@pytest.mark.parametrize("case", WORKED)
def test_worked_numbers(case, x64):
    name, given, raw, x, membranes, spikes, gradients = WORKED[case]
    options = neurons.options(name, **given)
    x = jnp.asarray(x)[None, :, None]
    params = numbers_of(options, x.shape[1]) if raw is None else jax.tree.map(jnp.asarray, raw)

    def weighted(params, x):
        s = neurons.simulate(options, params, x)[1]
        return (s[0, :, 0] * jnp.arange(1, s.shape[1] + 1)).sum()

    _, s, (h, _) = neurons.simulate(options, params, x)
    np.testing.assert_allclose(h[0, :, 0], membranes, atol=5e-7)
    np.testing.assert_array_equal(s[0, :, 0], spikes)
    of_params, of_x = jax.grad(weighted, (0, 1))(params, x)
    for key, expected in gradients.items():
        got = of_x[0, :, 0] if key == "x" else of_params[key]
        np.testing.assert_allclose(got, expected, atol=5e-6, err_msg=key)


def test_the_adapting_threshold_by_hand(x64):
    expected = {
        "paper": [0.5, 0.5, 0.68, 0.662, 0.8258, 0.79322],
        "official": [0.5, 0.5, 0.5, 0.68, 0.842, 0.8078],
    }
    for order, thresholds in expected.items():
        options = neurons.options("alif", threshold=0.5, order=order)
        _, _, (_, seen) = neurons.simulate(options, {}, jnp.full((1, 6, 1), 2.0))
        np.testing.assert_allclose(seen[0, :, 0], thresholds, atol=1e-12)


# ---- What one is where its numbers make it another.


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


# ---- What every neuron does, whatever it is.

EVERY = {
    "glif": {"per_channel": True, "surrogate": "triangle"},
    "alif": {"threshold": 0.5, "surrogate": "bell"},
    "plif": {"surrogate": "arctan"},
    **{name: {} for name in neurons.NEURONS if name not in ("glif", "alif", "plif")},
}


def test_every_neuron_is_here():
    assert set(EVERY) == set(neurons.NEURONS)


@pytest.mark.parametrize("name", EVERY)
def test_one_pass_with_recomputation_is_the_scan(name, x64):
    """Values, and gradients of all its numbers and of x."""
    x = draw(9)
    once, scan = (
        neurons.SpikingNeuron(neurons.options(name, fused=fused, **EVERY[name]))
        for fused in (True, False)
    )
    variables = once.init(jax.random.key(0), x, False)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=x.shape))

    def pulled(layer):
        spikes, back = jax.vjp(lambda v, x: layer.apply(v, x, True), variables, x)
        return spikes, back(weights)

    (s0, g0), (s1, g1) = jax.jit(pulled, static_argnums=0)(once), pulled(scan)
    np.testing.assert_array_equal(s0, s1)
    assert 0.02 < s0.mean() < 0.9
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-11), g0, g1)


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_streams_step_by_step_or_says_why_not(name, x64):
    x = draw(5)
    layer = neurons.SpikingNeuron(neurons.options(name, **EVERY[name]))
    variables = layer.init(jax.random.key(0), x, False)
    if why := neurons.NEURONS[name].refuses.get("stream"):
        with pytest.raises(ValueError, match=f"does not stream: {why[:20]}"):
            layer.apply(variables | {"stream": {}}, x[:, :1], False, mutable=["stream"])
        return
    state, found = {}, []
    for t in range(5):
        s, new = layer.apply(variables | {"stream": state}, x[:, t : t + 1], False,
                             mutable=["stream"])  # fmt: skip
        state = new["stream"]
        found.append(s)
    np.testing.assert_array_equal(jnp.concatenate(found, 1), layer.apply(variables, x, False))


@pytest.mark.parametrize("name", EVERY)
def test_what_it_shows_has_a_value_and_a_meaning(name):
    options = neurons.options(name, **EVERY[name])
    kind, params = neurons.NEURONS[name], numbers_of(options, 4, channels=3)
    shown = kind.shown(options, params)
    assert set(kind.meanings) == set(shown)
    assert all(np.isfinite(np.asarray(value)).all() for value in shown.values())
    assert all(np.ndim(value) <= 1 for value in shown.values())


def test_only_the_input_is_kept_for_the_backward_pass_of_glif_at_16_steps():
    """By the compiler's plan of a chain of layers: what one more layer adds to the memory of a step
    is its own input, and what the backward pass of the one at work needs stays the same."""
    x = jax.ShapeDtypeStruct((8, 16, 16, 16, 8), jnp.float32)
    size = 4 * x.size

    def planned(layers, fused):
        layer = neurons.SpikingNeuron(neurons.options("glif", fused=fused))
        variables = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, False), x)

        def loss(variables, x):
            for _ in range(layers):
                x = 2.0 * layer.apply(variables, x, True) - 0.3  # currents again
            return (x * x).sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes / size

    kept = (planned(4, True) - planned(2, True)) / 2
    without = (planned(4, False) - planned(2, False)) / 2
    assert kept < 1.1, kept
    assert without > 1.5, without  # the scan keeps more: the test can tell


# ---- Losses.


def test_tet_by_its_worked_numbers(x64):
    logits = jnp.asarray([[[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]]])
    labels = jnp.asarray([0])

    def loss(logits, weight):
        return losses.tet(logits, labels, weight=weight)[0]

    np.testing.assert_allclose(loss(logits, 0.0), 0.6750578, atol=1e-7)
    np.testing.assert_allclose(loss(logits, 1.0), 1.2083333, atol=1e-7)
    np.testing.assert_allclose(loss(logits, 0.05), 0.7017216, atol=1e-7)
    np.testing.assert_allclose(loss(logits, 0.001), 0.6755911, atol=1e-7)
    expected = [[-0.0575308, 0.0375761, -0.0133786], [-0.3374153, 0.2405782, 0.0718371]]
    np.testing.assert_allclose(jax.grad(loss)(logits, 0.05)[0], expected, atol=1e-7)


def test_tet_bounds_the_loss_of_the_averaged_logits(x64):
    """Its first term, by Jensen's inequality; they agree where all timesteps do."""
    rng = np.random.default_rng(0)
    logits, labels = jnp.asarray(rng.normal(0, 3, (50, 4, 7))), jnp.asarray(rng.integers(0, 7, 50))
    averaged = losses.time_averaged_cross_entropy(logits, labels)
    assert (losses.tet(logits, labels, weight=0.0) >= averaged - 1e-12).all()
    same = jnp.broadcast_to(logits[:, :1], logits.shape)
    np.testing.assert_allclose(
        losses.tet(same, labels, weight=0.0), losses.time_averaged_cross_entropy(same, labels)
    )
