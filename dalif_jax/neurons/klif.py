"""KLIF (Jiang and Zhang, 2023): a slope learned per layer before the threshold, and no negatives.

    h[t] = u[t-1] + (x[t] - u[t-1]) / tau      tau = 2
    f[t] = max(0, k h[t])                      k learned, 1 at start
    s[t] = 1 where f[t] >= threshold           threshold 1
    u[t] = f[t] (1 - s[t])                     with `scale_reset` f[t] / k in its place

Paper: https://arxiv.org/abs/2302.09238

Certainty: secondary. The equations are those of SpikingJelly's edition of the authors' neuron.

Differences:
  1. From the paper: its text was not compared.
  2. From SpikingJelly's edition: that suggests the arctangent; here `surrogate=arctan`, which is
     not the default.
"""

from dataclasses import dataclass

import jax

from dalif_jax.neurons.linear import State, initial_state, membrane, reset
from dalif_jax.neurons.piece import Neuron, Number, Options, fire


@dataclass(frozen=True)
class KLIF(Options):
    """Options of KLIF."""

    tau: float = 2.0  # time constant, timesteps, above 1
    scale_reset: bool = False  # what is carried on is divided by k again

    def __post_init__(self):
        super().__post_init__()
        if not self.tau > 1:
            raise ValueError(f"tau={self.tau} must be above 1: the membrane keeps 1 - 1 / tau")


def numbers(options):
    return {"k": Number(1.0)}


def step(options, params, state, x):
    k = params["k"]
    u = reset(state, options.detach_reset)
    if options.scale_reset:
        u = u / k
    f = jax.nn.relu(k * (u + (x - u) / options.tau))
    s = fire(options, f - options.threshold)
    return State(f, s), s


NEURON = Neuron(
    step,
    KLIF,
    numbers,
    state=initial_state,
    membrane=membrane,
    shown=lambda options, params: {"k": params["k"]},
    meanings={"k": "slope before the threshold"},
    title="[KLIF](https://arxiv.org/abs/2302.09238)",
    refuses={"nir": "its membrane is rectified"},
)
