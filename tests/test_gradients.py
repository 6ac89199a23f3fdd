"""Gradients of components: compiled as uncompiled, also where values are equal or at a kink."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import attention, losses, networks, neurons, norms
from dalif_jax.attention.piece import maximum
from dalif_jax.networks import AveragePool, MaxPool

SHAPE = (2, 4, 4, 4, 4)  # [B, T, H, W, C]
ATTENTION = {
    "ta": {"reduction": 2}, "ma": {"time_reduction": 2, "channel_reduction": 2}, "asa": {},
    "pfa": {},
}  # fmt: skip
NEURONS = [name for name in neurons.NEURONS if not name.startswith("fig")]


def tied(shape, seed=0):
    """Few distinct values, so that many are equal, among them 0."""
    return jnp.asarray(np.random.default_rng(seed).integers(-2, 4, shape), float)


def check(component, shape=SHAPE):
    """The gradient of component(x), x a scaled and shifted input: compiled and uncompiled."""
    weight = jnp.asarray(np.random.default_rng(1).normal(size=1000))
    x, scale = tied(shape), jnp.asarray(np.random.default_rng(2).uniform(0.3, 1.7, shape[-1]))

    def loss(scale, x):
        y = component(x * scale + scale**2 / 3)
        return (jnp.resize(weight, y.shape) * y).sum()

    gradient = jax.grad(loss, (0, 1))
    compiled = jax.jit(gradient).lower(scale, x).compile(
        compiler_options={"xla_backend_optimization_level": 3}
    )  # fmt: skip
    with jax.disable_jit():
        expected = gradient(scale, x)
    for a, b in zip(compiled(scale, x), expected, strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, float(abs(b).max())))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("ma", "asa") else pytest.mark.slow) for n in ATTENTION],
)
def test_attention_gradient_compiled_is_equal(name, x64):
    module = attention.ATTENTION[name](**ATTENTION[name])
    variables = module.init(jax.random.key(0), tied(SHAPE), True)
    check(lambda x: module.apply(variables, x, True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch", {}),
        ("batch", {"per_step": True}),
        ("tdbn", {}),
        ("tdbn", {"epsilon_outside": True}),
    ],
)
def test_norm_gradient_compiled_is_equal(name, options, x64):
    module = norms.NORMS[name].module(dtype=jnp.float64, **options)
    variables = module.init(jax.random.key(0), tied(SHAPE), True)
    check(lambda x: module.apply(variables, x, True, mutable=["batch_stats"])[0])


@pytest.mark.parametrize("pool", [MaxPool(3, 2, 1), MaxPool(2, 2), AveragePool(2, 2)])
def test_pool_gradient_compiled_is_equal(pool, x64):
    check(lambda x: pool.apply({}, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_loss_gradient_compiled_is_equal(name, x64):
    loss, options = losses.LOSSES[name], losses.options(name)
    labels = jnp.array([0, 1, 2])

    def component(x):
        taps = {"second": x[::-1]} if loss.second else {}
        if loss.statistic:
            spikes = (x > 0).astype(x.dtype)
            seen = neurons.Seen(x, x, jnp.ones(()), spikes)
            taps = {f"block{i}/neuron0": loss.statistic(seen) for i in range(3)}
        return loss.function(options, x, labels, taps, 0.3)

    check(component, (3, 4, 5))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEURONS)
def test_neuron_gradient_compiled_is_equal(name, x64):
    options = neurons.options(name)
    kind = neurons.of(options)
    start = {key: number.start for key, number in kind.numbers(options).items()}
    if any(callable(value) for value in start.values()) or any(
        number.per for number in kind.numbers(options).values()
    ):
        pytest.skip("its numbers are arrays")
    params = {key: jnp.float64(value) for key, value in start.items()}
    check(lambda x: neurons.simulate(options, params, x)[1], (4, 3, 5))


@pytest.mark.parametrize("name", ["klif", "liaf", "analog", "relu"])
def test_rectified_neuron_at_zero_has_no_slope(name, x64):
    options = neurons.options(name, surrogate="arctan")
    params = {
        key: jnp.float64(number.start)
        for key, number in neurons.of(options).numbers(options).items()
    }
    slope = jax.grad(lambda x: neurons.simulate(options, params, x)[1].sum())(jnp.zeros((1, 1, 1)))
    assert slope.item() == 0


def test_maximum_of_equal_values_passes_to_the_first(x64):
    x = jnp.array([[[1.0, 3.0], [3.0, 0.0]]])
    assert maximum(x, (1, 2)).tolist() == [3.0]
    assert jax.grad(lambda x: maximum(x, (1, 2)).sum())(x).tolist() == [[[0, 1], [0, 0]]]
    # In the order of the axes: the second axis varies slower.
    assert jax.grad(lambda x: maximum(x, (2, 1)).sum())(x).tolist() == [[[0, 0], [1, 0]]]


def test_ma_of_plifnet_has_finite_gradients():
    options = neurons.options("plif", threshold=0.2, surrogate="arctan", detach_reset=True)
    model = networks.build(
        "plifnet_gesture", 3, options, layers=(4, "P"), hidden=8, dropout=(0.0, 0.0),
        attention="ma", attention_options={"time_reduction": 2, "channel_reduction": 2},
    )  # fmt: skip
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.poisson(0.3, (2, 4, 4, 4, 2)), jnp.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(draw.uniform(0.0, 0.6, leaf.shape), leaf.dtype), shapes["params"]
    )
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes["batch_stats"])

    def loss(params):
        variables = {"params": params, "batch_stats": stats}
        logits, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return losses.rate_error(logits, jnp.array([0, 2])).mean()

    step = jax.jit(jax.grad(loss))
    for _ in range(3):
        gradient = step(params)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
        assert np.any(gradient["conv0"]["kernel"])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)


@pytest.mark.slow
def test_ma_in_a_network_compiled_equals_uncompiled(x64):
    """At 32 pixels the compiler computes the maximum's argument twice, with different rounding."""
    network = networks.build(
        "three_conv", 11, neurons.options("residue", threshold=0.3), jnp.float64,
        attention="ma", attention_options={"axes": "C"},
    )  # fmt: skip
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.poisson(0.6, (4, 6, 32, 32, 2)), float)
    weights = jnp.asarray(rng.normal(size=(4, 11)))
    variables = network.init(jax.random.key(0), x)

    def loss(params):
        variables_ = {**variables, "params": params}
        logits, _ = network.apply(variables_, x, train=True, mutable=["batch_stats"])
        return (logits.mean(1) * weights).sum()

    params = variables["params"]
    compiled = jax.jit(jax.grad(loss)).lower(params).compile(
        compiler_options={"xla_backend_optimization_level": 3}
    )  # fmt: skip
    with jax.disable_jit():
        expected = jax.grad(loss)(params)
    # Of the largest gradient: biases before a norm have gradients of rounding alone.
    largest = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for a, b in zip(*map(jax.tree.leaves, (compiled(params), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * largest)
