"""Deep spiking networks in JAX: what a user of the library imports.

    import dalif_jax as dj
    model = dj.build("resnet20", 10, dj.neuron("plif", tau=2.0))

Names are looked up when they are used: importing this alone does not import JAX.
"""

import importlib

__version__ = "0.2.0"

_DOOR = {
    "networks": ("build", "stream", "stream_state", "tapped", "Parts", "show"),
    "neurons": ("Neuron", "Number", "Options", "SpikingNeuron", "fire", "simulate", "zeros"),
    "losses": ("Loss",),
    "norms": ("Norm",),
    "surrogates": ("Surrogate", "spike"),
}
_RENAMED = {
    "neuron": ("neurons", "options"),
    "add_neuron": ("neurons", "add"),
    "add_network": ("networks", "add"),
    "add_loss": ("losses", "add"),
    "add_norm": ("norms", "add"),
    "add_attention": ("attention", "add"),
    "add_surrogate": ("surrogates", "add"),
}
_NAMES = {name: (room, name) for room, names in _DOOR.items() for name in names} | _RENAMED
_SUBPACKAGES = (
    "analysis", "attention", "data", "exchange", "losses", "networks", "neurons", "norms", "ops",
    "runs", "settings", "surrogates", "training",
)  # fmt: skip
__all__ = ["__version__", *_NAMES, *_SUBPACKAGES]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, own = _NAMES[name]
    return getattr(importlib.import_module(f"{__name__}.{room}"), own)


def __dir__():
    return sorted(__all__)
