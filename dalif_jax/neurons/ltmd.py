"""LTMD (Wang et al., NeurIPS 2022): a threshold learned per layer.

    h[t] = 0.25 u[t-1] + x[t]
    s[t] = 1 where h[t] > V                  V = tanh(w), w = 0.5 at start: V = 0.462
    u[t] = h[t] (1 - s[t])                   hard reset to 0; u[0] = 0

The surrogate is a rectangle of width 1. The authors' weight decay is on w too, and here. The
moderate dropout and the loss that goes with it are loss=ltmd.

Certainty: code. The authors' public code was run and compared.

Differences:
  1. From the authors' code: its output layers send h where they fire, not 1, and add currents of
     neighbouring neurons; these analog layers are not here.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from dalif_jax.neurons.linear import FixedLeak, State, initial_state, reset
from dalif_jax.neurons.piece import Neuron, Number, fire


@dataclass(frozen=True)
class LTMD(FixedLeak):
    """Options of LTMD."""

    start: float = math.tanh(0.5)  # V at the start, above 0 and below 1, units of the membrane

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.start < 1:
            raise ValueError(f"start={self.start} must be above 0 and below 1: a tanh of w")


def numbers(options):
    return {"w": Number(math.atanh(options.start), decayed=True)}


def step(options, params, state, x):
    h = options.decay * reset(state, options.detach_reset) + x
    s = fire(options, h - jnp.tanh(params["w"]), strict=True)
    return State(h, s), s


NEURON = Neuron(
    step,
    LTMD,
    numbers,
    state=initial_state,
    membrane=lambda options, params, state: (state.membrane, jnp.tanh(params["w"])),
    shown=lambda options, params: {"V": jnp.tanh(params["w"])},
    meanings={"V": "threshold"},
    lifs=lambda options, params: [(1.0, options.decay, jnp.tanh(params["w"]))],
    title="LTMD",
    refuses={"threshold": "it learns one, which starts at neuron_options.start"},
)
