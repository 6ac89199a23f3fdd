"""Tied decays (arXiv 2502.10422, eq. 7): one number for both, which that paper argues against.

    h[t] = (1 - f(k)) * u[t-1] + f(k) * x[t]     f = tanh, k = 1 at start
    s[t] = 1 where h[t] >= threshold
    u[t] = h[t] * (1 - s[t])                     hard reset to 0; u[0] = 0

Paper: https://arxiv.org/abs/2502.10422

Certainty: paper. The equation is the paper's.

Differences:
  1. From the paper: the start of k is that of DA-LIF's own numbers, 1 (`decay_init`).
"""

from dalif_jax.neurons.linear import DALIF, DECAY_FUNCTIONS, LearnedOptions, neuron, per
from dalif_jax.neurons.piece import Number


def numbers(options):
    return {"k": Number(options.decay_init, per(options))}


def decays(options, params):
    """(f(k), 1 - f(k))."""
    k = DECAY_FUNCTIONS[options.decay_function](params["k"])
    return k, 1.0 - k


NEURON = neuron(decays, options=LearnedOptions, numbers=numbers, title=DALIF)
