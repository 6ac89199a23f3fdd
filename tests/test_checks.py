"""Every key: what cannot work is refused by name, what does nothing says so."""

import math

import pytest

from configs.base import get_config as base
from dalif_jax import networks
from dalif_jax.analysis import summary
from dalif_jax.data import sets
from dalif_jax.neurons import options as options_of
from dalif_jax.settings import checks, config


def settings(**keys):
    """A config that works, small, with other keys set whatever their type."""
    given = base()
    given.update({"model": "tiny", "dataset": "digits", "augment": (), "epochs": 2})
    with given.unlocked(), given.ignore_type():
        given.update(keys)
    return given


def test_every_number_has_its_range():
    numbers = {
        key for key, value in base().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip
    # Any start of a decay can be tried; what is unset is no number yet.
    assert (set(checks.RANGES) | {"decay_init"}) - OPTIONAL == numbers
    names = {key for key, value in base().items() if isinstance(value, str)}
    own = {"decay_function", "surrogate"}  # checked with the neuron's options
    assert set(checks.NAMES) | own | {"data_dir", "cache_dir", "init_from"} == names


OPTIONAL = {"surrogate_width_end"}


@pytest.mark.parametrize("key", list(checks.RANGES))
def test_a_number_beyond_its_range_is_refused_by_name(key):
    allowed = checks.RANGES[key]
    whole = isinstance(base()[key], int)
    tiny = 1 if whole else 1e-9
    wrong = [allowed.low - (0 if allowed.open_low else tiny), *([True] if whole else []), None]
    if allowed.high < math.inf:
        wrong.append(allowed.high + (0 if allowed.open_high else tiny))
    else:
        wrong += [math.inf, math.nan]
    if key in OPTIONAL:
        wrong.remove(None)
    for value in wrong if whole else [v if v is None else float(v) for v in wrong]:
        with pytest.raises(config.ConfigError, match=f"^{key}={value}"):
            config.validate(settings(**{key: value}))


REFUSED = [
    ({"threshold": 0.0}, "threshold=0.0 must be above 0"),
    ({"timesteps": 10**9}, "timesteps=1000000000 must be at least 1 and at most 10000"),
    ({"momentum": 1.0}, "momentum=1.0 must be at least 0 and below 1"),
    ({"augment": ("crop",), "crop_padding": 9}, "crop_padding=9 must be at most 8: digits"),
    ({"augment": ("cutout",)}, "cutout_size=16 must be at most 8"),
    ({"dataset": "digits_dvs", "augment": ("nda",), "cutout_size": 17}, "cutout_size=17 must be"),
    ({"augment": ("flip", "alternate_flip")}, "augment has flip and alternate_flip: take one"),
    ({"dataset": "digits_dvs", "augment": ("alternate_flip",)}, "unknown augment 'alternate_flip'"),
    (
        {"dataset": "imagenet", "augment": ("alternate_flip",), "model": "resnet18"},
        "augment 'alternate_flip' goes by an image's place in its set, and imagenet is streamed",
    ),
    ({"dataset": "nmnist", "augment": ("roll",), "roll_pixels": 34}, "must be at most 33"),
    ({"warmup_epochs": 2.0}, "warmup_epochs=2 must be below epochs=2"),
    ({"batch_size": 128, "accumulate": 3}, "does not divide evenly into accumulate=3"),
    ({"model": "vgg16"}, "digits.*smallest side that works is 32$"),
    ({"model": "vgg11", "dataset": "nmnist", "frame_size": 20}, "frame_size=20.*works is 32$"),
    ({"model": "resnet20", "dataset": "nmnist"}, "34 x 34.*works is 16, the nearest is 33$"),
    ({"dataset": "nmnist", "frame_size": 10**6}, "=1000000 must be at least 0 and at most"),
    ({"alpha": 0.5}, "alpha=0.5 is a fixed value, but alpha is learned"),
    ({"dataset": "arrays"}, "dataset=arrays: nobody has looked into it"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[str(k) for k, _ in REFUSED])
def test_what_cannot_work_is_refused(keys, message):
    with pytest.raises(config.ConfigError, match=message):
        config.validate(settings(**keys))


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg16", "vgg11", "small", "tiny"])
def test_the_last_side_is_that_of_the_traced_network(name):
    """And where the arithmetic says 0, the network cannot be traced."""
    model = networks.build(name, 10, options_of())
    for side in (8, 18, 33):
        expected = networks.last_side(name, side)
        try:
            rows = summary.layers(model, (1, side, side, 3))
        except (ZeroDivisionError, ValueError, TypeError):
            assert expected == 0
        else:
            before = next(row.shape for row in reversed(rows) if row.kind == "SpikingNeuron")
            pooled = side // 2 ** networks.NETWORKS[name].keywords.get("layers", ()).count("P")
            assert expected == (
                pooled if "layers" in networks.NETWORKS[name].keywords else before[1]
            )


NOTHING = [
    ({"schedule": "onecycle", "warmup_epochs": 1.0}, "warmup_epochs=1.0", "its own rise"),
    ({"momentum": 0.0, "nesterov": True}, "nesterov=True", "momentum is 0"),
    ({"weight_decay": 0.0, "weight_decay_all": True}, "weight_decay_all=True", "weight_decay is 0"),
    ({"cutout_size": 4}, "cutout_size=4", "neither 'cutout' nor 'nda'"),
    ({"crop_padding": 2}, "crop_padding=2", "'crop' is not in augment"),
    ({"crop_border": "reflect"}, "crop_border=reflect", "'crop' is not in augment"),
    ({"cutout_fill": "mean"}, "cutout_fill=mean", "'cutout' is not in augment"),
    ({"roll_pixels": 2}, "roll_pixels=2", "'roll' is not in augment"),
    ({"neuron": "lif", "decay_init": 0.5}, "decay_init=0.5", "given as they are"),
    ({"neuron": "baseline", "decay_function": "sigmoid"}, "decay_function=sigmoid", "given as"),
    ({"neuron": "lif", "per_channel": True}, "per_channel=True", "or learns nothing"),
    ({"neuron": "tied", "alpha": 0.5}, "alpha=0.5", "has no alpha of its own"),
    ({"unroll": 2}, "unroll=2", "the fused neuron is no scan"),
    ({"membrane_bn": True, "fused": False}, "fused=False", "always a scan"),
    ({"kernel": "pallas"}, "kernel=pallas", "on a GPU"),
    ({"deterministic": True}, "deterministic=True", "only GPUs"),
    ({"model": "vgg11", "dataset": "cifar10", "zero_init_residual": True},
     "zero_init_residual=True", "no residual"),
    ({"timesteps": 1, "detach_reset": True}, "detach_reset=True", "one timestep"),
    ({"neuron": "alif", "detach_reset": True}, "detach_reset=True", "neuron=alif: the gradient"),
    ({"neuron": "glif", "threshold": 0.5}, "threshold=0.5", "neuron_options.v"),
    ({"neuron": "relu", "surrogate_width_end": 0.5}, "surrogate_width_end=0.5", "gradient of its"),
    ({"neuron": "liaf", "detach_reset": True, "surrogate": "arctan"}, "surrogate=arctan",
     "neuron=liaf: its spike only resets it"),
    ({"split_by": "time"}, "split_by=time", "images, not events"),
    ({"resize": "bilinear"}, "resize=bilinear", "images, not events"),
    ({"skip_bad": True}, "skip_bad=True", "images, not events"),
    ({"partial_data": True}, "partial_data=True", "whole or refused"),
    ({"data_workers": 2}, "data_workers=2", "not streamed"),
    ({"data_dir": "x"}, "data_dir=x", "scikit-learn holds"),
    ({"cache_dir": "x"}, "cache_dir=x", "nothing of the data set is cached"),
    ({"mixup": 0.5, "batch_size": 1}, "mixup=0.5", "nobody to mix with"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "key", "reason"), NOTHING, ids=[k for _, k, _ in NOTHING])
def test_a_key_without_effect_says_so(keys, key, reason):
    given = settings(**keys)
    config.validate(given)
    (line,) = config.without_effect(given, "cpu")
    assert line.startswith(f"{key} has no effect: ") and reason in line


WORKS = [
    ({"neuron": "dalif", "learn_alpha": False, "decay_init": 0.5}, "cpu"),
    ({"membrane_bn": True, "unroll": 2}, "cpu"),
    ({"fused": False, "unroll": 2}, "cpu"),
    ({"kernel": "pallas", "deterministic": True}, "cuda"),
    ({"neuron": "tied", "per_channel": True, "decay_function": "sigmoid"}, "cpu"),
    ({"augment": ("crop",), "crop_padding": 1, "warmup_epochs": 1.0, "nesterov": True}, "cpu"),
    ({"dataset": "digits_dvs", "augment": ("nda",), "cutout_size": 8, "split_by": "time"}, "cpu"),
]


@pytest.mark.parametrize(("keys", "platform"), WORKS, ids=[str(k) for k, _ in WORKS])
def test_a_key_with_an_effect_is_silent(keys, platform):
    given = settings(**keys)
    config.validate(given)
    assert list(config.without_effect(given, platform)) == []


@pytest.mark.parametrize(
    ("keys", "steps", "said"),
    [
        ({"epochs": 1, "warmup_epochs": 0.9}, 3, "warmup_epochs=0.9 of 3 steps: 2 of 3"),
        ({"epochs": 2, "warmup_epochs": 0.01}, 18, "warmup_epochs=0.01 of 18 steps: 0 of 36"),
        ({"epochs": 2, "warmup_epochs": 1.0}, 18, None),
        ({"epochs": 1, "schedule": "onecycle"}, 4, None),
    ],
)
def test_a_warm_up_that_rounds_to_none_or_all_of_the_steps_says_so(keys, steps, said):
    assert config.check_steps(settings(**keys), steps) == ([said] if said else [])


@pytest.mark.parametrize(
    ("keys", "steps", "message"),
    [
        ({"epochs": 1, "schedule": "onecycle"}, 3, "onecycle needs at least 4 steps.*are 3"),
        ({"epochs": 2**31 - 1}, 2, "4294967294 steps; below 2\\*\\*31"),
    ],
)
def test_a_schedule_of_too_few_or_too_many_steps_is_refused(keys, steps, message):
    with pytest.raises(config.ConfigError, match=message):
        config.check_steps(settings(**keys), steps)


@pytest.mark.parametrize("dataset", [name for name, spec in sets.SPECS.items() if not spec.own])
def test_the_defaults_of_keys_are_silent(dataset):
    given = settings(dataset=dataset, model="small")
    config.validate(given)
    assert list(config.without_effect(given, "cpu")) == []
