"""The neurons: one file each and one line each in NEURONS (table.py).

piece.py says what a neuron is, linear.py what those with two decays share, layer.py runs any of
them over time. A neuron of one's own is a `Neuron` under a name of its own:

    neurons.add("mine", neurons.Neuron(step, state=...))
"""

from dalif_jax.neurons.layer import TAPS, Seen, SpikingNeuron, run, simulate
from dalif_jax.neurons.piece import Neuron, Number, Options, fire, zeros
from dalif_jax.neurons.table import NEURONS, add, of, options, own_options, refusal

__all__ = [
    "NEURONS", "TAPS", "Neuron", "Number", "Options", "Seen", "SpikingNeuron", "add", "fire", "of",
    "options", "own_options", "refusal", "run", "simulate", "zeros",
]  # fmt: skip
