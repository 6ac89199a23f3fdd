"""NIR graphs that others wrote: what a node means, and what is refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.exchange import interchange


def test_foreign_graphs_and_files_are_refused_by_name(tmp_path):
    import nir

    shape = {"input_type": np.array([1, 2, 2])}
    leaky = nir.LIF(
        tau=np.ones((1, 2, 2)), r=np.ones((1, 2, 2)), v_leak=np.ones((1, 2, 2)),
        v_threshold=np.ones((1, 2, 2)), v_reset=np.zeros((1, 2, 2)),
    )  # fmt: skip
    nodes = {"input": nir.Input(**shape), "cell": leaky, "output": nir.Output(shape["input_type"])}
    graph = nir.NIRGraph(nodes, [("input", "cell"), ("cell", "output")], type_check=False)
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


def named_graph(nodes, edges):
    """A linear layer of 4 outputs between nodes of other names."""
    import nir

    layer = {"layer": nir.Linear(2 * np.ones((4, 3)))}
    return nir.NIRGraph(layer | nodes, edges, type_check=False)


def test_run_finds_input_and_output_by_type():
    import nir

    nodes = {"in": nir.Input(np.array([3])), "out": nir.Output(np.array([4]))}
    graph = named_graph(nodes, [("in", "layer"), ("layer", "out")])
    values = interchange.run(graph, np.ones((1, 2, 3), np.float32))
    np.testing.assert_array_equal(values["output"], np.full((1, 2, 4), 6.0))
    np.testing.assert_array_equal(values["out"], values["output"])


@pytest.mark.parametrize("outputs", [(), ("a", "b")])
def test_run_refuses_no_or_several_outputs(outputs):
    import nir

    nodes = {"input": nir.Input(np.array([3]))}
    nodes |= {name: nir.Output(np.array([4])) for name in outputs}
    edges = [("input", "layer"), *(("layer", name) for name in outputs)]
    with pytest.raises(interchange.NotRepresentable, match=f"{len(outputs)} outputs"):
        interchange.run(named_graph(nodes, edges), np.ones((1, 2, 3), np.float32))


@pytest.mark.parametrize(
    "values",
    [
        {"tau": np.ones((10**5, 1)), "r": np.ones((1, 10**5))},
        {"r": np.ones((10**6, 3))},
        {"v_threshold": np.full(3, np.nan)},
    ],
)
def test_lif_of_shapes_that_grow_is_refused_early(values):
    node = lif((3,))
    for key, value in values.items():
        setattr(node, key, value)
    with pytest.raises(interchange.NotRepresentable, match="node: "):
        interchange.run(graph_of(node, (3,)), np.ones((1, 2, 3), np.float32))


@pytest.mark.parametrize("kind", ["declared", "inflated", "external", "soft", "cycle", "virtual"])
def test_read_refuses_arrays_that_a_file_lacks(tmp_path, kind):
    import h5py

    path = tmp_path / "g.nir"
    interchange.write(path, graph_of(lif((3,)), (3,)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    with h5py.File(path, "r+") as file:
        group = file["node/nodes/node"]
        del group["tau"]
        if kind == "declared":
            group.create_dataset("tau", (10**6, 10**6), "f8")
        elif kind == "inflated":
            group.create_dataset("tau", data=np.zeros(2**25 + 2**21), compression="gzip")
        elif kind == "external":
            group["tau"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        elif kind == "soft":
            group["tau"] = h5py.SoftLink("/node/nodes/node/r")
        elif kind == "cycle":
            group["tau"] = file["node"]
        else:
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
            group.create_virtual_dataset("tau", layout)
    with pytest.raises(interchange.NotRepresentable, match=r"g\.nir.*tau"):
        interchange.read(path)


def test_pool_far_beyond_its_map_is_refused():
    import nir

    huge = np.array([10**9] * 2)
    graph = graph_of(nir.SumPool2d(huge, np.array([1, 1]), huge // 2), (1, 4, 4))
    with pytest.raises(interchange.NotRepresentable, match="kernel_size"):
        interchange.run(graph, np.ones((1, 1, 1, 4, 4), np.float32))
