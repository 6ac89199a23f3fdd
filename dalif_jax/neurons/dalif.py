"""DA-LIF (arXiv 2502.10422, eq. 8 and 9): input gain and leak learned independently, per layer.

    h[t] = beta * u[t-1] + alpha * x[t]      alpha = f(a), beta = f(b), f = tanh, a = b = 1 at start
    s[t] = 1 where h[t] >= threshold         threshold 1, rectangle of width 1 (eq. 11)
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

Certain: the equations, f, the start and the surrogate are the paper's. Either decay may be fixed
instead (`learn_alpha`, `alpha`), or be one for each channel (`per_channel`).
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
