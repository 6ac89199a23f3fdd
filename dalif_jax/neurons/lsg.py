"""LSG (Lian et al., IJCAI 2023): a learned leak, which also says how wide the surrogate is.

    h[t] = beta u[t-1] + x[t]                beta = sigmoid(b), one a layer, 0.2 at start
    s[t] = 1 where h[t] >= threshold         threshold 0.5
    u[t] = h[t] (1 - s[t])                   hard reset to 0; u[0] = 0

The surrogate's width is 2 threshold sqrt(1 + beta^2): as wide as membranes spread where the current
is normal of deviation `threshold`, which tdBN makes it. b learns by the membrane alone: no gradient
flows into the width.

Paper: https://www.ijcai.org/proceedings/2023/335

Certainty: secondary. The equations are by a detailed report of the paper; its code is not public.

Differences:
  1. From the paper: weight decay on b is left open by the report; here there is none.
  2. From the paper: the surrogate is a rectangle there; here other shapes may take its width
     (`surrogate`).
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dalif_jax.neurons.linear import State, initial_state, membrane, reset
from dalif_jax.neurons.piece import Neuron, Number, Options, fire


@dataclass(frozen=True)
class LSG(Options):
    """Options of LSG."""

    start: float = 0.2  # beta at the start, above 0 and below 1

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.start < 1:
            raise ValueError(f"start={self.start} must be above 0 and below 1: a sigmoid of b")


def numbers(options):
    return {"b": Number(math.log(options.start / (1.0 - options.start)))}


def step(options, params, state, x):
    beta = jax.nn.sigmoid(params["b"])
    h = beta * reset(state, options.detach_reset) + x
    s = fire(options, h - options.threshold, width(options, beta))
    return State(h, s), s


def width(options, beta):
    return 2.0 * options.threshold * jnp.sqrt(1.0 + beta**2)


def shown(options, params):
    beta = jax.nn.sigmoid(params["b"])
    return {"beta": beta, "width": width(options, beta)}


NEURON = Neuron(
    step,
    LSG,
    numbers,
    state=initial_state,
    membrane=membrane,
    shown=shown,
    meanings={"beta": "leak (temporal)", "width": "of the surrogate"},
    lifs=lambda options, params: [(1.0, jax.nn.sigmoid(params["b"]), options.threshold)],
    title="[LSG](https://www.ijcai.org/proceedings/2023/335)",
    refuses={"surrogate_width": "its leak says how wide the surrogate is"},
)
