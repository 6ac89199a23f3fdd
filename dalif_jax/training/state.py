"""What a run carries from step to step, and where it lies."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import AxisType

# Streams of randomness drawn from the seed; 2 is sets.ORDER.
INIT, AUGMENT, MIXUP, DROPOUT, FLIP = 0, 1, 3, 4, 5


@flax.struct.dataclass
class TrainState:
    """Everything a run needs to continue, besides its config."""

    step: jax.Array  # int32, steps taken
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any  # averaged params, or None


def make_mesh(devices=None):
    """A mesh with the one axis `data` over all devices, or the given ones."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def seed_key(seed, stream):
    """The key of one stream of randomness; the implementation is pinned, for exact repeats."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def abstract_state(program):
    """The TrainState's shapes, dtypes and shardings, for restoring into."""
    shapes = jax.eval_shape(program.init)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=program.replicated),
        shapes,
    )


# ---- Numbers that stopped being numbers.


def finite(tree):
    """bool [leaves] in the order of the tree: whether every value of a leaf is a number."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves) if leaves else jnp.ones(0, bool)


def first_not_finite(flags, state, layers):
    """Where a step stopped being finite.

    Args:
      flags: the step's metrics["finite"], on the host.
      state: a TrainState, for the names.
      layers: the names of all layers in the order they run.
    Returns:
      "running statistics of LAYER", the first in the order of the forward pass; else "gradient of
      LAYER", the first of the backward pass, which runs from the last layer to the first; else
      None.
    """

    def reached(kind, tree, order):
        for path, is_finite in zip(
            jax.tree_util.tree_leaves_with_path(tree), flags[kind], strict=True
        ):
            if not is_finite:
                name = "/".join(key.key for key in path[0])
                yield max((i, layer) for i, layer in enumerate(order) if name.startswith(layer))

    for kind, tree, order in (
        ("running statistics", state.batch_stats, layers),
        ("gradient", state.params, layers[::-1]),
    ):
        if found := sorted(reached(kind, tree, order)):
            return f"{kind} of {found[0][1]}"
    return None
