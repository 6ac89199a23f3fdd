"""Checking a config before anything is compiled, and what its keys stand for."""

import difflib
import json
import math
from pathlib import Path

from dalif_jax import data
from dalif_jax.augment import AUGMENTS
from dalif_jax.data import SPECS
from dalif_jax.event_augment import EVENT_AUGMENTS
from dalif_jax.events import RESIZES, SPLITS_BY
from dalif_jax.frames import FrameSettings
from dalif_jax.keys import get_config as base_config
from dalif_jax.models import NETWORKS
from dalif_jax.neurons import NEURONS, NeuronOptions

DTYPES = ("float32", "bfloat16", "float64")
REMATERIALIZE = ("auto", "on", "off")
KERNELS = ("xla", "pallas")
SCHEDULES = ("cosine", "onecycle", "constant")
# Where the data lies does not change a run.
NOT_THE_RUN = ("data_dir", "cache_dir", "data_workers")
# What a run may be continued with: how long, and what it leaves behind when.
MAY_CHANGE = (
    "epochs", "eval_every", "checkpoint_every", "keep", "log_every", "eval_batch_size", "mac_pj",
    "ac_pj",
)  # fmt: skip


class ConfigError(ValueError):
    """A setting is wrong; the message says which, its value and what would be right."""


def neuron_options(config):
    """NeuronOptions of a config. Raises ConfigError where the keys contradict one another."""
    keys = (key for key in NeuronOptions.__dataclass_fields__ if key != "name")
    try:
        return NeuronOptions(name=config.neuron, **{key: config[key] for key in keys})
    except ValueError as error:
        raise ConfigError(str(error)) from error


def frame_settings(config):
    """FrameSettings of a config, for event sets; None for images."""
    spec = data.spec(config.dataset, config.frame_size)
    if not spec.events:
        return None
    return FrameSettings(
        config.timesteps, spec.shape[:2], config.split_by, config.resize, config.skip_bad
    )


def load_data(config):
    """data.load of what a config names."""
    return data.load(
        config.dataset,
        config.data_dir,
        config.validation_split,
        frame_settings(config),
        config.cache_dir,
        config.partial_data,
        config.frame_size,
    )


def fit_batches(config, devices):
    """Round batches up to what `devices` share evenly.

    For evaluation: a run trained on many devices is measured on what there is.
    """
    for key in ("eval_batch_size", "batch_size"):
        parts = devices * (config.accumulate if key == "batch_size" else 1)
        config[key] = -(-config[key] // parts) * parts


def validate(config, devices=1):
    """Raise ConfigError for the first setting that cannot work on this number of devices."""
    for key, table in (
        ("model", NETWORKS),
        ("neuron", NEURONS),
        ("dataset", SPECS),
        ("dtype", DTYPES),
        ("schedule", SCHEDULES),
        ("rematerialize", REMATERIALIZE),
        ("kernel", KERNELS),
        ("split_by", SPLITS_BY),
        ("resize", RESIZES),
    ):
        if config[key] not in table:
            raise ConfigError(
                f"unknown {key} {config[key]!r}; known: {', '.join(table)}"
                + _did_you_mean(str(config[key]), table)
            )
    events = SPECS[config.dataset].events
    augments = EVENT_AUGMENTS if events else AUGMENTS
    for name in config.augment:
        if not isinstance(name, str) or name not in augments:
            raise ConfigError(
                f"unknown augment {name!r} for {config.dataset}, which holds "
                f"{'events' if events else 'images'}; known: {', '.join(augments)}"
            )

    for key, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value} is not a finite number")
    for key in ("timesteps", "epochs", "batch_size", "eval_batch_size", "eval_every",
                "checkpoint_every", "keep", "log_every", "accumulate"):  # fmt: skip
        if config[key] < 1:
            raise ConfigError(f"{key}={config[key]} must be at least 1")
    for key in ("learning_rate", "surrogate_width"):
        if config[key] <= 0:
            raise ConfigError(f"{key}={config[key]} must be above 0")
    for key in ("weight_decay", "warmup_epochs", "unroll", "crop_padding", "cutout_size",
                "roll_pixels", "mixup", "mac_pj", "ac_pj", "frame_size", "data_workers",
                "seed"):  # fmt: skip
        if config[key] < 0:
            raise ConfigError(f"{key}={config[key]} must not be negative")
    for key in ("momentum", "label_smoothing", "ema_decay", "validation_split"):
        if not 0 <= config[key] < 1:
            raise ConfigError(f"{key}={config[key]} must be at least 0 and below 1")
    if config.seed >= 2**31:
        raise ConfigError(f"seed={config.seed} must be below 2**31")
    if config.warmup_epochs >= config.epochs:
        raise ConfigError(
            f"warmup_epochs={config.warmup_epochs} must be below epochs={config.epochs}"
        )
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
    if config.frame_size and not (events or SPECS[config.dataset].streamed):
        raise ConfigError(
            f"frame_size={config.frame_size} is for event cameras and imagenet, "
            f"not {config.dataset}"
        )
    if "autoaugment" in config.augment and SPECS[config.dataset].shape[-1] != 3:
        raise ConfigError(f"augment 'autoaugment' needs colour images, {config.dataset} has none")
    neuron_options(config)


def _did_you_mean(word, known):
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown_key(key, where):
    """ConfigError for a key that the base config does not declare, with the nearest one."""
    known = sorted(base_config().keys())
    return ConfigError(
        f"unknown config key {key!r} {where}{_did_you_mean(key, known)}; "
        f"every key is declared in dalif_jax/keys.py"
    )


def to_json(config):
    """Plain dict of a config: tuples as lists, unset keys as None."""
    return json.loads(json.dumps(config.to_dict()))


def from_json(values, where):
    """Config from what to_json wrote.

    Raises:
      ConfigError: a key this version does not know, or a value of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} holds no settings but {values!r:.50}")
    config = base_config()
    for key, value in values.items():
        if key not in config:
            raise unknown_key(key, f"in {where}")
        if value is None and config[key] is not None:
            raise ConfigError(f"{key}=null in {where}: {type(config[key]).__name__} expected")
        try:
            config[key] = tuple(value) if isinstance(value, list) else value
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{key}={value!r:.50} in {where}: {error}") from error
    return config


def load(workdir):
    """The config a run was started with.

    Raises:
      ConfigError: no readable config.json in `workdir`.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run in {workdir}: {path} does not exist")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}") from error
    return from_json(values, path)


def claim(workdir, config):
    """Write config.json into a new workdir, or check that an old one belongs to this config.

    Keys of MAY_CHANGE may differ: they are printed, and written anew.

    Raises:
      ConfigError: the workdir holds a run of another config; lists the keys that differ.
    """
    path = Path(workdir) / "config.json"
    if path.exists():
        before, now = to_json(load(workdir)), to_json(config)
        differing = {
            key: f"  {key}: {before[key]!r} there, {now[key]!r} now"
            for key in now
            if before[key] != now[key] and key not in NOT_THE_RUN
        }
        refused = [line for key, line in differing.items() if key not in MAY_CHANGE]
        if refused:
            raise ConfigError(
                f"{workdir} belongs to a run with another config:\n"
                + "\n".join(refused)
                + "\nuse another --workdir, or the same settings to continue that run"
            )
        if not differing:
            return
        print(f"{workdir} continues with changed settings:\n" + "\n".join(differing.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(to_json(config), indent=2) + "\n")
    temporary.replace(path)


def identity(config):
    """{key: value} of the settings that make a run the one it is, as plain values (JSON)."""
    return {
        key: value
        for key, value in to_json(config).items()
        if key not in NOT_THE_RUN and key not in MAY_CHANGE
    }
