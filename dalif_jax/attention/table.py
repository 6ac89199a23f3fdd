"""The table of attention modules."""

from dataclasses import fields

from dalif_jax.attention import asa, ma, pfa, ta

ATTENTION = {"none": None, "ta": ta.TA, "ma": ma.MA, "asa": asa.ASA, "pfa": pfa.PFA}


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
