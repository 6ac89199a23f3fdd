"""IM-LIF (Lian et al., TETCI 2024), a stand-in: currents linked to the currents before them.

    i[t] = x[t] + a[t] i[t-1]                a[t] = sigmoid(w1 g[t] + w2 g[t-1] + w0), a[1] = 0
    h[t] = 0.25 u[t-1] + i[t]                g[t]: the mean of x[t] over an example's layer
    s[t] = 1 where h[t] > threshold          threshold 0.5
    u[t] = h[t] (1 - s[t])

w0 = -2 and w1 = w2 = 0 at start. With `window` = K the links are free numbers, of every timestep to
itself and the K before it:

    i[t] = sum_k link_k[t] x[t-k]            link_0 = 1, the others 0 at start

Certainty: stand-in. Of the paper its abstract alone is known, that the current is linked to earlier
responses by weights that depend on them, and that a loss holds every timestep's answer near the
target.

Differences:
  1. From the paper: its formulas are not public; both forms of the links and their start are ours.
  2. From the paper: its loss over time is loss=tet here, by the same aim.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.neurons.linear import FixedLeak, reset
from dalif_jax.neurons.piece import Neuron, Number, fire, zeros


@dataclass(frozen=True)
class IMLIF(FixedLeak):
    """Options of the stand-in for IM-LIF."""

    window: int = 0  # timesteps that a current is linked to by numbers of its own; 0: by a[t]

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.window <= 64:
            raise ValueError(f"window={self.window} must be at least 0 and at most 64")


class State(NamedTuple):
    """Membrane h and spike [B, ..., C]; with a[t] the current i [B, ..., C] and the mean g
    [B, 1, ..., 1] and whether there was a step before, else the currents x before, the newest
    first."""

    membrane: jax.Array
    spike: jax.Array
    before: tuple[jax.Array, ...]


def numbers(options):
    if options.window:
        return {f"link{k}": Number(float(k == 0), ("timestep",)) for k in range(options.window + 1)}
    return {"w0": Number(-2.0), "w1": Number(0.0), "w2": Number(0.0)}


def initial_state(options, x):
    nothing = zeros(x)
    if options.window:
        return State(nothing, nothing, (nothing,) * options.window)
    none = nothing[(slice(None), *[slice(1)] * (x.ndim - 1))]
    return State(nothing, nothing, (nothing, none, none))


def current(options, params, before, x):
    """(i, what the next step is to know)."""
    if options.window:
        past = (x, *before)
        linked = sum(params[f"link{k}"] * past[k] for k in range(options.window + 1))
        return linked, past[:-1]
    i, mean, begun = before
    new = x.mean(tuple(range(1, x.ndim)), keepdims=True)
    a = jax.nn.sigmoid(params["w1"] * new + params["w2"] * mean + params["w0"])
    i = x + begun * a * i
    return i, (i, new, jnp.ones_like(begun))


def step(options, params, state, x):
    i, before = current(options, params, state.before, x)
    h = options.decay * reset(state, options.detach_reset) + i
    s = fire(options, h - options.threshold, strict=True)
    return State(h, s, before), s


def shown(options, params):
    if options.window:
        return {"links": sum(jnp.abs(params[f"link{k}"]) for k in range(1, options.window + 1))}
    return {"a": jax.nn.sigmoid(params["w0"]), "w1": params["w1"], "w2": params["w2"]}


NEURON = Neuron(
    step,
    IMLIF,
    numbers,
    state=initial_state,
    membrane=lambda options, params, state: (state.membrane, options.threshold),
    shown=shown,
    meanings={
        "a": "link to the current before, at a mean of 0", "w1": "its change with the mean now",
        "w2": "its change with the mean before", "links": "sum of those of a timestep",
    },
    title="IM-LIF (a stand-in, not the published formula)",
    refuses={
        "stream": lambda options: "it has links of each of its T timesteps" if options.window
        else "",
        "nir": "its current depends on those before it",
    },
)  # fmt: skip
