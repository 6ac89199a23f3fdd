"""A norm's output that nobody has written out: the neuron behind it reads what the norm was given.

Written out, it is one array more to write and two to read a layer, forward and again backward.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaled:
    """factor x + shift, and `added` where there is something.

    x: [B, T, ..., C]; factor, shift: [C], at least float32; added: None or [B, T, ..., C].
    """

    x: jax.Array
    factor: jax.Array
    shift: jax.Array
    added: Any = None

    @property
    def shape(self):
        return self.x.shape

    @property
    def dtype(self):
        return self.x.dtype

    def astype(self, dtype):
        """With x in another dtype, which is that of what it stands for."""
        return replace(self, x=self.x.astype(dtype))

    def __add__(self, other):
        other = written(other)
        return replace(self, added=other if self.added is None else self.added + other)

    __radd__ = __add__


def current(x, factor, shift, added):
    """What a Scaled stands for, in x's dtype: rounded where a norm rounds, and where a sum does."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    factor, shift = with_rank(factor, x.ndim), with_rank(shift, x.ndim)
    y = (factor * x.astype(wide) + shift).astype(x.dtype)
    return y if added is None else y + added


def written(x):
    """A Scaled as an array; any other array as it is."""
    return current(x.x, x.factor, x.shift, x.added) if isinstance(x, Scaled) else x


def with_rank(array, rank):
    """A scalar as it is, any other array with axes of 1 in front up to `rank` axes.

    Broadcasting does the same, except where `jax_numpy_rank_promotion` forbids it.
    """
    if not jnp.ndim(array):
        return array
    return jnp.expand_dims(array, tuple(range(rank - jnp.ndim(array))))
