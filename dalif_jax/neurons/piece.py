"""What a neuron is: the contract that each file of this folder fills in for one of them.

A step is `step(options, params, state, x) -> (state, spike)` on arrays of one timestep: pure, so
that the same function is scanned over time, recomputed backwards, streamed and drawn. The state is
any pytree; where it holds h[t] and s[t] and the reset happens when the next step reads them, a
trace of states is a trace of membranes as they were compared with the threshold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.suggest import did_you_mean
from dalif_jax.surrogates import SURROGATES, spike


@dataclass(frozen=True)
class Options:
    """What every neuron layer is told; a neuron's own options are the fields it adds to these.

    Fields are config keys of the same name, those that are not are `neuron_options.<name>`.
    """

    name: str = ""
    threshold: float = 1.0  # units of the membrane
    surrogate: str = "rectangle"
    surrogate_width: float = 1.0  # units of the threshold; a step may be told a traced one
    surrogate_width_end: float | None = None  # width when training ends, reached evenly in ratio
    detach_reset: bool = False
    membrane_bn: bool = False
    membrane_bn_elementwise: bool = False  # its statistics are of a neuron, not of a channel
    fused: bool = True  # one pass with recomputation where it applies; False: always the scan
    unroll: int = 0  # timesteps per scan iteration; 0 chooses by the number of timesteps

    def __post_init__(self):
        """Raises ValueError where options contradict one another; so may a neuron's own."""
        if self.surrogate not in SURROGATES:
            raise ValueError(
                f"unknown surrogate {self.surrogate!r}; known: {', '.join(SURROGATES)}"
                + did_you_mean(self.surrogate, SURROGATES)
            )
        for name in ("threshold", "surrogate_width", "surrogate_width_end"):
            value = getattr(self, name)
            if isinstance(value, jax.Array) or (value is None and name == "surrogate_width_end"):
                continue  # a traced width is checked before it is traced
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 < value < float("inf")):
                raise ValueError(f"{name}={value!r} must be above 0 and finite")


class Number(NamedTuple):
    """A learnable number of a layer.

    `start` is its first value, or (key, shape, dtype) -> array. `per` says what has one each:
    () the layer, ("channel",), ("timestep",) or ("timestep", "channel"), its shape [T, C]. A step
    is given that of its timestep. `rate` is its learning rate's share of everyone's, `decayed`
    whether weight decay is on it as on weights.
    """

    start: float | Callable
    per: tuple[str, ...] = ()
    rate: float = 1.0
    decayed: bool = False


def _nothing(*_):
    return {}


@dataclass(frozen=True, eq=False)
class Neuron:
    """One kind of neuron: a line of NEURONS.

    Attributes:
      step: (options, params, state, x [B, ..., C]) -> (state, spike [B, ..., C]).
      options: its dataclass of Options.
      numbers: options -> {name: Number}, what a layer of it learns.
      state: (options, x of one timestep) -> the state before the first step.
      membrane: (options, params, state) -> (membrane, threshold), as the step that gave this state
        compared them; None: it has none to show.
      shown: (options, params) -> {name: number or [C]}, what logs and figures name.
      meanings: {such a name: what it is, in a few words}.
      title: what it is called, with a link to its paper (Markdown).
      decays: (options, params) -> (alpha, beta): its own word that it is h = beta u + alpha x, with
        a hard reset to 0 at a fixed threshold, fired at or above it. Such a neuron runs as the
        hand-written pass (ops/fused.py), may have its membrane normed, and is NIR's LIF.
      constrain: params -> params, after every update; None: they are free.
      lifs: (options, params) -> [(alpha, beta, threshold), ...]: leaky neurons with a hard reset to
        0 whose spikes on the same current add up to its own, for NIR; None: as decays say.
      refuses: why not, of what it does not do or take: "stream", "nir", "norm", and keys that are
        nothing to it, as "threshold". A reason, or options -> a reason or "".
      levels: the largest spike: 1, more where spikes are small integers, 0 where they are reals.
    """

    step: Callable
    options: type = Options
    numbers: Callable = _nothing
    state: Callable | None = None
    membrane: Callable | None = None
    shown: Callable = _nothing
    meanings: Mapping[str, str] = MappingProxyType({})
    title: str = ""
    decays: Callable | None = None
    constrain: Callable | None = None
    lifs: Callable | None = None
    refuses: Mapping[str, Any] = MappingProxyType({})
    levels: int = 1


def zeros(x):
    """Zeros of one timestep's input [B, ..., C], in at least float32: the dtype of membranes."""
    return jnp.zeros_like(x, jnp.promote_types(x.dtype, jnp.float32))


def fire(options, distance, width=None, strict=False):
    """The spike of a membrane's distance from its threshold, with the options' surrogate."""
    width = options.surrogate_width if width is None else width
    return spike(distance, options.surrogate, width, strict)
