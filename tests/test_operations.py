"""Operation counts and energy: the paper's Table III to the digit, and every spike's synapses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs.base import get_config as base
from dalif_jax import networks, training
from dalif_jax import neurons as pieces
from dalif_jax.analysis import operations
from dalif_jax.analysis.operations import AC_PJ, MAC_PJ
from dalif_jax.analysis.summary import neuron_layers
from dalif_jax.data import sets
from dalif_jax.neurons import options as options_of
from dalif_jax.training.evaluation import structure_of

# Network, classes, (T, H, W, C), static; MACs, FLOPs and accumulate-eligible operations in millions
# and parameters, with membrane BN (Table III and its eligible part) and MACs and FLOPs without.
TABLE_3 = [
    ("resnet20", 100, (4, 32, 32, 3), True, "56.5495", "873.478", "811.98", "53.99", "868.37"),
    ("resnet18", 1000, (4, 224, 224, 3), True,
     "974.8613", "7333.9", "6323.1", "956.40", "7296.9"),
    ("resnet20", 10, (16, 64, 64, 2), False,
     "863.8464", "13934.7", "12991.7", "822.95", "13852.9"),
]  # fmt: skip


def totals(network, classes, shape, static, membrane_bn):
    model = networks.build(network, classes, options_of(membrane_bn=membrane_bn))
    table = operations.operations(model, shape, static)
    macs = sum(op.total(shape[0]) for op in table if not op.source)
    eligible = sum(op.total(shape[0]) for op in table if op.source)
    return macs, sum(op.flops for op in table) * shape[0], eligible


def rounded(value, like):
    """`value` in millions with as many digits as the text `like`."""
    return f"{value / 1e6:.{len(like.split('.')[1])}f}"


@pytest.mark.parametrize("row", TABLE_3, ids=lambda row: f"{row[0]}-T{row[2][0]}")
def test_table_3_to_the_digit(row):
    network, classes, shape, static, macs, flops, eligible, plain_macs, plain_flops = row
    found = totals(network, classes, shape, static, membrane_bn=True)
    assert [rounded(*pair) for pair in zip(found, (macs, flops, eligible), strict=True)] == [
        macs, flops, eligible,
    ]  # fmt: skip
    found = totals(network, classes, shape, static, membrane_bn=False)
    assert rounded(found[0], plain_macs) == plain_macs
    assert rounded(found[1], plain_flops) == plain_flops
    assert rounded(found[2], eligible) == eligible


@pytest.mark.parametrize(
    ("network", "macs", "acs", "millijoule"),
    [(0, 56.55, 143.31, "0.3891"), (1, 974.86, 1330.0, "5.6814"), (2, 863.85, 1420.0, "5.2517")],
)
def test_the_three_energies_of_table_3(network, macs, acs, millijoule):
    """With the paper's accumulates, which its trained networks decided, as firing rates here."""
    name, classes, shape, static = TABLE_3[network][:4]
    model = networks.build(name, classes, options_of(membrane_bn=True))
    table = operations.operations(model, shape, static)
    eligible = sum(op.total(shape[0]) for op in table if op.source)
    neurons = {key: layer.neurons for key, layer in neuron_layers(model, shape).items()}
    # Every neuron fires at the paper's mean rate, counted over a million examples.
    examples, rate = 10**6, acs * 1e6 / eligible
    spikes = {
        key: np.array([[round(examples * shape[0] * count * rate)]])
        for key, count in neurons.items()
    }
    nonzero = {op.name: np.zeros((1, 1), np.int64) for op in table}
    got = operations.count(table, shape[0], spikes, nonzero, neurons, examples, 0, MAC_PJ, AC_PJ)[
        "paper"
    ]
    assert got["acs"] == pytest.approx(acs * 1e6, rel=1e-6)
    assert f"{got['macs'] / 1e6:.2f}" == f"{macs:.2f}"
    assert f"{got['energy_uj'] / 1e3:.4f}" == millijoule


@pytest.mark.parametrize("timesteps", [1, 2, 4, 16])
def test_every_timestep_counts_and_the_heads_bias_once(timesteps):
    """SyOPs' hook of a linear layer: the product for every row it takes, the bias for the call."""
    table = operations.operations(networks.build("vgg11", 7), (timesteps, 32, 32, 3), True)
    head = next(op for op in table if op.kind == "linear")
    assert head.total(timesteps) == timesteps * 512 * 7 + 7
    # A convolution's hook adds the bias at every position of every row.
    first = table[0]
    assert first.kind == "conv" and first.total(timesteps) == timesteps * 32 * 32 * 64 * (27 + 1)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_synapses_of_every_position_are_those_of_the_convolution(kernel, stride):
    x = jnp.zeros((1, 9, 6, 2))
    pad = ((kernel // 2, kernel // 2),) * 2
    conv = nn.Conv(5, (kernel,) * 2, (stride,) * 2, pad)
    ones = jax.tree.map(jnp.ones_like, conv.init(jax.random.key(0), x))
    expected = jax.grad(lambda x: conv.apply(ones, x).sum())(x)[0, ..., 0]
    made = conv.apply(ones, x).shape[1:3]
    rows = [
        operations._reach(*a, kernel, stride, pad[0][0]) for a in zip((9, 6), made, strict=True)
    ]
    np.testing.assert_array_equal(np.outer(*rows) * 5, expected)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(
    "name",
    ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "vgg11"))],
)
def test_counts_are_those_of_a_run_layer_by_layer(name, static):
    """Both rules from the inputs that the layers really take, without the tables."""
    shape, examples = (2, 32, 32, 2), 3
    model = networks.build(name, 7)
    x = jax.random.normal(jax.random.key(1), (examples, 1 if static else 2, *shape[1:]))
    x = jnp.where(x > 0.5, x, 0.0)
    variables = jax.tree_util.tree_map_with_path(  # so that deep layers fire, too
        lambda path, leaf: 3 * leaf if path[-1].key == "scale" else leaf,
        model.init(jax.random.key(0), x, train=False, timesteps=2),
    )
    taken = {}

    def watch(call, args, kwargs, context):
        if context.method_name == "__call__":
            taken["/".join(context.module.path)] = (context.module, np.asarray(args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        _, taps, _ = networks.tapped(model, variables, x, ("spikes",), timesteps=2)
    neurons = {key: layer.neurons for key, layer in neuron_layers(model, shape).items()}
    spikes = {
        key: np.asarray(tap["spikes"] != 0).sum((0, 1, -1)).astype(np.int64)
        for key, tap in taps.items()
    }
    table = operations.operations(model, shape, static)
    weighted = [op for op in table if op.fan_out is not None]
    nonzero = {op.name: (taken[op.name][1] != 0).sum((0, 1, -1)) for op in weighted}
    got = operations.count(table, 2, spikes, nonzero, neurons, examples, 0, MAC_PJ, AC_PJ)
    rows = {row["name"]: row for row in got["layers"]}
    spiking = 0
    for op in weighted:
        module, values = taken[op.name]
        # SyOPs: what is 0 or 1 are spikes; times the mean of the input.
        binary = bool(op.source)
        assert set(np.unique(values)) <= {0.0, 1.0} or not binary, op.name
        spiking += binary
        row = rows[op.name]
        if binary:
            expected = op.total(2) * values.mean()
            np.testing.assert_allclose(row["paper_acs"], expected, rtol=1e-5)
            assert row["paper_macs"] == 0
        # NeuroBench: the synapses that the values which are not zero drive.
        ones = {"params": {"kernel": jnp.ones_like(variables_of(variables, op.name)["kernel"])}}
        if module.use_bias:
            ones["params"]["bias"] = jnp.zeros(module.features)
        driven = module.clone(parent=None, name=None).apply(ones, jnp.asarray(values != 0, float))
        exact = row["exact_acs"] + row["exact_macs"]
        assert exact == pytest.approx(float(np.asarray(driven, np.float64).sum()) / examples)
        assert row["exact_macs" if binary else "exact_acs"] == 0
    assert 0 < spiking < len(weighted)
    assert got["exact"]["all_acs"] == round(got["exact"]["acs"] * examples)
    # The same number by the neurons' own fan-out, where no pool lies between.
    if name == "tiny":
        fan_out = neuron_layers(model, shape)
        by_neurons = sum(int((spikes[key] * fan_out[key].fan_out).sum()) for key in spikes)
        pooled = int(spikes["stage0_block0/neuron1"].sum()) * 7
        assert got["exact"]["all_acs"] == by_neurons - pooled


def variables_of(variables, name):
    tree = variables["params"]
    for key in name.split("/"):
        tree = tree[key]
    return tree


def test_a_layer_beyond_32_bits_is_counted_exactly():
    model = networks.build("resnet19", 10)
    table = operations.operations(model, (10, 64, 64, 2), static=False)
    neurons = {key: layer.neurons for key, layer in neuron_layers(model, (1, 64, 64, 2)).items()}
    ones = {op.name: 10 * op.inputs for op in table}  # every value of one example is a spike
    nonzero = {
        op.name: np.full(op.fan_out.shape, ones[op.name] // op.fan_out.size)
        for op in table if op.fan_out is not None
    }  # fmt: skip
    spikes = {key: np.array([[10 * count]]) for key, count in neurons.items()}
    got = operations.count(table, 10, spikes, nonzero, neurons, 1, 0, MAC_PJ, AC_PJ)
    dense = {op.name: 10 * op.dense for op in table if op.fan_out is not None}
    for row in got["layers"]:
        if row["name"] in dense:
            assert row["exact_acs"] + row["exact_macs"] == dense[row["name"]]
    assert max(dense.values()) > 2**31
    assert got["exact"]["all_acs"] + got["exact"]["all_macs"] == sum(dense.values())
    assert got["activation_sparsity"] == 0.0


def emitting(levels):
    """A neuron that gives 0, 1, 2, 3 by where its current lies, or the current itself where above 0
    (levels 0)."""

    def step(options, params, state, x):
        whole = jnp.clip(jnp.floor(x + 1.5), 0, levels) if levels else jnp.maximum(x, 0)
        return state, whole.astype(x.dtype)

    return pieces.Neuron(step, state=lambda options, x: (), levels=levels)


@pytest.mark.parametrize("levels", [1, 3, 0])
def test_spikes_above_one_and_real_outputs_count_by_their_rules(monkeypatch, levels):
    """Exactly: an integer is so many accumulates, a real a multiply-accumulate; for SyOPs all but
    spikes of 1 are multiply-accumulates. Against what one forward pass gives, written out."""
    monkeypatch.setitem(pieces.NEURONS, "emitting", emitting(levels))
    settings = base()
    with settings.unlocked():
        settings.update(
            {"model": "tiny", "dataset": "digits", "neuron": "emitting", "timesteps": 2}
        )
    program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
    state = jax.device_get(program.init())
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    indices, valid = np.arange(5, dtype=np.int32), np.array([1, 1, 1, 1, 0], bool)
    counts = program.eval_step(state, images, np.zeros(5, np.int32), indices, valid)
    structure = structure_of(program.model, settings)
    got = operations.count(
        structure.operations, 2, counts["spikes"], counts["nonzero"],
        {name: layer.neurons for name, layer in structure.neurons.items()}, 4, 0, MAC_PJ, AC_PJ,
        amount=counts["amount"],
    )  # fmt: skip
    x = training.prepare(jnp.asarray(images[:4]), sets.spec("digits"), jnp.float32)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    _, taps, _ = networks.tapped(program.model, variables, x, ("spikes",), timesteps=2)
    stem = np.asarray(taps["stem0_neuron"]["spikes"], np.float64)
    assert stem.max() == {1: 1, 3: 3}.get(levels, stem.max()) and (stem > 0).any()
    (op,) = (op for op in structure.operations if op.name == "stage0_block0/conv0")
    (row,) = (row for row in got["layers"] if row["name"] == op.name)
    amounts = stem if levels else (stem != 0).astype(float)
    driven = (amounts.sum((0, 1, 4)) * op.fan_out).sum() / 4
    assert row["exact_acs"] == (pytest.approx(driven) if levels else 0)
    assert row["exact_macs"] == (0 if levels else pytest.approx(driven))
    binary = levels == 1
    assert row["paper_macs"] == (0 if binary else op.total(2))
    assert (row["paper_acs"] > 0) == binary
