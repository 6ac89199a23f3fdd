"""ALIF (Bellec et al., NeurIPS 2018, LSNN): a threshold that rises with each spike and decays.

    b[t] = rho b[t-1] + (1 - rho) s[t-1]         A[t] = threshold + beta b[t]
    h[t] = alpha h[t-1] + (1 - alpha) x[t] - s[t-1] A[t-1]
    s[t] = 1 where h[t] > A[t]                   surrogate of (h - A) / A

Nothing is learned. The surrogate's gradient flows into A and through the reset.

Paper: https://arxiv.org/abs/1803.09574

Certainty: unverified. The order above is the paper's as remembered; `order=official` is that of the
authors' public code, which was read.

Differences:
  1. From the authors' code: that compares the membrane of the step before and resets by the new
     threshold, one step later, s[t] = [h[t-1] > A[t]], h[t] = ... - s[t-1] A[t];
     `order=official`.
  2. From the authors' code: for a dt of 1 ms it has alpha = exp(-1/20), rho = exp(-1/700) and
     beta = 1.8; the constants here suit some tens of timesteps and are ours (`decay`,
     `adaptation_decay`, `adaptation`).
  3. From the authors' code: it keeps a neuron silent for some steps after a spike; that is not
     here.
  4. From the authors' code: its surrogate is the bell, dampened to 0.3; here `surrogate=bell`,
     which is not the default.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax

from dalif_jax.neurons.piece import Neuron, Options, fire, zeros


@dataclass(frozen=True)
class ALIF(Options):
    """Options of ALIF."""

    decay: float = 0.8  # alpha, of the membrane in a timestep
    adaptation_decay: float = 0.9  # rho, of the threshold's rise
    adaptation: float = 1.8  # beta, rise of the threshold for b = 1, units of the membrane
    order: str = "paper"  # paper, official: which membrane is compared, and what is taken off it

    def __post_init__(self):
        super().__post_init__()
        for name in ("decay", "adaptation_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.adaptation < 0:
            raise ValueError(f"adaptation={self.adaptation} must not be negative")
        if self.order not in ("paper", "official"):
            raise ValueError(f"unknown order {self.order!r}; known: paper, official")


class State(NamedTuple):
    """Membrane h, what it was compared with A, spike, and b: [B, ..., C] each."""

    membrane: jax.Array
    threshold: jax.Array
    spike: jax.Array
    adaptation: jax.Array


def step(options, params, state, x):
    rho = options.adaptation_decay
    b = rho * state.adaptation + (1 - rho) * state.spike
    threshold = options.threshold + options.adaptation * b
    late = options.order == "official"
    drop = state.spike * (threshold if late else state.threshold)
    h = options.decay * state.membrane + (1 - options.decay) * x - drop
    compared = state.membrane if late else h
    s = fire(options, (compared - threshold) / threshold, strict=True)
    return State(h, threshold, s, b), s


NEURON = Neuron(
    step,
    ALIF,
    state=lambda options, x: State(zeros(x), zeros(x) + options.threshold, zeros(x), zeros(x)),
    membrane=lambda options, params, state: (state.membrane, state.threshold),
    title="[ALIF](https://arxiv.org/abs/1803.09574)",
    refuses={
        "nir": "its threshold moves",
        "detach_reset": "the gradient flows through its reset, as in the paper",
    },
)
