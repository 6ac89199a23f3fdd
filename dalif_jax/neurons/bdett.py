"""BDETT (Ding et al., NeurIPS 2022): thresholds that follow the membranes of their layer.

    h[t] = decay u[t-1] + x[t]               a leaky neuron of ours: the paper's tasks are control
    E[t] = eta (h[t-1] - V_m) + V_t + ln(1 + exp((h[t-1] - V_m) / psi))
    D[t] = a + exp(-(h[t] - h[t-1]) / c)     lower the faster a membrane rises
    A[t] = (E[t] + D[t]) / 2                 A[0] = threshold
    s[t] = 1 where h[t] >= A[t]
    u[t] = h[t] (1 - s[t])

V_m = mean - 0.2 range of h[t-1], V_t that of A[t-1], over the neurons of the layer and one example,
never over the batch.

Paper: https://arxiv.org/abs/2206.04426

Certainty: unverified. The equations and constants are as remembered, no code is public.

Differences:
  1. From the paper: its tasks are control; the leaky neuron that is given these thresholds here is
     ours.
  2. From the paper: a = 0, the start A[0] = threshold, statistics of each example and no gradient
     through the threshold are choices of ours.
  3. From the paper: the exponent of D is at most 20 here, so that no threshold is infinite.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.neurons.linear import FixedLeak, reset
from dalif_jax.neurons.piece import Neuron, fire, zeros


@dataclass(frozen=True)
class BDETT(FixedLeak):
    """Options of BDETT."""

    eta: float = 0.01  # rise of a threshold with its own membrane
    psi: float = 4.0  # how softly, units of the membrane
    c: float = 3.0  # of the fall with a rising membrane, units of the membrane
    a: float = 0.0  # added to it, units of the membrane

    def __post_init__(self):
        super().__post_init__()
        for name in ("psi", "c"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0: it divides")


class State(NamedTuple):
    """Membrane h, spike, and what it was compared with: [B, ..., C] each."""

    membrane: jax.Array
    spike: jax.Array
    threshold: jax.Array


def low(values):
    """mean - 0.2 range over all of an example: [B, ..., C] -> [B, 1, ..., 1]."""
    axes = tuple(range(1, values.ndim))
    top, bottom = values.max(axes, keepdims=True), values.min(axes, keepdims=True)
    return values.mean(axes, keepdims=True) - 0.2 * (top - bottom)


def thresholds(options, before, threshold, now):
    """A[t] of membranes h[t-1], thresholds A[t-1] and membranes h[t], [B, ..., C] each."""
    above = before - low(before)
    energy = options.eta * above + low(threshold) + jax.nn.softplus(above / options.psi)
    # A membrane that falls by hundreds would make it infinite.
    fall = jnp.minimum((before - now) / options.c, 20.0)
    return 0.5 * (energy + options.a + jnp.exp(fall))


def step(options, params, state, x):
    h = options.decay * reset(state, options.detach_reset) + x
    new = thresholds(options, *jax.lax.stop_gradient((state.membrane, state.threshold, h)))
    s = fire(options, h - new)
    return State(h, s, new), s


NEURON = Neuron(
    step,
    BDETT,
    state=lambda options, x: State(zeros(x), zeros(x), zeros(x) + options.threshold),
    membrane=lambda options, params, state: (state.membrane, state.threshold),
    title="[BDETT](https://arxiv.org/abs/2206.04426), unverified",
    refuses={"nir": "its thresholds follow the membranes of the layer"},
)
