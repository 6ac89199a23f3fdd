"""The step: collectives, eight devices against one, data order, schedules, exact evaluation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import Run, config_of

from dalif_jax import losses, networks, training
from dalif_jax.data import sets
from dalif_jax.data.feed import feed_of
from dalif_jax.training.evaluation import evaluate, structure_of
from dalif_jax.training.steps import forward_of, remakes


def test_the_compiled_step_only_all_reduces():
    """On 8 devices no activation or image travels: gradients, statistics and metrics do."""
    config = config_of(
        dataset="cifar10", augment=("crop", "flip", "autoaugment", "cutout"), batch_size=16
    )
    mesh = training.make_mesh(jax.devices()[:8])
    program = training.make_program(config, 4, mesh)
    state = training.abstract_state(program)
    images = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.uint8)
    labels = jax.ShapeDtypeStruct((64,), jnp.int32)
    order = jax.ShapeDtypeStruct((4, 16), jnp.int32)
    text = program.train_step.lower(state, images, labels, order).compile().as_text()
    assert re.search(r"\ball-reduce", text)
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert not re.search(rf"= .*\b{collective}", text), collective
    # Each device works on its 2 of the 16 images, and on their maps at both timesteps.
    assert re.search(r"f32\[2,32,32,3\]|f32\[2,1,32,32,3\]", text)
    assert re.search(r"f32\[2,2,32,32,8\]|f32\[4,32,32,8\]", text)
    assert not re.search(r"f32\[16,(1,)?32,32,3\]|f32\[16,2,32,32,8\]|f32\[32,32,32,8\]", text)


def test_each_of_eight_devices_does_an_eighth_of_the_work():
    """By the compiler's count of operations, against the same step on one device."""
    flops = []
    for devices in (1, 8):
        config = config_of(dataset="cifar10", augment=(), batch_size=64)
        mesh = training.make_mesh(jax.devices()[:devices])
        program = training.make_program(config, 4, mesh)
        compiled = program.train_step.lower(
            training.abstract_state(program),
            jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.uint8),
            jax.ShapeDtypeStruct((64,), jnp.int32),
            jax.ShapeDtypeStruct((4, 64), jnp.int32),
        ).compile()
        flops.append(compiled.cost_analysis()["flops"])
    assert flops[1] / flops[0] == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient_and_keeps_convolutions_only(x64):
    """Ten steps to 1e-12 in float64; between the passes lie the convolutions' outputs and the
    norms' statistics, not spikes and normalised maps."""
    runs = [Run(config_of(dtype="float64", rematerialize=key), 1) for key in ("off", "on")]
    for k in range(10):
        a, b = (run.step(k) for run in runs)
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=0, atol=1e-12)

    config = config_of(rematerialize="on")
    model = training.build_model(config)
    x = jnp.zeros((4, 1, 8, 8, 1))
    variables = model.init(jax.random.key(0), x, train=False)
    loss = losses.LOSSES["cross_entropy"], losses.options("cross_entropy")
    forward = forward_of(model, config.timesteps, *loss, remake=remakes("on", "cpu"))
    labels = jnp.zeros(4, jnp.int32)

    def logits(params):
        return forward({**variables, "params": params}, x, [(1.0, labels)], 1.0)[1][0]

    kept = jax.vjp(logits, variables["params"])[1]
    kept = sorted(leaf.shape for leaf in jax.tree.leaves(kept) if jnp.ndim(leaf) >= 4)
    # The arguments: x and the kernels, but the stem's, for nobody asks for the image's gradient.
    block = variables["params"]["stage0_block0"]
    kernels = [block[name]["kernel"].shape for name in ("conv0", "conv1", "shortcut_conv")]
    # Each convolution's output, folded [B * T, ...]; the stem's is of one timestep.
    outputs = [(4, 8, 8, 8), (8, 4, 4, 16), (8, 4, 4, 16), (8, 4, 4, 16)]
    assert kept == sorted([*outputs, x.shape, *kernels])


def test_eight_devices_agree_with_one_in_float64(x64):
    config = config_of(dtype="float64", learning_rate=0.05)
    one, eight = Run(config, 1), Run(config, 8)
    for k in range(20):
        a, b = one.step(k), eight.step(k)
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=0, atol=1e-10)
    for x, y in zip(
        jax.tree.leaves(one.state), jax.tree.leaves(jax.device_get(eight.state)), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10)


def test_eight_devices_agree_with_one_on_the_first_float32_step():
    one, eight = Run(config_of(), 1), Run(config_of(), 8)
    before = jax.device_get(one.state.params)
    a, b = one.step(0), eight.step(0)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-4)
    # The first update is -lr times the gradient.
    for x, y, z in zip(
        jax.tree.leaves(before),
        jax.tree.leaves(jax.device_get(one.state.params)),
        jax.tree.leaves(jax.device_get(eight.state.params)),
        strict=True,
    ):
        np.testing.assert_allclose(y - x, z - x, rtol=1e-3, atol=1e-5)


def test_the_state_alone_decides_what_follows():
    """Steps 3 and 4 from a copy of the state after step 2 equal those of the run that went on."""
    run = Run(config_of(), 1)
    for k in range(2):
        run.step(k)
    saved = jax.tree.map(np.array, run.state)
    first = [float(run.step(k)["loss"]) for k in (2, 3)]
    final = jax.device_get(run.state.params)
    again = Run(config_of(), 1)
    again.state = jax.device_put(saved, again.program.replicated)
    assert [float(again.step(k)["loss"]) for k in (2, 3)] == first
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state.params), final)


def test_evaluation_covers_every_example_once_and_counts_spikes_exactly():
    """Against one plain forward over the whole test set, with a batch that does not divide it."""
    run = Run(config_of(eval_batch_size=64), 8)
    test = run.splits["test"]
    assert len(test.labels) % 64 != 0
    structure = structure_of(run.program.model, run.config)
    layers = structure.neurons
    given = feed_of(test, run.program, run.config, run.steps)
    got = evaluate(run.program, run.state, given, structure)
    x = training.prepare(jnp.asarray(test.images), sets.spec("digits"), jnp.dtype("float32"))
    state = jax.device_get(run.state)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits, taps, _ = networks.tapped(run.program.model, variables, x, ("spikes",), timesteps=2)
    assert got["examples"] == 287
    right = (np.asarray(logits).mean(1).argmax(-1) == test.labels).mean()
    assert abs(got["accuracy"] - right) <= 1 / 287
    assert list(got["layers"]) == list(taps)
    for name, tap in taps.items():
        fired = np.asarray(tap["spikes"]).astype(np.int64)
        row = got["layers"][name]
        # float32 sums differ between batchings, and may flip a spike in a thousand.
        np.testing.assert_allclose(row["spikes"], fired.sum(), rtol=1e-3)
        weighted = (fired.sum((0, 1, 4)) * layers[name].fan_out).sum()
        np.testing.assert_allclose(row["synaptic_operations"], weighted, rtol=1e-3)
        np.testing.assert_allclose(row["firing_rate"], fired.mean(), rtol=1e-3)
        assert row["alpha"] == row["beta"] == pytest.approx(np.tanh(1.0))


def test_accumulated_parts_are_the_mean_of_their_gradients():
    """Each part with its own statistics: a step by hand from two parts' gradients, in float64."""
    with jax.enable_x64(True):
        keys = {"dtype": "float64", "batch_size": 32, "momentum": 0.0, "schedule": "constant"}
        keys |= {"weight_decay": 0.0, "augment": (), "learning_rate": 0.5}
        whole = Run(config_of(accumulate=2, **keys), 1)
        before = jax.device_get(whole.state)
        whole.step(0)
        order = np.asarray(whole.order(0))[0]
        halves = Run(config_of(**keys | {"batch_size": 16}), 1)
        mean, stats = None, before.batch_stats
        for part in (order[::2], order[1::2]):
            state = before.replace(batch_stats=stats)
            state = jax.device_put(jax.tree.map(jnp.array, state), halves.program.replicated)
            one = np.zeros((halves.steps, 16), np.int32)
            one[0] = part
            after, _ = halves.program.train_step(state, *halves.train, jnp.asarray(one))
            stats = jax.device_get(after.batch_stats)
            moved = jax.tree.map(lambda a, b: np.asarray(a) - b, after.params, before.params)
            mean = moved if mean is None else jax.tree.map(lambda a, b: (a + b) / 2, mean, moved)
        expected = jax.tree.map(np.add, before.params, mean)
        for got, wanted in ((whole.state.params, expected), (whole.state.batch_stats, stats)):
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_accumulation_is_the_same_on_eight_devices(mixup):
    with jax.enable_x64(True):
        keys = {"dtype": "float64", "batch_size": 48, "accumulate": 3, "mixup": mixup}
        runs = [Run(config_of(**keys), devices) for devices in (1, 8)]
        for run in runs:
            for k in range(3):
                metrics = run.step(k)
        assert np.isfinite(metrics["loss"])
        for a, b in zip(*(jax.tree.leaves(run.state.params) for run in runs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_a_deterministic_run_asks_the_compiler_for_it(monkeypatch):
    """What it changes shows on a GPU only; here the option is passed, accepted, and harmless."""
    jit, options = jax.jit, []

    def spy(function, **keys):
        options.append(keys.get("compiler_options"))
        return jit(function, **keys)

    monkeypatch.setattr(jax, "jit", spy)
    losses = []
    for value, wanted in ((False, None), (True, {"xla_gpu_deterministic_ops": True})):
        options.clear()
        losses.append(float(Run(config_of(deterministic=value), 1).step(0)["loss"]))
        # init, the train step, the eval step, then the order of the data, which is integers.
        assert options == [None, wanted, wanted, None]
    assert losses[0] == losses[1]
