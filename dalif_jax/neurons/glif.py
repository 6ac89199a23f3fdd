"""GLIF (Yao et al., NeurIPS 2022): gates between two leaks and two resets, a gain a timestep.

    h[t] = (1 - A (1 - tau)) h[t-1] (1 - G s[t-1]) - (1 - A) leak
           + x[t] (1 - B (1 - c[t])) - (1 - G) drop s[t-1]
    s[t] = 1 where h[t] > V                  h[0] = s[0] = 0

All are sigmoids of what is learned: the gates A (1: exponential leak, 0: linear), G (1: hard reset,
0: by `drop`) and B (how far the gains enter), tau, V, leak, drop and c, one gain for each timestep.
The state is the membrane itself: the reset is part of the next update, and nothing is detached. The
raw gates start at random in -0.1 .. 0.1, all else as below. The authors' CIFAR nets take plain SGD
on these numbers without weight decay, on the gates at a tenth of the learning rate.

Paper: https://arxiv.org/abs/2210.13768

Certainty: code. The authors' public code was run and compared.

Differences:
  1. From the authors' code: its CIFAR nets have one of each number a channel; here one a layer,
     unless `per_channel=True`.
  2. From the authors' code: where gates of 0.6, 0.8, 0.6 are asked for, they start at 0.55, 0.65,
     0.55 there, by a slip of sign at 0.45, 0.35, 0.45 with one number a layer; here at what `gates`
     says, at random where it says nothing, as published.
  3. From the authors' code: its backward pass raises as released; here it is JAX's of the equations
     above, as theirs with that mended.
  4. From the authors' code: its variant without gates, both leaks and both resets in full, is not
     here.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax

from dalif_jax.neurons.piece import Neuron, Number, Options, fire, zeros


@dataclass(frozen=True)
class GLIF(Options):
    """Options of GLIF: where its numbers start, each above 0 and below 1."""

    tau: float = 0.25  # what an exponential leak leaves of the membrane in a timestep
    v: float = 0.5  # threshold, units of the membrane
    drop: float = 0.5  # what a soft reset takes away, units of the membrane
    leak: float = 0.0625  # of a linear leak, units of the membrane a timestep
    gain: float = 0.5  # c of every timestep
    gates: tuple[float, ...] = ()  # A, B, G; (): random, as published
    gate_rate: float = 0.1  # learning rate of the gates, of everyone's; 1 on ImageNet
    per_channel: bool = False  # one of each number a channel instead of one a layer

    def __post_init__(self):
        super().__post_init__()
        if len(self.gates) not in (0, 3):
            raise ValueError(f"gates={self.gates} must be three numbers, A, B, G, or none")
        for name in ("tau", "v", "drop", "leak", "gain", "gates"):
            values = getattr(self, name)
            for value in values if name == "gates" else [values]:
                if not 0 < value < 1:
                    raise ValueError(
                        f"{name}={values} must be above 0 and below 1 with neuron=glif, which "
                        "learns a sigmoid of it"
                    )


class State(NamedTuple):
    """Membrane h, before the reset, and spike: [B, ..., C] each."""

    membrane: jax.Array
    spike: jax.Array


GATES = ("gate_a", "gate_b", "gate_g")


def logit(p):
    return math.log(p / (1.0 - p))


def random_gate(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -0.1, 0.1)


def numbers(options):
    each = ("channel",) if options.per_channel else ()
    starts = [logit(gate) for gate in options.gates] or [random_gate] * 3
    found = dict(
        zip(GATES, (Number(start, each, options.gate_rate) for start in starts), strict=True)
    )
    for name, start in (
        ("tau", options.tau), ("v", options.v), ("leak", options.leak), ("drop", options.drop),
    ):  # fmt: skip
        found[name] = Number(logit(start), each)
    return found | {"c": Number(logit(options.gain), ("timestep", *each))}


def step(options, params, state, x):
    p = {name: jax.nn.sigmoid(raw) for name, raw in params.items()}
    a, b, g = (p[name] for name in GATES)
    h, s = state
    h = (
        (1 - a * (1 - p["tau"])) * h * (1 - g * s)
        - (1 - a) * p["leak"]
        + x * (1 - b * (1 - p["c"]))
        - (1 - g) * p["drop"] * s
    )
    s = fire(options, h - p["v"], strict=True)
    return State(h, s), s


def membrane(options, params, state):
    return state.membrane, jax.nn.sigmoid(params["v"])


def shown(options, params):
    names = {"gate_a": "A", "gate_b": "B", "gate_g": "G", "tau": "tau", "v": "V"}
    return {name: jax.nn.sigmoid(params[raw]) for raw, name in names.items()}


NEURON = Neuron(
    step,
    GLIF,
    numbers,
    state=lambda options, x: State(zeros(x), zeros(x)),
    membrane=membrane,
    shown=shown,
    meanings={
        "A": "exponential leak", "B": "gain of its timestep", "G": "hard reset",
        "tau": "kept by an exponential leak", "V": "threshold",
    },
    title="[GLIF](https://arxiv.org/abs/2210.13768)",
    refuses={
        "stream": "it has a gain for each of its T timesteps, and none for what comes after",
        "threshold": "it learns one, which starts at neuron_options.v",
        "nir": "its reset and its gain for each timestep have no form there",
        "detach_reset": "the gradient flows through its resets, which it learns",
    },
)  # fmt: skip
