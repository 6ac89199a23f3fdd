"""What the keys of a config stand for, and the config of a run as a file."""

import json
import math
from pathlib import Path

from ml_collections import ConfigDict

from dalif_jax import networks, strict_json
from dalif_jax.atomic_write import atomic_write
from dalif_jax.data import fingerprint, own, sets
from dalif_jax.data.events.frames import FrameSettings
from dalif_jax.settings.checks import check_steps, validate  # noqa: F401  used as this module's
from dalif_jax.settings.effects import without_effect  # noqa: F401
from dalif_jax.settings.keys import get_config as base_config
from dalif_jax.settings.pieces import (  # noqa: F401
    ConfigError,
    did_you_mean,
    loss_options,
    network_options,
    neuron_options,
    norm_options,
    own_options,
)

# Where the data lies does not change a run.
NOT_THE_RUN = ("data_dir", "cache_dir", "data_workers")
# What belongs to a machine and not to a trained network: a model card holds none of it.
LOCAL = (*NOT_THE_RUN, "init_from")
# What a run may be continued with: how long, and what it leaves behind when.
MAY_CHANGE = (
    "epochs", "eval_every", "checkpoint_every", "keep", "log_every", "eval_batch_size", "mac_pj",
    "ac_pj",
)  # fmt: skip
# Options that a config.json written before they existed lacks, and what its run did.
BEFORE = {"model_options": {"norm_per_step": False}}


def frame_settings(config):
    """FrameSettings of a config, for event sets; None for images."""
    spec = sets.spec(config.dataset, config.frame_size, config.found)
    if not spec.events:
        return None
    return FrameSettings(
        0 if config.test_slices else config.timesteps, spec.shape[:2], config.split_by,
        config.resize, config.skip_bad, config.frame_ms, config.frame_values, config.time_unit,
    )  # fmt: skip


def load_data(config):
    """The splits of a config's dataset, see sets.load.

    Raises:
      sets.DataError: as sets.load, or recordings shorter than the frames that are drawn of them.
    """
    settings = frame_settings(config)
    splits = sets.load(
        config.dataset,
        config.data_dir,
        config.validation_split,
        settings,
        config.cache_dir,
        config.partial_data,
        config.frame_size,
        config.found,
    )
    if settings and config.test_slices:
        for part, split in splits.items():
            if (longest := split.images.shape[1]) < config.timesteps:
                raise sets.DataError(
                    f"{config.dataset} {part}: the longest recording fills {longest} frames of "
                    f"{config.frame_ms:g} ms, and slices of timesteps={config.timesteps} are drawn "
                    "of them (test_slices). Set a smaller --config.timesteps or "
                    "--config.frame_ms, or add longer recordings"
                )
    return splits


def find(config):
    """Look into a set of one's own, and keep what it holds in the config's `found`.

    Raises:
      ConfigError: statistics or timesteps that do not fit it; sets.DataError: there is no such set.
    """
    known = sets.SPECS.get(config.dataset)
    if not (known and known.own):
        return
    found = sets.look(config.dataset, config.data_dir, config.frame_size)
    if found.timesteps and found.timesteps != config.timesteps:
        raise ConfigError(
            f"timesteps={config.timesteps}, but the frames in {config.data_dir} are "
            f"{found.timesteps} each; --config.timesteps={found.timesteps} takes them"
        )
    for key in ("mean", "std"):
        if given := config[f"data_{key}"]:
            if len(given) != len(found.mean) or (key == "std" and min(given) <= 0):
                raise ConfigError(
                    f"data_{key}={given}: {len(found.mean)} numbers expected, one a channel"
                    + (", above 0" if key == "std" else "")
                )
            found = found._replace(**{key: tuple(map(float, given))})
    config.found = ConfigDict(found._asdict())


def fit_batches(config, devices):
    """Round batches up to what `devices` share evenly.

    For evaluation: a run trained on many devices is measured on what there is.
    """
    for key in ("eval_batch_size", "batch_size"):
        parts = devices * (config.accumulate if key == "batch_size" else 1)
        config[key] = -(-config[key] // parts) * parts


def unknown_key(key, where):
    """ConfigError for a key that the base config does not declare, with the nearest one."""
    known = sorted(base_config().keys())
    return ConfigError(
        f"unknown config key {key!r} {where}{did_you_mean(key, known)}; "
        f"every key is declared in dalif_jax/settings/keys.py"
    )


def to_json(config):
    """Plain dict of a config: tuples as lists, unset keys as None, options of BEFORE written out.

    Without them, from_json could not tell a newer file from one of an older version.
    """
    values = json.loads(json.dumps(config.to_dict()))
    for key, option, default, _ in _added(config):
        values[key].setdefault(option, default)
    return values


def _added(config):
    """(key, option, default, value before it existed): options of BEFORE that a config's pieces
    have."""
    for key, added in BEFORE.items():
        piece = key.removesuffix("_options")
        if config[piece] not in networks.NETWORKS or not hasattr(config[key], "items"):
            continue
        known = own_options(piece, config[piece])
        yield from (
            (key, option, known[option], old) for option, old in added.items() if option in known
        )


def from_json(values, where):
    """Config from what to_json wrote.

    Raises:
      ConfigError: a key this version does not know, a value of another type, or one that is larger
        than any network or dataset needs.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} holds no settings but {values!r:.50}")
    config = base_config()
    for key, value in values.items():
        if key not in config:
            raise unknown_key(str(key)[:80], f"in {where}")
        if value is None and config[key] is not None:
            raise ConfigError(f"{key}=null in {where}: {type(config[key]).__name__} expected")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ConfigError(f"{key} in {where} has {len(value):,} characters, at most {MAX_TEXT}")
        if isinstance(value, list) and len(value) > MAX_LIST:
            raise ConfigError(f"{key} in {where} has {len(value):,} values, at most {MAX_LIST}")
        try:
            if isinstance(config[key], ConfigDict):
                config[key].update({name: _plain(own) for name, own in dict(value).items()})
            else:
                config[key] = _plain(value)
        except (TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"{key}={value!a:.50} in {where}: {reason}") from error
        if key == "found" and value:
            _check_dataset(value, where)
        elif key.endswith("_options"):
            _check_options(key, value, where)
    for key, option, _, old in _added(config):
        if option not in config[key]:
            config[key][option] = old
    return config


MAX_TEXT, MAX_LIST = 4096, 1000
MAX_CLASSES, MAX_NAME = 100_000, 1000
MAX_SIDE, MAX_CHANNELS, MAX_EXAMPLES, MAX_FRAMES = 4096, 64, 2**31 - 1, 10_000
# Larger than in any network; what is built from a larger one would exhaust memory or time.
MAX_OPTION, MAX_BLOCKS = 2**16, 1000


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _integer_in(value, low, high):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_dataset(dataset, where):
    """Raise ConfigError where the dataset record of a config.json describes no dataset."""

    def require(right, key, expected):
        if not right:
            raise ConfigError(f"found.{key}={dataset.get(key)!a:.60} in {where}: {expected}")

    for key in ("shape", "classes", "train", "test", "mean", "std"):
        require(key in dataset, key, "it is missing")
    shape, classes = dataset["shape"], dataset["classes"]
    require(
        isinstance(shape, list | tuple)
        and len(shape) == 3
        and all(_integer_in(side, 1, MAX_SIDE) for side in shape[:2])
        and _integer_in(shape[2], 1, MAX_CHANNELS),
        "shape",
        f"height and width up to {MAX_SIDE} and up to {MAX_CHANNELS} channels expected",
    )
    require(
        isinstance(classes, list | tuple)
        and 1 < len(classes) <= MAX_CLASSES
        and all(isinstance(name, str) and len(name) <= MAX_NAME for name in classes),
        "classes",
        f"2 to {MAX_CLASSES:,} names of at most {MAX_NAME} characters expected",
    )
    for key in ("train", "test"):
        require(_integer_in(dataset[key], 1, MAX_EXAMPLES), key, "a number of examples expected")
    for key in ("mean", "std"):
        numbers = dataset[key]
        require(
            isinstance(numbers, list | tuple)
            and len(numbers) in (0, shape[2])
            and all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            and (key == "mean" or all(n > 0 for n in numbers)),
            key,
            "a finite number for each channel expected" + ", above 0" * (key == "std"),
        )
    frames = dataset.get("timesteps", 0)
    require(_integer_in(frames, 0, MAX_FRAMES), "timesteps", f"0 to {MAX_FRAMES:,} expected")


def _check_options(key, options, where):
    """Raise ConfigError for sizes in a config.json that no component has."""
    for name, value in options.items():
        values, numbers = [value], []
        while values:
            each = values.pop()
            if isinstance(each, list | tuple):
                if len(each) > MAX_LIST:
                    raise ConfigError(f"{key}.{name!a:.60} in {where} has {len(each):,} values")
                values.extend(each)
            elif isinstance(each, str) and len(each) > MAX_TEXT:
                raise ConfigError(f"{key}.{name!a:.60} in {where} has {len(each):,} characters")
            elif isinstance(each, int) and not isinstance(each, bool):
                numbers.append(each)
        if any(abs(number) > MAX_OPTION for number in numbers):
            raise ConfigError(f"{key}.{name!a:.60} in {where} holds a number above {MAX_OPTION:,}")
        if name in ("blocks", "n") and sum(numbers) > MAX_BLOCKS:
            raise ConfigError(f"{key}.{name} in {where}: at most {MAX_BLOCKS:,} blocks expected")


def load(workdir):
    """The config a run was started with.

    Raises:
      ConfigError: no readable config.json in `workdir`.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run in {workdir}: {path} does not exist")
    try:
        values = strict_json.read(path)
    except strict_json.JSONError as error:
        raise ConfigError(str(error)) from error
    return from_json(values, path)


def claim(workdir, config):
    """Write config.json into a new workdir, or check that an old one belongs to this config.

    Keys of MAY_CHANGE may differ: they are printed, and written anew. Options of BEFORE that the
    config leaves open are set to those of the run.

    Returns:
      the config that the run had before, or None for a new run.
    Raises:
      ConfigError: the workdir holds a run of another config; lists the keys that differ.
    """
    path, old = Path(workdir) / "config.json", None
    if path.exists():
        old = load(workdir)
        if old.model == config.model:
            for key, option, *_ in _added(config):
                if option not in config[key]:
                    config[key][option] = old[key][option]
        before, now = to_json(old), to_json(config)
        added = _check_data(workdir, config, before, now)
        differing = {
            key: "  " + _difference(key, before[key], now[key])
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
        if not differing and not added:
            return old
        if differing:
            print(f"{workdir} continues with changed settings:\n" + "\n".join(differing.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(to_json(config), indent=2) + "\n")
    return old


def _difference(key, before, now):
    """How a setting differs; of what a dataset holds, only the parts that do."""
    if key == "found" and before and now:
        parts = [part for part in {**before, **now} if before.get(part) != now.get(part)]
        return "; ".join(
            f"{part} of the dataset: {before.get(part)!r:.200} there, {now.get(part)!r:.200} now"
            for part in parts
        )
    return f"{key}: {before!r} there, {now!r} now"


def _check_data(workdir, config, before, now):
    """Refuse to continue a run on a dataset that changed; a run without a fingerprint gets one.

    Args:
      before, now: plain values of the run's config and of the present one.
    Returns:
      whether the run had no fingerprint; `before` has it now.
    Raises:
      ConfigError: says what changed.
    """
    then, scan = before["found"], now["found"]
    if not (then and scan) or before["dataset"] != now["dataset"]:
        return False
    if lines := own.differences(then, scan):
        raise ConfigError(
            f"{workdir}: the dataset in {fingerprint.printable(config.data_dir)} is not what the "
            f"run began with: {'; '.join(lines)}. Restore it, or name a copy of it by "
            "--config.data_dir=FOLDER, or train on the changed dataset in another --workdir"
        )
    if scan.get("fingerprint") and not then.get("fingerprint"):
        if config.dataset == "arrays" and config.validation_split:
            raise ConfigError(
                f"{workdir} was started by a version that chose the validation split of arrays in "
                "another way, and would train on examples it held out. Use another --workdir, or "
                "finish the run with that version"
            )
        print(
            f"{workdir} has no fingerprint of its dataset; it is recorded now, so that changes "
            "from here on are noticed"
        )
        then["fingerprint"] = scan["fingerprint"]
        return True
    return False


def identity(config):
    """{key: value} of the settings that make a run the one it is, as plain values (JSON)."""
    values = {
        key: value
        for key, value in to_json(config).items()
        if key not in NOT_THE_RUN and key not in MAY_CHANGE
    }
    # config.json has it. Checkpoints of runs by earlier versions are without.
    values["found"].pop("fingerprint", None)
    return values
