"""The neuron as two GPU kernels, written in Pallas: each value is read and written once.

The compiler splits the passes of `fused.py` where a timestep has several users, and by its own plan
moves 2 to 2.5 times the bytes that must move. Here a program instance takes a tile of neurons over
all their timesteps: forward it reads x and writes spikes, backward it reads x and the gradient,
computes the membranes again in registers and writes the gradient of x; the sums for the decays
leave as one partial a tile.

A kernel is opaque to the partitioner, so it runs inside `shard_map` over the batch.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import PartitionSpec

from dalif_jax.surrogates import SURROGATES

WARPS = 4


def forward(mesh, alpha, beta, x, threshold, interpret=False):
    """Spikes of a layer, as `fused.spikes`; arrays sharded over the mesh's axis `data`.

    Args:
      mesh: with the axis `data`.
      alpha, beta: float32, scalars or [C].
      x: [B, T, ..., C], float32 or bfloat16.
      interpret: run the kernel step by step on whatever device, for tests.
    Returns:
      [B, T, ..., C] in x's dtype.
    """
    batch, every = PartitionSpec("data"), PartitionSpec()
    local = functools.partial(_forward, threshold=threshold, interpret=interpret)
    specs = {"in_specs": (every, every, batch), "out_specs": batch}
    return jax.shard_map(local, mesh=mesh, check_vma=False, **specs)(alpha, beta, x)


def backward(mesh, alpha, beta, x, gradient, threshold, surrogate, width, detach, interpret=False):
    """(gradient of x, sums [C] for alpha, sums [C] for beta); arguments as in `fused.spikes`."""
    batch, every = PartitionSpec("data"), PartitionSpec()

    def local(*arrays):
        options = (threshold, surrogate, width, detach, interpret)
        g_x, *sums = _backward(*arrays, *options)
        return g_x, *jax.lax.psum(sums, "data")

    specs = {"in_specs": (every, every, batch, batch), "out_specs": (batch, every, every)}
    return jax.shard_map(local, mesh=mesh, check_vma=False, **specs)(alpha, beta, x, gradient)


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

    def call(self, kernel, decays, arrays, out_specs, out_shapes, interpret):
        """Run the kernel on decays, scalars or [C], and arrays [B, T, ..., C]."""
        decays = [jnp.broadcast_to(decay, self.channels).astype(jnp.float32) for decay in decays]
        return pl.pallas_call(
            kernel,
            out_shapes,
            grid=self.grid,
            in_specs=[self.decay] * len(decays) + [self.values] * len(arrays),
            out_specs=out_specs,
            compiler_params=triton.CompilerParams(num_warps=WARPS),
            interpret=interpret,
        )(*decays, *(array.reshape(self.whole) for array in arrays))


def _forward(alpha, beta, x, threshold, interpret):
    tiles = _Tiles(x)

    def kernel(alpha, beta, x, out):
        columns, inside = tiles.inside()
        alpha = triton.load(alpha, mask=columns, other=0.0)[None]
        beta = triton.load(beta, mask=columns, other=0.0)[None]
        u = jnp.zeros(inside.shape, jnp.float32)
        for t in range(tiles.timesteps):
            h = beta * u + alpha * _load(x, t, inside)
            fired = h >= threshold
            triton.store(out.at[jnp.int32(t)], fired.astype(out.dtype), mask=inside)
            u = jnp.where(fired, 0.0, h)

    shape = jax.ShapeDtypeStruct(tiles.whole, x.dtype)
    return tiles.call(kernel, (alpha, beta), [x], tiles.values, shape, interpret).reshape(x.shape)


def _backward(alpha, beta, x, gradient, threshold, surrogate, width, detach, interpret):
    tiles, derivative = _Tiles(x), SURROGATES[surrogate].derivative

    def kernel(alpha, beta, x, gradient, g_x, g_alphas, g_betas):
        columns, inside = tiles.inside()
        alpha = triton.load(alpha, mask=columns, other=0.0)[None]
        beta = triton.load(beta, mask=columns, other=0.0)[None]
        u = jnp.zeros(inside.shape, jnp.float32)
        membranes = []
        for t in range(tiles.timesteps):
            membranes.append(beta * u + alpha * _load(x, t, inside))
            u = jnp.where(membranes[t] >= threshold, 0.0, membranes[t])
        g_u = g_alpha = g_beta = jnp.zeros(inside.shape, jnp.float32)
        for t in reversed(range(tiles.timesteps)):
            h = membranes[t]
            g_s = _load(gradient, t, inside)
            if not detach:
                g_s -= g_u * h  # through the reset: du/ds = -h
            g_h = g_s * derivative(h - threshold, width) + jnp.where(h >= threshold, 0.0, g_u)
            triton.store(g_x.at[jnp.int32(t)], (alpha * g_h).astype(g_x.dtype), mask=inside)
            # x again: this tile was just read, so it comes from the cache and takes no register.
            g_alpha += g_h * _load(x, t, inside)
            if t:
                before = membranes[t - 1]
                g_beta += g_h * jnp.where(before >= threshold, 0.0, before)
            g_u = beta * g_h
        triton.store(g_alphas, g_alpha.sum(0), mask=columns)
        triton.store(g_betas, g_beta.sum(0), mask=columns)

    sums = jax.ShapeDtypeStruct((*tiles.grid[:2], tiles.channels), jnp.float32)
    shapes = [jax.ShapeDtypeStruct(tiles.whole, x.dtype), sums, sums]
    specs = [tiles.values, tiles.partial, tiles.partial]
    g_x, *partials = tiles.call(kernel, (alpha, beta), [x, gradient], specs, shapes, interpret)
    return g_x.reshape(x.shape), *(partial.sum((0, 1)) for partial in partials)


def _load(array, t, inside):
    return triton.load(array.at[jnp.int32(t)], mask=inside, other=0.0).astype(jnp.float32)
