"""Neurons and losses of the compared systems, by numbers worked out elsewhere.

The numbers are those of each paper's public code, or of its equations in another program (PyTorch,
float64); gradients are of sum_t t s[t]. What every neuron must do stands below them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import losses, neurons
from dalif_jax.neurons import bdett

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
    "lif, with tdBN": (
        "lif", {"threshold": 0.5}, None, [0.4, 0.3, 0.6, 0.45],
        [0.4, 0.4, 0.7, 0.45], [0, 0, 1, 0], {"x": [1.35175, 2.345, 2.3, 4.0]},
    ),
    "lif, with TET": (
        "lif", {"beta": 0.5, "surrogate": "triangle"}, None, [0.7, 0.8, 1.3, 0.2],
        [0.7, 1.15, 1.3, 0.2], [0, 1, 1, 0], {"x": [0.9171402, 0.85153, 1.736, 0.8]},
    ),
    "lsg": (
        "lsg", {"threshold": 0.5}, None, [0.4, 0.3, 0.45, 0.9],
        [0.4, 0.38, 0.526, 0.9], [0, 0, 1, 1],
        {"x": [1.2576631, 2.2795095, 2.5371266, 3.9223227], "b": 0.3001459},
    ),
    "diet": (
        "diet", {"surrogate": "bell"}, {"leak": 0.9, "threshold": 0.8}, [0.5, 0.6, 0.4, 0.9],
        [0.5, 1.05, 0.625, 1.4625], [0, 1, 0, 1],
        {"x": [1.5982969, 1.5154688, 1.1109375, 0.2578125], "leak": 1.1966016,
         "threshold": -2.9810449},
    ),
    "diet, another": (
        "diet", {"surrogate": "bell"}, {"leak": 0.9, "threshold": 0.5}, [0.3] * 3,
        [0.3, 0.57, 0.363], [0, 1, 0], {},
    ),
    "ltmd": (
        "ltmd", {}, None, [0.4, 0.4, 0.3, 0.9],
        [0.4, 0.5, 0.3, 0.975], [0, 1, 0, 1], {"x": [1.24375, 1.625, 3.0, 0.0], "w": -4.2959707},
    ),
    "mlf": (
        "mlf", {}, None, [0.7, 1.5, 2.7, 0.5],
        [0.7, 1.5, 2.7, 0.5], [1, 2, 3, 0], {"x": [1.5, 2.0, 0.0, 4.0]},
    ),
    "residue, TA's cell": (
        "residue", {"threshold": 0.3, "surrogate_width": 0.5}, None, [0.5, 0.1, 0.4],
        [0.5, 0.19, 0.457], [1, 0, 1], {},
    ),
    "analog, TA's cell as LIAF": (
        "analog", {"threshold": 0.3, "surrogate_width": 0.5}, None, [0.5, 0.1, 0.4],
        [0.5, 0.19, 0.457], [0.5, 0.19, 0.457], {},
    ),
    "lif, ASA's cell": (
        "lif", {"alpha": 1.0, "beta": 0.3, "threshold": 0.3, "surrogate_width": 0.5}, None,
        [0.5, 0.1, 0.4], [0.5, 0.1, 0.43], [1, 0, 1], {},
    ),
    "lif, MS-ResNet's": (
        "lif", {"threshold": 0.5, "detach_reset": True}, None, [0.4, 0.45, 0.6, 0.2],
        [0.4, 0.55, 0.6, 0.2], [0, 1, 1, 0], {},
    ),
    "mlf, which carries on": ("mlf", {}, None, [2.0] * 3, [2.0] * 3, [2, 2, 3], {}),
    "klif": (
        "klif", {"surrogate": "arctan"}, {"k": 1.5}, [1.0, 0.8, -2.0, 1.8],
        [0.75, 1.1625, 0.0, 1.35], [0, 1, 0, 1], {"k": 3.4874461},
    ),
    "klif, what is carried scaled back": (
        "klif", {"surrogate": "arctan", "scale_reset": True}, {"k": 1.5}, [1.0, 0.8, -2.0, 1.8],
        [0.75, 0.975, 0.0, 1.35], [0, 0, 0, 1], {"k": 3.0004399},
    ),
    "imlif, a stand-in": (
        "imlif", {"threshold": 0.5}, {"w1": 0.5, "w2": -0.5, "w0": 0.2}, [0.4, 0.3, 0.6, 0.45],
        [0.4, 0.6149719, 0.9020916, 0.9291995], [0, 1, 1, 1], {},
    ),
    "liaf": (
        "liaf", {"threshold": 0.5}, None, [0.4, 0.3, 0.2],
        [0.4, 0.5489838, 0.2], [0.4, 0.5489838, 0.2], {},
    ),
    "liaf, above the threshold": (
        "liaf", {"threshold": 0.5, "output": "above"}, None, [0.4, 0.3, 0.2],
        [0.4, 0.5489838, 0.2], [0.0, 0.0489838, 0.0], {},
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
    np.testing.assert_allclose(s[0, :, 0], spikes, atol=5e-7 if name == "liaf" else 0)
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


def test_bdett_s_thresholds_by_hand(x64):
    """From thresholds of 1: V_m = 0.39; unverified equations, these are their numbers."""
    before, now = jnp.asarray([[0.2, 0.6, 1.0, 0.4]]), jnp.asarray([[0.5, 0.5, 1.3, 0.1]])
    found = bdett.thresholds(neurons.options("bdett"), before, jnp.ones((1, 4)), now)
    np.testing.assert_allclose(found[0], [1.2863083, 1.3778684, 1.3416194, 1.3998344], atol=5e-8)
    # What is beside an example in its batch is nothing to it.
    two = [jnp.concatenate([a, 5 * a]) for a in (before, jnp.ones((1, 4)), now)]
    both = bdett.thresholds(neurons.options("bdett"), *two)
    np.testing.assert_array_equal(both[0], found[0])


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
