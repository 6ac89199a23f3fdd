"""What the keys of a config stand for, and the config of a run as a file."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from dalif_jax import networks
from dalif_jax.data import sets
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
        config.resize, config.skip_bad, config.frame_ms, config.frame_values,
    )  # fmt: skip


def load_data(config):
    """data.load of what a config names."""
    return sets.load(
        config.dataset,
        config.data_dir,
        config.validation_split,
        frame_settings(config),
        config.cache_dir,
        config.partial_data,
        config.frame_size,
        config.found,
    )


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
        if config[piece] not in networks.NETWORKS:
            continue
        known = own_options(piece, config[piece])
        yield from (
            (key, option, known[option], old) for option, old in added.items() if option in known
        )


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
            if isinstance(config[key], ConfigDict):
                config[key].update({name: _plain(own) for name, own in dict(value).items()})
            else:
                config[key] = _plain(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{key}={value!r:.50} in {where}: {error}") from error
    for key, option, _, old in _added(config):
        if option not in config[key]:
            config[key][option] = old
    return config


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def load(workdir):
    """The config a run was started with.

    Raises:
      ConfigError: no readable config.json in `workdir`.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run in {workdir}: {path} does not exist")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}") from error
    return from_json(values, path)


def claim(workdir, config):
    """Write config.json into a new workdir, or check that an old one belongs to this config.

    Keys of MAY_CHANGE may differ: they are printed, and written anew. Options of BEFORE that the
    config leaves open are set to those of the run.

    Raises:
      ConfigError: the workdir holds a run of another config; lists the keys that differ.
    """
    path = Path(workdir) / "config.json"
    if path.exists():
        run = load(workdir)
        if run.model == config.model:
            for key, option, *_ in _added(config):
                config[key].setdefault(option, run[key][option])
        before, now = to_json(run), to_json(config)
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
    temporary.write_text(json.dumps(to_json(config), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def identity(config):
    """{key: value} of the settings that make a run the one it is, as plain values (JSON)."""
    return {
        key: value
        for key, value in to_json(config).items()
        if key not in NOT_THE_RUN and key not in MAY_CHANGE
    }
