"""NIR: the same spikes through the file, in another interpreter, and refusals with their reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import networks
from dalif_jax.exchange import interchange
from dalif_jax.neurons import options as options_of

FOLD, KEEP, AVERAGE = {}, {"fold_gain": False}, {"average_pool": True}
NETWORKS = [
    ("mini", (8, 8, 1), 4, {}, FOLD),
    ("mini", (8, 8, 1), 4, {}, KEEP),
    ("mini", (8, 8, 1), 4, {}, AVERAGE | KEEP | {"dt": 2e-3}),
    ("tiny", (8, 8, 1), 3, {"per_channel": True}, FOLD),
    ("tiny", (8, 8, 1), 3, {"per_channel": True}, KEEP),
    ("mini", (8, 8, 1), 4, {"membrane_bn": True}, FOLD),
    pytest.param("resnet20", (16, 16, 3), 2, {}, AVERAGE, marks=pytest.mark.slow),
    pytest.param("resnet20", (16, 16, 3), 2, {}, FOLD, marks=pytest.mark.slow),
    pytest.param("resnet18", (32, 32, 3), 2, {"name": "tied"}, FOLD, marks=pytest.mark.slow),
    ("vgg11", (32, 32, 2), 2, {}, FOLD),
]


def trained_looking(name, shape, timesteps, options):
    """(model, variables, x): weights, statistics and decays away from where they start."""
    options = options_of(**options)
    model = networks.build(name, 10, options, jnp.float64)
    x = jax.random.normal(jax.random.key(1), (2, timesteps, *shape))
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    draw = np.random.default_rng(0)

    def change(path, leaf):
        if path[-1].key in ("scale", "norm_scale"):
            return leaf * draw.uniform(2, 4, leaf.shape)
        moved = ("mean", "norm_mean", "bias", "norm_bias", "a", "b", "k")
        return leaf + 0.1 * draw.normal(size=leaf.shape) * (path[-1].key in moved)

    return model, jax.tree_util.tree_map_with_path(change, variables), x, options


@pytest.mark.parametrize(("name", "shape", "timesteps", "options", "keys"), NETWORKS)
def test_the_same_spikes_through_the_file(tmp_path, name, shape, timesteps, options, keys, x64):
    model, variables, x, options = trained_looking(name, shape, timesteps, options)
    logits, taps, _ = jax.jit(lambda x: networks.tapped(model, variables, x, ("spikes",)))(x)
    interchange.write(
        tmp_path / "g.nir", interchange.to_nir(model, variables, options, shape, **keys)
    )
    given = interchange.run(interchange.read(tmp_path / "g.nir"), jnp.moveaxis(x, -1, 2))
    fired = 0
    for layer, tap in taps.items():
        spikes = np.moveaxis(np.asarray(tap["spikes"]), -1, 2)
        np.testing.assert_array_equal(given[layer.replace("/", ".")], spikes)
        fired += spikes.sum()
    assert fired > 100
    np.testing.assert_allclose(given["output"][..., 0, 0], logits, atol=1e-9)


def simulate(nodes, edges, x, dt):
    """NIR's equations in NumPy, for one example [T, C, H, W], a timestep at a time."""
    order = []
    while len(order) < len(nodes):
        order += [n for n in nodes if n not in order
                  and all(a in order for a, b in edges if b == n)]  # fmt: skip
    v, out = {}, {name: [] for name in nodes}
    for frame in x:
        now = {}
        for name in order:
            node, kind = nodes[name], type(nodes[name]).__name__
            current = sum([now[a] for a, b in edges if b == name]) if kind != "Input" else frame
            if kind == "LIF":
                before = v.get(name, np.zeros_like(current))
                h = before + dt / node.tau * (node.v_leak - before + node.r * current)
                now[name] = (h > node.v_threshold).astype(float)
                v[name] = np.where(now[name] > 0, node.v_reset, h)
            elif kind in ("Conv2d", "SumPool2d"):
                p, s = int(np.max(node.padding)), int(np.max(node.stride))
                size = node.weight.shape[2:] if kind == "Conv2d" else node.kernel_size
                padded = np.pad(current, ((0, 0), (p, p), (p, p)))
                windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(size), (1, 2))
                windows = windows[:, ::s, ::s]
                if kind == "Conv2d":
                    y = np.einsum("chwij,ocij->ohw", windows, node.weight)
                    now[name] = y + node.bias[:, None, None]
                else:
                    now[name] = windows.sum((3, 4))
            else:
                now[name] = current
            out[name].append(now[name])
    return {name: np.stack(values) for name, values in out.items()}


@pytest.mark.parametrize("keys", [{}, {"fold_gain": False}])
def test_another_interpreter_of_the_graph_gives_the_same_spikes(tmp_path, keys, x64):
    model, variables, x, options = trained_looking("mini", (8, 8, 1), 4, {})
    logits, taps, _ = networks.tapped(model, variables, x, ("spikes",))
    graph = interchange.to_nir(model, variables, options, (8, 8, 1), **keys)
    interchange.write(tmp_path / "g.nir", graph)
    graph = interchange.read(tmp_path / "g.nir")
    given = simulate(graph.nodes, graph.edges, np.moveaxis(np.asarray(x[1]), -1, 1), 1e-4)
    for layer, tap in taps.items():
        spikes = np.moveaxis(np.asarray(tap["spikes"][1]), -1, 1)
        assert 0.01 < spikes.mean() < 0.9, layer
        np.testing.assert_array_equal(given[layer.replace("/", ".")], spikes)
    np.testing.assert_allclose(given["output"][..., 0, 0], logits[1], atol=1e-9)


def test_neurons_are_what_the_equations_say():
    options = options_of(name="lif", alpha=0.9, beta=0.6, threshold=0.5)
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)), train=False)
    nodes = interchange.to_nir(model, variables, options, (8, 8, 1), fold_gain=False).nodes
    node = nodes["stem0_neuron"]
    assert node.tau.shape == node.r.shape == node.v_threshold.shape == (8, 8, 8)
    np.testing.assert_allclose(node.tau, 1e-4 / 0.4)
    np.testing.assert_allclose(node.r, 0.9 / 0.4)
    assert (node.v_threshold == 0.5).all() and not node.v_leak.any() and not node.v_reset.any()
    folded = interchange.to_nir(model, variables, options, (8, 8, 1)).nodes
    assert (folded["stem0_neuron"].r == 1).all()
    np.testing.assert_allclose(
        folded["stem0_conv"].weight, nodes["stem0_conv"].weight * 0.9 / 0.4, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": -0.5}, r"beta = -0.46.*0 <= beta < 1"),
        ({"b": 25.0}, r"beta = 1 to 1.*is 1 in float32"),
        ({"norm_scale": -1.0}, "scale is not positive"),
    ],
)
def test_what_nir_cannot_say_is_refused(change, message):
    options = options_of(membrane_bn="norm_scale" in change)
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)), train=False)
    layer = variables["params"]["stage0_block0"]["neuron1"]
    for key, value in change.items():
        layer[key] = jnp.full_like(layer[key], value)
    with pytest.raises(interchange.NotRepresentable, match=message) as error:
        interchange.to_nir(model, variables, options, (8, 8, 1))
    assert "stage0_block0/neuron1" in str(error.value)


def test_a_grouped_convolution_is_refused():
    options = options_of()
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)), train=False)
    own = variables["params"]["stage0_block0"]["conv1"]
    own["kernel"] = own["kernel"][:, :, :8]
    with pytest.raises(interchange.NotRepresentable, match="conv1: a grouped convolution"):
        interchange.to_nir(model, variables, options, (8, 8, 1))


def test_a_map_that_is_not_square_is_refused():
    options = options_of()
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 16, 1)), train=False)
    with pytest.raises(interchange.NotRepresentable, match="4x8; a square one"):
        interchange.to_nir(model, variables, options, (8, 16, 1))


def test_foreign_graphs_and_files_are_refused_by_name(tmp_path):
    import nir

    shape = {"input_type": np.array([1, 2, 2])}
    leaky = nir.LIF(
        tau=np.ones((1, 2, 2)), r=np.ones((1, 2, 2)), v_leak=np.ones((1, 2, 2)),
        v_threshold=np.ones((1, 2, 2)), v_reset=np.zeros((1, 2, 2)),
    )  # fmt: skip
    graph = nir.NIRGraph({"input": nir.Input(**shape), "cell": leaky}, [("input", "cell")],
                         type_check=False)  # fmt: skip
    x = jnp.zeros((1, 1, 1, 2, 2))
    with pytest.raises(interchange.NotRepresentable, match="cell: v_leak is not 0"):
        interchange.run(graph, x)
    graph.nodes["cell"] = nir.Threshold(threshold=np.ones((1, 2, 2)))
    with pytest.raises(interchange.NotRepresentable, match="cell: Threshold is not read"):
        interchange.run(graph, x)
    graph.edges.append(("cell", "cell"))
    with pytest.raises(interchange.NotRepresentable, match="cycle through cell"):
        interchange.run(graph, x)
    (tmp_path / "x.nir").write_bytes(b"no HDF5")
    with pytest.raises(interchange.NotRepresentable, match=r"x\.nir is no NIR file"):
        interchange.read(tmp_path / "x.nir")


def graph_of(node, shape, *, edges=(("input", "node"), ("node", "output")), metadata=None):
    """A graph of one node between input [shape] and output."""
    import nir

    nodes = {
        "input": nir.Input({"input": np.array(shape)}),
        "node": node,
        "output": nir.Output({"output": np.array(shape)}),
    }
    return nir.NIRGraph(nodes, list(edges), metadata=metadata or {}, type_check=False)


def lif(shape, tau=2e-4, **keys):
    import nir

    whole = {"r": 1.0, "v_leak": 0.0, "v_threshold": 1.0} | keys
    return nir.LIF(tau=np.full(shape, tau), **{k: np.full(shape, v) for k, v in whole.items()})


@pytest.mark.parametrize("given", [None, 1e-3])
@pytest.mark.parametrize("own", [None, 1e-4, 5e-4])
def test_a_graphs_own_step_is_its_step(tmp_path, own, given, x64):
    """After one step of dt the membrane is dt / tau of the input: above its threshold or not."""
    tau, default = 2e-3, 1e-4
    dt = given or own or default
    for share, fires in ((0.99, True), (1.01, False)):
        node = lif((3,), tau, v_threshold=share * dt / tau)
        graph = graph_of(node, (3,), metadata=own and {"dt": own})
        interchange.write(tmp_path / "g.nir", graph)
        for one in (graph, interchange.read(tmp_path / "g.nir")):
            spikes = interchange.run(one, np.ones((1, 1, 3)), given)["output"]
            assert bool(spikes.all()) is fires and bool(spikes.any()) is fires


@pytest.mark.parametrize("start", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("end", [0, 1, 2, -1, -2, -3])
def test_flatten_is_what_nir_says(start, end):
    import nir

    shape, a, b = (2, 4, 6), start % 3, end % 3
    graph = graph_of(nir.Flatten({"input": None}, start, end), shape)
    x = np.random.default_rng(0).normal(size=(2, 3, *shape)).astype(np.float32)
    if a > b:
        with pytest.raises(interchange.NotRepresentable, match="node: axes"):
            interchange.run(graph, x)
        return
    given = interchange.run(graph, x)["output"]
    expected = [*shape[:a], int(np.prod(shape[a : b + 1])), *shape[b + 1 :]]
    np.testing.assert_array_equal(given, x.reshape(2, 3, *expected))


def convolved(x, weight, bias, stride, before, after, dilation, groups):
    """A convolution [C, H, W] -> [O, h, w] by its definition."""
    padded = np.pad(x, ((0, 0), *zip(before, after, strict=True)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    size = [(n - r) // s + 1 for n, r, s in zip(padded.shape[1:], reach, stride, strict=True)]
    out, per = np.zeros((len(weight), *size)), len(weight) // groups
    for o, i, j in np.ndindex(*out.shape):
        first = o // per * weight.shape[1]
        rows = i * stride[0] + dilation[0] * np.arange(weight.shape[2])
        columns = j * stride[1] + dilation[1] * np.arange(weight.shape[3])
        taken = padded[first : first + weight.shape[1]][:, rows][:, :, columns]
        out[o, i, j] = (taken * weight[o]).sum() + (0 if bias is None else bias[o])
    return out


@pytest.mark.parametrize("kernel", [(3, 3), (2, 5)])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "bias"),
    [
        ((1, 1), (1, 1), (1, 1), 1, True),
        ((2, 1), (0, 2), (1, 1), 1, False),
        ((1, 1), "same", (1, 1), 1, True),
        ((1, 1), "same", (2, 1), 2, False),
        ((2, 2), "valid", (1, 2), 2, True),
    ],
)
def test_convolutions_of_every_form(tmp_path, kernel, stride, padding, dilation, groups, bias, x64):
    import nir

    rng = np.random.default_rng(0)
    shape, weight = (4, 9, 11), rng.normal(size=(6, 4 // groups, *kernel))
    offset = rng.normal(size=6) if bias else None
    node = nir.Conv2d((9, 11), weight, stride, padding, dilation, groups, offset)
    x = rng.normal(size=(1, 1, *shape))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = {"same": [n // 2 for n in reach], "valid": (0, 0)}.get(padding, padding)
    after = {"same": [n - n // 2 for n in reach], "valid": (0, 0)}.get(padding, padding)
    graph = graph_of(node, shape)
    if bias:  # HDF5 has no None
        interchange.write(tmp_path / "g.nir", graph)
        graph = interchange.read(tmp_path / "g.nir")
    given = interchange.run(graph, x)["output"][0, 0]
    expected = convolved(x[0, 0], weight, offset, stride, before, after, dilation, groups)
    np.testing.assert_allclose(given, expected, atol=1e-12)


def test_counts_are_taken_as_numbers():
    counts = np.random.default_rng(0).integers(0, 4, (2, 5, 3)).astype(np.uint8)
    graph = graph_of(lif((3,)), (3,))
    whole, real = (interchange.run(graph, x)["output"] for x in (counts, counts.astype(np.float32)))
    assert whole.dtype == jnp.float32 and 0 < whole.sum() < whole.size
    np.testing.assert_array_equal(whole, real)


def refusals():
    """(id, graph, x, message) of what is refused by name."""
    import nir

    one, x, twice = np.ones((3,)), np.ones((1, 2, 3), np.float32), ("input", "node")
    line = (twice, ("node", "output"))
    cuba = nir.CubaLIF(one, one, one, one, one)
    inner = graph_of(lif((3,)), (3,))
    conv = lambda *a: nir.Conv2d(None, np.ones((1, 1, 3, 3)), *a, 1, 1, None)  # noqa: E731
    pair = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    return [
        ("current", graph_of(cuba, (3,)), x, "node: CubaLIF is not read"),
        ("integrate", graph_of(nir.IF(one, one), (3,)), x, "node: IF is not read"),
        ("graph", graph_of(inner, (3,)), x, "node: NIRGraph is not read"),
        ("recurrent", graph_of(lif((3,)), (3,), edges=[*line, ("node", "node")]), x, "cycle"),
        ("twice", graph_of(lif((3,)), (3,), edges=[*line, twice]), x, "to node is there twice"),
        ("nowhere", graph_of(lif((3,)), (3,), edges=[*line, ("gone", "node")]), x, "no node gone"),
        ("nothing", graph_of(lif((3,)), (3,), edges=line[1:]), x, "node: nothing leads to it"),
        ("reset", graph_of(lif((3,), v_reset=0.5), (3,)), x, "node: v_reset is not 0"),
        ("no time", graph_of(lif((3,)), (3,), metadata={"dt": "slow"}), x, "slow.* is no number"),
        ("zero", graph_of(lif((3,)), (3,), metadata={"dt": 0.0}), x, r"dt=0\.0 is no time"),
        ("tau", graph_of(lif((3,), tau=0.0), (3,)), x, "node: tau is not above 0"),
        ("input", graph_of(lif((4,)), (4,)), x, r"input: takes \(4,\), was given \(3,\)"),
        ("neurons", graph_of(lif((4,)), (3,)), x, "node: LIF does not take"),
        ("strided", graph_of(conv(2, "same"), (1, 4, 4)), np.ones((1, 1, 1, 4, 4)), "stride of 1"),
        ("channels", graph_of(conv(1, 0), (2, 4, 4)), np.ones((1, 1, 2, 4, 4)), "Conv2d does"),
        ("flat", graph_of(pair, (3,)), x, "node: AvgPool2d does not take"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("graph", "x", "message"), [row[1:] for row in refusals()], ids=[row[0] for row in refusals()]
)
def test_what_is_not_read_is_refused_by_name(graph, x, message):
    with pytest.raises(interchange.NotRepresentable, match=message):
        interchange.run(graph, x)


@pytest.mark.parametrize("dt", [0.0, -1e-4, float("nan"), float("inf")])
def test_a_step_that_is_no_time_is_not_exported(dt):
    options = options_of()
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)), train=False)
    with pytest.raises(interchange.NotRepresentable, match="is no time"):
        interchange.to_nir(model, variables, options, (8, 8, 1), dt=dt)
