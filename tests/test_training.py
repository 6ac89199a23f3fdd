"""The step: collectives, eight devices against one, data order, schedules, exact evaluation."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.base import get_config as base
from dalif_jax import losses, networks, training
from dalif_jax.data import sets
from dalif_jax.data.feed import feed_of
from dalif_jax.neurons import options as options_of
from dalif_jax.training.evaluation import evaluate, structure_of
from dalif_jax.training.steps import forward_of, remakes


def config_of(**keys):
    config = base()
    config.update(
        {"model": "tiny", "dataset": "digits", "timesteps": 2, "epochs": 2, "batch_size": 32}
    )
    config.update({"augment": ("crop",), "crop_padding": 1, "eval_batch_size": 64, "seed": 1})
    config.update(keys)
    return config


class Run:
    """A program on some devices with its data, ready to step."""

    def __init__(self, config, devices):
        self.config = config
        self.splits = sets.load(config.dataset)
        n = len(self.splits["train"].labels)
        self.steps = sets.steps_per_epoch(n, config.batch_size)
        mesh = training.make_mesh(jax.devices()[:devices])
        self.program = training.make_program(config, self.steps, mesh)
        self.train = jax.device_put(tuple(self.splits["train"]), self.program.replicated)
        self.order = jax.jit(
            lambda epoch: sets.epoch_order(config.seed, epoch, n, config.batch_size),
            out_shardings=self.program.order_sharding,
        )
        self.state = self.program.init()

    def step(self, k):
        order = self.order(k // self.steps)
        self.state, metrics = self.program.train_step(self.state, *self.train, order)
        return metrics


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


@pytest.mark.parametrize("mixup", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
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
