"""Spiking neurons: one pure step each, one scan that runs them over time, one Flax module.

DA-LIF (arXiv 2502.10422, eq. 9), per neuron layer and with alpha, beta shared over timesteps:

    h[t] = beta * u[t-1] + alpha * x[t]      alpha = f(a), beta = f(b), f = tanh, a = b = 1 at start
    s[t] = 1 where h[t] >= threshold         h normalised first when `membrane_bn` is on
    u[t] = h[t] * (1 - s[t])                 hard reset to 0; u[0] = 0

A step is `step(params, state, x) -> (state, spike)` on arrays of one timestep. The state keeps h[t]
and s[t]; the reset happens when the next step reads them, so a trace of states is a trace of
membranes as they were compared with the threshold. A new neuron is a row of NEURONS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax import fused
from dalif_jax.norm import EPSILON, batch_norm, norm_variables, store_running
from dalif_jax.surrogate import SURROGATES, spike

# f of the paper: maps a learnable scalar to a decay. tanh is chosen, sigmoid ablated (IV-D2).
DECAY_FUNCTIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
TAPS = ("spikes", "membrane", "firing_rate")
# Unrolled, a scan fuses over time: a layer runs 2 to 4 times faster on CPU and a network keeps 30 %
# less. Measured on ResNet-20 it compiles in 9 s at T = 4, 13 at 8 and 21 at 16, rolled in 6.
UNROLL_UP_TO = 8


@dataclass(frozen=True)
class NeuronOptions:
    """What a neuron layer is told; every field is a config key of the same meaning."""

    name: str = "dalif"
    decay_function: str = "tanh"
    decay_init: float = 1.0  # raw scalar, before the decay function
    learn_alpha: bool | None = None  # None: as the neuron's name says, yes for dalif
    learn_beta: bool | None = None
    alpha: float | None = None  # fixed value where not learned; None: f(decay_init)
    beta: float | None = None
    threshold: float = 1.0
    surrogate: str = "rectangle"
    surrogate_width: float = 1.0
    detach_reset: bool = False
    membrane_bn: bool = False
    per_channel: bool = False
    fused: bool = True  # one pass with recomputation where it applies; False: always the scan
    unroll: int = 0  # timesteps per scan iteration; 0 chooses by the number of timesteps

    def __post_init__(self):
        """Fill in what the name stands for, and refuse what contradicts it.

        Raises:
          ValueError: unknown name, decay function or surrogate, or contradicting options.
        """
        for table, key in (
            (NEURONS, "name"),
            (DECAY_FUNCTIONS, "decay_function"),
            (SURROGATES, "surrogate"),
        ):
            if getattr(self, key) not in table:
                what = "neuron" if key == "name" else key
                raise ValueError(
                    f"unknown {what} {getattr(self, key)!r}; known: {', '.join(table)}"
                )
        for key, value in NEURONS[self.name].fixed.items():
            if getattr(self, key) not in (None, value):
                raise ValueError(
                    f"{key}={getattr(self, key)!r} contradicts neuron={self.name!r}, which stands "
                    f"for {key}={value!r}; choose dalif or lif to set it yourself"
                )
            object.__setattr__(self, key, value)
        defaults = NEURONS[self.name].defaults
        for key in ("learn_alpha", "learn_beta", "alpha", "beta"):
            if getattr(self, key) is None:
                object.__setattr__(self, key, defaults.get(key))
        for decay in ("alpha", "beta"):
            if getattr(self, f"learn_{decay}") and getattr(self, decay) is not None:
                raise ValueError(
                    f"{decay}={getattr(self, decay)!r} is a fixed value, but {decay} is learned "
                    f"here; set learn_{decay}=False, or decay_init for where learning starts"
                )


class State(NamedTuple):
    """One layer between two timesteps: membrane h [B, ...], spike [B, ...], running norm stats."""

    membrane: jax.Array
    spike: jax.Array
    norm: tuple = ()


class Neuron(NamedTuple):
    """A row of NEURONS."""

    parameters: Callable  # options -> {name: start value}, the learnable numbers of a layer
    decays: Callable  # (options, params) -> (alpha, beta)
    fixed: Mapping[str, Any] = MappingProxyType({})  # options this name stands for
    defaults: Mapping[str, Any] = MappingProxyType({})  # options where the user gives none


def dalif_parameters(options):
    """a and b, those of them that are learned."""
    learned = {"a": options.learn_alpha, "b": options.learn_beta}
    return {name: options.decay_init for name, learn in learned.items() if learn}


def dalif_decays(options, params):
    """(alpha, beta) = (f(a), f(b)) (eq. 8), or their fixed values."""
    f = DECAY_FUNCTIONS[options.decay_function]

    def decay(name, fixed):
        if name in params:
            return f(params[name])
        return f(options.decay_init) if fixed is None else fixed

    return decay("a", options.alpha), decay("b", options.beta)


def tied_decays(options, params):
    """(f(k), 1 - f(k)): one parameter for both, eq. 7, which the paper argues against."""
    k = DECAY_FUNCTIONS[options.decay_function](params["k"])
    return k, 1.0 - k


_LEARNED = {"learn_alpha": True, "learn_beta": True}
_FROZEN = {"learn_alpha": False, "learn_beta": False}
# The decays of the lineage's plain LIF: MPBN's 0.25 and no input gain.
_PLAIN = {"alpha": 1.0, "beta": 0.25}
_TANH_1 = 0.7615941559557649

NEURONS = {
    "dalif": Neuron(dalif_parameters, dalif_decays, defaults=_LEARNED),
    "lif": Neuron(dalif_parameters, dalif_decays, _FROZEN, defaults=_PLAIN),
    "tied": Neuron(lambda options: {"k": options.decay_init}, tied_decays),
    # The arms of Fig. 2, fixed by name, and a control with both decays frozen at DA-LIF's start.
    "baseline": Neuron(dalif_parameters, dalif_decays, _FROZEN | _PLAIN),
    "spatial": Neuron(
        dalif_parameters, dalif_decays, {"learn_alpha": True, "learn_beta": False, "beta": 0.25}
    ),
    "temporal": Neuron(
        dalif_parameters, dalif_decays, {"learn_alpha": False, "alpha": 1.0, "learn_beta": True}
    ),
    "both": Neuron(dalif_parameters, dalif_decays, _LEARNED),
    "control": Neuron(
        dalif_parameters, dalif_decays, _FROZEN | {"alpha": _TANH_1, "beta": _TANH_1}
    ),
}


def make_step(options, train=False):
    """A neuron layer's pure step: (params, state, x [B, ..., C]) -> (state, spike [B, ..., C]).

    `params` holds the neuron's learnable numbers, scalars or [C], and `norm_scale`, `norm_bias` [C]
    with membrane_bn. `train` says whether membrane_bn uses this step's own statistics.
    """
    neuron = NEURONS[options.name]

    def step(params, state, x):
        alpha, beta = neuron.decays(options, params)
        h = beta * reset(state, options.detach_reset) + alpha * x
        v, norm = h, state.norm
        if options.membrane_bn:
            # The threshold sees the normalised membrane, the reset masks the raw one.
            v, norm = batch_norm(h, params["norm_scale"], params["norm_bias"], norm, train)
        s = spike(v - options.threshold, options.surrogate, options.surrogate_width)
        return State(h, s, norm), s

    return step


def reset(state, detach=False):
    """u = h (1 - s): hard reset to 0. Detached, no gradient flows through the reset's s."""
    s = jax.lax.stop_gradient(state.spike) if detach else state.spike
    return state.membrane * (1.0 - s)


def membrane_threshold(options, params, stats):
    """What the raw membrane h must reach for a spike: the threshold, or with membrane_bn that of
    every channel [C], (threshold - bias) sqrt(var + eps) / scale + mean, where scale > 0.

    `params` and `stats` are a layer's own, with norm_scale, norm_bias, norm_mean and norm_var [C].
    """
    if not options.membrane_bn:
        return options.threshold
    factor = params["norm_scale"] / (stats["norm_var"] + EPSILON) ** 0.5
    return (options.threshold - params["norm_bias"]) / factor + stats["norm_mean"]


def initial_state(x, norm=()):
    """State before the first step for one timestep's input [B, ..., C]: u = 0."""
    zeros = jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32))
    return State(zeros, zeros, norm)


def run(step, params, state, x, unroll=0, trace=False):
    """Scan `step` over the timesteps of x.

    Args:
      step: from make_step, or any function of that form.
      params, state: as the step takes them.
      x: [B, T, ...]; computed in at least float32.
      unroll: timesteps per loop iteration, 0 chooses.
      trace: whether to return the membranes.
    Returns:
      (state after T steps, spikes [B, T, ...] in x's dtype, membranes [B, T, ...] or None).
    """
    timesteps = x.shape[1]
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def body(state, x_t):
        state, s = step(params, state, x_t.astype(wide))
        return state, (s.astype(x.dtype), state.membrane if trace else None)

    if not unroll:
        unroll = timesteps if timesteps <= UNROLL_UP_TO else 1
    # scan wants time first; the compiler turns these transposes into a choice of layout.
    xs = jnp.moveaxis(x, 1, 0)
    state, (spikes, membranes) = jax.lax.scan(body, state, xs, unroll=min(unroll, timesteps))
    back = lambda y: None if y is None else jnp.moveaxis(y, 0, 1)  # noqa: E731
    return state, back(spikes), back(membranes)


class SpikingNeuron(nn.Module):
    """Names a neuron layer's parameters and runs its step over time.

    Applied with the collection `stream` mutable, it starts from the state found there (u = 0 when
    there is none) and leaves its last state there: streaming inference, any number of timesteps
    at a time.
    """

    options: NeuronOptions
    mesh: Any = None  # where the fused form runs as a Pallas kernel, see fused.spikes

    @nn.compact
    def __call__(self, x, train: bool, taps: tuple[str, ...] = ()):
        """x: [B, T, ..., C] -> (spikes [B, T, ..., C], dict of the requested TAPS)."""
        options, channels = self.options, x.shape[-1]
        shape = (channels,) if options.per_channel else ()
        params = {
            name: self.param(name, nn.initializers.constant(start), shape, jnp.result_type(float))
            for name, start in NEURONS[options.name].parameters(options).items()
        }
        streaming = self.is_mutable_collection("stream") and not self.is_initializing()
        if options.fused and not (options.membrane_bn or streaming or "membrane" in taps):
            decays = NEURONS[options.name].decays(options, params)
            spikes = fused.spikes(
                *decays, x, options.threshold, options.surrogate, options.surrogate_width,
                options.detach_reset, self.mesh,
            )  # fmt: skip
            return spikes, tapped(taps, spikes)

        norm = ()
        if options.membrane_bn:
            scale_bias, running = norm_variables(self, channels, prefix="norm_")
            params["norm_scale"], params["norm_bias"] = scale_bias
            norm = tuple(r.value for r in running)

        state = initial_state(x[:, 0], norm)
        if streaming:
            carried = self.variable("stream", "state", lambda: (state.membrane, state.spike))
            state = State(*carried.value, norm)

        step = make_step(options, train)
        state, spikes, membranes = run(
            step, params, state, x, options.unroll, trace="membrane" in taps
        )
        if streaming:
            carried.value = (state.membrane, state.spike)
        if options.membrane_bn and train:
            store_running(self, running, state.norm)

        return spikes, tapped(taps, spikes, membranes)


def tapped(taps, spikes, membranes=None):
    """Those of TAPS that are asked for, of one layer: spikes and membranes [B, T, ..., C]."""
    wide = jnp.promote_types(spikes.dtype, jnp.float32)
    quantities = {
        "spikes": lambda: spikes,
        "membrane": lambda: membranes,
        "firing_rate": lambda: spikes.mean(dtype=wide),
    }
    return {name: quantities[name]() for name in taps}
