"""The Pallas kernels, interpreted on CPU, against the fused form; sharded over eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from dalif_jax import networks, training
from dalif_jax.ops import fused, kernel, scaled


def draw(shape, channels, dtype):
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(mean, 1.0, shape), dtype) for mean in (0.5, 0.0))
    decays = (rng.uniform(low, 0.95, channels) for low in (0.5, 0.3))
    return *(jnp.asarray(decay, jnp.float32) for decay in decays), x, g


@pytest.mark.parametrize(
    ("shape", "per_channel", "surrogate", "detach", "dtype"),
    [
        # Neither places nor channels fill the last tile; more channels than a tile has.
        ((8, 4, 5, 5, 12), True, "rectangle", False, "float32"),
        ((8, 5, 3, 3, 130), False, "arctan", True, "float32"),
        ((16, 2, 4, 4, 64), False, "tanh", False, "bfloat16"),
        ((8, 16, 2, 2, 8), True, "triangle", False, "float32"),
        ((8, 1, 4, 4, 8), False, "rectangle", False, "float32"),
    ],
)
def test_values_and_gradients_are_the_fused_forms(shape, per_channel, surrogate, detach, dtype):
    mesh = training.make_mesh()
    channels = shape[-1:] if per_channel else ()
    alpha, beta, x, g = draw(shape, channels, dtype)
    options = (1.0, surrogate, 1.5, detach)
    expected, vjp = jax.vjp(lambda *a: fused.spikes(*a, *options), alpha, beta, x)
    g_alpha, g_beta, g_x = vjp(g)

    spikes = jax.jit(lambda *a: kernel.forward(mesh, *a, 1.0, interpret=True))(alpha, beta, x)
    assert spikes.dtype == x.dtype and 0.1 < np.asarray(spikes, np.float32).mean() < 0.9
    np.testing.assert_array_equal(spikes, expected)

    own = jax.jit(lambda *a: kernel.backward(mesh, *a, *options, interpret=True))
    k_x, *sums = own(alpha, beta, x, g)
    assert k_x.dtype == x.dtype
    exact = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-2, "atol": 1e-2}
    np.testing.assert_allclose(np.asarray(k_x, np.float32), np.asarray(g_x, np.float32), **exact)
    for found, reference in zip(sums, (g_alpha, g_beta), strict=True):
        assert found.shape == shape[-1:]
        found = found if per_channel else found.sum()
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize(
    ("shape", "per_channel", "detach", "dtype"),
    [
        ((8, 4, 5, 5, 12), True, False, "float32"),
        ((8, 2, 3, 3, 130), False, True, "float32"),
        ((16, 2, 4, 4, 64), False, False, "bfloat16"),
        ((8, 1, 4, 4, 8), False, False, "float32"),
    ],
)
def test_with_the_norm_before_it_too(shape, per_channel, detach, dtype, summed):
    """Against the fused form of the current written out; the sums are the norm's gradients."""
    mesh, channels = training.make_mesh(), shape[-1:]
    alpha, beta, x, g = draw(shape, channels if per_channel else (), dtype)
    rng = np.random.default_rng(2)
    factor, shift = (jnp.asarray(rng.uniform(0.5, 1.5, channels), jnp.float32) for _ in range(2))
    added = jnp.asarray(rng.integers(0, 2, shape), dtype) if summed else None
    options = (1.0, "tanh", 1.5, detach)

    def form(alpha, beta, factor, shift, x, added):
        # float32 throughout, as the kernel computes: nothing is rounded between norm and neuron.
        x, added = (v if v is None else v.astype(jnp.float32) for v in (x, added))
        return fused.spikes(alpha, beta, scaled.current(x, factor, shift, added), *options)

    given = alpha, beta, factor, shift, x, added
    expected, pull = jax.vjp(form, *given)
    g_alpha, g_beta, g_factor, g_shift, g_x, g_added = pull(g.astype(jnp.float32))
    more = {"scale": (factor, shift), "added": (added,) if summed else (), "interpret": True}
    spikes = jax.jit(lambda a, b, x: kernel.forward(mesh, a, b, x, 1.0, **more))(alpha, beta, x)
    assert spikes.dtype == x.dtype and 0.1 < np.asarray(spikes, np.float32).mean() < 0.9
    np.testing.assert_array_equal(spikes.astype(jnp.float32), expected)

    own = jax.jit(lambda a, b, x, g: kernel.backward(mesh, a, b, x, g, *options, **more))
    current, *sums = own(alpha, beta, x, g)
    close = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(
        factor * current.astype(jnp.float32), g_x.astype(jnp.float32), rtol=close, atol=close
    )
    if summed:
        np.testing.assert_allclose(
            current.astype(jnp.float32), g_added.astype(jnp.float32), rtol=close, atol=close
        )
    for found, reference in zip(sums, (g_alpha, g_beta, g_factor, g_shift), strict=True):
        assert found.shape == channels
        found = found if reference.shape else found.sum()
        np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "model",
    ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "vgg11"))],
)
@pytest.mark.parametrize("norm", ["batch", "tdbn"])
def test_a_deferred_norm_is_the_norm(x64, model, norm):
    """A network's answers, running statistics and gradients in float64, the norm left to the neuron
    or not."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 32, 32, 3)))
    mesh, found = training.make_mesh(jax.devices()[:1]), []
    for pallas in (False, "norm"):
        network = networks.build(model, 10, dtype=jnp.float64, norm=norm, mesh=mesh, pallas=pallas)
        variables = network.init(jax.random.key(0), x, timesteps=2)

        def loss(params, network=network, rest=variables["batch_stats"]):
            answers, new = network.apply(
                {"params": params, "batch_stats": rest}, x, train=True, timesteps=2,
                mutable=["batch_stats"],
            )  # fmt: skip
            return (answers**2).sum(), (answers, new)

        found.append(jax.jit(jax.grad(loss, has_aux=True))(variables["params"]))
    assert np.abs(found[0][1][0]).max() > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), *found)


def test_a_machine_without_nvidia_gpus_runs_the_compilers_form():
    """The key may stay on: CPU and TPU programs hold no kernel and give the same numbers."""
    losses = []
    for name in ("xla", "pallas", "pallas_norm"):
        config = get_config()
        config.model, config.dataset, config.batch_size = "tiny", "digits", 8
        config.augment, config.kernel = (), name
        program = training.make_program(config, 1, training.make_mesh())
        images = jnp.asarray(np.random.default_rng(0).integers(0, 241, (8, 8, 8, 1)), jnp.uint8)
        labels, order = jnp.arange(8, dtype=jnp.int32), jnp.arange(8, dtype=jnp.int32)[None]
        arguments = (program.init(), images, labels, order)
        lowered = program.train_step.trace(*arguments).lower(lowering_platforms=("tpu",))
        assert "triton" not in lowered.as_text()
        _, metrics = program.train_step(*arguments)
        losses.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)


def test_what_the_kernel_cannot_run_is_left_to_the_compiler(x64):
    mesh = training.make_mesh()
    for shape, dtype, runs in (
        ((8, 2, 3), jnp.float32, True),
        ((1, 2, 3), jnp.float32, False),  # one example on eight devices
        ((8, 2, 3), jnp.float64, False),
    ):
        assert fused._runs(mesh, jnp.zeros(shape, dtype)) == runs
    assert not fused._runs(None, jnp.zeros((8, 2, 3), jnp.float32))
