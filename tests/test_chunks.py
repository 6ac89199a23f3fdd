"""Layers of more than 8 timesteps run in chunks: values, gradients, size of the program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dalif_jax import networks, neurons
from dalif_jax.ops import products


def drawn(timesteps, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.8, 1.5, (3, timesteps, 5))
    return jnp.asarray(x), jnp.asarray(rng.normal(size=x.shape))


def looped(options, params, x):
    """Spikes by a plain Python loop over the neuron's step."""
    kind, spikes = neurons.of(options), []
    state = kind.state(options, x[:, 0])
    numbers = kind.numbers(options)
    for t in range(x.shape[1]):
        now = {k: v[t] if "timestep" in numbers[k].per else v for k, v in params.items()}
        state, s = kind.step(options, now, state, x[:, t])
        spikes.append(s)
    return jnp.stack(spikes, 1)


def pulled(function, weights, *inputs):
    spikes, back = jax.vjp(function, *inputs)
    return spikes, back(weights)


CASES = [("dalif", 9), ("dalif", 17), ("alif", 16), ("glif", 11), ("mlf", 10)]
CASES += [
    pytest.param(n, t, marks=pytest.mark.slow) for n in neurons.NEURONS for t in (1, 7, 16, 33)
]


@pytest.mark.parametrize(("name", "timesteps"), CASES)
def test_layer_in_chunks_equals_a_python_loop(name, timesteps, x64):
    x, weights = drawn(timesteps)
    options = neurons.options(name)
    layer = neurons.SpikingNeuron(options)
    params = layer.init(jax.random.key(0), x, False).get("params", {})

    def applied(params, x):
        return layer.apply({"params": params}, x, True)

    s0, g0 = jax.jit(functools.partial(pulled, applied))(weights, params, x)
    s1, g1 = pulled(functools.partial(looped, options), weights, params, x)
    np.testing.assert_allclose(s0, s1, atol=0 if neurons.NEURONS[name].levels else 1e-12)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), g0, g1)


@pytest.mark.parametrize("name", ["dalif", "alif"])
def test_program_size_does_not_grow_with_timesteps(name):
    def lines(timesteps):
        x = jnp.zeros((2, timesteps, 5))
        layer = neurons.SpikingNeuron(neurons.options(name))
        variables = layer.init(jax.random.key(0), x[:, :1], True)
        loss = lambda v, x: layer.apply(v, x, True).sum()  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(variables, x)).count("\n")

    assert lines(100) <= 1.5 * lines(16) and lines(1000) <= 1.5 * lines(16)


@pytest.mark.parametrize("name", ["dalif", "alif"])
def test_layer_in_chunks_keeps_its_input_alone(name):
    x = jnp.ones((2, 100, 5))
    layer = neurons.SpikingNeuron(neurons.options(name))
    variables = layer.init(jax.random.key(0), x, True)
    back = jax.vjp(lambda x: layer.apply(variables, x, True), x)[1]
    # The first state, one timestep of zeros a leaf, is kept too.
    large = [leaf.shape for leaf in jax.tree.leaves(back) if jnp.size(leaf) > x[:, 0].size]
    assert large == [x.shape]


def test_layer_in_chunks_accepts_an_integer_state():
    """A counter of timesteps: fires in every third one, whatever comes in."""

    def step(options, params, state, x):
        count, h = state
        h = h + x
        s = neurons.fire(options, h) * (count % 3 == 2)
        return (count + 1, h * 0.5), s

    kind = neurons.Neuron(
        step, state=lambda options, x: (jnp.zeros(x.shape, jnp.int32), neurons.zeros(x))
    )
    if "counting" not in neurons.NEURONS:
        neurons.add("counting", kind)
    try:
        layer = neurons.SpikingNeuron(neurons.options("counting"))
        x = jnp.full((2, 18, 3), 0.2)  # within the surrogate's width of the threshold
        spikes, back = jax.vjp(lambda x: layer.apply({}, x, True), x)
        assert spikes.sum((0, 2)).tolist() == [0.0, 0.0, 6.0] * 6
        assert jnp.abs(back(spikes)[0]).max() > 0
    finally:
        del neurons.NEURONS["counting"]


@pytest.mark.parametrize("kind", ["shard_map", "explicit"])
@pytest.mark.parametrize(("name", "timesteps"), [("dalif", 3), ("dalif", 12), ("alif", 12)])
def test_layer_gradient_on_a_mesh_equals_one_device(kind, name, timesteps):
    layer = neurons.SpikingNeuron(neurons.options(name))
    x = jnp.asarray(np.random.default_rng(0).normal(0.8, 1.5, (4, timesteps, 5)), jnp.float32)
    variables = layer.init(jax.random.key(0), x, True)
    whole, batch = PartitionSpec(), PartitionSpec("data")
    gradient = jax.grad(lambda v, x: (layer.apply(v, x, True) * x).sum(), (0, 1))
    expected = jax.device_get(gradient(variables, x))
    axis = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis,), devices=jax.devices()[:2])
    if kind == "shard_map":
        specs = {"in_specs": (whole, batch), "out_specs": (whole, batch)}
        actual = jax.jit(jax.shard_map(gradient, mesh=mesh, **specs))(variables, x)
    else:
        with jax.set_mesh(mesh):
            actual = jax.jit(gradient)(variables, jax.device_put(x, NamedSharding(mesh, batch)))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, jax.device_get(actual), expected)


@pytest.mark.parametrize(
    ("key", "value"), [("jax_enable_x64", True), ("jax_numpy_rank_promotion", "raise")]
)
@pytest.mark.parametrize("name", ["dalif", "klif", "glif"])
def test_layer_under_a_jax_setting_gives_the_same_spikes(key, value, name):
    x = jnp.asarray(np.random.default_rng(0).normal(0.8, 1.5, (2, 12, 5)), jnp.float32)
    per_channel = {"per_channel": True} if name != "klif" else {}
    if name == "glif":
        per_channel["gates"] = (0.6, 0.8, 0.6)  # not drawn, which differs in float64
    layer = neurons.SpikingNeuron(neurons.options(name, **per_channel))

    def spikes():
        variables = layer.init(jax.random.key(0), x, True)
        s, tap = layer.apply(variables, x, False, mutable=["tap_membrane"])
        jax.grad(lambda v: layer.apply(v, x, True).sum())(variables)
        return np.asarray(s), tap["tap_membrane"]["value"].dtype

    s0, dtype = spikes()
    old = getattr(jax.config, key)
    jax.config.update(key, value)
    try:
        s1, other = spikes()
    finally:
        jax.config.update(key, old)
    assert dtype == other == jnp.float32
    np.testing.assert_array_equal(s0, s1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fused", [True, False])
def test_network_gradient_under_shard_map_equals_one_device(fused, dtype, monkeypatch):
    monkeypatch.setattr(products, "BYTES", 2**12)  # products in several bands
    neuron = neurons.options("dalif", fused=fused)
    network = networks.build("tiny", 5, neuron, jnp.dtype(dtype))
    x = jnp.asarray(np.random.default_rng(0).normal(0.8, 1.0, (4, 3, 16, 16, 1)), jnp.float32)
    variables = network.init(jax.random.key(0), x)

    def gradient(variables, x, train):
        def loss(params):
            out = network.apply({**variables, "params": params}, x, train, mutable=["batch_stats"])
            return (out[0].astype(jnp.float32) ** 2).sum(), out[1]

        return jax.grad(loss, has_aux=True)(variables["params"])

    def halves(train):
        step = jax.jit(gradient, static_argnums=2)
        parts = [step(variables, half, train)[0] for half in (x[:2], x[2:])]
        return jax.device_get(jax.tree.map(lambda a, b: a + b, *parts))

    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    specs = {"in_specs": (PartitionSpec(), PartitionSpec("data")), "out_specs": PartitionSpec()}
    for train in (False, True):
        part = lambda variables, x: gradient(variables, x, train)[0]  # noqa: B023, E731
        actual = jax.device_get(jax.jit(jax.shard_map(part, mesh=mesh, **specs))(variables, x))
        tolerance = 1e-5 if dtype == "float32" else 0.03
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(halves(train)), strict=True):
            np.testing.assert_allclose(a, e, atol=tolerance * np.abs(e).max())


@pytest.mark.parametrize("name", ["dalif", "alif"])
def test_layer_streamed_equals_chunks(name):
    x = drawn(19)[0].astype(jnp.float32)
    layer = neurons.SpikingNeuron(neurons.options(name))
    variables = layer.init(jax.random.key(0), x, False)
    expected = layer.apply(variables, x, False)
    state, spikes = {}, []
    for piece in jnp.split(x, [1, 5, 14], 1):
        s, state = layer.apply({**variables, **state}, piece, False, mutable=["stream"])
        spikes.append(s)
    np.testing.assert_array_equal(jnp.concatenate(spikes, 1), expected)


@pytest.mark.parametrize("name", ["dalif", "alif"])
def test_layer_in_chunks_of_bfloat16_input_equals_the_scan(name):
    x = drawn(17)[0].astype(jnp.bfloat16)
    variables = neurons.SpikingNeuron(neurons.options(name)).init(jax.random.key(0), x, True)

    def run(fused):
        layer = neurons.SpikingNeuron(neurons.options(name, fused=fused))
        spikes, back = jax.vjp(lambda v, x: layer.apply(v, x, True), variables, x)
        return spikes, back(jnp.ones_like(spikes))

    (s0, g0), (s1, g1) = run(True), run(False)
    assert s0.dtype == jnp.bfloat16
    np.testing.assert_array_equal(s0, s1)
    close = functools.partial(np.testing.assert_allclose, rtol=0.02, atol=0.02)
    jax.tree.map(lambda a, b: close(a.astype(jnp.float32), b.astype(jnp.float32)), g0, g1)
