"""Keys that do nothing under the others given: named, so that nobody waits for what they do."""

from dataclasses import fields

from dalif_jax import networks, norms
from dalif_jax.neurons import NEURONS, refusal
from dalif_jax.settings.checks import spec_of
from dalif_jax.settings.keys import PERIODIC
from dalif_jax.settings.keys import get_config as base_config
from dalif_jax.settings.pieces import neuron_options


def _learns(config):
    """Whether a neuron layer has a number that is learned."""
    return bool(NEURONS[config.neuron].numbers(neuron_options(config)))


def _starts(config):
    """Whether a decay comes from decay_init through decay_function."""
    options = neuron_options(config)
    return _learns(config) or None in (getattr(options, "alpha", 1), getattr(options, "beta", 1))


def _told_of(key, more=lambda config: True, why=""):
    """Of a key that only some neurons have: whether this one has, and does anything with it."""

    def does(config, _):
        has = key in {field.name for field in fields(NEURONS[config.neuron].options)}
        return has and more(config)

    return does, f"the neuron has no {key} of its own{why}"


def _refused(config, key):
    """Why the neuron does nothing with a key; "" where it does."""
    why = refusal(neuron_options(config), key)
    return why and f"neuron={config.neuron}: {why}"


def _asked(key):
    """Of a key that a neuron may refuse: whether this one takes it, and its own reason."""
    return lambda config, _: not _refused(config, key), lambda config: _refused(config, key)


def _norm_takes(config, key):
    return key in norms.own_options(config.norm)


def _augments(config, *names):
    return bool(set(names) & set(config.augment))


def _scans(config):
    """Whether the neuron runs as the plain scan while training."""
    return config.membrane_bn or not config.fused


_GIVEN = ", or both decays are given as they are"
_EVENTS = (lambda c, _: spec_of(c).events, "the data set holds images, not events")
_GPU = ("gpu", "cuda", "rocm")
# Key: whether it does anything (config, platform), and why not where it does not: words, or config
# -> words.
EFFECTS = {
    **{key: _told_of(key) for key in ("alpha", "beta", "learn_alpha", "learn_beta")},
    **{key: _told_of(key, _starts, _GIVEN) for key in ("decay_init", "decay_function")},
    "per_channel": _told_of("per_channel", _learns, ", or learns nothing"),
    "threshold": (
        lambda c, _: not _refused(c, "threshold") or _norm_takes(c, "threshold"),
        lambda c: _refused(c, "threshold"),
    ),
    "surrogate": _asked("surrogate"),
    "surrogate_width": _asked("surrogate_width"),
    "surrogate_width_end": _asked("surrogate_width"),
    "detach_reset": (
        lambda c, _: c.timesteps > 1 and not _refused(c, "detach_reset"),
        lambda c: _refused(c, "detach_reset") or "with one timestep nothing follows a reset",
    ),
    "membrane_bn_elementwise": (lambda c, _: c.membrane_bn, "membranes are not normed"),
    "fused": (lambda c, _: not c.membrane_bn, "with membrane_bn the neuron is always a scan"),
    "unroll": (lambda c, _: _scans(c), "the fused neuron is no scan"),
    "kernel": (
        lambda c, platform: platform in _GPU and not _scans(c) and c.dtype != "float64",
        "Pallas runs the fused neuron, on a GPU, in float32 or bfloat16",
    ),
    "deterministic": (lambda _, platform: platform in _GPU, "only GPUs differ from run to run"),
    "zero_init_residual": (
        lambda c, _: "zero_init" in networks.own_options(c.model),
        "the network has no residual branch, or says itself how it starts",
    ),
    "warmup_epochs": (lambda c, _: c.schedule != "onecycle", "schedule=onecycle has its own rise"),
    "schedule_epochs": (lambda c, _: c.schedule in PERIODIC, "the schedule has no such period"),
    "schedule_factor": (
        lambda c, _: c.schedule in ("step", "plateau"), "only step and plateau fall by a factor",
    ),
    "momentum": (
        lambda c, _: c.optimizer in ("sgd", "muon"), "Adam's kind has its own averages"
    ),
    "nesterov": (
        lambda c, _: c.momentum > 0 and c.optimizer in ("sgd", "muon"),
        "momentum is 0, or neither SGD's nor Muon's",
    ),
    "weight_decay_all": (lambda c, _: c.weight_decay > 0, "weight_decay is 0"),
    "crop_padding": (lambda c, _: _augments(c, "crop"), "'crop' is not in augment"),
    "cutout_size": (
        lambda c, _: _augments(c, "cutout", "nda"), "neither 'cutout' nor 'nda' is in augment",
    ),
    "crop_border": (
        lambda c, _: _augments(c, "crop") and not spec_of(c).events,
        "'crop' is not in augment, or beyond a recording nothing happens",
    ),
    "cutout_fill": (
        lambda c, _: _augments(c, "cutout"), "'cutout' is not in augment, 'nda' takes events away",
    ),
    "roll_pixels": (lambda c, _: _augments(c, "roll"), "'roll' is not in augment"),
    "mixup": (lambda c, _: c.batch_size > c.accumulate, "a batch of one has nobody to mix with"),
    **{
        key: _EVENTS
        for key in (
            "split_by", "resize", "skip_bad", "frame_ms", "frame_values", "train_timesteps",
            "test_slices",
        )
    },
    "time_unit": (
        lambda c, _: c.dataset == "event_folder",
        "only the NumPy files of event_folder have no unit of time of their own",
    ),
    "mirrored_views": (lambda c, _: not spec_of(c).events, "recordings are not mirrored"),
    "cache_dir": (
        lambda c, _: spec_of(c).events or spec_of(c).streamed,
        "nothing of the data set is cached",
    ),
    "partial_data": (
        lambda c, _: spec_of(c).events or spec_of(c).streamed,
        "the data set is whole or refused",
    ),
    "data_workers": (lambda c, _: spec_of(c).streamed, "the data set is not streamed"),
    **{
        key: (lambda c, _: spec_of(c).own and not spec_of(c).events, "the set's own are known")
        for key in ("data_mean", "data_std")
    },
    "data_dir": (lambda c, _: not c.dataset.startswith("digits"), "scikit-learn holds the digits"),
}  # fmt: skip


def without_effect(config, platform):
    """A line for each key that was set, yet does nothing under the others, on this platform."""
    for key, default in base_config().items():
        does, reason = EFFECTS.get(key, (None, None))
        if does and config[key] != default and not does(config, platform):
            why = reason(config) if callable(reason) else reason
            yield f"{key}={config[key]} has no effect: {why}"
