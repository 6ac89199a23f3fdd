"""The table of neurons, and the options of each."""

from dataclasses import fields

from dalif_jax.neurons import (
    alif,
    arms,
    bdett,
    dalif,
    diet,
    folded,
    glif,
    imlif,
    klif,
    liaf,
    lif,
    lsg,
    ltmd,
    mlf,
    plif,
    relu,
    residue,
    tied,
)
from dalif_jax.neurons.piece import Options
from dalif_jax.suggest import did_you_mean

NEURONS = {
    "dalif": dalif.NEURON,
    "lif": lif.NEURON,
    "tied": tied.NEURON,
    "baseline": arms.BASELINE,
    "spatial": arms.SPATIAL,
    "temporal": arms.TEMPORAL,
    "both": arms.BOTH,
    "control": arms.CONTROL,
    "plif": plif.NEURON,
    "glif": glif.NEURON,
    "alif": alif.NEURON,
    "klif": klif.NEURON,
    "lsg": lsg.NEURON,
    "ltmd": ltmd.NEURON,
    "mlf": mlf.NEURON,
    "liaf": liaf.NEURON,
    "residue": residue.NEURON,
    "analog": residue.ANALOG,
    "diet": diet.NEURON,
    "bdett": bdett.NEURON,
    "imlif": imlif.NEURON,
    "folded": folded.NEURON,
    "relu": relu.NEURON,
}


def add(name, neuron):
    """Make a Neuron known by a name.

    Raises:
      ValueError: the name is taken, or no name.
    """
    if not name.isidentifier():
        raise ValueError(f"neuron={name!r}: a name is letters, digits and _")
    if NEURONS.get(name, neuron) is not neuron:
        raise ValueError(f"neuron={name!r} is taken; choose another name")
    NEURONS[name] = neuron


def own_options(name):
    """{option: its default} of what a neuron adds to the options of all."""
    common = {field.name for field in fields(Options)}
    return {f.name: f.default for f in fields(NEURONS[name].options) if f.name not in common}


def options(name="dalif", **given):
    """The Options of a neuron, those of its own among them.

    Raises:
      ValueError: unknown name or option, or options that contradict one another.
    """
    if name not in NEURONS:
        raise ValueError(
            f"unknown neuron {name!r}; known: {', '.join(NEURONS)}" + did_you_mean(name, NEURONS)
        )
    known = own_options(name)
    for key in given:
        if key not in known and key not in {field.name for field in fields(Options)}:
            raise ValueError(
                f"neuron={name} has no option {key!r}; its own are: {', '.join(known) or 'none'}"
            )
    found = NEURONS[name].options(name=name, **given)
    if found.membrane_bn and NEURONS[name].decays is None:
        normed = ", ".join(key for key, other in NEURONS.items() if other.decays)
        raise ValueError(
            f"membrane_bn needs a hard reset at a fixed threshold, which neuron={name} has not; "
            f"it is for {normed}"
        )
    return found


def refusal(found, what):
    """Why the neuron of these options does not do or take `what`, see Neuron.refuses; else ""."""
    why = NEURONS[found.name].refuses.get(what, "")
    return why(found) if callable(why) else why


def of(found):
    """The Neuron that options belong to."""
    return NEURONS[found.name]
