"""The fused neuron against the scan, its reference: values, gradients, what it keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax import neurons
from dalif_jax.neurons import SpikingNeuron
from dalif_jax.neurons import options as options_of
from dalif_jax.ops import fused
from dalif_jax.surrogates import SURROGATES


def draw(timesteps, shape=(2, 3, 4), dtype=jnp.float64, seed=0):
    rng = np.random.default_rng(seed)
    full = (shape[0], timesteps, *shape[1:])
    return tuple(jnp.asarray(rng.normal(0.0, 1.5, full), dtype) for _ in range(2))


def scanned(options, params, x):
    return neurons.simulate(options, params, x)[1]


def one_pass(options, params, x):
    decays = neurons.NEURONS[options.name].decays(options, params)
    return fused.spikes(
        *decays, x, options.threshold, options.surrogate, options.surrogate_width,
        options.detach_reset,
    )  # fmt: skip


@pytest.mark.parametrize("timesteps", [1, 2, 4, 5, 8, 16, 17])
@pytest.mark.parametrize("detach", [False, True])
def test_spikes_and_all_gradients_are_the_scans(x64, timesteps, detach):
    """Over the cut at every eighth step and the rest behind it; a wide surrogate, so that
    gradients pass through many resets."""
    x, g = draw(timesteps)
    for shape in ((), (4,)):
        options = options_of(
            surrogate="triangle", surrogate_width=2.0, detach_reset=detach, per_channel=bool(shape)
        )
        params = {"a": jnp.full(shape, 0.9), "b": jnp.full(shape, 1.2)}
        results = []
        for form in (scanned, one_pass):
            spikes, backward = jax.vjp(functools.partial(form, options), params, x)
            results.append((spikes, backward(g)))
        (s0, (p0, x0)), (s1, (p1, x1)) = results
        assert 0.05 < s0.mean() < 0.6
        np.testing.assert_array_equal(s0, s1)
        np.testing.assert_allclose(x0, x1, rtol=0, atol=1e-12)
        for name in params:
            assert p1[name].shape == shape
            np.testing.assert_allclose(p0[name], p1[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("surrogate", list(SURROGATES))
@pytest.mark.parametrize("name", [name for name, kind in neurons.NEURONS.items() if kind.decays])
def test_every_neuron_and_surrogate(x64, name, surrogate):
    x, g = draw(3)
    options = options_of(name, surrogate=surrogate, threshold=0.7)
    start = neurons.NEURONS[name].numbers(options)
    params = {key: jnp.asarray(number.start) for key, number in start.items()}
    pulled = [
        jax.vjp(functools.partial(form, options), params, x)[1](g) for form in (scanned, one_pass)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), *pulled)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_the_inputs_and_membranes_float32(dtype):
    x, g = draw(6, dtype=dtype)
    params = {"a": jnp.float32(1.0), "b": jnp.float32(1.0)}
    options = options_of()
    spikes, backward = jax.vjp(lambda p, x: one_pass(options, p, x), params, x)
    p, gx = backward(g)
    assert spikes.dtype == gx.dtype == dtype
    assert p["a"].dtype == p["b"].dtype == jnp.float32
    # The same membranes in float64 from the same rounded x: no spike differs.
    with jax.enable_x64(True):
        exact = scanned(options, params, jnp.asarray(np.asarray(x, np.float64)))
        np.testing.assert_array_equal(np.asarray(spikes, np.float64), exact)


def test_only_the_input_is_kept_for_the_backward_pass():
    x, _ = draw(4, dtype=jnp.float32)
    kept = jax.vjp(lambda x: fused.spikes(0.7, 0.6, x, 1.0, "rectangle", 1.0, False), x)[1]
    arrays = [leaf for leaf in jax.tree.leaves(kept) if jnp.size(leaf) >= x.size / x.shape[1]]
    assert [leaf.shape for leaf in arrays] == [x.shape]


@pytest.mark.parametrize("membrane_bn", [False, True])
def test_the_layer_takes_it_where_it_can(membrane_bn):
    """The same layer with and without; membrane norms and membrane traces take the scan."""
    x, _ = draw(4, dtype=jnp.float32)
    with_it, without = (
        SpikingNeuron(options_of(fused=fused, membrane_bn=membrane_bn)) for fused in (True, False)
    )
    variables = with_it.init(jax.random.key(0), x, False)

    def apply(layer, x, *taps):
        return layer.apply(variables, x, False, mutable=[f"tap_{tap}" for tap in taps])

    def scans(layer, *taps):
        program = jax.make_jaxpr(lambda x: apply(layer, x, *taps))(x)
        return "scan[" in str(program)

    assert scans(with_it) == membrane_bn and scans(without) and scans(with_it, "membrane")
    outs = [apply(layer, x, "spikes", "firing_rate") for layer in (with_it, without)]
    jax.tree.map(np.testing.assert_array_equal, *outs)


def test_other_platforms_get_neither_the_cut_nor_the_product():
    """Lowered for a GPU: no division, no matrix product; for the CPU: both."""
    x, g = draw(8, dtype=jnp.float32)

    def both(a, x, g):
        spikes, backward = jax.vjp(
            lambda a, x: fused.spikes(a, 0.6, x, 1.0, "rectangle", 1.0, False), a, x
        )
        return spikes, backward(g)

    traced = jax.jit(both).trace(jnp.float32(0.7), x, g)
    text = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert "stablehlo.divide" in text["cpu"] and "stablehlo.dot" in text["cpu"]
    for platform in ("cuda", "tpu"):
        assert "stablehlo.divide" not in text[platform]
        assert "stablehlo.dot" not in text[platform]
