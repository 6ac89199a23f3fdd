"""The compared networks: streamed, at the start, counted, as NIR graphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import networks, neurons
from dalif_jax.analysis import summary
from dalif_jax.analysis.operations import operations
from dalif_jax.exchange import interchange
from dalif_jax.networks.blocks import SEWBlock
from dalif_jax.networks.ms_resnet import MSBlock

LIF = {"neuron": "lif"}


def built(name, classes, keys, dtype=jnp.float32, **told):
    keys = dict(keys)
    options = neurons.options(keys.pop("neuron"), **told)
    return networks.build(name, classes, options, dtype, **keys)


# ---- Small forms of all families, for what costs time.

FORMS = {
    "sew": ("sew_resnet18", {"blocks": (1, 1), "widths": (6, 8)}, 16),
    "sew and": ("sew_resnet18", {"blocks": (1, 1), "widths": (6, 8), "join": "and"}, 16),
    "sew iand": ("sew_resnet18", {"blocks": (2,), "widths": (6,), "join": "iand"}, 16),
    "7b": ("net_7b", {"blocks": ((6, 2), (8, 2))}, 8),
    "7b average": ("widenet_7b_glif", {"blocks": ((6, 1), (6, 2), (8, 2))}, 8),
    "ms": ("ms_resnet18", {"blocks": (1, 1), "widths": (6, 8), "strides": (2, 1),
                           "stem": ((3, 6, 1),), "last_scale": 0.5}, 8),
    "ms 104": ("ms_resnet104", {"blocks": (1, 1), "widths": (6, 8), "strides": (2, 2),
                                "stem": ((3, 6, 1), (3, 6, 1)), "last_scale": 0.5}, 8),
    "ds": ("ds_resnet14", {"n": 1, "widths": (6, 8), "strides": (1, 2)}, 8),
    "ds gesture": ("ds_resnet20_gesture", {"n": 1, "widths": (6, 8), "strides": (1, 2)}, 8),
    "vggsnn": ("vggsnn", {"layers": (6, 6, "P", 8, "P")}, 8),
    "vggsnn strided": ("vggsnn", {"layers": (6, "P", 8, "P"), "strided": True}, 8),
    "pfa's": ("vggsnn", {"layers": (6, 6, "P", 8, "P"), "conv_bias": False,
                         "head_neuron": True}, 8),
    "vgg shortcuts": ("vggsnn", {"layers": (6, 6, "P", 8, 8, 8, "P"), "shortcuts": True}, 8),
    "resnet17": ("resnet17", {"stem": ((3, 6, 1),), "blocks": (1, 1), "widths": (6, 8),
                              "strides": (1, 2), "hidden": 16, "head_neuron": True}, 8),
    "resnet flat": ("tiny", {"flatten": True}, 8),
    "plifnet": ("plifnet_gesture", {"layers": (8, "P", 8, "P"), "hidden": 24}, 8),
    "three conv": ("three_conv", {"layers": ((6, 1), (8, 2)), "hidden": 16}, 8),
    "sts": ("sts_transformer", {"widths": (6, 8), "dropout": 0.3}, 8),
}  # fmt: skip


# Each family once; the others in the slow suite.
QUICK = (
    "sew",
    "7b average",
    "ms",
    "ds gesture",
    "pfa's",
    "vgg shortcuts",
    "plifnet",
    "three conv",
    "sts",
)
EVERY = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FORMS
]  # fmt: skip


def lively(model, x, timesteps=None):
    """Variables such that deep layers fire, by NumPy: compiling XLA's normals takes longest."""
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), x[:1], train=False, timesteps=timesteps)
    )
    draw = np.random.default_rng(0)

    def start(path, leaf):
        *_, layer, name = ("", *(key.key for key in path))
        if name == "kernel":
            value = draw.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
            # Or a neuron behind the last layer never fires.
            value = value + 0.2 * (layer == "head")
        elif name in ("scale", "var", "a", "b"):
            value = draw.uniform(2, 4, leaf.shape) if name == "scale" else np.ones(leaf.shape)
        else:
            value = 0.1 * draw.normal(size=leaf.shape)
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(start, shapes)


def form(name):
    """(model, variables, x) of a small form, in whatever precision is switched on."""
    return made(name, jnp.result_type(float))


@functools.cache
def made(name, dtype):
    network, keys, side = FORMS[name]
    model = built(network, 5, keys | LIF, dtype, threshold=0.5)
    x = jnp.asarray(np.random.default_rng(1).poisson(1.0, (2, 3, side, side, 2)), dtype)
    return model, lively(model, x), x


@pytest.mark.parametrize("name", EVERY)
def test_streaming_is_the_batch_form(name, x64):
    model, variables, x = form(name)
    logits, taps, _ = jax.jit(lambda: networks.tapped(model, variables, x, ("firing_rate",)))()
    step = jax.jit(lambda state, x: networks.stream(model, variables, state, x))
    state, answers = {}, []
    for t in range(x.shape[1]):
        state, y = step(state, x[:, t])
        answers.append(y)
    np.testing.assert_allclose(np.stack(answers, 1), logits, rtol=1e-12, atol=1e-12)
    rates = [float(tap["firing_rate"]) for tap in taps.values()]
    assert np.mean(np.array(rates) > 0) > 0.7 and np.abs(logits).max() > 0


@pytest.mark.parametrize("attention", ["ta", "ma", "asa", "pfa"])
@pytest.mark.parametrize("name", ["sew", "ms", "pfa's", "sts"])
def test_attention_in_any_network_s_slot(name, attention):
    """It acts in each, and refuses to stream with its reason."""
    network, keys, side = FORMS[name]
    own = {"ta": {"reduction": 2}, "ma": {"time_reduction": 2, "channel_reduction": 2}}
    keys = keys | {"attention": attention, "attention_options": own.get(attention, {})}
    keys |= {"pool_attention": True} if name == "pfa's" else {}
    model = built(network, 5, keys | LIF)
    x = jnp.ones((1, 4, side, side, 2))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    attended = [
        row.name for row in summary.layers(model, x.shape[1:]) if row.kind.lower() == attention
    ]
    assert len(attended) >= 2
    with pytest.raises(ValueError, match=f"attention={attention} does not stream: "):
        jax.eval_shape(lambda v: networks.stream(model, v, {}, x[:, 0]), variables)
    table = operations(model, x.shape[1:], False)
    assert {op.name for op in table if op.kind == "attention" and op.attends} >= set(attended)


def test_past_a_silent_convolution_a_vgg_s_shortcut_brings_what_came_before(x64):
    keys = {"conv_bias": False, "shortcuts": True} | LIF
    model = built("vggsnn", 5, keys | {"layers": (6, 6, "P", 8)}, jnp.float64, threshold=0.5)
    short = built("vggsnn", 5, keys | {"layers": (6, "P", 8)}, jnp.float64, threshold=0.5)
    x = jnp.asarray(np.random.default_rng(1).poisson(1.0, (2, 3, 8, 8, 2)), jnp.float64)
    variables = lively(model, x)
    for name in ("scale", "bias"):
        variables["params"]["norm1"][name] = jnp.zeros(6)
    later = {"conv1": "conv2", "norm1": "norm2", "neuron1": "neuron2"}  # its names in the shorter
    fewer = {
        kind: {n: tree[later.get(n, n)] for n in tree if n not in later.values()}
        for kind, tree in variables.items()
    }
    logits = model.apply(variables, x)
    np.testing.assert_allclose(logits, short.apply(fewer, x), rtol=1e-12)
    assert np.abs(logits).max() > 0
    joined = [row.name for row in summary.layers(model, x.shape[1:]) if row.kind == "Join"]
    assert joined == ["join1"]


@pytest.mark.parametrize("join", ["add", "and", "iand"])
def test_a_sew_block_that_starts_at_zero_is_the_identity(join, x64):
    parts = networks.build("tiny", 2, "lif", jnp.float64).parts
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 3, 6, 6, 4)), jnp.float64)
    block = SEWBlock(4, 1, parts, join, zero_init=True)
    variables = block.init(jax.random.key(0), x, False)
    for train in (True, False):
        y = block.apply(variables, x, train, mutable=["batch_stats"])[0]
        np.testing.assert_array_equal(y, x)
    other = SEWBlock(4, 1, parts, join)
    y = other.apply(lively_block(other, x), x, True, mutable=["batch_stats"])[0]
    assert (np.asarray(y) != np.asarray(x)).any()


def lively_block(block, x):
    variables = block.init(jax.random.key(0), x, False)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if path[-1].key == "scale" else leaf, variables
    )


def test_an_ms_block_starts_as_its_shortcut(x64):
    parts = networks.build("tiny", 2, "lif", jnp.float64).parts
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 6, 4)))
    block = MSBlock(4, 1, parts, (0.5, 0.0), False)
    y, _ = block.apply(block.init(jax.random.key(0), x, False), x, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, x)


def test_max_pools_pad_with_nothing(x64):
    """3, stride 2, padding 1 over values below 0: zeros of the border would win."""
    x = -jnp.arange(1.0, 17.0).reshape(1, 1, 4, 4, 1)
    y = networks.MaxPool(3, 2, 1).apply({}, x)
    np.testing.assert_array_equal(y[0, 0, ..., 0], [[-1, -2], [-5, -6]])


def test_votes_are_of_neighbours(x64):
    x = jnp.arange(20.0)[None, None]
    np.testing.assert_array_equal(networks.Voting(10).apply({}, x)[0, 0], [4.5, 14.5])


# ---- NIR.

REFUSED = {"sew": "max pooling", "sew and": "max pooling", "sew iand": "max pooling",
           "7b": "max pooling", "plifnet": "max pooling", "sts": "attention between"}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_the_same_spikes_through_nir_or_a_reason(name, x64):
    model, variables, x = form(name)
    options = neurons.options("lif", threshold=0.5)
    shape = x.shape[2:]
    if name in REFUSED:
        with pytest.raises(interchange.NotRepresentable, match=REFUSED[name]):
            interchange.to_nir(model, variables, options, shape)
        return
    logits, taps, _ = networks.tapped(model, variables, x, ("spikes",))
    for keys in ({}, {"fold_gain": False, "average_pool": True}):
        graph = interchange.to_nir(model, variables, options, shape, **keys)
        given = interchange.run(graph, jnp.moveaxis(x, -1, 2))
        for layer, tap in taps.items():
            spikes = np.asarray(tap["spikes"])
            there = np.asarray(given[layer.replace("/", ".")])
            if spikes.ndim == 3:
                spikes = spikes[:, :, None, None]
            np.testing.assert_array_equal(np.moveaxis(there, 2, -1), spikes)
        np.testing.assert_allclose(given["output"][..., 0, 0], logits, atol=1e-9)
