"""The Pallas kernels, interpreted on CPU, against the fused form; sharded over eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from dalif_jax import training
from dalif_jax.ops import fused, kernel


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


def test_a_machine_without_nvidia_gpus_runs_the_compilers_form():
    """The key may stay on: CPU and TPU programs hold no kernel and give the same numbers."""
    losses = []
    for name in ("xla", "pallas"):
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


def test_what_the_kernel_cannot_run_is_left_to_the_compiler(x64):
    mesh = training.make_mesh()
    for shape, dtype, runs in (
        ((8, 2, 3), jnp.float32, True),
        ((1, 2, 3), jnp.float32, False),  # one example on eight devices
        ((8, 2, 3), jnp.float64, False),
    ):
        assert fused._runs(mesh, jnp.zeros(shape, dtype)) == runs
    assert not fused._runs(None, jnp.zeros((8, 2, 3), jnp.float32))
