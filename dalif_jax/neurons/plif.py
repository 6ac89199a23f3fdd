"""PLIF (Fang et al., ICCV 2021): a leak learned per layer, which also scales the input.

    h[t] = u[t-1] + q (x[t] - u[t-1])        q = sigmoid(w), w = -ln(tau - 1) at start, tau = 2
    s[t] = 1 where h[t] >= threshold         threshold 1
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

The authors' runs train w by plain Adam, without weight decay.

Paper: https://arxiv.org/abs/2007.05785

Certainty: code. The equations and the start are those of the authors' public code.

Differences:
  1. From the authors' code: no gradient flows through the reset there; here it does, unless
     `detach_reset=True`.
  2. From the authors' code: its surrogate is the derivative of an arctangent with peak 1; here
     `surrogate=arctan`, which is not the default.
"""

import math
from dataclasses import dataclass

import jax

from dalif_jax.neurons.linear import neuron
from dalif_jax.neurons.piece import Number, Options


@dataclass(frozen=True)
class PLIF(Options):
    """Options of PLIF."""

    tau: float = 2.0  # time constant at the start, timesteps, above 1

    def __post_init__(self):
        super().__post_init__()
        if not 1.0 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau} must be above 1: the membrane keeps 1 - 1 / tau")


def numbers(options):
    return {"w": Number(-math.log(options.tau - 1.0))}


def decays(options, params):
    """(q, 1 - q)."""
    q = jax.nn.sigmoid(params["w"])
    return q, 1.0 - q


def shown(options, params):
    return {"tau": 1.0 / jax.nn.sigmoid(params["w"])}


NEURON = neuron(
    decays, options=PLIF, numbers=numbers, shown=shown,
    meanings={"tau": "time constant (timesteps)"},
    title="[PLIF](https://arxiv.org/abs/2007.05785)",
)  # fmt: skip
