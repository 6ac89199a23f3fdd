"""Attention modules: a file each, a line each in ATTENTION; piece.py says what they are.

A line is a Flax module whose call takes (current [B, T, H, W, C], train) and returns that shape. It
acts on the current between a norm and its neuron, or where its network says.
"""

from dataclasses import fields

from dalif_jax.attention.asa import ASA
from dalif_jax.attention.ma import MA
from dalif_jax.attention.pfa import PFA
from dalif_jax.attention.piece import Attention
from dalif_jax.attention.ta import TA

ATTENTION = {"none": None, "ta": TA, "ma": MA, "asa": ASA, "pfa": PFA}

__all__ = ["ATTENTION", "Attention", "add", "misfit", "own_options"]


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


def misfit(name, timesteps, options):
    """Why an attention module of these options cannot be for so many timesteps, else ""."""
    attend = ATTENTION[name](**options) if ATTENTION[name] else None
    return attend.misfit(timesteps) if hasattr(attend, "misfit") else ""
