"""What every neuron does, whatever it is: one pass, any precision, sharded, streamed, exported."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dalif_jax import networks, neurons, training
from dalif_jax.exchange import interchange

EVERY = {
    "glif": {"per_channel": True, "surrogate": "triangle"},
    "alif": {"threshold": 0.2, "surrogate": "bell"},
    "plif": {"surrogate": "arctan"},
    "klif": {"surrogate": "arctan"},
    "lsg": {"threshold": 0.5},
    "ltmd": {},
    "mlf": {},
    "liaf": {"threshold": 0.5},
    "diet": {"surrogate": "bell"},
    "bdett": {"surrogate": "triangle"},
    "imlif": {"threshold": 0.5},
    "residue": {"threshold": 0.3, "surrogate_width": 0.5},
    "analog": {"threshold": 0.3, "surrogate_width": 0.5},
    "folded": {},
    "relu": {},
    **{name: {} for name in ("dalif", "lif", "tied", "baseline", "spatial", "temporal", "both",
                             "control")},
}  # fmt: skip


def test_every_neuron_is_here():
    assert set(EVERY) == set(neurons.NEURONS)


def draw(timesteps=6, shape=(3, 5)):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(0.8, 1.5, (shape[0], timesteps, *shape[1:])))


@pytest.mark.parametrize("timesteps", [1, 4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EVERY)
def test_one_pass_with_recomputation_is_the_scan(name, timesteps, x64):
    """Values, and gradients of all its numbers and of x."""
    x = draw(timesteps)
    once, scan = (
        neurons.SpikingNeuron(neurons.options(name, fused=fused, **EVERY[name]))
        for fused in (True, False)
    )
    variables = once.init(jax.random.key(0), x, False)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=x.shape))

    def pulled(layer):
        spikes, back = jax.vjp(lambda v, x: layer.apply(v, x, True), variables, x)
        return spikes, back(weights)

    (s0, g0), (s1, g1) = jax.jit(pulled, static_argnums=0)(once), pulled(scan)
    np.testing.assert_allclose(s0, s1, atol=0 if neurons.NEURONS[name].levels else 1e-14)
    assert 0.02 < s0.mean() < 1.5
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), g0, g1)


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_streams_step_by_step_or_says_why_not(name, x64):
    x = draw(5)
    layer = neurons.SpikingNeuron(neurons.options(name, **EVERY[name]))
    variables = layer.init(jax.random.key(0), x, False)
    if why := neurons.refusal(neurons.options(name, **EVERY[name]), "stream"):
        with pytest.raises(ValueError, match=f"does not stream: {why[:20]}"):
            layer.apply(variables | {"stream": {}}, x[:, :1], False, mutable=["stream"])
        return
    state, found = {}, []
    for t in range(5):
        s, new = layer.apply(variables | {"stream": state}, x[:, t : t + 1], False,
                             mutable=["stream"])  # fmt: skip
        state = new["stream"]
        found.append(s)
    np.testing.assert_array_equal(jnp.concatenate(found, 1), layer.apply(variables, x, False))


@pytest.mark.parametrize("name", EVERY)
def test_what_it_shows_has_a_value_and_a_meaning(name):
    options = neurons.options(name, **EVERY[name])
    layer = neurons.SpikingNeuron(options)
    params = layer.init(jax.random.key(0), jnp.zeros((1, 4, 3)), False).get("params", {})
    kind = neurons.NEURONS[name]
    shown = kind.shown(options, params)
    assert set(shown) <= set(kind.meanings)
    assert all(np.isfinite(np.asarray(value)).all() for value in shown.values())
    assert all(np.ndim(value) <= 1 for value in shown.values())


@pytest.mark.parametrize("name", EVERY)
def test_currents_in_bfloat16_change_few_spikes(name):
    """Membranes stay float32: what differs is the current's own rounding, to 8 bits. At most 4 % of
    the spikes, and the gradient of x within a tenth on average."""
    x = draw(4, (16, 40)).astype(jnp.float32)
    layer = neurons.SpikingNeuron(neurons.options(name, **EVERY[name]))
    variables = layer.init(jax.random.key(0), x, False)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=x.shape), jnp.float32)

    @jax.jit
    def pulled(x):
        s, back = jax.vjp(lambda x: layer.apply(variables, x, True), x)
        return s.astype(jnp.float32), back(weights.astype(x.dtype))[0].astype(jnp.float32)

    (s, g), (s16, g16) = pulled(x), pulled(x.astype(jnp.bfloat16))
    assert s.dtype == s16.dtype and (jnp.abs(s - s16) > 0.02).mean() < 0.04
    assert jnp.abs(g - g16).mean() < 0.1 * jnp.abs(g).mean()


@pytest.mark.parametrize("name", EVERY)
def test_on_eight_devices_only_sums_travel(name):
    """The batch is sharded: the compiled program has all-reduces, of numbers' gradients, alone."""
    mesh = training.make_mesh()
    x = jnp.zeros((16, 4, 6, 6, 3))
    layer = neurons.SpikingNeuron(neurons.options(name, **EVERY[name]))
    variables = layer.init(jax.random.key(0), x[:1], False)
    whole, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))

    def loss(variables, x):
        return (layer.apply(variables, x, True) * x).sum()

    step = jax.jit(jax.grad(loss, (0, 1)), in_shardings=(whole, sharded),
                   out_shardings=(whole, sharded))  # fmt: skip
    text = step.lower(variables, x).compile().as_text()
    for travels in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert travels not in text
    assert ("all-reduce" in text) == bool(jax.tree.leaves(variables))


NORMED = [(name, "batch") for name in EVERY]
NORMED += [(name, norm) for name in ("lif", "mlf", "folded") for norm in ("tdbn", "none")]


@pytest.mark.parametrize(("name", "norm"), NORMED)
def test_its_spikes_through_nir_or_why_not(name, norm, x64):
    options = neurons.options(name, **EVERY[name])
    keys = {"norm_options": {"identity": True}} if norm == "tdbn" else {}
    model = networks.build("mini", 10, options, jnp.float64, norm=norm, **keys)
    x = jnp.asarray(np.random.default_rng(1).normal(0, 2, (2, 4, 8, 8, 1)))
    if interchange.neurons.of(options).decays is None and neurons.of(options).lifs is None:
        why = neurons.refusal(options, "nir")
        with pytest.raises(interchange.NotRepresentable, match=why[:20]):
            interchange.to_nir(model, {}, options, (8, 8, 1), norm=norm)
        return
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    rng = np.random.default_rng(0)

    def change(path, leaf):
        moved = path[-1].key in ("bias", "mean", "w")
        return 4 * leaf + 0.1 * moved * rng.normal(size=leaf.shape)

    kept = ("alpha", "beta", "sign", "V", "b", "a", "k")
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if path[-1].key in kept else change(path, leaf),
        {"params": variables.get("params", {}), "batch_stats": variables.get("batch_stats", {})},
    )
    logits, taps, _ = jax.jit(lambda x: networks.tapped(model, variables, x, ("spikes",)))(x)
    graph = interchange.to_nir(model, variables, options, (8, 8, 1), norm=norm)
    given = interchange.run(graph, jnp.moveaxis(x, -1, 2))
    for layer, tap in taps.items():
        spikes = np.moveaxis(np.asarray(tap["spikes"]), -1, 2)
        np.testing.assert_array_equal(given[layer.replace("/", ".")], spikes)
        assert 0.001 < spikes.mean() < 2.0
    np.testing.assert_allclose(given["output"][..., 0, 0], logits, atol=1e-9)


@pytest.mark.slow
def test_only_the_input_is_kept_for_the_backward_pass_of_glif_at_16_steps():
    """By the compiler's plan of a chain of layers: what one more layer adds to the memory of a step
    is its own input, and what the backward pass of the one at work needs stays the same."""
    x = jax.ShapeDtypeStruct((8, 16, 16, 16, 8), jnp.float32)
    size = 4 * x.size

    def planned(layers, fused):
        layer = neurons.SpikingNeuron(neurons.options("glif", fused=fused))
        variables = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, False), x)

        def loss(variables, x):
            for _ in range(layers):
                x = 2.0 * layer.apply(variables, x, True) - 0.3  # currents again
            return (x * x).sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes / size

    kept = (planned(4, True) - planned(2, True)) / 2
    without = (planned(4, False) - planned(2, False)) / 2
    assert kept < 1.1, kept
    assert without > 1.5, without  # the scan keeps more: the test can tell
