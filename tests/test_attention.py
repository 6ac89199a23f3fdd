"""Attention modules: their references' numbers worked by hand, and what holds of any input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import attention, networks
from dalif_jax.attention.asa import ASA, _highest
from dalif_jax.attention.ma import MA
from dalif_jax.attention.pfa import PFA
from dalif_jax.attention.ta import TA
from dalif_jax.networks.stsa import CausalAttention

# T = 2, C = 2, 2 x 2: rows are (t, c) = (0, 0), (0, 1), (1, 0), (1, 1), places in reading order.
X = [[1, 2, 3, 4], [0, 1, 0, 1], [2, 0, 0, 2], [-1, 1, 1, -1]]
DOWN, UP = [[1.0], [-1.0]], [[1.0, -1.0]]  # W1 = [1 -1], W2 = [1; -1], as inputs times weights


def example(rows=X):
    return jnp.asarray(rows, jnp.float64).reshape(1, 2, 2, 2, 2).transpose(0, 1, 3, 4, 2)


def rows_of(y):
    return np.asarray(y).transpose(0, 1, 4, 2, 3).reshape(4, 4)


def kernel(*inputs):
    """3x3 with one value for each input's centre, or (centre, right neighbour): [3, 3, M, 1]."""
    found = np.zeros((3, 3, len(inputs), 1))
    for i, values in enumerate(inputs):
        for j, value in enumerate(np.atleast_1d(values)):
            found[1, 1 + j, i, 0] = value
    return found


def given(module, params, x=None, train=False):
    x = example() if x is None else x
    return rows_of(module.apply({"params": params}, x, train))


def test_ta_by_hand(x64):
    params = {"down": DOWN, "down_bias": [0.0], "up": UP, "up_bias": [0.0, 0.0]}
    params = jax.tree.map(jnp.asarray, params, is_leaf=lambda leaf: isinstance(leaf, list))
    y = given(TA(2), params)
    np.testing.assert_allclose(y[0], [0.731059, 1.462117, 2.193176, 2.924234], atol=1e-6)
    np.testing.assert_allclose(y[3], [-0.268941, 0.268941, 0.268941, -0.268941], atol=1e-6)
    params |= {"down_bias": jnp.array([0.5]), "up_bias": jnp.array([0.1, 0.2])}
    y = given(TA(2), params)
    np.testing.assert_allclose(y[[0, 3], [0, 1]], [0.832018, 0.214165], atol=1e-6)


MA_PARAMS = {
    "time_down": np.array(DOWN), "time_up": np.array(UP), "channel_down": np.array(DOWN),
    "channel_up": np.array(UP), "space": kernel((1, 0.5), -0.5),
}  # fmt: skip
MA_OUT = {
    "T": [
        [0.952574, 1.905148, 2.857722, 3.810297], [0, 0.952574, 0, 0.952574],
        [0.094852, 0, 0, 0.094852], [0, 0.047426, 0.047426, 0],
    ],
    "C": [
        [0.989013, 1.978026, 2.967039, 3.956052], [0, 0.010987, 0, 0.010987],
        [1.978026, 0, 0, 1.978026], [0, 0.010987, 0.010987, 0],
    ],
    "S": [
        [0.5, 1.0, 1.686531, 1.510164], [0, 0.5, 0, 0.377541], [1.0, 0, 0, 0.755081],
        [0, 0.5, 0.562177, 0],
    ],
    "CS": [
        [0.494507, 0.751899, 1.485557, 1.498681], [0, 0.004176, 0, 0.004162],
        [0.989013, 0, 0, 0.749341], [0, 0.004176, 0.005501, 0],
    ],
    "TCS": [
        [0.472175, 0.721256, 1.246182, 1.074679], [0, 0.007798, 0, 0.005809],
        [0.047016, 0, 0, 0.026753], [0, 0.000388, 0.000447, 0],
    ],
}  # fmt: skip


@pytest.mark.parametrize("axes", list(MA_OUT))
def test_ma_by_hand(axes, x64):
    words = {"T": "time", "C": "channel", "S": "space"}
    own = {k: v for k, v in MA_PARAMS.items() if k.split("_")[0] in [words[a] for a in axes]}
    y = given(MA(axes, time_reduction=2, channel_reduction=2), own)
    # The reference's factors C and S have six digits: products of them have a few units less.
    np.testing.assert_allclose(y, MA_OUT[axes], atol=4e-6)


def test_ma_of_linear_layers_is_in_time_alone(x64):
    x = jnp.asarray([[[1.0, 3.0], [-2.0, 1.0]]])
    assert (MA("CS").apply({"params": {}}, x, False) == x).all()
    y = MA("CTS", time_reduction=2).apply({"params": MA_PARAMS}, x, False)
    # mean 2 and -0.5, max 3 and 1: f adds up to 2.5 + 2 at t = 0, as much below 0 at t = 1.
    d = 1 / (1 + np.exp([-4.5, 4.5]))
    np.testing.assert_allclose(y[0], [[d[0], 3 * d[0]], [0, d[1]]], rtol=1e-12)


def test_asa_by_hand(x64):
    params = {"alpha": 0.5, "beta": 0.5, "F0": np.eye(2), "busy": kernel(1, -0.5),
              "rest": kernel(-1, 0.5)}  # fmt: skip
    y = given(ASA(), params)
    expected = [
        [0.622459, 0.755081, 1.132622, 2.489837], [0, 0.5, 0, 0.622459], [1, 0, 0, 1.244919],
        [-0.622459, 0.377541, 0.377541, -0.622459],
    ]  # fmt: skip
    np.testing.assert_allclose(y, expected, atol=1e-6)
    # In either set: (0, 0), (0, 1), (1, 0).
    assert not np.allclose(given(ASA(both_sets=True), params), expected)


def test_the_highest_are_as_many_as_asked_for_and_of_equal_ones_the_first():
    rng = np.random.default_rng(0)
    score = jnp.asarray(rng.integers(0, 5, (7, 6, 9)), jnp.float32)
    for count in (0, 1, 4, 9):
        chosen = np.asarray(_highest(score, count))
        assert (chosen.sum(-1) == count).all()
        _, places = jax.lax.top_k(score, count)
        expected = np.zeros(score.shape, bool)
        np.put_along_axis(expected, np.asarray(places), True, -1)
        np.testing.assert_array_equal(chosen, expected)


def test_pfa_by_hand(x64):
    space = np.zeros((3, 3, 2, 2))
    space[1, 1] = np.eye(2)
    params = {"space": space, "time": np.eye(2), "channel": np.eye(2), "weights": np.ones(2)}
    params |= {f"{key}_bias": np.zeros(2) for key in ("space", "time", "channel")}
    expected = [
        [0.407428, 0.981493, 1.472239, 2.14501], [0, 0.332015, 0, 0.362666],
        [0.648062, 0, 0, 0.851879], [0, 0.263828, 0.263828, 0],
    ]  # fmt: skip
    np.testing.assert_allclose(given(PFA(2), params), expected, atol=1e-6)


def random_input(seed, shape=(3, 4, 5, 5, 8)):
    return jnp.asarray(np.random.default_rng(seed).normal(0.2, 1.0, shape))


@pytest.mark.parametrize("name", [name for name in attention.ATTENTION if name != "none"])
def test_what_holds_of_any_input(name, x64):
    """Shape, bounds; an example's answer is its own; with all parameters 0, a half or a quarter."""
    options = {"ta": {"reduction": 2}, "ma": {"time_reduction": 2}}.get(name, {})
    module = attention.ATTENTION[name](**options)
    x = random_input(0)
    variables = module.init(jax.random.key(0), x, False)
    y = np.asarray(module.apply(variables, x, False))
    assert y.shape == x.shape
    if name in ("ma", "pfa"):
        assert (y >= 0).all() and (y <= np.maximum(x, 0) + 1e-15).all()
    else:
        assert (np.sign(y) == np.sign(x)).all() and (abs(y) <= abs(np.asarray(x))).all()
    alone = np.asarray(module.apply(variables, x[1:2], False))
    np.testing.assert_allclose(alone, y[1:2], rtol=0, atol=1e-12)
    nothing = jax.tree.map(jnp.zeros_like, variables)
    factor = {"ta": 0.5, "ma": 0.125, "asa": 0.5, "pfa": 0.125}[name]
    kept = np.maximum(x, 0) if name in ("ma", "pfa") else np.asarray(x)
    np.testing.assert_allclose(module.apply(nothing, x, False), factor * kept, atol=1e-12)
    assert module.macs((4, 5, 5, 8)) >= 4 * 5 * 5 * 8


def test_the_map_in_space_is_one_for_all_timesteps_and_channels(x64):
    x = jnp.abs(random_input(1)) + 0.1
    module = MA("S")
    y = module.apply(module.init(jax.random.key(0), x, False), x, False)
    d = np.asarray(y / x)
    np.testing.assert_allclose(d, np.broadcast_to(d[:, :1, :, :, :1], d.shape), rtol=1e-12)


def test_what_chooses_cells_or_is_fixed_gets_no_gradient(x64):
    x = random_input(2)
    for module, still in ((ASA(), {"alpha", "beta", "F0"}), (PFA(), {"weights"}),
                          (PFA(learn_weights=True), set())):  # fmt: skip
        variables = module.init(jax.random.key(3), x, False)
        weight = random_input(4)
        grads = jax.grad(lambda v, m=module, w=weight: (w * m.apply(v, x, True)).sum())(variables)
        assert {k for k, g in grads["params"].items() if not np.any(g)} == still


REFUSED = [
    ("ta", {"reduction": 16}, "reduction=16 needs at least as many timesteps, and timesteps=4"),
    ("ta", {"reduction": 0}, "reduction=0 must be at least 1"),
    ("ma", {"axes": "TX"}, "axes='TX': some of T, C and S expected, once each"),
    ("ma", {"axes": "CC"}, "once each"), ("ma", {"kernel": 4}, "kernel=4 must be odd"),
    ("ma", {}, "time_reduction=5 needs at least as many timesteps"),
    ("ma", {"axes": "C", "channel_reduction": 0}, "channel_reduction=0 must be at least 1"),
    ("asa", {"share": 1.0}, "share=1.0 must be above 0 and below 1"),
    ("asa", {"reduction": 5}, "reduction=5 needs at least as many"),
    ("pfa", {"rank": 0}, "rank=0 must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_what_does_not_fit_says_why(name, options, words):
    assert words in attention.misfit(name, 4, options)
    assert not attention.misfit("ma", 4, {"axes": "C"})


# ---- Causal attention between places (STSA).


def test_causal_attention_by_hand(x64):
    """T = 2, W = 2, D = 2: the scores and sums of the reference."""
    q, k, v = (
        jnp.asarray(rows, jnp.float64).reshape(1, 2, 1, 2, 2)
        for rows in (
            [[1, 1], [1, 0], [0, 1], [1, 1]], [[1, 0], [1, 1], [1, 1], [0, 1]],
            [[1, 0], [1, 1], [0, 1], [1, 1]],
        )
    )  # fmt: skip
    table = 0.5 * jnp.arange(9.0)[:, None]
    module = CausalAttention()
    y, found = module.apply({"params": {"bias": table}}, q, k, v, mutable=["tap_products"])
    expected = [[0.8125, 0.4375], [0.8125, 0.375], [1.25, 1.1875], [1.6875, 1.625]]
    np.testing.assert_array_equal(y.reshape(4, 2), expected)
    # Of two spikes: of q and k where visible 1 + 2 + 1 + 1, 0 + 1 + 1 + 1, 1 + 2 + 2 + 1; of v
    # three that four tokens see and three that two do.
    assert int(found["tap_products"]["value"][0]) == 14 + 3 * 4 + 3 * 2


def test_later_frames_change_no_earlier_answer(x64):
    model = networks.build("sts_transformer", 3, widths=(4, 8), dtype=jnp.float64)
    x = jnp.asarray(np.random.default_rng(0).poisson(1.0, (2, 4, 16, 16, 2)).astype(float))
    variables = jax.tree_util.tree_map_with_path(  # so that deep layers fire, too
        lambda path, leaf: 3 * leaf if path[-1].key == "scale" else leaf,
        model.init(jax.random.key(0), x, False),
    )
    run = jax.jit(lambda x: model.apply(variables, x, False))
    y, changed = run(x), run(x.at[:, 2:].set(0.0))
    np.testing.assert_array_equal(y[:, :2], changed[:, :2])
    assert not np.allclose(y[:, 2:], changed[:, 2:])
    alone = run(x.at[1].set(0.0))
    np.testing.assert_allclose(alone[0], y[0], rtol=0, atol=1e-12)


def test_beyond_its_timesteps_a_stream_has_no_answer(x64):
    model = networks.build("sts_transformer", 3, widths=(4,), depth=1, dtype=jnp.float64)
    x = jnp.ones((1, 2, 8, 8, 2))
    variables = model.init(jax.random.key(0), x, False)
    state, answers = {}, []
    for _ in range(3):
        state, y = networks.stream(model, variables, state, x[:, 0])
        answers.append(np.asarray(y))
    assert np.isfinite(answers[:2]).all() and np.isnan(answers[2]).all()
    with pytest.raises(ValueError, match="was built for 2 timesteps of such maps and was given 3"):
        model.apply(variables, jnp.ones((1, 3, 8, 8, 2)), False)


def test_parameters_of_the_modules():
    """PFA of VGGSNN's five places at T = 12, rank 8; TA at T = 60, ratio 16."""
    sizes = lambda module, T, C: sum(  # noqa: E731
        leaf.size
        for leaf in jax.tree.leaves(
            jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, T, 6, 6, C)), False)
        )
    )
    assert [sizes(PFA(), 12, C) for C in (2, 128, 256, 512, 512)] == [1008, 2016, 3040, 5088, 5088]
    assert sizes(TA(), 60, 64) == 423 and sizes(MA("CS"), 60, 64) == 2 * 64 * 8 + 18
