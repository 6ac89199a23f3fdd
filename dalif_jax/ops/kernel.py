"""The neuron as two GPU kernels, written in Pallas: each value is read and written once.

The compiler splits the passes of `fused.py` where a timestep has several users, and by its own plan
moves 2 to 2.5 times the bytes that must move. Here a program instance takes a tile of neurons over
all their timesteps: forward it reads x and writes spikes, backward it reads x and the gradient,
computes the membranes again in registers and writes the gradient of x; the sums for the decays
leave as one partial a tile. Told a norm's factor and shift, it reads what the norm was given.

A kernel is opaque to the partitioner, so it runs inside `shard_map` over the batch.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import PartitionSpec

from dalif_jax.surrogates import SURROGATES

WARPS = 4


def forward(mesh, alpha, beta, x, threshold, interpret=False, scale=(), added=()):
    """Spikes of a layer, as `fused.spikes`; arrays sharded over the mesh's axis `data`.

    Args:
      mesh: with the axis `data`.
      alpha, beta: float32, scalars or [C].
      x: [B, T, ..., C], float32 or bfloat16.
      interpret: run the kernel step by step on whatever device, for tests.
      scale: () or (factor, shift), [C] in float32: the neuron's current is factor x + shift.
      added: () or ([B, T, ..., C],), what is added to that.
    Returns:
      [B, T, ..., C] in x's dtype.
    """
    batch, every = PartitionSpec("data"), PartitionSpec()

    def local(numbers, arrays):
        return _forward(numbers, arrays, threshold, interpret)

    specs = {"in_specs": (every, batch), "out_specs": batch}
    run = jax.shard_map(local, mesh=mesh, check_vma=False, **specs)
    return run((alpha, beta, *scale), (x, *added))


def backward(
    mesh, alpha, beta, x, gradient, threshold, surrogate, width, detach, interpret=False,
    scale=(), added=(),
):  # fmt: skip
    """(gradient of the current, sums [C] for alpha, for beta and, where there is a scale, for its
    factor and its shift); arguments as in `forward` and `fused.spikes`."""
    batch, every = PartitionSpec("data"), PartitionSpec()
    numbers = (alpha, beta, *scale)

    def local(*given):
        g_current, *sums = _backward(*given, threshold, surrogate, width, detach, interpret)
        return g_current, *jax.lax.psum(sums, "data")

    specs = {"in_specs": (every, batch, batch), "out_specs": (batch, *[every] * len(numbers))}
    run = jax.shard_map(local, mesh=mesh, check_vma=False, **specs)
    return run(numbers, (x, *added), gradient)


class _Tiles:
    """How [B, T, ..., C], seen as [B, T, M, C], is cut into tiles of all timesteps."""

    def __init__(self, x):
        self.timesteps, self.channels = x.shape[1], x.shape[-1]
        self.places = x[0, 0, ..., 0].size
        # A thread holds the membranes of its neurons at all timesteps: about 64 registers.
        a_thread = pl.next_power_of_2(max(1, min(8, 64 // self.timesteps)))
        self.columns = min(pl.next_power_of_2(self.channels), 128)
        self.rows = max(1, WARPS * 32 * a_thread // self.columns)
        self.grid = (
            x.shape[0],
            pl.cdiv(self.places, self.rows),
            pl.cdiv(self.channels, self.columns),
        )
        self.whole = (x.shape[0], self.timesteps, self.places, self.channels)
        shape = (None, self.timesteps, self.rows, self.columns)
        self.values = pl.BlockSpec(shape, lambda b, i, j: (b, 0, i, j))
        self.decay = pl.BlockSpec((self.columns,), lambda b, i, j: (j,))
        self.partial = pl.BlockSpec((None, None, self.columns), lambda b, i, j: (b, i, j))

    def inside(self):
        """(column mask, tile mask) of the instance that runs: where the array ends."""
        row = pl.program_id(1) * self.rows + jnp.arange(self.rows)
        column = pl.program_id(2) * self.columns + jnp.arange(self.columns)
        columns = column < self.channels
        return columns, (row < self.places)[:, None] & columns[None]

    def call(self, kernel, numbers, arrays, out_specs, out_shapes, interpret):
        """Run kernel(numbers, arrays, outputs) on numbers, scalars or [C], and arrays
        [B, T, ..., C]."""
        numbers = [jnp.broadcast_to(n, self.channels).astype(jnp.float32) for n in numbers]
        first, last = len(numbers), len(numbers) + len(arrays)

        def of(*refs):
            kernel(refs[:first], refs[first:last], refs[last:])

        return pl.pallas_call(
            of,
            out_shapes,
            grid=self.grid,
            in_specs=[self.decay] * len(numbers) + [self.values] * len(arrays),
            out_specs=out_specs,
            compiler_params=triton.CompilerParams(num_warps=WARPS),
            interpret=interpret,
        )(*numbers, *(array.reshape(self.whole) for array in arrays))


class _Inputs:
    """What an instance reads: its numbers once, and the current of a timestep when asked."""

    def __init__(self, tiles, numbers, arrays):
        self.columns, self.inside = tiles.inside()
        self.alpha, self.beta, *self.scale = (
            triton.load(number, mask=self.columns, other=0.0)[None] for number in numbers
        )
        self.x, *self.added = arrays

    def current(self, t):
        value = _load(self.x, t, self.inside)
        if self.scale:
            factor, shift = self.scale
            value = factor * value + shift
        for array in self.added:
            value += _load(array, t, self.inside)
        return value


def _forward(numbers, arrays, threshold, interpret):
    x = arrays[0]
    tiles = _Tiles(x)

    def kernel(numbers, arrays, outputs):
        given, (out,) = _Inputs(tiles, numbers, arrays), outputs
        u = jnp.zeros(given.inside.shape, jnp.float32)
        for t in range(tiles.timesteps):
            h = given.beta * u + given.alpha * given.current(t)
            fired = h >= threshold
            triton.store(out.at[jnp.int32(t)], fired.astype(out.dtype), mask=given.inside)
            u = jnp.where(fired, 0.0, h)

    shape = jax.ShapeDtypeStruct(tiles.whole, x.dtype)
    return tiles.call(kernel, numbers, arrays, tiles.values, shape, interpret).reshape(x.shape)


def _backward(numbers, arrays, gradient, threshold, surrogate, width, detach, interpret):
    x = arrays[0]
    tiles, derivative = _Tiles(x), SURROGATES[surrogate].derivative

    def kernel(numbers, arrays, outputs):
        *arrays, gradient = arrays
        given, (g_currents, *sums) = _Inputs(tiles, numbers, arrays), outputs
        alpha, beta, inside = given.alpha, given.beta, given.inside
        u = jnp.zeros(inside.shape, jnp.float32)
        membranes = []
        for t in range(tiles.timesteps):
            membranes.append(beta * u + alpha * given.current(t))
            u = jnp.where(membranes[t] >= threshold, 0.0, membranes[t])
        g_u = g_alpha = g_beta = g_factor = g_shift = jnp.zeros(inside.shape, jnp.float32)
        for t in reversed(range(tiles.timesteps)):
            h = membranes[t]
            g_s = _load(gradient, t, inside)
            if not detach:
                g_s -= g_u * h  # through the reset: du/ds = -h
            g_h = g_s * derivative(h - threshold, width) + jnp.where(h >= threshold, 0.0, g_u)
            g_current = alpha * g_h
            triton.store(g_currents.at[jnp.int32(t)], g_current.astype(x.dtype), mask=inside)
            # x again: this tile was just read, so it comes from the cache and takes no register.
            g_alpha += g_h * given.current(t)
            if given.scale:
                g_factor += g_current * _load(given.x, t, inside)
                g_shift += g_current
            if t:
                before = membranes[t - 1]
                g_beta += g_h * jnp.where(before >= threshold, 0.0, before)
            g_u = beta * g_h
        totals = (g_alpha, g_beta, g_factor, g_shift)
        for out, total in zip(sums, totals, strict=False):  # the last two with a scale
            triton.store(out, total.sum(0), mask=given.columns)

    sums = [jax.ShapeDtypeStruct((*tiles.grid[:2], tiles.channels), jnp.float32)] * len(numbers)
    shapes = [jax.ShapeDtypeStruct(tiles.whole, x.dtype), *sums]
    specs = [tiles.values, *[tiles.partial] * len(numbers)]
    g_current, *partials = tiles.call(
        kernel, numbers, [*arrays, gradient], specs, shapes, interpret
    )
    return g_current.reshape(x.shape), *(partial.sum((0, 1)) for partial in partials)


def _load(array, t, inside):
    return triton.load(array.at[jnp.int32(t)], mask=inside, other=0.0).astype(jnp.float32)
