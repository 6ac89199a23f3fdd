"""What every key may be: checked before anything is compiled."""

import math
import sys
from typing import NamedTuple

from dalif_jax import attention, losses, networks, norms
from dalif_jax.data import sets
from dalif_jax.data.augment import ALTERNATE, AUGMENTS, BORDERS, FILLS
from dalif_jax.data.events.event_arrays import TIME_UNITS
from dalif_jax.data.events.event_augment import EVENT_AUGMENTS
from dalif_jax.data.events.events import RESIZES, SPLITS_BY, VALUES
from dalif_jax.data.sets import SPECS
from dalif_jax.neurons import NEURONS
from dalif_jax.settings.keys import OPTIMIZERS, PERIODIC, PIECES, SCHEDULES
from dalif_jax.settings.keys import get_config as base_config
from dalif_jax.settings.pieces import (
    ConfigError,
    check_own,
    check_pieces,
    did_you_mean,
    neuron_options,
)

# fmt: off
NAMES = {
    "model": networks.NETWORKS, "neuron": NEURONS, "norm": norms.NORMS, "loss": losses.LOSSES,
    "attention": attention.ATTENTION, "dataset": SPECS,
    "dtype": ("float32", "bfloat16", "float64"), "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "rematerialize": ("auto", "on", "off"), "kernel": networks.KERNELS,
    "split_by": SPLITS_BY, "resize": RESIZES, "frame_values": VALUES,
    "crop_border": BORDERS, "cutout_fill": FILLS, "time_unit": TIME_UNITS,
}
# fmt: on
ONECYCLE_STEPS = 4  # with fewer its rise, three tenths of them, has none


class Range(NamedTuple):
    """low <= value <= high, or `<` where a side is open."""

    low: float = 0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value):
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self):
        words = [f"{'above' if self.open_low else 'at least'} {self.low}"]
        if self.high < math.inf:
            words.append(f"{'below' if self.open_high else 'at most'} {self.high}")
        return " and ".join(words)


COUNT, SIZE, SHARE = Range(1, 2**31 - 1), Range(0, 2**16), Range(0, 1, open_high=True)
ABOVE_0, FROM_0 = Range(0, open_low=True), Range(0)
# fmt: off
RANGES = {
    "timesteps": Range(1, 10_000), "seed": Range(0, 2**31, open_high=True), "epochs": COUNT,
    "batch_size": Range(1, 2**20), "eval_batch_size": Range(1, 2**20), "accumulate": COUNT,
    "eval_every": COUNT, "checkpoint_every": COUNT, "keep": COUNT, "log_every": COUNT,
    "threshold": ABOVE_0, "surrogate_width": ABOVE_0, "surrogate_width_end": ABOVE_0,
    "learning_rate": ABOVE_0, "schedule_epochs": Range(0, 2**20),
    "schedule_factor": Range(0, 1, open_low=True), "warmup_epochs": FROM_0,
    "weight_decay": FROM_0, "mixup": Range(0, 1000), "mac_pj": FROM_0,
    "ac_pj": FROM_0, "momentum": SHARE, "label_smoothing": SHARE, "ema_decay": SHARE,
    "validation_split": SHARE, "unroll": SIZE, "crop_padding": SIZE, "cutout_size": SIZE,
    "roll_pixels": SIZE, "frame_ms": Range(0, 1e6), "train_timesteps": Range(0, 10_000),
    "test_slices": Range(0, 1000), "frame_size": Range(0, 4096), "data_workers": Range(0, 4096),
}
# fmt: on


def validate(config, devices=1):
    """Raise ConfigError for the first setting that cannot work on this number of devices."""
    for key, default in base_config().items():
        value = config[key]
        if value is None and default is not None:
            raise ConfigError(f"{key}=None: {type(default).__name__} expected")
        if isinstance(value, bool) and not isinstance(default, bool | None):
            raise ConfigError(f"{key}={value}: {type(default).__name__} expected")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value} is not a finite number")
    for key, table in NAMES.items():
        if config[key] not in table:
            raise ConfigError(
                f"unknown {key} {config[key]!r}; known: {', '.join(table)}"
                + did_you_mean(str(config[key]), table)
            )
    for key, allowed in RANGES.items():
        if config[key] is not None and config[key] not in allowed:
            raise ConfigError(f"{key}={config[key]} must be {allowed}")
    spec = spec_of(config)
    augments = EVENT_AUGMENTS if spec.events else (*AUGMENTS, ALTERNATE)
    for name in config.augment:
        if not isinstance(name, str) or name not in augments:
            raise ConfigError(
                f"unknown augment {name!r} for {config.dataset}, which holds "
                f"{'events' if spec.events else 'images'}; known: {', '.join(augments)}"
                + did_you_mean(str(name), augments)
            )
    flips = [name for name in config.augment if name in ("flip", ALTERNATE)]
    for name in flips:
        _check_flip(config.dataset, name)
    if len(flips) > 1:
        raise ConfigError(f"augment has {' and '.join(flips)}: take one of them")
    if ALTERNATE in flips and spec.streamed:
        raise ConfigError(
            f"augment {ALTERNATE!r} goes by an image's place in its set, and {config.dataset} is "
            "streamed without it; use 'flip'"
        )
    if "autoaugment" in config.augment and spec.shape[-1] != 3:
        raise ConfigError(f"augment 'autoaugment' needs colour images, {config.dataset} has none")
    if config.warmup_epochs >= config.epochs and config.schedule != "onecycle":
        raise ConfigError(
            f"warmup_epochs={config.warmup_epochs:g} must be below epochs={config.epochs}"
        )
    if config.schedule in PERIODIC and not config.schedule_epochs:
        raise ConfigError(
            f"schedule={config.schedule} needs schedule_epochs: after how many epochs the rate "
            "falls (step, plateau), or first reaches 0 (cosine_past_end)"
        )
    if spec.events:
        _check_frames(config)
    _check_sizes(config, spec)
    _check_batches(config, devices)
    for piece in PIECES:
        check_own(config, piece)
    check_pieces(config)


def spec_of(config):
    """sets.Spec of a config's set. Raises ConfigError for one of one's own not looked into."""
    known = SPECS[config.dataset]
    if not known.own:
        return known
    if not config.found:
        raise ConfigError(
            f"dataset={config.dataset}: nobody has looked into it; config.find does, for train.py"
        )
    try:
        return sets.spec(config.dataset, 0, config.found.to_dict())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"dataset={config.dataset}: found={config.found} is no set") from error


def _check_frames(config):
    """Of event cameras: what of a recording is shown."""
    if config.frame_ms and config.split_by != "time":
        raise ConfigError(
            f"frame_ms={config.frame_ms:g} is for split_by=time: frames of equally many events "
            "have no duration"
        )
    if config.frame_ms and config.frame_ms < 0.001:
        raise ConfigError(f"frame_ms={config.frame_ms:g} is below a microsecond, the unit of time")
    if config.test_slices and not config.frame_ms:
        raise ConfigError(
            f"test_slices={config.test_slices} needs frame_ms, and split_by=time: how long a frame "
            f"lasts, {config.timesteps} of which are a slice"
        )
    if not config.train_timesteps:
        return
    if config.train_timesteps >= config.timesteps:
        raise ConfigError(
            f"train_timesteps={config.train_timesteps} must be below timesteps={config.timesteps}: "
            "so many frames are drawn of those"
        )
    numbers = NEURONS[config.neuron].numbers(neuron_options(config))
    tied = [f"neuron={config.neuron}"] * any("timestep" in n.per for n in numbers.values())
    tied += [f"attention={config.attention}"] * (config.attention != "none")
    if tied:
        raise ConfigError(
            f"train_timesteps={config.train_timesteps}: {tied[0]} has numbers for each of "
            f"{config.timesteps} timesteps, and cannot be trained on fewer"
        )


def _check_flip(dataset, name):
    if SPECS[dataset].mirrored == "another":
        raise ConfigError(
            f"augment {name!r} mirrors {dataset}'s gestures into those of other classes, right "
            "hand into left hand and clockwise into counter clockwise, under the old labels; use "
            "'roll' or 'nda'"
        )
    if SPECS[dataset].mirrored == "none":
        print(
            f"warning: augment {name!r} trains on mirrored digits, which {dataset} does not have",
            file=sys.stderr,
        )


def _check_sizes(config, spec):
    if config.frame_size and not (spec.events or spec.streamed or spec.own):
        raise ConfigError(
            f"frame_size={config.frame_size} is for event cameras and imagenet, "
            f"not {config.dataset}"
        )
    side = config.frame_size or min(spec.shape[:2])
    own = check_own(config, "model")
    if why := networks.misfit(config.model, **own):
        raise ConfigError(f"model={config.model}: {why}")
    if not networks.last_side(config.model, side, **own):
        works = [n for n in range(1, 513) if networks.last_side(config.model, n, **own)]
        near = min(works, key=lambda n: abs(n - side))
        other = f", the nearest is {near}" if near != works[0] else ""
        raise ConfigError(
            f"model={config.model} cannot take frames of {side} x {side} ({config.dataset}"
            f"{', frame_size=' + str(config.frame_size) if config.frame_size else ''}): its pools "
            f"do not divide them; the smallest side that works is {works[0]}{other}"
        )
    for key, users, most in (
        ("crop_padding", ("crop",), side),
        ("cutout_size", ("cutout", "nda"), side),
        ("roll_pixels", ("roll",), side - 1),
    ):
        if config[key] > most and set(users) & set(config.augment):
            raise ConfigError(
                f"{key}={config[key]} must be at most {most}: {config.dataset} is "
                f"{side} x {side} pixels"
            )


def _check_batches(config, devices):
    for key in ("batch_size", "eval_batch_size"):
        if config[key] % devices:
            nearest = max(devices, round(config[key] / devices) * devices)
            raise ConfigError(
                f"{key}={config[key]} does not divide evenly over {devices} devices; "
                f"the nearest that does is {nearest}"
            )
    if config.batch_size % (config.accumulate * devices):
        raise ConfigError(
            f"batch_size={config.batch_size} does not divide evenly into accumulate="
            f"{config.accumulate} parts on each of {devices} devices"
        )


def check_steps(config, steps):
    """Check the schedule against the steps of an epoch, which the data decide.

    Returns:
      lines about a warm-up that is not what was asked for.
    Raises:
      ConfigError: more steps than are counted, or too few for a one-cycle.
    """
    total, warmup = config.epochs * steps, round(config.warmup_epochs * steps)
    if total >= 2**31:
        raise ConfigError(
            f"epochs={config.epochs} of {steps} steps are {total} steps; below 2**31 can be counted"
        )
    if config.schedule == "onecycle":
        if total < ONECYCLE_STEPS:
            raise ConfigError(
                f"schedule=onecycle needs at least {ONECYCLE_STEPS} steps, and epochs="
                f"{config.epochs} of batch_size={config.batch_size} are {total}: more epochs, "
                "smaller batches, or schedule=cosine"
            )
    elif config.warmup_epochs and not 0 < warmup < total:
        taken = min(warmup, total - 1)
        return [f"warmup_epochs={config.warmup_epochs:.4g} of {steps} steps: {taken} of {total}"]
    return []
