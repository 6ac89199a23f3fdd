"""MLF (Feng et al., IJCAI 2022): several thresholds, each with a membrane; the spikes add up.

    h_k[t] = 0.25 u_k[t-1] + x[t]            the same x for each of K membranes
    s_k[t] = 1 where h_k[t] > V_k            V = 0.6, 1.6, 2.6
    u_k[t] = h_k[t] (1 - s_k[t])             each is reset by its own spike
    s[t]   = sum_k s_k[t]                    0 .. K

Nothing is learned. The surrogate is the rectangle of width 1 at each threshold. Two thresholds are
the authors' K = 2. Pictures show the first membrane.

Paper: https://arxiv.org/abs/2210.06386

Certainty: code. The authors' public code was run and compared.

Differences: none known.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax

from dalif_jax.neurons.linear import FixedLeak, reset
from dalif_jax.neurons.linear import State as One
from dalif_jax.neurons.piece import Neuron, fire, zeros


@dataclass(frozen=True)
class MLF(FixedLeak):
    """Options of MLF."""

    thresholds: tuple[float, ...] = (0.6, 1.6, 2.6)  # units of the membrane, rising

    def __post_init__(self):
        super().__post_init__()
        rising = sorted(self.thresholds) == list(self.thresholds)
        if not self.thresholds or self.thresholds[0] <= 0 or not rising:
            raise ValueError(f"thresholds={self.thresholds} must be above 0 and rise")


class State(NamedTuple):
    """Membranes and spikes, K each of [B, ..., C]."""

    membranes: tuple[jax.Array, ...]
    spikes: tuple[jax.Array, ...]


def initial_state(options, x):
    nothing = (zeros(x),) * len(options.thresholds)
    return State(nothing, nothing)


def step(options, params, state, x):
    membranes = tuple(
        options.decay * reset(One(h, s), options.detach_reset) + x
        for h, s in zip(*state, strict=True)
    )
    spikes = tuple(
        fire(options, h - threshold, strict=True)
        for h, threshold in zip(membranes, options.thresholds, strict=True)
    )
    return State(membranes, spikes), sum(spikes[1:], spikes[0])


NEURON = Neuron(
    step,
    MLF,
    state=initial_state,
    membrane=lambda options, params, state: (state.membranes[0], options.thresholds[0]),
    lifs=lambda options, params: [(1.0, options.decay, v) for v in options.thresholds],
    title="[MLF](https://arxiv.org/abs/2210.06386)",
    refuses={"threshold": "it has several: neuron_options.thresholds"},
    levels=3,
)
