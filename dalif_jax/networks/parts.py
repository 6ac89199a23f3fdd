"""What networks are built from: the parts they receive, and layers without parameters.

Activations are batch-major [B, T, H, W, C]. Convolutions and norms see them folded to [B*T, ...]
(Flax folds leading axes itself), so a batch sharded over devices stays sharded; folded time-major,
the compiler would gather the whole batch on every device.
"""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dalif_jax.ops.scaled import Scaled, written

# PyTorch initialisers of the lineage: conv N(0, sqrt(2 / (k k cout))), linear N(0, 1 / fan_in).
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def linear_init(key, shape, dtype):
    return nn.initializers.normal(stddev=1.0 / shape[0])(key, shape, dtype)


def uniform_init(key, shape, dtype):
    """PyTorch's own of any layer, uniform to 1 / sqrt(fan in): neurons behind it fire."""
    bound = math.prod(shape[:-1]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Parts(NamedTuple):
    """What a network is given to build with; each returns a module of that name in the network.

    conv: (width, kernel, stride, use_bias=False, kernel_init=conv_init, name) -> x -> current.
    norm: (name, ...) -> (x, train, repeats=1) -> x; told what norms.BatchNorm's fields say, as
      `summed` where another branch is added to what comes out, or `deferred` where nothing but
      `show`, a sum and a neuron follows: there it may be a Scaled that comes out.
    neuron: (name) -> (current, train, share) -> spikes; with attention on the current before it,
      where the config names one.
    dense: (features, use_bias=True, kernel_init=linear_init, name) -> x -> [B, T, features].
    attention: (name) -> (x, train) -> x, for a network that says itself where it belongs; where the
      config names none, what comes in goes out.
    identity: whether the norm is wanted on shortcuts without weights too.
    bare: as neuron, without attention.
    """

    conv: Callable
    norm: Callable
    neuron: Callable
    dense: Callable
    attention: Callable
    identity: bool = False
    bare: Callable | None = None


def show(x, timesteps):
    """[B, 1, ...], the same at every timestep, or [B, T, ...] -> [B, T, ...]."""
    if isinstance(x, Scaled):
        if x.shape[1] == timesteps:
            return x
        x = written(x)
    return jnp.broadcast_to(x, (x.shape[0], timesteps, *x.shape[2:]))


def pool_windows(pool, function, x):
    """Apply Flax's `function` to the windows of `pool`: [B, T, H, W, C] -> [B, T, H', W', C]."""
    folded = x.reshape(-1, *x.shape[2:])
    pad = ((pool.padding, pool.padding),) * 2
    pooled = function(folded, (pool.window,) * 2, (pool.stride,) * 2, pad)
    return pooled.reshape(*x.shape[:2], *pooled.shape[1:])


def _mean(x, window):
    """A plain mean: of windows of 16 bits XLA:CPU writes the whole map out in 32 first."""
    height, width = (size // window for size in x.shape[2:4])
    x = x[:, :, : height * window, : width * window]
    x = x.reshape(*x.shape[:2], height, window, width, window, x.shape[4])
    return x.mean((3, 5))


class AveragePool(nn.Module):
    """Mean over windows of [B, T, H, W, C]; padding counts as zeros, as PyTorch's default does.

    A module without parameters, so that whoever walks a network's layers meets it by name.
    """

    window: int
    stride: int
    padding: int = 0
    layer: ClassVar[str] = "pool"

    @nn.compact
    def __call__(self, x):
        if self.window == self.stride and not self.padding and x.dtype.itemsize == 2:
            return _mean(x, self.window)
        return pool_windows(self, nn.avg_pool, x)


class MaxPool(nn.Module):
    """Largest of windows of [B, T, H, W, C]; padding is never the largest, as in PyTorch."""

    window: int
    stride: int
    padding: int = 0
    layer: ClassVar[str] = "pool"

    @nn.compact
    def __call__(self, x):
        return pool_windows(self, nn.max_pool, x)


class Join(nn.Module):
    """Two branches of spikes as one, SEW-ResNet's g (Fang et al., NeurIPS 2021): of the branch o
    with weights and the shortcut d, `add` o + d, `and` o d, `iand` (1 - o) d."""

    how: str = "add"
    layer: ClassVar[str] = "join"

    @nn.compact
    def __call__(self, o, d):
        return {"add": lambda: o + d, "and": lambda: o * d, "iand": lambda: (1 - o) * d}[self.how]()

    @nn.nowrap
    def levels(self, o, d):
        """The largest value, from those of what comes in; 0: real numbers."""
        if not (o and d):
            return 0
        return {"add": o + d, "and": o * d, "iand": d}[self.how]


class Voting(nn.Module):
    """[B, T, K n] -> [B, T, K]: a class is the mean of its n neighbours' outputs."""

    voters: int
    layer: ClassVar[str] = "pool"

    @nn.compact
    def __call__(self, x):
        return x.reshape(*x.shape[:-1], -1, self.voters).mean(-1)


class GlobalAverage(nn.Module):
    """Mean over space: [B, T, H, W, C] -> [B, T, C]."""

    layer: ClassVar[str] = "pool"

    @nn.compact
    def __call__(self, x):
        return x.mean((2, 3))


def layer_kind(module):
    """What a module is to those who walk a network: conv, linear, norm, neuron, pool, join,
    attention; None where it only holds others. A module of another file says so in its `layer`."""
    if isinstance(module, nn.Conv):
        return "conv"
    if isinstance(module, nn.Dense):
        return "linear"
    return getattr(module, "layer", None)
