"""Norms, losses, surrogates, dropout of the compared systems, by numbers worked out elsewhere.

The numbers are those of each paper's public code, or of its equations in another program (PyTorch,
float64); a stand-in's are of its own formula.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import losses, networks, neurons, norms
from dalif_jax.networks import dropout
from dalif_jax.surrogates import SURROGATES, gradual

ONE_CHANNEL = [1.0, 2.0, 3.0, 6.0]


def normed(module, x, train=True, variables=None):
    """(y, variables after) of a norm on x [N, C]."""
    variables = variables or module.init(jax.random.key(0), x, False)
    y, new = module.apply(variables, x, train, mutable=["batch_stats"])
    return y, {**variables, **new}


@pytest.mark.parametrize(
    ("summed", "expected"),
    [
        (False, [-0.5345217, -0.2672609, 0.0, 0.8017826]),
        (True, [-0.3779639, -0.1889820, 0.0, 0.5669459]),
    ],
)
def test_tdbn_by_its_worked_numbers(summed, expected, x64):
    x = jnp.asarray(ONE_CHANNEL)[:, None]
    module = norms.NORMS["tdbn"].module(dtype=jnp.float64, summed=summed, threshold=0.5)
    y, after = normed(module, x)
    np.testing.assert_allclose(y[:, 0], expected, atol=5e-8)
    np.testing.assert_allclose(after["batch_stats"]["mean"], [0.3], atol=1e-12)
    np.testing.assert_allclose(after["batch_stats"]["var"], [1.3666667], atol=5e-8)


def test_tdbn_without_its_scale_is_batch_norm(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    plain, _ = normed(norms.NORMS["batch"].module(dtype=jnp.float64), x)
    td, _ = normed(norms.NORMS["tdbn"].module(dtype=jnp.float64, threshold=0.8), x)
    np.testing.assert_allclose(td, 0.8 * plain, atol=1e-12)
    ones = {"summed_scale": 1.0, "epsilon_outside": True, "threshold": 1.0}
    outside, _ = normed(norms.NORMS["tdbn"].module(dtype=jnp.float64, summed=True, **ones), x)
    root = np.asarray(x).std(0)
    np.testing.assert_allclose(outside, (x - np.asarray(x).mean(0)) / (root + 1e-5), atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"epsilon_outside": True}])
@pytest.mark.parametrize("summed", [False, True])
def test_tdbn_folds_into_a_factor_and_a_shift(summed, options, x64):
    module = norms.NORMS["tdbn"].module(dtype=jnp.float64, summed=summed, **options)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2.0, 3.0, (50, 4)))
    variables = module.init(jax.random.key(0), x, False)
    variables = jax.tree.map(lambda v: jnp.asarray(rng.uniform(0.5, 2.0, v.shape)), variables)
    factor, shift = norms.NORMS["tdbn"].fold(module, variables["params"], variables["batch_stats"])
    y, _ = normed(module, x, train=False, variables=variables)
    np.testing.assert_allclose(y, factor * x + shift, atol=1e-12)


def test_a_channel_of_one_value_has_a_gradient(x64):
    module = norms.NORMS["tdbn"].module(dtype=jnp.float64, epsilon_outside=True)
    gradient = jax.grad(lambda x: (normed(module, x)[0] ** 2).sum())(jnp.ones((4, 1)))
    assert np.isfinite(gradient).all()


def test_identity_shortcuts_are_normed_where_the_norm_says_so(x64):
    def names(**options):
        model = networks.build("resnet19", 10, "lif", norm="tdbn", norm_options=options)
        x = jnp.zeros((1, 1, 8, 8, 3))
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
        return {key for key, block in shapes["params"].items() if "shortcut_norm" in block}

    assert names() == {"stage1_block0", "stage2_block0"}
    assert len(names(identity=True)) == 8


# ---- Losses.

U = [0.2, 0.9, -0.1, 0.6]


def seen(membrane, threshold, current=0.0, spikes=0.0):
    full = functools.partial(jnp.full_like, membrane)
    return neurons.Seen(full(current), membrane, full(threshold), full(spikes))


def test_im_loss_by_its_worked_numbers(x64):
    def paper(u):
        return losses.im_membrane({"stem0_neuron": losses.im_statistic(seen(u, 0.5))}, "paper", 4)

    def code(u):
        statistic = losses.im_statistic(seen(jnp.zeros(4), 0.5, spikes=0.0)._replace(spikes=u))
        return losses.im_membrane({"stem0_neuron": statistic}, "code", 4)

    u = jnp.asarray(U)
    np.testing.assert_allclose(paper(u), 0.01, atol=1e-12)
    np.testing.assert_allclose(jax.grad(paper)(u), [-0.05] * 4, atol=1e-12)
    np.testing.assert_allclose(code(u), 0.075625, atol=1e-12)


def test_im_loss_takes_what_each_form_takes(x64):
    """Paper: stems and the last neuron of each block, summed. Code: the first and last of them
    left out, currents of blocks, mean."""
    layers = ["stem0_neuron", "block0/neuron0", "block0/neuron1", "block1/neuron0",
              "block1/neuron1", "last_neuron"]  # fmt: skip
    means = {
        name: {"current": 10.0 * i, "membrane": float(i), "threshold": 0.5, "spikes": 0.1 * i}
        for i, name in enumerate(layers)
    }
    expected = sum((i - 0.5) ** 2 for i in (0, 2, 4, 5))
    assert losses.im_membrane(means, "paper", 2) == pytest.approx(expected)
    expected = ((20 - 0.25) ** 2 + (40 - 0.25) ** 2) / 2
    assert losses.im_membrane(means, "code", 2) == pytest.approx(expected)


def test_recdis_s_stand_in_by_its_worked_numbers(x64):
    h = jnp.asarray([[-0.2, 0.9, 0.48, -3.0], [0.1, 1.4, 0.5, 2.0], [0.4, 0.8, 0.52, -2.0],
                     [0.5, 1.7, 0.5, 5.0]])  # fmt: skip
    mean, square = losses.recdis_statistic(seen(h, 0.5))
    np.testing.assert_allclose(mean, [-0.6, 1.4, 0.0, 0.0], atol=1e-12)
    deviation = [0.5477226, 0.7348469, 0.0282843, 6.4031242]
    np.testing.assert_allclose(np.sqrt(square - mean**2), deviation, atol=5e-7)
    total = losses.recdis_membrane({"a": (mean, square)})
    np.testing.assert_allclose(total, 2.9672615, atol=5e-7)
    weights = [losses.halves_by_cosine(0.05, share) for share in (0, 0.25, 0.5, 1)]
    np.testing.assert_allclose(weights, [0.1, 0.0853553, 0.05, 0.0], atol=5e-8)


def test_ltmd_by_its_worked_numbers(x64):
    keep = dropout.keep_chance(jnp.asarray([[0.0, 0.2, 0.5, 0.8, 1.0]]), 0.2)
    np.testing.assert_allclose(keep[0], [0.6, 0.68, 0.8, 0.92, 1.0], atol=1e-12)
    pair = (jnp.asarray([[[1.0, 0.0, 2.0]]]), jnp.asarray([[[0.5, 0.5, 1.0]]]))
    np.testing.assert_allclose(losses.symmetric_divergence(*pair), [0.0484545], atol=5e-8)
    assert losses.symmetric_divergence(pair[0], pair[0])[0] == 0.0


def test_the_error_of_rates_by_hand(x64):
    """Rates 0.5, 0.25 and 1 to the target 0, 1, 0."""
    spikes = jnp.asarray([[[1, 0, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1]]], jnp.float64)
    expected = (0.5**2 + 0.75**2 + 1) / 3
    labels = jnp.array([1])
    np.testing.assert_allclose(losses.rate_error(spikes, labels), [expected], rtol=1e-12)
    loss = losses.LOSSES["mse"]
    given = loss.function(losses.options("mse"), spikes, labels, {}, 0.0)
    np.testing.assert_allclose(given, [expected], rtol=1e-12)


def test_moderate_dropout_holds_one_mask_over_time_and_keeps_the_mean(x64):
    rng = np.random.default_rng(0)
    x = jnp.asarray((rng.uniform(size=(64, 4, 200)) < rng.uniform(size=200)).astype(float))
    module = dropout.ModerateDropout(0.2)
    key = {"dropout": jax.random.key(1)}
    (one, two), (same, none) = (module.apply({}, x, True, again, rngs=key) for again in (True, 0))
    np.testing.assert_array_equal(one, same)
    assert none is None and (one != two).any()
    kept = (one != 0).any(1)
    dropped = np.asarray(x).any(1) & ~np.asarray(kept)
    assert (np.asarray(one).any(1) == kept).all() and 0.02 < dropped.mean() < 0.2
    for t in range(4):  # what stays at one timestep stays at all
        np.testing.assert_array_equal((one[:, t] != 0), (x[:, t] != 0) & kept)
    np.testing.assert_allclose(one.mean(), x.mean(), rtol=0.02)
    np.testing.assert_array_equal(module.apply({}, x, False)[0], x)


def test_held_dropout(x64):
    x = jnp.ones((8, 4, 5, 5, 3))
    y = dropout.Dropout(0.25).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, 1.0 / 0.75}
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    np.testing.assert_allclose(y.mean(), 1.0, atol=0.1)
    np.testing.assert_array_equal(dropout.Dropout(0.25).apply({}, x, False), x)


# ---- Surrogates.


def test_the_evolving_surrogate_by_its_worked_numbers(x64):
    surrogate = SURROGATES["evolving"]
    widths = [surrogate.width_at(1.0, share) for share in (0, 0.25, 0.5, 0.75, 1)]
    k = [1, 1.7782794, 3.1622777, 5.6234133, 10]
    np.testing.assert_allclose(1 / np.asarray(widths), k, atol=5e-8)
    z = jnp.asarray([0.0, 0.1, 0.5])
    np.testing.assert_allclose(surrogate.derivative(z, 1.0), [0.5, 0.4950331, 0.3932239], atol=5e-8)
    np.testing.assert_allclose(surrogate.derivative(z, 0.1), [5, 2.0998717, 0.0009079], atol=5e-8)


def test_a_width_goes_to_its_end_by_one_factor():
    widths = [gradual(2.0, share, 0.5) for share in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(widths, [2, 2**0.5, 1, 0.5**0.5, 0.5])
    assert SURROGATES["rectangle"].width_at(2.0, 0.3) == 2.0


def test_lsg_s_width_by_its_worked_numbers(x64):
    options = neurons.options("lsg", threshold=0.5)
    for beta, width in ((0.2, 1.0198039), (0.5, 1.1180340), (0.8, 1.2806248)):
        raw = {"b": jnp.log(beta / (1 - beta))}
        shown = neurons.of(options).shown(options, raw)
        np.testing.assert_allclose(shown["width"], width, atol=5e-8)


def test_the_surrogate_of_normed_membranes_by_its_worked_numbers(x64):
    """MPBN's, centred at the tested level: its peak and the edges of its window."""
    bell = SURROGATES["tanh"].derivative(jnp.asarray([0.0, 0.5, 0.5001]), 1.0)
    np.testing.assert_allclose(bell, [1.6571871, 0.2994647, 0.0], atol=5e-8)
