"""Operations of the compared networks: who takes spikes, how large they are, counted exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import EVERY, FORMS, LIF, built, form, lively

from configs.base import get_config as base
from dalif_jax import networks, training
from dalif_jax.analysis import summary
from dalif_jax.analysis.operations import count, operations
from dalif_jax.training.evaluation import structure_of

# What takes the counts of events, integers that are no spikes.
TAKE_COUNTS = {"stem_conv", "stem0_conv", "conv0", "input_norm"}


@pytest.mark.parametrize("name", EVERY)
def test_fan_out_and_levels_are_those_of_a_run(name):
    """Who takes spikes, and how large they can be: against what layers are given."""
    model, variables, x = form(name)
    taken = {}

    def watch(call, args, kwargs, context):
        if context.method_name == "__call__":
            taken["/".join(context.module.path)] = np.asarray(args[0])
        return call(*args, **kwargs)

    with summary.watching(watch):
        model.apply(variables, x, train=False)
    table = {op.name: op for op in operations(model, x.shape[1:], False)}
    whole = 0
    for op in table.values():
        if op.fan_out is None:
            continue
        values = np.unique(taken[op.name])
        integer = (values == np.round(values)).all() and op.name not in TAKE_COUNTS
        if op.source:
            assert integer and values.max() <= op.levels, op.name
            whole += 1
        else:
            assert not integer or values.max() == 0, op.name
    assert whole
    for layer, found in summary.neuron_layers(model, x.shape[1:]).items():
        # The last drives none where it answers; queries, keys and values drive products.
        last = layer == summary_names(model, x)[-1] or layer.endswith("qkv_neuron")
        assert found.fan_out.sum() > 0 or last, layer


def check_lone_spikes(model, shape):
    """Compare fan-out with a forward pass per spike: ones as weights, no other spike fires.

    Three positions of each neuron layer, among them the first and the last. A max pool passes a
    spike to each window it lies in. Means are written as sums; attention and joins pass a spike.
    """
    draw, layers = np.random.default_rng(0), summary.neuron_layers(model, shape)
    shapes = {row.name: (1, *row.shape[1:]) for row in summary.layers(model, shape)}
    places = [
        (name, (0, *place))
        for name in layers
        for place in (
            [0] * (len(shapes[name]) - 1), [size - 1 for size in shapes[name][1:]],
            [draw.integers(size) for size in shapes[name][1:]],
        )
    ]  # fmt: skip
    spikes = {name: np.zeros((len(places), *shapes[name]), np.float32) for name in layers}
    for example, (name, place) in enumerate(places):
        spikes[name][(example, *place)] = 1
    x = jnp.zeros((len(places), 1, *shape[1:]))
    ones = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, leaf.dtype),
        jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False)),
    )

    def driven(spikes):
        counts = []

        def send(call, args, kwargs, context):
            kind = networks.layer_kind(context.module)
            if context.method_name != "__call__" or kind is None:
                return call(*args, **kwargs)
            if kind == "neuron":
                return spikes["/".join(context.module.path)]
            if kind == "attention":
                return args[0]
            if kind == "join":
                return args[0] + args[1]
            out = call(*args, **kwargs)
            if isinstance(context.module, networks.MaxPool):
                return out
            if kind == "pool":  # from the mean of a window back to its sum
                window = getattr(context.module, "window", None)
                return out * (window**2 if window else args[0].size // out.size)
            if kind in ("conv", "linear"):
                weights = ones["params"]
                for key in context.module.path:
                    weights = weights[key]
                out = out - weights.get("bias", 0)
                counts.append(out.astype(jnp.float32).sum(range(1, out.ndim)))
            return jnp.zeros_like(out)

        with summary.watching(send):
            model.apply(ones, x, train=False)
        return sum(counts)

    counts = np.asarray(driven(spikes)).round().astype(int)
    for counted, (name, (_, *place, _)) in zip(counts, places, strict=True):
        assert layers[name].fan_out[tuple(place)] == counted, (name, place)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("sew", "plifnet") else pytest.mark.slow)
        for name in FORMS
    ],
)
def test_fan_out_is_what_a_lone_spike_drives(name):
    network, keys, side = FORMS[name]
    check_lone_spikes(built(network, 5, keys | LIF), (1, side, side, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_fan_out_of_a_registered_network(name):
    side = next(s for s in (16, 32, 64, 128) if networks.last_side(name, s) > 1)
    check_lone_spikes(built(name, 5, LIF), (1, side, side, 2))


def summary_names(model, x):
    return [row.name for row in summary.layers(model, x.shape[1:]) if row.kind == "SpikingNeuron"]


def test_levels_grow_where_spikes_are_added():
    """7B: 1 from the stem, 1 more of each block, kept by max pools; MLF's 3, 6, 9."""
    table = operations(built("net_7b", 5, LIF), (1, 128, 128, 2), False)
    levels = {op.name: op.levels for op in table if op.source}
    assert [levels[f"block{i}/conv0"] for i in range(7)] == [1, 2, 3, 4, 5, 6, 7]
    assert all(levels[f"block{i}/conv1"] == 1 for i in range(7))
    table = operations(built("ds_resnet14", 5, {"neuron": "mlf"}), (1, 8, 8, 3), True)
    levels = {op.name: op.levels for op in table if op.source}
    assert [levels[f"stage0_block{i}/conv0"] for i in range(2)] == [3, 6]
    assert levels["stage1_block0/conv0"] == 9
    # Two branches that fire begin a stage: 3 + 3.
    assert levels["stage1_block1/conv0"] == 6
    # A max pool hands on whose spikes it has, an average gives real numbers.
    table = operations(built("three_conv", 5, LIF), (1, 32, 32, 2), False)
    assert {op.source for op in table if op.kind in ("conv", "linear")} == {
        None, "neuron0", "neuron1", "neuron2", "hidden_neuron"
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["sew", "ds", *(pytest.param(name, marks=pytest.mark.slow) for name in ("7b", "sts"))]
)
def test_exact_counts_are_those_of_a_run(name):
    """What eval counts of four valid examples of five, against layers' inputs written out."""
    network, keys, side = FORMS[name]
    settings = base()
    settings.update({"model": network, "dataset": "digits_dvs", "timesteps": 3, "threshold": 0.5,
                     "neuron": "mlf" if name == "ds" else "lif", "frame_size": side})  # fmt: skip
    settings.model_options.update(keys)
    program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
    images = np.random.default_rng(1).poisson(1.0, (5, 3, side, side, 2)).astype(np.uint8)
    variables = lively(program.model, jnp.asarray(images[:4], jnp.float32))
    state = jax.eval_shape(program.init).replace(ema=None, **variables)
    valid = np.array([1, 1, 1, 1, 0], bool)
    given = images, np.zeros(5, np.int32), np.arange(5, dtype=np.int32), valid
    counts = jax.device_get(program.eval_step(state, *given))
    structure = structure_of(program.model, settings)
    products = {key: int(value.sum()) for key, value in counts["products"].items()}
    found = count(
        structure.operations, 3, counts["spikes"], counts["nonzero"],
        {key: layer.neurons for key, layer in structure.neurons.items()}, 4, 0, 4.6, 0.9,
        amount=counts["amount"], products=products,
    )  # fmt: skip
    taken = {}

    def watch(call, args, kwargs, context):
        if context.method_name == "__call__":
            taken["/".join(context.module.path)] = context.module, *map(np.asarray, args[:3])
        return call(*args, **kwargs)

    with summary.watching(watch):
        program.model.apply(variables, jnp.asarray(images[:4], jnp.float32), train=False)
    table = {op.name: op for op in structure.operations}
    for row in found["layers"]:
        if row["kind"] in ("conv", "linear"):
            module, values = taken[row["name"]][:2]
            spikes = bool(table[row["name"]].source)
            ones = {"params": {"kernel": jnp.ones(kernel_of(variables, row["name"]).shape)}}
            if module.use_bias:
                ones["params"]["bias"] = jnp.zeros(module.features)
            driven = module.clone(parent=None, name=None).apply(
                ones, jnp.asarray(values if spikes else values != 0, jnp.float32)
            )
            exact = row["exact_acs" if spikes else "exact_macs"]
            assert exact == pytest.approx(float(np.asarray(driven, np.float64).sum()) / 4)
        if row["kind"] == "attention":
            _, q, k, v = taken[row["name"]]
            q, k, v = (a.reshape(4, 3, -1, a.shape[-1]) for a in (q, k, v))
            pairs = sum(
                float(np.einsum("bnd,bmd->", q[:, t], k[:, u])) + float(v[:, u].sum()) * q.shape[2]
                for t in range(3) for u in range(t + 1)
            )  # fmt: skip
            assert row["exact_acs"] == pairs / 4 > 0
    joins = [name for name, op in table.items() if op.levels > 1]
    assert joins and any(counts["amount"][name].sum() > counts["nonzero"][name].sum()
                         for name in joins)  # fmt: skip


def kernel_of(variables, name):
    return functools.reduce(lambda tree, key: tree[key], name.split("/"), variables["params"])[
        "kernel"
    ]
