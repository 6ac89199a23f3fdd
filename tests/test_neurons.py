"""The neuron against a float64 reference written out by hand, and its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalif_jax.neurons import NEURONS, SpikingNeuron, simulate
from dalif_jax.neurons import options as options_of


def reference(x, a, b, weights, threshold=1.0, width=1.0, detach=False, f="tanh"):
    """DA-LIF forward and backward in NumPy, float64, by hand.

    x, weights: [B, T, N]; the loss is sum(weights * spikes). Returns spikes and the gradients with
    respect to x, a and b, by the recursion of back-propagation through time:
      dL/dh[t] = dL/ds[t] sg'(h[t] - threshold) + dL/du[t] (1 - s[t])
      dL/ds[t] = weights[t] - dL/du[t] h[t]   (second term: through the reset)
      dL/du[t] = beta dL/dh[t+1]
    """
    if f == "tanh":
        alpha, beta = np.tanh(a), np.tanh(b)
        d_alpha, d_beta = 1 - alpha**2, 1 - beta**2
    else:
        alpha, beta = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        d_alpha, d_beta = alpha * (1 - alpha), beta * (1 - beta)
    steps = x.shape[1]
    h, s, u = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    before = np.zeros_like(x)
    previous = np.zeros_like(x[:, 0])
    for t in range(steps):
        before[:, t] = previous
        h[:, t] = beta * previous + alpha * x[:, t]
        s[:, t] = h[:, t] >= threshold
        u[:, t] = h[:, t] * (1 - s[:, t])
        previous = u[:, t]
    gx, ga, gb = np.zeros_like(x), 0.0, 0.0
    gu = np.zeros_like(x[:, 0])
    for t in reversed(range(steps)):
        gs = weights[:, t] - (0 if detach else gu * h[:, t])
        surrogate = (np.abs(h[:, t] - threshold) < width / 2) / width
        gh = gs * surrogate + gu * (1 - s[:, t])
        gx[:, t] = alpha * gh
        ga += (gh * x[:, t]).sum() * d_alpha
        gb += (gh * before[:, t]).sum() * d_beta
        gu = beta * gh
    return s, gx, ga, gb


def spikes_of(options, params, x, unroll=0):
    return simulate(options, params, x, unroll)[1]


@pytest.mark.parametrize("timesteps", [1, 4, 16])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("f", ["tanh", "sigmoid"])
@pytest.mark.parametrize("unroll", [0, 1])
def test_dalif_agrees_with_the_float64_reference(timesteps, detach, f, unroll, x64):
    rng = np.random.default_rng(timesteps)
    x = rng.normal(1.5, 2.0, (3, timesteps, 50))
    weights = rng.normal(size=x.shape)
    options = options_of(detach_reset=detach, decay_function=f)

    @jax.jit
    def loss_and_gradients(x, a, b):
        def loss(x, a, b):
            s = spikes_of(options, {"a": a, "b": b}, x, unroll=unroll)
            return (weights * s).sum(), s

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(x, a, b)

    for a, b in [(1.0, 1.0), (0.3, -0.4), (1.7, 0.2)]:
        s, *expected = reference(x, a, b, weights, detach=detach, f=f)
        (_, spikes), got = loss_and_gradients(jnp.array(x), a, b)
        np.testing.assert_array_equal(spikes, s)
        assert 0.02 < s.mean() < 0.9
        for mine, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_are_finite_where_tanh_is_saturated():
    x = jnp.array(np.random.default_rng(0).normal(0.6, 1.0, (2, 4, 20)), jnp.float32)
    for raw in (-40.0, 9.5, 40.0):
        value, gradients = jax.value_and_grad(
            lambda p, x: spikes_of(options_of(), p, x).sum(), argnums=(0, 1)
        )({"a": jnp.float32(raw), "b": jnp.float32(raw)}, x)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_the_temporal_arm_at_one_timestep_is_the_baseline_bit_for_bit():
    """u[0] = 0, so beta never enters (IV-D1), and alpha is 1 in both."""
    x = jnp.array(np.random.default_rng(1).normal(0.7, 1.0, (4, 1, 6, 6, 8)), jnp.float32)
    temporal, baseline = options_of("temporal"), options_of("baseline")

    def run_arm(options, params):
        return jax.jit(lambda p, x: simulate(options, p, x))(params, x)

    _, s1, (h1, _) = run_arm(temporal, {"b": jnp.float32(1.0)})
    _, s0, (h0, _) = run_arm(baseline, {})
    np.testing.assert_array_equal(s1, s0)
    np.testing.assert_array_equal(h1, h0)
    weights = jnp.array(np.random.default_rng(2).normal(size=x.shape), jnp.float32)
    gradient = jax.grad(lambda b: (weights * spikes_of(temporal, {"b": b}, x)).sum())(1.0)
    assert gradient == 0.0


def test_the_tied_neuron_ties_its_decays():
    """Eq. 7: alpha = f(k), beta = 1 - f(k), checked as a DA-LIF with those two values."""
    k = 0.5
    alpha = float(np.tanh(np.float32(k)))
    got = NEURONS["tied"].decays(options_of("tied"), {"k": jnp.float32(k)})
    np.testing.assert_allclose(got, (alpha, 1 - alpha), rtol=1e-6)
    x = jnp.array(np.random.default_rng(1).normal(0.7, 1.0, (4, 5, 9)), jnp.float32)
    fixed = options_of("lif", alpha=alpha, beta=1 - alpha)
    np.testing.assert_array_equal(
        spikes_of(options_of("tied"), {"k": jnp.float32(k)}, x), spikes_of(fixed, {}, x)
    )


def test_a_hand_computed_membrane():
    """alpha 0.5, beta 0.5, x = 1.2 held: h = .6, .9, 1.05 (spike), .6, .9, 1.05 (spike)."""
    x = jnp.full((1, 6, 1), 1.2)
    options = options_of("lif", alpha=0.5, beta=0.5)
    _, s, (h, _) = simulate(options, {}, x)
    np.testing.assert_allclose(h[0, :, 0], [0.6, 0.9, 1.05, 0.6, 0.9, 1.05], rtol=1e-6)
    np.testing.assert_array_equal(s[0, :, 0], [0, 0, 1, 0, 0, 1])


def test_the_arms_of_figure_2():
    def learned(name):
        options = options_of(name)
        return list(NEURONS[name].numbers(options)), (options.alpha, options.beta)

    assert learned("baseline") == ([], (1.0, 0.25))
    assert learned("spatial") == (["a"], (None, 0.25))
    assert learned("temporal") == (["b"], (1.0, None))
    assert learned("both") == (["a", "b"], (None, None))
    assert learned("control")[0] == []
    np.testing.assert_allclose(learned("control")[1], np.tanh([1.0, 1.0]), rtol=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dalf"}, "known: dalif"),
        ({"name": "plif", "alpha": 0.5}, "has no option 'alpha'; its own are: tau"),
        ({"name": "alif", "membrane_bn": True}, "which neuron=alif has not; it is for dalif, lif"),
        ({"surrogate": "box"}, "known: rectangle"),
        ({"decay_function": "relu"}, "known: tanh"),
        ({"name": "baseline", "beta": 0.5}, "stands for beta=0.25"),
        ({"name": "both", "learn_alpha": False}, "stands for learn_alpha=True"),
        ({"alpha": 0.5}, "set learn_alpha=False"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        options_of(**settings)


def test_membrane_is_float32_and_spikes_exact_in_bfloat16():
    x = jnp.array(np.random.default_rng(3).normal(0.7, 1.0, (2, 4, 33)), jnp.bfloat16)
    params = {"a": jnp.float32(1.0), "b": jnp.float32(1.0)}
    state, s, (h, _) = simulate(options_of(), params, x)
    assert s.dtype == jnp.bfloat16
    assert h.dtype == state.membrane.dtype == jnp.float32
    np.testing.assert_array_equal(s, spikes_of(options_of(), params, x.astype(jnp.float32)))


def test_per_channel_decays_act_on_their_channel():
    x = jnp.array(np.random.default_rng(4).normal(0.7, 1.0, (2, 4, 3, 3, 2)), jnp.float32)
    options = options_of(per_channel=True)
    module = SpikingNeuron(options)
    variables = module.init(jax.random.key(0), x, False)
    assert variables["params"]["a"].shape == variables["params"]["b"].shape == (2,)
    a, b = jnp.array([0.2, 1.5]), jnp.array([0.9, -0.3])
    s = module.apply({"params": {"a": a, "b": b}}, x, False)
    for c in range(2):
        alone = spikes_of(options_of(), {"a": a[c], "b": b[c]}, x[..., c])
        np.testing.assert_array_equal(s[..., c], alone)


def test_membrane_norm_is_per_timestep_and_its_statistics_travel(x64):
    """Two steps by hand: fire on the normed membrane, mask the raw one, update running twice."""
    rng = np.random.default_rng(5)
    x = rng.normal(0.5, 1.0, (6, 2, 4, 4, 3))
    module = SpikingNeuron(options_of("lif", alpha=0.7, beta=0.6, membrane_bn=True))
    variables = module.init(jax.random.key(0), x, False)
    scale, bias = np.array([1.0, 0.5, 2.0]), np.array([0.0, 0.4, -0.3])
    params = {"norm_scale": scale, "norm_bias": bias}
    s, new = module.apply(
        {**variables, "params": params}, jnp.array(x), True, mutable=["batch_stats"]
    )
    u, mean, var = 0.0, np.zeros(3), np.ones(3)
    for t in range(2):
        h = 0.6 * u + 0.7 * x[:, t]
        m, v = h.mean((0, 1, 2)), h.var((0, 1, 2))
        normed = (h - m) / np.sqrt(v + 1e-5) * scale + bias
        fired = (normed >= 1.0).astype(float)
        np.testing.assert_array_equal(s[:, t], fired)
        u = h * (1 - fired)
        mean = 0.9 * mean + 0.1 * m
        var = 0.9 * var + 0.1 * h.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["norm_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(new["batch_stats"]["norm_var"], var, rtol=1e-12)


def test_with_membrane_bn_the_input_gain_is_inert():
    """h scales with alpha as a whole where u[0] = 0, and the norm takes the scale out again."""
    x = jax.random.normal(jax.random.key(0), (16, 4, 6, 6, 8))

    def share_changed(membrane_bn):
        spikes = []
        for a in (0.3, 2.0):
            options = options_of(membrane_bn=membrane_bn)
            layer = SpikingNeuron(options)
            variables = layer.init(jax.random.key(1), x, train=True)
            variables["params"]["a"] = jnp.float32(a)
            if membrane_bn:
                # Else hardly a normalised membrane reaches the threshold of 1.
                variables["params"]["norm_bias"] += 0.7
            out, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"])
            spikes.append(np.asarray(out))
        assert 0.02 < spikes[0].mean() + spikes[1].mean() < 1.5
        return (spikes[0] != spikes[1]).mean()

    assert share_changed(True) < 1e-3  # what epsilon in the norm leaves of it
    assert share_changed(False) > 0.05


def test_the_input_gain_folds_into_the_norm_before_it():
    """alpha (scale y + bias) is the input of a neuron with gain 1 after a norm of alpha times both:
    the same function, whatever it learns."""
    y = jax.random.normal(jax.random.key(0), (4, 3, 5))
    scale, bias = jnp.linspace(0.5, 2, 5), jnp.linspace(-0.5, 1, 5)

    def spikes(alpha, scale, bias):
        layer = SpikingNeuron(options_of(name="lif", alpha=alpha, beta=0.5))
        return layer.apply({}, scale * y + bias, train=False)

    alpha = 0.75  # exact in binary, so that rounding is the same too
    folded = spikes(1.0, alpha * scale, alpha * bias)
    assert 0.05 < folded.mean() < 0.95
    np.testing.assert_array_equal(spikes(alpha, scale, bias), folded)
