"""The loss by hand; bfloat16: what is computed in it and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_run import Run, config_of

from dalif_jax import losses, networks, training
from dalif_jax.data import sets
from dalif_jax.neurons import options as options_of


def test_loss_by_hand():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]]))
    label = jnp.array([1])
    np.testing.assert_allclose(losses.time_averaged_cross_entropy(logits, label), [np.log(4)], 1e-6)
    smoothed = 0.9 * np.log(4) + 0.1 * (np.log(2) + 2 * np.log(4)) / 3
    np.testing.assert_allclose(
        losses.time_averaged_cross_entropy(logits, label, 0.1), [smoothed], rtol=1e-6
    )
    assert not losses.correct(logits, label)[0] and losses.correct(logits, jnp.array([0]))[0]


def test_the_time_average_comes_before_the_softmax():
    logits = jnp.array([[[8.0, 0.0], [0.0, 4.0]]])
    expected = np.log(1 + np.exp(-2.0))
    got = losses.time_averaged_cross_entropy(logits, jnp.array([0]))
    np.testing.assert_allclose(got, [expected], rtol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_state():
    run = Run(config_of(dtype="bfloat16"), 1)
    metrics = run.step(0)
    assert np.isfinite(metrics["loss"]) and metrics["loss"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(run.state.params)} == {jnp.dtype("float32")}
    x = jax.ShapeDtypeStruct((2, 2, 8, 8, 1), jnp.bfloat16)
    model = training.build_model(run.config)
    variables = {"params": run.state.params, "batch_stats": run.state.batch_stats}
    logits, taps, _ = jax.eval_shape(
        lambda v, x: networks.tapped(model, v, x, ("spikes", "membrane")), variables, x
    )
    assert logits.dtype == jnp.bfloat16
    assert all(tap["spikes"].dtype == jnp.bfloat16 for tap in taps.values())
    assert all(tap["membrane"].dtype == jnp.float32 for tap in taps.values())
    assert options_of().threshold == 1.0


@pytest.mark.parametrize("model", ["tiny", pytest.param("vgg11", marks=pytest.mark.slow)])
def test_bfloat16_gradients_are_summed_across_devices_in_float32(model):
    """A sum that was rounded to bfloat16 has its lowest 16 bits zero; one of float32 has not."""

    def traces(devices):
        keys = {"model": model, "dtype": "bfloat16", "batch_size": 8, "weight_decay": 0.0}
        config = config_of(**keys, dataset="cifar10" if model == "vgg11" else "digits")
        program = training.make_program(config, 4, training.make_mesh(jax.devices()[:devices]))
        side = sets.spec(config.dataset).shape
        images = np.random.default_rng(0).integers(0, 256, (32, *side)).astype(np.uint8)
        order = np.arange(32, dtype=np.int32).reshape(4, 8)
        given = jax.device_put((images, np.arange(32, dtype=np.int32) % 10), program.replicated)
        state, _ = program.train_step(
            program.init(), *given, jax.device_put(order, program.order_sharding)
        )
        momentum = optax.tree.get(state.opt_state, "trace")
        return {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(momentum)
            if path[-1].key in ("kernel", "bias")
        }

    one, eight = traces(1), traces(8)
    for name, gradient in eight.items():
        assert gradient.dtype == np.float32
        if gradient.any():
            assert (gradient.view(np.uint32) & 0xFFFF).any(), name
        # The devices' shares are rounded before the sum: as near as bfloat16's eight bits. (A bias
        # before a norm has no gradient but rounding.)
        if "kernel" in name or "head" in name:
            np.testing.assert_allclose(
                gradient, one[name], rtol=0.05, atol=0.03 * np.abs(one[name]).max()
            )
