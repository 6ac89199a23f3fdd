"""A step's batch: which examples it takes, what is done to them, what the network is shown.

The inputs of a step are its arguments, its randomness is `fold_in(key, step)` and a key per example
by its place in the global batch: the same on any number of devices.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalif_jax.data.augment import ALTERNATE, FILLS, alternate_flip, augment, normalize
from dalif_jax.data.events.event_augment import augment_events, random_frames, random_slice
from dalif_jax.training.state import AUGMENT, FLIP, MIXUP, seed_key


class Batches(NamedTuple):
    """What decides a run's batches, besides the step."""

    spec: Any  # data.DataSpec
    dtype: Any  # of what the network is shown
    seed: int
    size: int
    parts: int  # worked through one by one
    steps: int  # of an epoch
    mixup: float
    augment: Callable  # (key, example) -> example
    alternate: bool  # mirror each image in every other epoch before that
    sharded: Any  # the sharding of its first axis


def batches_of(config, spec, steps_per_epoch, sharded):
    """The Batches of a config."""
    ops = tuple(name for name in config.augment if name != ALTERNATE)
    keys = {"ops": ops, "cutout_size": config.cutout_size,
            "crop_padding": config.crop_padding}  # fmt: skip
    if spec.events:

        def augment_one(key, frames):
            if config.test_slices:
                frames = random_slice(key, frames, config.timesteps)
            if config.train_timesteps:
                frames = random_frames(key, frames, config.train_timesteps)
            return augment_events(key, frames, roll_pixels=config.roll_pixels, **keys)
    else:
        fill = FILLS[config.cutout_fill](spec.mean)
        augment_one = functools.partial(
            augment, crop_border=config.crop_border, cutout_fill=fill, **keys
        )
    return Batches(
        spec, jnp.dtype(config.dtype), config.seed, config.batch_size, config.accumulate,
        steps_per_epoch, config.mixup, augment_one, len(ops) < len(config.augment), sharded,
    )  # fmt: skip


def prepare(images, spec, dtype):
    """What the network takes: uint8 images [B, H, W, C] -> normalised [B, 1, H, W, C], which it
    shows T times; counts of events [B, T, H, W, 2] as they are."""
    if spec.events:
        return images.astype(dtype)
    return normalize(images, spec.mean, spec.std, dtype)[:, None]


def examples_of(batches, step, images, labels, order):
    """What tells a step's examples apart, [B, ...] each: place in the batch, index, label; pixels
    in place of the index where they stream."""
    place = jax.lax.with_sharding_constraint(jnp.arange(batches.size), batches.sharded)
    if batches.spec.streamed:
        return place, images, labels
    rows = order[step % batches.steps]
    return place, rows, labels[rows]


def partners_of(batches, step, examples):
    """Mixup: (shares [B], *examples), each with the next of the batch; None without it."""
    if not batches.mixup:
        return None
    key = jax.random.fold_in(seed_key(batches.seed, MIXUP), step)
    wide = jnp.promote_types(batches.dtype, jnp.float32)
    share = jax.random.beta(key, batches.mixup, batches.mixup, (batches.size,), wide)
    return share, *(jnp.roll(row, -1, axis=0) for row in examples)


def inputs_of(batches, step, images, place, rows):
    """Augmented and normalised network inputs of some of a step's examples."""
    key = jax.random.fold_in(seed_key(batches.seed, AUGMENT), step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, place)
    pixels = rows if batches.spec.streamed else images[rows]
    if batches.alternate:
        flip = jax.vmap(alternate_flip, (None, 0, None, 0))
        pixels = flip(seed_key(batches.seed, FLIP), rows, step // batches.steps, pixels)
    return prepare(jax.vmap(batches.augment)(keys, pixels), batches.spec, batches.dtype)


def mixed(batches, step, images, examples, partners):
    """(x, [(weight, labels), ...]): what the network is shown, and what it is to answer."""
    x, targets = inputs_of(batches, step, images, *examples[:2]), [(1.0, examples[2])]
    if partners is not None:
        # The partner is made again where it is needed: examples stay in place.
        share, *partners = partners
        other = inputs_of(batches, step, images, *partners[:2])
        weight = share.reshape(-1, *[1] * (x.ndim - 1)).astype(batches.dtype)
        x = weight * x + (1 - weight) * other
        targets = [(share, examples[2]), (1.0 - share, partners[2])]
    return x, targets


def part_of(batches, i, arrays):
    """The i-th part of a batch: every device works through its own share of it, every so many
    examples apart."""
    split = lambda a: a.reshape(-1, batches.parts, *a.shape[1:])  # noqa: E731
    return jax.tree.map(lambda a: split(a)[:, i], arrays)
