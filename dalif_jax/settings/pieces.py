"""What a config tells its pieces: the options of each, and which pieces exclude one another."""

import math
from dataclasses import fields

from dalif_jax import attention, losses, networks, neurons, norms
from dalif_jax.neurons import NEURONS
from dalif_jax.settings.keys import get_config as base_config
from dalif_jax.suggest import did_you_mean


class ConfigError(ValueError):
    """A setting is wrong; the message says which, its value and what would be right."""


def own_options(piece, name):
    """{option: its default} that a piece of PIECES declares for itself, under its name there."""
    room = {"model": networks, "neuron": neurons, "norm": norms, "attention": attention,
            "loss": losses}[piece]  # fmt: skip
    found = room.own_options(name)
    return {key: default for key, default in found.items() if key not in base_config()}


def check_own(config, piece):
    """{option: value} of a piece's own options. Raises ConfigError for one that is not its own, or
    of another type than its default."""
    name, given = config[piece], config[f"{piece}_options"]
    if not hasattr(given, "items"):
        raise ConfigError(f"{piece}_options={given!r}: options by name expected")
    known = own_options(piece, name)
    for key, value in given.items():
        where = f"{piece}_options.{key}"
        if key in base_config():
            raise ConfigError(f"{where}: that is a key for all, --config.{key}={value}")
        if key not in known:
            raise ConfigError(
                f"{where}: {piece}={name} has no such option{did_you_mean(key, known)}; "
                f"its own are: {', '.join(known) or 'none'}"
            )
        default = known[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number if isinstance(default, float) else isinstance(value, type(default))
        right = right and isinstance(value, bool) == isinstance(default, bool)
        if default is not None and not right:
            raise ConfigError(f"{where}={value!r}: {type(default).__name__} expected")
        if number and not math.isfinite(value):
            raise ConfigError(f"{where}={value} is not a finite number")
    return dict(given)


def _told(config, options, common, piece):
    """The Options of a piece, from the keys that it shares with all and its own."""
    keys = {field.name for field in fields(common)} - {"name"}
    try:
        return options(**{key: config[key] for key in keys if key in config},
                       **check_own(config, piece))  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error


def neuron_options(config):
    """Options of a config's neuron. Raises ConfigError where the keys contradict one another."""
    name = config.neuron
    return _told(
        config, lambda **keys: neurons.options(name, **keys), NEURONS[name].options, "neuron"
    )


def loss_options(config):
    """Options of a config's loss. Raises ConfigError."""
    name = config.loss
    common = losses.LOSSES[name].options
    return _told(config, lambda **keys: losses.options(name, **keys), common, "loss")


def norm_options(config):
    """{field: value} that a config's norm is built with. Raises ConfigError."""
    shared = {key: config[key] for key in norms.own_options(config.norm) if key in config}
    return shared | check_own(config, "norm")


def network_options(config):
    """{option: value} that a config's network is built with. Raises ConfigError."""
    given = check_own(config, "model")
    if "zero_init" in networks.own_options(config.model):
        given["zero_init"] = config.zero_init_residual
    return given


def check_pieces(config):
    """Refuse pieces that exclude one another, in the words of the one that does."""
    found, loss = neuron_options(config), losses.LOSSES[config.loss]
    refused = neurons.refusal(found, "norm")
    if refused and config.norm != "none":
        raise ConfigError(f"norm={config.norm} with neuron={config.neuron}: {refused}")
    loss_options(config)
    attends = check_own(config, "attention")
    if why := attention.misfit(config.attention, config.timesteps, attends):
        raise ConfigError(f"attention={config.attention}: {why}")
    if loss.statistic and neurons.of(found).membrane is None:
        raise ConfigError(
            f"loss={config.loss} is of membranes, and neuron={config.neuron} has none to show"
        )
    if loss.second and networks.answers(config.model, **network_options(config)) < 2:
        raise ConfigError(
            f"loss={config.loss} compares two answers from two dropout masks, and model="
            f"{config.model} gives one; --config.model_options.moderate_dropout=0.2 of a ResNet "
            "gives two"
        )
