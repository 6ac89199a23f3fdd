"""A neuron with normed membranes (MPBN, ICCV 2023) after its norm was folded into thresholds.

    h[t] = beta u[t-1] + alpha x[t]
    s[t] = 1 where sign (h[t] - V) >= 0     V a channel; sign -1 where the norm's scale was
    u[t] = h[t] (1 - s[t])                   hard reset to 0; u[0] = 0

The norm gives scale (h - mean) / sqrt(var + eps) + bias, which reaches the threshold where h
reaches V = (threshold - bias) sqrt(var + eps) / scale + mean, from below or, with a negative scale,
from above. `convert.py --to=folded` makes such a network of a trained one.

Paper: https://arxiv.org/abs/2308.08359

Certainty: code. The normed neuron is that of the authors' public code; the folded thresholds follow
from it by algebra.

Differences:
  1. From the authors' code: that fires strictly above the threshold, here also at it.
  2. From SpikingJelly's edition: that carries the normed membrane on, which does not fold; here, as
     in the authors' code, the raw one.
  3. From the paper: norms of single neurons (`membrane_bn_elementwise`) are not folded.
"""

from dalif_jax.neurons.linear import State, initial_state, reset
from dalif_jax.neurons.piece import Neuron, Number, fire


def numbers(options):
    each = ("channel",)
    return {
        "alpha": Number(1.0, each), "beta": Number(0.25, each), "sign": Number(1.0, each),
        "V": Number(options.threshold, each),
    }  # fmt: skip


def step(options, params, state, x):
    h = params["beta"] * reset(state, options.detach_reset) + params["alpha"] * x
    s = fire(options, params["sign"] * (h - params["V"]))
    return State(h, s), s


def lifs(options, params):
    """A negative sign: a membrane of the other sign, its threshold reached from below."""
    sign = params["sign"]
    return [(sign * params["alpha"], params["beta"], sign * params["V"])]


NEURON = Neuron(
    step,
    numbers=numbers,
    state=initial_state,
    membrane=lambda options, params, state: (state.membrane, params["V"]),
    shown=lambda options, params: {key: params[key] for key in ("alpha", "beta", "V")},
    meanings={
        "alpha": "input gain (spatial)", "beta": "leak (temporal)", "V": "threshold of a channel",
    },
    lifs=lifs,
    title="[MPBN](https://arxiv.org/abs/2308.08359), folded",
    refuses={"threshold": "every channel has its own"},
)  # fmt: skip
