"""Two devices give what one device gives, for every dtype with every component and option."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_networks import FORMS
from train_steps import drawn

from configs.base import get_config as base
from dalif_jax import attention, losses, neurons, norms, training
from dalif_jax.analysis import summary
from dalif_jax.data import sets
from dalif_jax.settings import config
from dalif_jax.settings.keys import OPTIMIZERS, SCHEDULES
from dalif_jax.surrogates import SURROGATES
from dalif_jax.training.evaluation import structure_of

PLAIN = {
    "model": "tiny", "dataset": "digits", "neuron": "lif", "threshold": 0.3, "timesteps": 2,
    "batch_size": 8, "eval_batch_size": 8, "epochs": 2, "augment": (), "learning_rate": 0.01,
}  # fmt: skip
EVENTS = {"dataset": "digits_dvs", "frame_size": 8}
# What a component needs besides its name.
NEEDS = {
    "loss ltmd": {"model_options": {"moderate_dropout": 0.2}, "neuron": "ltmd"},
    "attention ta": {"attention_options": {"reduction": 1}},
    "attention ma": {"attention_options": {"time_reduction": 1}},
    "neuron folded": {"norm": "none"},
    "neuron diet": {"norm": "none"},
}
OPTIONS = {
    "mixup": {"mixup": 0.5},
    "accumulation": {"accumulate": 2},
    "smoothing": {"label_smoothing": 0.1},
    "average": {"ema_decay": 0.9},
    "membrane norm": {"membrane_bn": True},
    "membrane norm elementwise": {"membrane_bn": True, "membrane_bn_elementwise": True},
    "detached reset": {"detach_reset": True},
    "per channel": {"neuron": "dalif", "per_channel": True},
    "plain scan": {"neuron": "dalif", "fused": False},
    "scheduled width": {"surrogate_width_end": 0.3},
    "remat": {"rematerialize": "on"},
    "decay of all weights": {"nesterov": True, "weight_decay_all": True, "weight_decay": 0.1},
    "augment": {"augment": ("crop", "flip", "cutout"), "dataset": "cifar10", "cutout_size": 4},
    "autoaugment": {"augment": ("alternate_flip", "autoaugment"), "dataset": "cifar10"},
    "zero init": {"zero_init_residual": True},
    "mirrored views": {"mirrored_views": True, "dataset": "cifar10"},
    "event augment": EVENTS
    | {"augment": ("crop", "roll", "nda"), "roll_pixels": 2, "crop_padding": 1, "cutout_size": 2},
    "drawn frames": EVENTS | {"train_timesteps": 1},
    "dropout": {"model_options": {"dropout": 0.2, "hidden": 12}},
    "one timestep": {"timesteps": 1},
    "pallas": {"neuron": "dalif", "kernel": "pallas"},
}


def cases():
    """{name: keys} that change one thing of PLAIN each."""
    found = {}
    for kind, table in (
        ("neuron", neurons.NEURONS), ("norm", norms.NORMS), ("loss", losses.LOSSES),
        ("attention", attention.ATTENTION), ("surrogate", SURROGATES), ("optimizer", OPTIMIZERS),
    ):  # fmt: skip
        for name in table:
            found[f"{kind} {name}"] = {kind: name} | NEEDS.get(f"{kind} {name}", {})
    for name in SCHEDULES:
        found[f"schedule {name}"] = {"schedule": name, "schedule_epochs": 1}
    for name, (network, own, side) in FORMS.items():
        keys = {"model": network, "model_options": own, "neuron": "plif"}
        found[f"network {name}"] = keys | EVENTS | {"frame_size": side}
    return found | {f"option {name}": keys for name, keys in OPTIONS.items()}


CASES = cases()
DTYPES = ("float32", "bfloat16", "float64")
# Of the loss; float32 and bfloat16 sum over the batch in another order on two devices.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 5e-3}
# The faults that were met: layers that divide the batch, and one case of each kind beside them.
QUICK = [
    ("bfloat16", "network vggsnn strided"), ("bfloat16", "attention ta"), ("bfloat16", "loss im"),
    ("bfloat16", "option accumulation"), ("float32", "neuron glif"), ("float64", "norm tdbn"),
]  # fmt: skip


def settings_of(keys, dtype):
    settings = base()
    with settings.unlocked():
        for key, value in (PLAIN | keys | {"dtype": dtype}).items():
            settings[key] = ConfigDict(value) if isinstance(value, dict) else value
    config.validate(settings, 2)
    return settings


def results(settings, devices):
    """What an eval step and a train step give on so many devices."""
    program = training.make_program(settings, 2, training.make_mesh(jax.devices()[:devices]))
    spec = sets.spec(settings.dataset, settings.frame_size)
    draw = np.random.default_rng(0)
    shape = (settings.timesteps, *spec.shape)
    images = draw.integers(
        0, 8 if spec.events else 256, (8, *(shape if spec.events else spec.shape)), np.uint8
    )
    labels = draw.integers(0, spec.classes, 8, np.int32)
    state = drawn(jax.eval_shape(program.init), draw)
    rows = np.arange(8, dtype=np.int32)
    counts = program.eval_step(state, images, labels, rows, np.ones(8, bool))
    order = jnp.asarray(rows)[None].repeat(2, 0)
    state, metrics = program.train_step(jax.device_put(state, program.replicated), images, labels,
                                        jax.device_put(order, program.order_sharding))  # fmt: skip
    return jax.device_get((counts, metrics, state.params, state.batch_stats))


def compare(case, dtype):
    """Returns the relative difference of the losses of two devices and of one."""
    settings = settings_of(CASES[case], dtype)
    with jax.enable_x64(dtype == "float64"):
        one, two = (results(settings, devices) for devices in (1, 2))
    losses_of = [(r[0]["loss"], r[1]["loss"], r[1]["grad_norm"]) for r in (one, two)]
    assert np.isfinite(losses_of).all(), (case, dtype, losses_of)
    np.testing.assert_allclose(losses_of[1][:2], losses_of[0][:2], rtol=TOLERANCE[dtype])
    if dtype == "float64":
        for a, b in zip(*(jax.tree.leaves(r) for r in (one, two)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    return max(abs(a / b - 1) for a, b in zip(*losses_of, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_analysis_on_two_devices_equals_one(dtype):
    """The layer table, with each layer once, and the fan-out of a program for several devices."""
    settings = settings_of({"neuron": "dalif"}, dtype)
    shape = (settings.timesteps, *sets.spec("digits").shape)
    one, two = (
        training.make_program(settings, 2, training.make_mesh(jax.devices()[:devices])).model
        for devices in (1, 2)
    )
    rows = summary.layers(two, shape)
    assert len({row.name for row in rows}) == len(rows) > 5
    assert rows == summary.layers(one, shape)
    fan_out = [
        {name: (layer.neurons, layer.fan_out.tolist())
         for name, layer in structure_of(model, settings).neurons.items()}
        for model in (one, two)
    ]  # fmt: skip
    assert fan_out[0] == fan_out[1] != {}


def test_layer_that_extends_another_is_listed_once():
    """A user's convolution that calls the one it extends is one layer of the table."""

    class Scaled(nn.Conv):
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train=False, timesteps=None):
            return Scaled(3, (1, 1), name="conv")(x)

    assert [row.name for row in summary.layers(Network(), (2, 4, 4, 1))] == ["conv"]


@pytest.mark.parametrize(("dtype", "case"), QUICK)
def test_two_devices_agree_with_one(dtype, case):
    compare(case, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [case for case in CASES])
def test_two_devices_agree_with_one_everywhere(dtype, case):
    compare(case, dtype)
