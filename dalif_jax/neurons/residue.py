"""The cell of TA-SNN (ICCV 2021) and MA-SNN (TPAMI 2023), whose reset leaves the threshold behind.

    h[t] = q u[t-1] + x[t]                   q = 0.3
    s[t] = 1 where h[t] >= V                 V = 0.3
    u[t] = (1 - s[t]) h[t] + s[t] V          not 0: a spike leaves q V, 0.09, for the next step

A gradient flows through the reset, as in the authors' code. `analog` is the same in their LIAF mode
(Wu et al., TNNLS 2022): the state and its resets are as above, what it sends is max(0, h), with
`output=above` max(0, h - V). ASA-SNN resets to 0: neuron=lif, alpha=1, beta=0.3.

Paper: https://arxiv.org/abs/2107.11711

Certainty: code. The cell and its LIAF mode are those of the authors' public code.

Differences:
  1. From the paper: which function of the membrane gave the published numbers of LIAF is open;
     max(0, h) is what their code does unless told otherwise.
  2. From the authors' code: its surrogate is a rectangle of half the width and twice the height on
     DVS128 Gesture, of width 1 on CIFAR10-DVS; here of width 1, unless `surrogate_width=0.5`.
"""

from dataclasses import dataclass

import jax

from dalif_jax.neurons.linear import (
    SENDS_MEMBRANE,
    FixedLeak,
    State,
    initial_state,
    membrane,
    reset,
)
from dalif_jax.neurons.piece import Neuron, fire


@dataclass(frozen=True)
class Residue(FixedLeak):
    """Options of the cell."""

    decay: float = 0.3  # q


@dataclass(frozen=True)
class Analog(Residue):
    """Options of the cell that sends its membrane."""

    output: str = "membrane"  # membrane, above: rectified from 0, or from the threshold

    def __post_init__(self):
        super().__post_init__()
        if self.output not in ("membrane", "above"):
            raise ValueError(f"unknown output {self.output!r}; known: membrane, above")


def step(options, params, state, x):
    s = jax.lax.stop_gradient(state.spike) if options.detach_reset else state.spike
    u = reset(state, options.detach_reset) + s * options.threshold
    h = options.decay * u + x
    s = fire(options, h - options.threshold)
    return State(h, s), s


def analog_step(options, params, state, x):
    state, _ = step(options, params, state, x)
    from_ = options.threshold if options.output == "above" else 0.0
    return state, jax.nn.relu(state.membrane - from_)


NEURON = Neuron(
    step,
    Residue,
    state=initial_state,
    membrane=membrane,
    title="[TA-SNN](https://arxiv.org/abs/2107.11711)'s cell",
    refuses={"nir": "its reset leaves the threshold behind, NIR's a fixed value for all time"},
)
ANALOG = Neuron(
    analog_step,
    Analog,
    state=initial_state,
    membrane=membrane,
    title="[TA-SNN](https://arxiv.org/abs/2107.11711)'s cell, analog",
    refuses=SENDS_MEMBRANE,
    levels=0,
)
