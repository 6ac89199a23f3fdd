"""DA-LIF (arXiv 2502.10422, eq. 8 and 9): input gain and leak learned independently, per layer.

    h[t] = beta * u[t-1] + alpha * x[t]      alpha = f(a), beta = f(b), f = tanh, a = b = 1 at start
    s[t] = 1 where h[t] >= threshold         threshold 1, rectangle of width 1 (eq. 11)
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

Either decay may be fixed instead (`learn_alpha`, `alpha`), or be one for each channel
(`per_channel`).

Paper: https://arxiv.org/abs/2502.10422

Certainty: paper. The equations, f, the start and the surrogate are the paper's.

Differences:
  1. From the paper: its operation counts hold only with a norm on every membrane, which its
     equations leave out; here it is off, `membrane_bn=True` has it.
  2. From the paper: weight decay on a and b is left open; here there is none,
     `weight_decay_all=True` has it.
  3. From the authors' code: none is public; that which it grew from (MPBN lineage) fires strictly
     above a threshold of 0.5, with a surrogate shaped as tanh: `threshold=0.5`, `surrogate=tanh`,
     but at the threshold itself it fires here.
"""

from dataclasses import dataclass

from dalif_jax.neurons.linear import (
    DALIF,
    DecayOptions,
    learned_decays,
    learned_numbers,
    neuron,
)


@dataclass(frozen=True)
class DALIFOptions(DecayOptions):
    """Options of DA-LIF: both decays are learned unless told otherwise."""

    defaults = {"learn_alpha": True, "learn_beta": True}  # noqa: RUF012


NEURON = neuron(learned_decays, options=DALIFOptions, numbers=learned_numbers, title=DALIF)
