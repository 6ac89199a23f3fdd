"""Every compared system on the digits: its neuron, norm, loss and surrogate, all else as digits.

    python train.py --config configs/systems.py:plif --workdir runs/plif

Each is a line of SYSTEMS: what its paper changes, from there or from its public code, without its
network and its recipe, which configs/table1/ has. `stand-in` marks a formula that is not public:
see the docstring of the piece. docs/systems.md says what is certain and what was measured.
"""

import functools
from dataclasses import fields

from configs.base import get_config as base
from configs.digits import get_config as digits
from dalif_jax import neurons
from dalif_jax.suggest import did_you_mean

SYSTEMS = {
    "dalif": {},
    "tdbn": {"neuron": "lif", "threshold": 0.5, "norm": "tdbn"},
    "mpbn": {"neuron": "lif", "threshold": 0.5, "surrogate": "tanh", "membrane_bn": True},
    "tet": {"neuron": "lif", "beta": 0.5, "surrogate": "triangle", "loss": "tet"},
    "im": {"neuron": "lif", "threshold": 0.5, "surrogate": "evolving", "loss": "im"},
    "recdis": {"neuron": "lif", "threshold": 0.5, "loss": "recdis"},  # stand-in
    "lsg": {"neuron": "lsg", "threshold": 0.5, "norm": "tdbn"},
    "plif": {"neuron": "plif", "surrogate": "arctan", "detach_reset": True},
    "klif": {"neuron": "klif", "surrogate": "arctan", "detach_reset": True},
    "glif": {
        "neuron": "glif", "per_channel": True, "threshold": 0.5, "norm": "tdbn",
        "norm_options": {"identity": True},
    },
    "diet": {
        "neuron": "diet", "threshold": 0.4, "surrogate": "bell", "norm": "none",
        "optimizer": "amsgrad", "learning_rate": 5e-3, "weight_decay": 0.0,
    },
    "ltmd": {
        "neuron": "ltmd", "loss": "ltmd",
        "model_options": {"hidden": 64, "hidden_neuron": True, "moderate_dropout": 0.2},
    },
    "alif": {
        "neuron": "alif", "threshold": 0.3, "surrogate": "bell",
        "neuron_options": {"decay": 0.5, "adaptation": 0.2},
    },
    "bdett": {"neuron": "bdett"},  # unverified
    "imlif": {"neuron": "imlif", "threshold": 0.5, "norm": "tdbn", "loss": "tet"},  # stand-in
    "mlf": {
        "neuron": "mlf", "threshold": 0.6, "norm": "tdbn",
        "norm_options": {"summed_scale": 1.0, "epsilon_outside": True},
    },
    "gradual": {  # stand-in
        "neuron": "lif", "threshold": 0.5, "surrogate_width": 2.0, "surrogate_width_end": 0.5,
    },
    "liaf": {"neuron": "liaf", "threshold": 0.5, "detach_reset": True},
}  # fmt: skip


def pieces(config, name):
    """Set what the system `name` changes on a config; returns it."""
    return told(config, SYSTEMS[name])


def told(config, keys):
    """Set keys on a config, options of a piece by name; returns it."""
    for key, value in keys.items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    return config


def get_config(name="dalif"):
    if name not in SYSTEMS:
        raise ValueError(
            f"no system {name!r}; known: {', '.join(SYSTEMS)}" + did_you_mean(name, SYSTEMS)
        )
    return pieces(digits(), name)


def fed_as_tet(config):
    """Set CIFAR10-DVS as TET's public code feeds it and trains on it; returns the config."""
    config.dataset = "cifar10dvs"
    config.frame_size = 48
    config.resize = "antialias"
    config.frame_values = "8bit"
    config.timesteps = 10
    config.augment = ("flip", "roll")
    config.epochs = 150
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    config.weight_decay = 0.0
    return config


def any_neuron(recipe):
    """A recipe's get_config that takes a neuron's name: `--config FILE.py:dalif` is its network,
    data and schedule with the neuron as the paper has it."""

    @functools.wraps(recipe)
    def get_config(neuron=""):
        config = recipe()
        if not neuron:
            return config
        if neuron not in neurons.NEURONS:
            raise ValueError(
                f"no neuron {neuron!r}; known: {', '.join(neurons.NEURONS)}"
                + did_you_mean(neuron, neurons.NEURONS)
            )
        every = {f.name for kind in neurons.NEURONS.values() for f in fields(kind.options)}
        plain = base()
        for key in every - {"name", "fused", "unroll"}:
            if key in plain:
                config[key] = plain[key]
        config.neuron, config.neuron_options = neuron, plain.neuron_options
        return config

    return get_config
