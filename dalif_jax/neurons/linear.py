"""Neurons whose membrane is linear in what came before: two decays, a threshold, a hard reset.

    h[t] = beta * u[t-1] + alpha * x[t]
    s[t] = 1 where h[t] >= threshold         h normalised first when `membrane_bn` is on
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

A neuron of this kind is its numbers and its decays; `neuron` makes the rest of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.neurons.piece import Neuron, Number, Options, fire, zeros
from dalif_jax.norms import EPSILON, batch_norm

# f of the paper: maps a learnable scalar to a decay. tanh is chosen, sigmoid ablated (IV-D2).
DECAY_FUNCTIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
MEANINGS = {"alpha": "input gain (spatial)", "beta": "leak (temporal)"}
DALIF = "[DA-LIF](https://arxiv.org/abs/2502.10422)"


class State(NamedTuple):
    """One layer between two timesteps: membrane h and spike, [B, ..., C] each."""

    membrane: jax.Array
    spike: jax.Array


def neuron(decays, **about):
    """The Neuron of (options, params) -> (alpha, beta), with what else it says of itself."""

    def step(options, params, state, x):
        alpha, beta = decays(options, params)
        h = beta * reset(state, options.detach_reset) + alpha * x
        s = fire(options, h - options.threshold)
        return State(h, s), s

    def shown(options, params):
        return dict(zip(MEANINGS, decays(options, params), strict=True))

    about = {"shown": shown, "meanings": MEANINGS} | about
    return Neuron(step, state=initial_state, membrane=membrane, decays=decays, **about)


def _unfelt(options):
    """Why a surrogate is nothing to a neuron whose spike is not sent; "" where it is something."""
    if options.detach_reset:
        return "its spike only resets it, and with detach_reset no gradient goes through that"
    return ""


# What a neuron refuses that sends its membrane, rectified, and only resets by its spike.
SENDS_MEMBRANE = {
    "nir": "it sends real numbers", "surrogate": _unfelt, "surrogate_width": _unfelt,
}  # fmt: skip


@dataclass(frozen=True)
class FixedLeak(Options):
    """Options of neurons whose membrane keeps a fixed share."""

    decay: float = 0.25  # of the membrane in a timestep

    def __post_init__(self):
        """Raises ValueError: a share that is none, or as in Options."""
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} must be at least 0 and below 1")


def initial_state(options, x):
    """u = 0 for one timestep's input [B, ..., C]."""
    return State(zeros(x), zeros(x))


def membrane(options, params, state):
    return state.membrane, options.threshold


def reset(state, detach=False):
    """u = h (1 - s): hard reset to 0. Detached, no gradient flows through the reset's s."""
    s = jax.lax.stop_gradient(state.spike) if detach else state.spike
    return state.membrane * (1.0 - s)


# ---- The membrane normed before it is compared (MPBN, ICCV 2023).


def normed_step(decays, train):
    """The same step with batch norm on its membrane: (options, params, (state, running), x).

    The threshold sees the normalised membrane, the reset masks the raw one. `params` also holds
    `norm_scale` and `norm_bias` [C]; running is (mean, variance), [C] each; `train` says whether a
    step uses its own statistics.
    """

    def step(options, params, carried, x):
        state, running = carried
        alpha, beta = decays(options, params)
        h = beta * reset(state, options.detach_reset) + alpha * x
        v, running = batch_norm(h, params["norm_scale"], params["norm_bias"], running, train)
        s = fire(options, v - options.threshold)
        return (State(h, s), running), s

    return step


def normed_membrane(options, params, carried):
    """The raw membrane, and what it must reach: (threshold - bias) sqrt(var + eps) / scale + mean,
    [C] or [H, W, C], where scale > 0."""
    state, running = carried
    return state.membrane, membrane_threshold(options, params, *running)


def membrane_threshold(options, params, mean=0.0, variance=1.0):
    """What the raw membrane must reach for a spike: the threshold, or with membrane_bn that of
    every channel [C]."""
    if not options.membrane_bn:
        return options.threshold
    factor = params["norm_scale"] / (variance + EPSILON) ** 0.5
    return (options.threshold - params["norm_bias"]) / factor + mean


# ---- What DA-LIF and the neurons it is compared with in its paper share.


@dataclass(frozen=True)
class LearnedOptions(Options):
    """Where a learned decay starts, and what it is a function of."""

    decay_function: str = "tanh"
    decay_init: float = 1.0  # raw scalar, before the decay function
    per_channel: bool = False

    def __post_init__(self):
        """Raises ValueError: unknown decay function or surrogate."""
        super().__post_init__()
        if self.decay_function not in DECAY_FUNCTIONS:
            raise ValueError(
                f"unknown decay_function {self.decay_function!r}; known: "
                f"{', '.join(DECAY_FUNCTIONS)}"
            )


@dataclass(frozen=True)
class DecayOptions(LearnedOptions):
    """Two decays, each learned or fixed."""

    learn_alpha: bool | None = None  # None: as the neuron's name says
    learn_beta: bool | None = None
    alpha: float | None = None  # fixed value where not learned; None: f(decay_init)
    beta: float | None = None

    # What a subclass stands for, and what it takes where nothing is given.
    fixed = {}  # noqa: RUF012  a class's own, never changed
    defaults = {}  # noqa: RUF012

    def __post_init__(self):
        """Fill in what the name stands for, and refuse what contradicts it.

        Raises:
          ValueError: contradicting options, or as in LearnedOptions.
        """
        super().__post_init__()
        for key, value in self.fixed.items():
            if getattr(self, key) not in (None, value):
                raise ValueError(
                    f"{key}={getattr(self, key)!r} contradicts neuron={self.name!r}, which stands "
                    f"for {key}={value!r}; choose dalif or lif to set it yourself"
                )
            object.__setattr__(self, key, value)
        for key in ("learn_alpha", "learn_beta", "alpha", "beta"):
            if getattr(self, key) is None:
                object.__setattr__(self, key, self.defaults.get(key))
        for decay in ("alpha", "beta"):
            if getattr(self, f"learn_{decay}") and getattr(self, decay) is not None:
                raise ValueError(
                    f"{decay}={getattr(self, decay)!r} is a fixed value, but {decay} is learned "
                    f"here; set learn_{decay}=False, or decay_init for where learning starts"
                )


def per(options):
    """What has a number each, by the option per_channel."""
    return ("channel",) if options.per_channel else ()


def learned_numbers(options):
    """a and b, those of them that are learned."""
    learned = {"a": options.learn_alpha, "b": options.learn_beta}
    return {name: Number(options.decay_init, per(options)) for name, on in learned.items() if on}


def learned_decays(options, params):
    """(alpha, beta) = (f(a), f(b)) (eq. 8), or their fixed values."""
    f = DECAY_FUNCTIONS[options.decay_function]

    def decay(name, fixed):
        if name in params:
            return f(params[name])
        return f(options.decay_init) if fixed is None else fixed

    return decay("a", options.alpha), decay("b", options.beta)


def standing_for(**fixed):
    """The Neuron of learned or fixed decays whose name stands for some of its options."""

    @dataclass(frozen=True)
    class Named(DecayOptions):
        pass

    Named.fixed = fixed
    return neuron(learned_decays, options=Named, numbers=learned_numbers, title=DALIF)
