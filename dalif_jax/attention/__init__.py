"""Attention modules: a file each, a line each in ATTENTION.

A line is a Flax module whose call takes (current [B, T, H, W, C], train) and returns that shape. It
acts on the current between a norm and its neuron, or where its network says. One that needs more
than the timestep at hand says why in its class attribute `refuses_stream`.
"""

from dataclasses import fields

ATTENTION = {"none": None}


def add(name, attention):
    """Make an attention module known by a name. Raises ValueError where the name is taken."""
    if ATTENTION.get(name, attention) is not attention:
        raise ValueError(f"attention={name!r} is taken; choose another name")
    ATTENTION[name] = attention


def own_options(name):
    """{option: its default} of an attention module: its fields."""
    if ATTENTION[name] is None:
        return {}
    return {f.name: f.default for f in fields(ATTENTION[name]) if f.name not in ("parent", "name")}
