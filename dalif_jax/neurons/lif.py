"""LIF, the plain leaky integrate-and-fire neuron of MPBN (ICCV 2023) and its lineage: fixed decays.

    h[t] = beta * u[t-1] + alpha * x[t]      beta 0.25 and alpha 1: the lineage's
    s[t] = 1 where h[t] >= threshold
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

Certainty: code. The values of the decays are those of MPBN's public code.

Differences:
  1. From the authors' code: that compares strictly, h > threshold, with a threshold of 0.5; here
     h >= threshold, 1 unless `threshold` says otherwise.
"""

from dataclasses import dataclass

from dalif_jax.neurons.linear import DecayOptions, learned_decays, learned_numbers, neuron


@dataclass(frozen=True)
class LIF(DecayOptions):
    """Options of LIF: `alpha` and `beta` are its decays."""

    fixed = {"learn_alpha": False, "learn_beta": False}  # noqa: RUF012
    defaults = {"alpha": 1.0, "beta": 0.25}  # noqa: RUF012


NEURON = neuron(
    learned_decays, options=LIF, numbers=learned_numbers, title="leaky integrate-and-fire"
)
