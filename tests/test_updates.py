"""What a step does to the parameters: by hand, its schedules, averaging."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import Run, config_of

from dalif_jax import losses, training
from dalif_jax.data import sets


def test_at_one_timestep_the_temporal_arm_trains_as_the_baseline():
    """Whole network, three steps: equal weights bit for bit, and b stays where it began."""
    # Without weight decay on b: its gradient alone must be zero.
    runs = [Run(config_of(neuron=name, timesteps=1), 1) for name in ("temporal", "baseline")]
    for k in range(3):
        a, b = (run.step(k) for run in runs)
        assert float(a["loss"]) == float(b["loss"])
    temporal, baseline = (jax.device_get(run.state.params) for run in runs)
    assert temporal["stem0_neuron"].pop("b") == 1.0
    for name in ("neuron0", "neuron1"):
        assert temporal["stage0_block0"].pop(name) == {"b": 1.0}
    temporal.pop("stem0_neuron")
    jax.tree.map(np.testing.assert_array_equal, temporal, baseline)


def test_weight_decay_spares_decays_and_norms():
    run = Run(config_of(membrane_bn=True), 1)
    mask = training.weights_only(run.state.params)
    assert mask["stem0_conv"] == {"kernel": True}
    assert mask["head"] == {"kernel": True, "bias": True}
    assert not any(mask["stem0_norm"].values())
    assert set(mask["stem0_neuron"]) == {"a", "b", "norm_scale", "norm_bias"}
    assert not any(mask["stem0_neuron"].values())


def test_the_first_update_is_sgd_by_hand():
    """One step from zero momentum: w - lr (g + wd w), with g recomputed outside the step."""
    config = config_of(augment=(), weight_decay=0.1, learning_rate=0.5)
    run = Run(config, 1)
    params, stats = jax.device_get(run.state.params), jax.device_get(run.state.batch_stats)
    indices = np.asarray(run.order(0))[0]
    spec = sets.spec("digits")
    x = training.prepare(
        jnp.asarray(run.splits["train"].images[indices]), spec, jnp.dtype("float32")
    )
    labels = run.splits["train"].labels[indices]

    def loss(params):
        logits, _ = run.program.model.apply(
            {"params": params, "batch_stats": stats}, x, train=True, timesteps=2,
            mutable=["batch_stats"],
        )  # fmt: skip
        return losses.time_averaged_cross_entropy(logits, labels).mean()

    g = jax.device_get(jax.grad(loss)(params))
    run.step(0)
    after = jax.device_get(run.state.params)
    kernel = lambda tree: tree["stage0_block0"]["conv1"]["kernel"]  # noqa: E731
    expected = kernel(params) - 0.5 * (kernel(g) + 0.1 * kernel(params))
    np.testing.assert_allclose(kernel(after), expected, rtol=1e-4, atol=1e-6)
    scale = lambda tree: tree["stem0_norm"]["scale"]  # noqa: E731
    np.testing.assert_allclose(scale(after), scale(params) - 0.5 * scale(g), rtol=1e-4, atol=1e-6)


def test_schedules_at_their_landmarks():
    cosine = training.make_schedule(config_of(epochs=10, warmup_epochs=2.0), 5)
    np.testing.assert_allclose(
        [cosine(0), cosine(5), cosine(10), cosine(30), cosine(50)], [0, 0.05, 0.1, 0.05, 0],
        atol=1e-7,
    )  # fmt: skip
    assert training.make_schedule(config_of(schedule="constant"), 5)(3) == np.float32(0.1)
    onecycle = training.make_schedule(config_of(schedule="onecycle", epochs=10), 10)
    rates = [float(onecycle(k)) for k in range(101)]
    assert max(rates) == pytest.approx(0.1) and 25 <= np.argmax(rates) <= 35
    assert rates[-1] < 1e-4


def test_a_float64_run_has_its_learning_rate_in_float64(x64):
    rate, warmup, total = 0.1, 60, 1000
    schedule = training.make_schedule(
        config_of(epochs=50, warmup_epochs=3.0, learning_rate=rate), 20
    )
    for step in range(0, total, 7):
        done = (step - warmup) / (total - warmup)
        exact = rate * (step / warmup if done < 0 else (1 + math.cos(math.pi * done)) / 2)
        given = schedule(jnp.int32(step))
        assert given.dtype == jnp.float64 and given == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_a_warm_up_leaves_the_full_rate_at_least_one_step(epochs, steps, name):
    """However it rounds: 0.99 epochs of one step are none."""
    keys = {"schedule": name, "epochs": epochs, "warmup_epochs": epochs - 0.01}
    schedule = training.make_schedule(config_of(**keys), steps)
    rates = [float(schedule(step)) for step in range(epochs * steps)]
    assert max(rates) == pytest.approx(0.1) and rates[-1] == max(rates)


def test_ema_is_the_average_by_hand():
    run = Run(config_of(ema_decay=0.9), 1)
    w0 = np.array(run.state.params["head"]["kernel"])
    run.step(0)
    w1 = np.array(run.state.params["head"]["kernel"])
    np.testing.assert_allclose(
        run.state.ema["head"]["kernel"], 0.9 * w0 + 0.1 * w1, rtol=1e-5, atol=1e-8
    )


def test_schedule_change_more_epochs_names_both_rates():
    def settings(**keys):
        return config_of(warmup_epochs=0.0, learning_rate=0.1, **keys)

    before, now = settings(epochs=2), settings(epochs=4)
    line = training.schedule_change(before, now, 20, 10)
    # Half of the cosine's way now; at its end before.
    assert "epochs=4 instead of 2" in line and "from 0 to 0.05" in line
    assert training.schedule_change(before, settings(epochs=2, keep=9), 20, 10) is None
    constant = settings(epochs=2, schedule="constant"), settings(epochs=4, schedule="constant")
    assert training.schedule_change(*constant, 20, 10) is None
