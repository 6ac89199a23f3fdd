"""Diet-SNN (Rathi and Roy, TNNLS 2021): a leak and a threshold learned per layer, a soft reset.

    h[t] = l u[t-1] + x[t]                   l learned, 1 at start, at most 1 after each update
    s[t] = 1 where h[t] / V - 1 > 0          V learned, `threshold` at start
    u[t] = h[t] - V s[t]                     s a constant for the gradient here, V is not

The authors' networks have no norms (norm=none) and their recipe no weight decay on these numbers.
Thresholds at the start come from a trained network of rectified linear units:
`convert.py --to=diet`.

Paper: https://arxiv.org/abs/2008.03658

Certainty: code. The equations and their gradients are those of the authors' public code.

Differences:
  1. From the authors' code: its surrogate of h / V - 1 is the bell; here `surrogate=bell`, which is
     not the default.
"""

import jax
import jax.numpy as jnp

from dalif_jax.neurons.linear import State, initial_state
from dalif_jax.neurons.piece import Neuron, Number, Options, fire


def numbers(options):
    return {"leak": Number(1.0), "threshold": Number(options.threshold)}


def step(options, params, state, x):
    threshold = params["threshold"]
    u = state.membrane - threshold * jax.lax.stop_gradient(state.spike)
    h = params["leak"] * u + x
    s = fire(options, h / threshold - 1.0, strict=True)
    return State(h, s), s


NEURON = Neuron(
    step,
    Options,
    numbers,
    state=initial_state,
    membrane=lambda options, params, state: (state.membrane, params["threshold"]),
    shown=lambda options, params: {"leak": params["leak"], "V": params["threshold"]},
    meanings={"leak": "kept of the membrane", "V": "threshold"},
    constrain=lambda params: params | {"leak": jnp.minimum(params["leak"], 1.0)},
    title="[Diet-SNN](https://arxiv.org/abs/2008.03658)",
    refuses={
        "norm": "Diet-SNN has none: its thresholds do the scaling; norm=none",
        "nir": "its reset takes the threshold off, NIR's sets the membrane to a value",
        "detach_reset": "no gradient flows through its reset's spike as it is",
    },
)
