"""LIAF (Wu et al., TNNLS 2022): a spiking state, and the membrane itself as output.

    h[t] = q h[t-1] (1 - s[t-1]) + x[t]      q = sigmoid(d), d learned per layer, 0.5 at start
    s[t] = 1 where h[t] > threshold          threshold 0.5; resets the membrane, is not sent
    y[t] = max(0, h[t])                      `output=above`: max(0, h[t] - threshold)

What it sends are real numbers: a layer behind it multiplies, where behind spikes it adds.

Paper: https://arxiv.org/abs/2011.06176

Certainty: code. The state is that of fragments of an author's code.

Differences:
  1. From the paper: which function of the membrane gave the published numbers is open; here it is
     rectified, `output` says from where.
  2. From the authors' code: no gradient flows through the reset there; here it does, unless
     `detach_reset=True`.
  3. From the authors' code: there a config chooses the function; where it names none, convolutions
     send the spike and linear layers SELU of the membrane. `output` has the rectified two alone.
"""

from dataclasses import dataclass

import jax

from dalif_jax.neurons.linear import SENDS_MEMBRANE, State, initial_state, membrane, reset
from dalif_jax.neurons.piece import Neuron, Number, Options, fire


@dataclass(frozen=True)
class LIAF(Options):
    """Options of LIAF."""

    start: float = 0.5  # d at the start, before the sigmoid
    output: str = "membrane"  # membrane, above: rectified from 0, or from the threshold

    def __post_init__(self):
        super().__post_init__()
        if self.output not in ("membrane", "above"):
            raise ValueError(f"unknown output {self.output!r}; known: membrane, above")


def numbers(options):
    return {"d": Number(options.start)}


def step(options, params, state, x):
    h = jax.nn.sigmoid(params["d"]) * reset(state, options.detach_reset) + x
    s = fire(options, h - options.threshold, strict=True)
    from_ = options.threshold if options.output == "above" else 0.0
    return State(h, s), jax.nn.relu(h - from_)


NEURON = Neuron(
    step,
    LIAF,
    numbers,
    state=initial_state,
    membrane=membrane,
    shown=lambda options, params: {"leak": jax.nn.sigmoid(params["d"])},
    meanings={"leak": "kept of the membrane"},
    title="[LIAF](https://arxiv.org/abs/2011.06176)",
    refuses=SENDS_MEMBRANE,
    levels=0,
)
