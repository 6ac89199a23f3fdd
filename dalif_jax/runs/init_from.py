"""Starting from the weights of a card or of another run: what fits is taken, all else is named."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dalif_jax import strict_json
from dalif_jax.atomic_write import atomic_write
from dalif_jax.exchange import card
from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints
from dalif_jax.runs.seal import digest
from dalif_jax.settings import config

RECORD = "init_from.json"  # what a run took, so that it takes the same if it begins once more


class Weights(NamedTuple):
    """Weights from elsewhere."""

    what: str  # in words
    arrays: dict  # {"params/a/b/c": NumPy array, "batch_stats/...": ...}
    step: int | None = None  # of the run's checkpoint; None of a card


def read(folder):
    """The Weights of a model card, or of the newest whole checkpoint of a run (the averaged ones,
    where it averages).

    Raises:
      ConfigError: the folder is neither; CardError, CheckpointError: it is, and cannot be read.
    """
    folder = Path(folder)
    if (folder / "weights.safetensors").is_file():
        return Weights(f"card {folder}", card.weights(folder))
    if not (folder / "checkpoints").is_dir():
        raise config.ConfigError(
            f"init_from={folder} is neither a model card (weights.safetensors) nor a run's workdir "
            "(checkpoints/)"
        )
    with Checkpoints(folder / "checkpoints", 1, create=False) as checkpoints:
        tried = []
        for step in reversed(checkpoints.steps()):
            try:
                arrays = card.flat(checkpoints.weights(step))
            except CheckpointError as error:
                tried.append(str(error))
                continue
            card.check_finite(folder, arrays)
            return Weights(f"run {folder}, step {step}", arrays, step)
    raise CheckpointError(
        f"init_from={folder}: no checkpoint there can be read" + "".join(f"\n  {t}" for t in tried)
    )


def fit(weights, shapes):
    """What of some weights a network takes.

    Args:
      shapes: {"params": ..., "batch_stats": ...}, a pytree of what has shape and dtype.
    Returns:
      ({path: array in the network's dtype}, lines that say what was taken, what is new, and what
      is not used).
    Raises:
      ConfigError: no kernel fits.
    """
    wanted = card.flat_shapes(shapes)
    taken, new, cast = {}, [], set()
    for path, (shape, dtype) in wanted.items():
        found = weights.arrays.get(path)
        if found is None:
            new.append(f"  new: {path} {shape}, not there")
        elif found.shape != shape:
            new.append(f"  new: {path} {shape}, {found.shape} there")
        else:
            taken[path] = found.astype(dtype)
            if found.dtype != dtype:
                cast.add(f"{found.dtype} to {dtype}")
    unused = [f"  not used: {p} {a.shape}" for p, a in weights.arrays.items() if p not in wanted]
    if not any(path.endswith("/kernel") for path in taken):  # a bias for so many classes is nothing
        raise config.ConfigError(
            f"init_from: of {weights.what} nothing fits this network; it has "
            f"{', '.join(list(weights.arrays)[:3])} ..., this one {', '.join(list(wanted)[:3])} ..."
        )
    count = sum(np.prod(shape, dtype=int) for shape, _ in wanted.values())
    numbers = sum(array.size for array in taken.values())
    lines = [
        f"init_from {weights.what}: {len(taken)} of {len(wanted)} arrays taken, {numbers:,} of "
        f"{count:,} numbers" + (f", {' and '.join(sorted(cast))}" if cast else "")
    ]
    return taken, [*lines, *new, *unused]


def digest_of(taken):
    """{array: its digest} of the taken arrays, as JSON values."""
    return {key: value[2] for key, value in digest(taken).items()}


def start(workdir, state, taken, replicated):
    """A TrainState before its first step with the taken arrays in it; averages start there too.

    Raises:
      ConfigError: the run began before with other arrays from there, and has no checkpoint yet.
    """
    now = digest_of(taken)
    path = Path(workdir) / RECORD
    if path.exists() and not jax.process_index():
        try:
            before = strict_json.read(path)
        except strict_json.JSONError as error:
            raise config.ConfigError(
                f"{error}; remove that file to begin with the weights of now"
            ) from error
        if before != now:
            raise config.ConfigError(
                f"{path}: this run began with other weights from the same init_from, which changed "
                "since; use another --workdir, or remove that file to begin with those of now"
            )
    elif not jax.process_index():
        atomic_write(path, json.dumps(now, indent=2) + "\n")

    def replaced(tree, prefix):
        def leaf(path, old) -> Any:
            name = "/".join((prefix, *(key.key for key in path)))
            return jax.device_put(taken[name], replicated) if name in taken else old

        return jax.tree_util.tree_map_with_path(leaf, tree)

    params = replaced(state.params, "params")
    # A copy, for the step gives both away.
    ema = None if state.ema is None else jax.tree.map(lambda a: a + 0, params)
    stats = replaced(state.batch_stats, "batch_stats")
    return state.replace(params=params, batch_stats=stats, ema=ema)
