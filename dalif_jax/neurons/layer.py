"""A layer of neurons over time: one scan that runs any step, one Flax module that names numbers."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.neurons import linear
from dalif_jax.neurons.piece import Options
from dalif_jax.neurons.table import of, refusal
from dalif_jax.norms import norm_variables, store_running
from dalif_jax.ops import fused
from dalif_jax.ops.recompute import axes_of, in_chunks, keeping_inputs
from dalif_jax.ops.scaled import Scaled, with_rank, written
from dalif_jax.surrogates import SURROGATES, gradual

# What may be asked of every layer, see `networks.tapped`.
TAPS = ("current", "spikes", "membrane", "threshold", "firing_rate", "statistic")
# Unrolled, a scan fuses over time: a layer runs 2 to 4 times faster on CPU and a network keeps 30 %
# less. Measured on ResNet-20 it compiles in 9 s at T = 4, 13 at 8 and 21 at 16, rolled in 6.
UNROLL_UP_TO = 8
# Up to so many timesteps the one pass of a layer is written out whole, beyond that in chunks. For
# each output XLA:CPU computes the timesteps before it again, so a chunk's time is quadratic in its
# length: of 2, 4, 5, 8 and 16 timesteps, chunks of 4 and 5 were the fastest.
ONE_CHUNK_UP_TO = 8
CHUNK = 4


class Seen(NamedTuple):
    """What a layer did in one timestep, [B, ..., C] each."""

    current: jax.Array
    membrane: jax.Array  # as it was compared
    threshold: jax.Array  # with this
    spikes: jax.Array  # what came out


def run(step, params, state, x, unroll=0, look=None, each=None):
    """Scan `step` over the timesteps of x.

    Args:
      step: (params, state, x of a timestep) -> (state, spike), a piece's with its options given.
      params, state: as the step takes them.
      x: [B, T, ...]; computed in at least float32.
      unroll: timesteps per loop iteration, 0 chooses.
      look: (params, state, x and spike of the timestep) -> pytree of [B, ...], asked after every
        step.
      each: {name: [T, ...]}, the params of which every timestep has one.
    Returns:
      (state after T steps, spikes [B, T, ...] in x's dtype, what `look` gave, [B, T, ...]).
    """
    timesteps, each = x.shape[1], each or {}
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def number(name, value):
        # Membranes have the dtype of x, at least float32, even with float64 parameters. Those of
        # a norm on membranes keep their rank, which says what its statistics are of.
        value = jnp.asarray(value, wide)
        return value if name.startswith("norm_") else with_rank(value, x.ndim - 1)

    def body(state, now):
        x_t, numbers = now
        numbers = {name: number(name, value) for name, value in {**params, **numbers}.items()}
        x_t = x_t.astype(wide)
        state, s = _checked(step(numbers, state, x_t), state, x_t)
        return state, (s.astype(x.dtype), look and look(numbers, state, x_t, s))

    if not unroll:
        unroll = timesteps if timesteps <= UNROLL_UP_TO else 1
    # scan wants time first; the compiler turns these transposes into a choice of layout.
    xs = jnp.moveaxis(x, 1, 0), each
    state = axes_of(x, state)
    state, (spikes, seen) = jax.lax.scan(body, state, xs, unroll=min(unroll, timesteps))
    return state, *jax.tree.map(lambda y: jnp.moveaxis(y, 0, 1), (spikes, seen))


def _checked(result, state, x):
    """(state, spike) of a step. Raises ValueError where they are not of their kinds."""
    expected = f"expected (state, spike) with a spike of shape {x.shape} and a state as before"
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"a neuron's step returned {type(result).__name__}, {expected}")
    new, spike = result
    if getattr(spike, "shape", None) != x.shape:
        shapes = jax.tree.map(jnp.shape, spike)
        raise ValueError(f"a neuron's step returned a spike of shape {shapes}, {expected}")
    kinds = [jax.tree.structure(tree) for tree in (state, new)]
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (state, new)]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        raise ValueError(
            f"a neuron's step changed its state from {kinds[0]} of shapes {shapes[0]} to "
            f"{kinds[1]} of shapes {shapes[1]}; {expected}"
        )
    return new, spike


def simulate(options, params, x, unroll=0):
    """A layer of neurons as a function of arrays, by the plain scan: the reference of all others.

    Args:
      options: from `options`.
      params: {name: array} of its numbers, see Number; [T, ...] where a timestep has one.
      x: [B, T, ..., C], the current.
    Raises:
      ValueError: names of params are unknown or missing.
    Returns:
      (state after T steps, spikes [B, T, ..., C], (membrane, threshold) [B, T, ..., C] each, as
      they were compared, or None where the neuron has none to show).
    """
    kind = of(options)
    known = set(kind.numbers(options))
    if set(params) != known:
        raise ValueError(
            f"neuron={options.name} has the numbers {', '.join(sorted(known)) or 'none'}, but "
            f"params has {', '.join(sorted(params)) or 'none'}"
        )
    timed = [name for name, number in kind.numbers(options).items() if "timestep" in number.per]
    look = kind.membrane and functools.partial(_compared, kind.membrane, options)
    return run(
        functools.partial(kind.step, options),
        {name: value for name, value in params.items() if name not in timed},
        kind.state(options, x[:, 0]),
        x,
        unroll,
        look,
        {name: params[name] for name in timed},
    )


def _compared(look, options, params, state, *_):
    membrane, threshold = look(options, params, state)
    return membrane, jnp.broadcast_to(threshold, membrane.shape)


class SpikingNeuron(nn.Module):
    """Names a neuron layer's numbers and runs its step over time.

    Applied with the collection `stream` mutable, it starts from the state found there (the
    neuron's first where there is none) and leaves its last state there: streaming inference, any
    number of timesteps at a time. With `stream_start` mutable, too, the state there stays the one
    before the first timestep. Applied with `tap_<quantity>` mutable, it leaves that one of TAPS
    there under `value`.

    Attributes:
      options: of its neuron, see `options`.
      mesh: where the fused form runs as a Pallas kernel, see fused.spikes.
      statistic: Seen -> a pytree, whose mean over time is the tap of that name.
    """

    options: Options
    mesh: Any = None
    statistic: Callable | None = None
    layer: ClassVar[str] = "neuron"

    @nn.compact
    def __call__(self, x, train: bool, share=1.0):
        """x: [B, T, ..., C], or a Scaled of that -> spikes [B, T, ..., C]; `share` of the training
        is over."""
        options, kind = self.options, of(self.options)
        streaming = self.streams()
        if streaming and (why := refusal(options, "stream")):
            raise ValueError(f"neuron={options.name} does not stream: {why}")
        width, end = options.surrogate_width, options.surrogate_width_end
        if end is None:
            width = SURROGATES[options.surrogate].width_at(width, share)
        else:
            width = gradual(width, share, end)
        told = replace(options, surrogate_width=width)
        numbers = kind.numbers(options)
        params = {name: self._number(name, number, x) for name, number in numbers.items()}
        each = {name: params.pop(name) for name in numbers if "timestep" in numbers[name].per}

        taps = {name for name in TAPS if self._asked(f"tap_{name}")}
        traced = taps & {"membrane", "threshold", "statistic"}
        if traced and kind.membrane is None:
            raise ValueError(f"neuron={options.name} says nothing of its membrane")
        one_pass = options.fused and not (
            streaming or options.membrane_bn or traced - {"statistic"}
        )
        if one_pass and kind.decays and not traced and isinstance(width, float | int):
            told = (
                options.threshold, options.surrogate, width, options.detach_reset, self.mesh,
            )  # fmt: skip
            decays = kind.decays(options, params)
            if isinstance(x, Scaled):
                spikes = fused.scaled_spikes(*decays, x.factor, x.shift, x.x, x.added, *told)
            else:
                spikes = fused.spikes(*decays, x, *told)
            self._tap(taps, x, spikes)
            return spikes

        x = written(x)
        if not isinstance(width, float | int):
            width = width.astype(jnp.promote_types(x.dtype, jnp.float32))
        params, each, width = axes_of(x, (params, each, width))
        state, step, look = axes_of(x, kind.state(options, x[:, 0])), kind.step, kind.membrane
        if options.membrane_bn:
            normed = x.shape[2:] if options.membrane_bn_elementwise else x.shape[-1]
            scale_bias, running = norm_variables(self, normed, prefix="norm_")
            params["norm_scale"], params["norm_bias"] = scale_bias
            step, look = linear.normed_step(kind.decays, train), linear.normed_membrane
        look = self._look(look, told, traced) if traced else None

        def over_time(params, each, x, width, state, unroll=options.unroll):
            fire = functools.partial(step, replace(told, surrogate_width=width))
            return run(fire, params, state, x, unroll, look, each)

        if one_pass:
            spikes, seen = self._one_pass(over_time, params, each, x, width, state)
            self._tap(taps, x, spikes, seen)
            return spikes

        if streaming:
            carried = self.variable("stream", "state", lambda: state)
            state = carried.value
        if options.membrane_bn:
            # In the dtype of membranes, as everything that the scan carries.
            wide = jnp.promote_types(x.dtype, jnp.float32)
            state = state, tuple(r.value.astype(wide) for r in running)
        state, spikes, seen = over_time(params, each, x, width, state)
        if options.membrane_bn:
            state, new = state
            if train:
                new = [value.astype(r.value.dtype) for r, value in zip(running, new, strict=True)]
                store_running(self, running, new)
        if streaming and not self._asked("stream_start"):
            carried.value = state
        self._tap(taps, x, spikes, seen)
        return spikes

    def _one_pass(self, over_time, params, each, x, width, state):
        """(spikes, seen) of all timesteps. Only the inputs are kept for the backward pass."""
        timesteps, unroll = x.shape[1], self.options.unroll
        if unroll or timesteps <= ONE_CHUNK_UP_TO:
            # Written out, because XLA:CPU shares no memory between the loops of two layers.
            once = keeping_inputs(lambda *given: over_time(*given, state, unroll or timesteps)[1:])
            return once(params, each, x, width)

        def chunk(shared, state, each, x):
            params, width = shared
            state, *y = over_time(params, each, x, width, state, x.shape[1])
            return state, y

        return in_chunks(chunk, CHUNK)((params, width), state, each, x)

    def _number(self, name, number, x):
        sizes = {"timestep": x.shape[1], "channel": x.shape[-1]}
        start = number.start
        start = start if callable(start) else nn.initializers.constant(start)
        shape = tuple(sizes[each] for each in number.per)
        there = self.has_variable("params", name) and self.get_variable("params", name).shape
        if there and "timestep" in number.per and there[0] != sizes["timestep"]:
            raise ValueError(
                f"neuron={self.options.name} has a number for each of {there[0]} timesteps and was "
                f"given {sizes['timestep']}; build and train it for as many as it is to run"
            )
        return self.param(name, start, shape, jnp.result_type(float))

    def streams(self):
        """Whether it is applied to go on where it was."""
        return self._asked("stream")

    def _asked(self, collection):
        return self.is_mutable_collection(collection) and not self.is_initializing()

    def _look(self, look, told, asked):
        def seen(params, state, x, spikes):
            membrane, threshold = _compared(look, told, params, state)
            found = {"membrane": membrane, "threshold": threshold}
            if "statistic" in asked:
                # A batch axis of one, for what the scan stacks is turned to [B, T, ...].
                values = self.statistic(Seen(x, membrane, threshold, spikes))
                found["statistic"] = jax.tree.map(lambda v: v[None], values)
            return {name: found[name] for name in asked}

        return seen

    def _tap(self, taps, x, spikes, seen=None):
        wide = jnp.promote_types(spikes.dtype, jnp.float32)
        for name in taps:
            if name in ("current", "spikes"):
                value = written(x) if name == "current" else spikes
            elif name == "firing_rate":
                value = spikes.mean(dtype=wide)
            elif name == "statistic":
                value = jax.tree.map(lambda v: v[0].mean(0), seen[name])
            else:
                value = seen[name]
            self.put_variable(f"tap_{name}", "value", value)
