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
    pytest.param("vgg11", (32, 32, 2), 2, {}, FOLD, marks=pytest.mark.slow),
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


@pytest.mark.parametrize(
    ("name", "keys"),
    [("ta", {"reduction": 2}), ("ma", {"time_reduction": 2}), ("asa", {}), ("pfa", {})],
)
def test_to_nir_of_a_network_with_attention_is_refused(name, keys):
    options = options_of()
    model = networks.build("tiny", 10, options, attention=name, attention_options=keys)
    x = jnp.zeros((1, 4, 8, 8, 1))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    with pytest.raises(interchange.NotRepresentable, match="stem0_attention"):
        interchange.to_nir(model, variables, options, (8, 8, 1))


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


@pytest.mark.parametrize("dt", [0.0, -1e-4, float("nan"), float("inf")])
def test_a_step_that_is_no_time_is_not_exported(dt):
    options = options_of()
    model = networks.build("tiny", 10, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)), train=False)
    with pytest.raises(interchange.NotRepresentable, match="is no time"):
        interchange.to_nir(model, variables, options, (8, 8, 1), dt=dt)
