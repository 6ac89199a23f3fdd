"""Augmentation of event frames inside the jitted step: functions of one key and one recording.

A draw is one for all frames of a recording, so that what moves keeps moving in a straight line. A
recording's result depends on its key alone, as that of an image does (`data/augment.py`).
"""

import jax
import jax.numpy as jnp

from dalif_jax.data.augment import cutout, random_crop, random_flip
from dalif_jax.suggest import did_you_mean

# The operations of `nda` and the largest value of each, as the public code of CIFAR10-DVS recipes
# has them: a share of the height, pixels, degrees. NDA: Li et al. 2022, arXiv 2203.06145.
SHEAR, TRANSLATE, ROTATE = 0.3, 5.0, 30.0
NDA = ("identity", "shear", "translate", "rotate", "cutout")


def roll(key, frames, pixels):
    """Frames [T, H, W, C] moved by up to `pixels` along both axes; what leaves comes back in."""
    shift = jax.random.randint(key, (2,), -pixels, pixels + 1, jnp.int32)
    return jnp.roll(frames, shift, (1, 2))


def nda(key, frames, cutout_size):
    """One operation of NDA, drawn uniformly: nothing, shear in x, translation, rotation, cutout.

    Args:
      key: a PRNG key.
      frames: [T, H, W, C]; the nearest pixel is taken, and none outside: counts stay integers.
      cutout_size: side of the hole in pixels.
    Returns:
      [T, H, W, C] in the same dtype.
    """
    which, amount, hole = jax.random.split(key, 3)
    operation = jax.random.randint(which, (), 0, len(NDA), jnp.int32)
    a, b = jax.random.uniform(amount, (2,), jnp.float32, -1.0, 1.0)
    angle = jnp.deg2rad(ROTATE) * a
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    zero, one = jnp.float32(0.0), jnp.float32(1.0)
    # Where the pixel (x, y) comes from: rows (x from x, x from y, x offset), the same for y.
    maps = jnp.array(
        [
            [[one, zero, zero], [zero, one, zero]],
            [[one, SHEAR * a, zero], [zero, one, zero]],
            [[one, zero, jnp.round(TRANSLATE * a)], [zero, one, jnp.round(TRANSLATE * b)]],
            [[cos, sin, zero], [-sin, cos, zero]],
            [[one, zero, zero], [zero, one, zero]],
        ]
    )
    warped = warp(frames, maps[operation])
    whole = NDA.index("cutout") != operation
    return jnp.where(whole, warped, cutout(hole, frames, cutout_size))


def warp(frames, matrix):
    """Frames [T, H, W, C] through an affine map [2, 3] about their centre, nearest pixel."""
    height, width = frames.shape[1:3]
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_x, from_y = (row[0] * x + row[1] * y + row[2] for row in matrix)
    column = jnp.round(from_x + (width - 1) / 2).astype(jnp.int32)
    row = jnp.round(from_y + (height - 1) / 2).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    moved = frames[:, jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[:, :, None], moved, jnp.zeros((), frames.dtype))


def crop(key, frames, padding):
    """A window of the frames' own size out of frames padded with nothing, the same for all."""
    together = jnp.moveaxis(frames, 0, 2).reshape(*frames.shape[1:3], -1)
    moved = random_crop(key, together, padding)
    return jnp.moveaxis(moved.reshape(*frames.shape[1:3], len(frames), -1), 2, 0)


def random_frames(key, frames, count):
    """`count` of frames [T, H, W, C], drawn without repetition, in their order."""
    drawn = jax.random.permutation(jax.random.fold_in(key, DRAWN), len(frames))[:count]
    return frames[jnp.sort(drawn)]


def filled(frames):
    """int32: how many frames [L, H, W, C] there are until the last with any events."""
    there = (frames != 0).any((1, 2, 3))
    return len(frames) - jnp.argmax(there[::-1]).astype(jnp.int32)


def random_slice(key, frames, count):
    """`count` frames in a row of those that a recording fills of [L, H, W, C], from anywhere."""
    starts = jnp.maximum(filled(frames) - count, 0) + 1
    start = jax.random.randint(jax.random.fold_in(key, DRAWN), (), 0, starts, jnp.int32)
    return jax.lax.dynamic_slice_in_dim(frames, start, count)


def spread_slices(frames, count, slices):
    """[slices, count, H, W, C]: slices of a recording [L, H, W, C] spread from its first frame to
    its last, evenly."""
    room = jnp.maximum(filled(frames) - count, 0)
    starts = room * jnp.arange(slices, dtype=jnp.int32) // max(slices - 1, 1)
    return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(frames, start, count))(starts)


DRAWN = 1000  # the stream of randomness that draws frames, beside those of the table
# name -> fn(key, frames, roll_pixels, cutout_size, crop_padding), applied in this order. A name's
# place is also its stream of random numbers: append, never reorder.
EVENT_AUGMENTS = {
    "flip": lambda key, frames, roll_by, cut, pad: random_flip(key, frames),
    "roll": lambda key, frames, roll_by, cut, pad: roll(key, frames, roll_by),
    "nda": lambda key, frames, roll_by, cut, pad: nda(key, frames, cut),
    "crop": lambda key, frames, roll_by, cut, pad: crop(key, frames, pad),
}


def augment_events(key, frames, ops, *, roll_pixels=5, cutout_size=16, crop_padding=4):
    """Augment one recording; vmap it over keys and recordings.

    Args:
      key: a PRNG key; each operation folds its own number into it.
      frames: counts [T, H, W, 2].
      ops: names from EVENT_AUGMENTS, in any order: they are applied in the table's.
      roll_pixels, cutout_size, crop_padding: pixels, see `roll`, `nda` and `crop`.
    Returns:
      [T, H, W, 2] in the same dtype.
    Raises:
      ValueError: an unknown name.
    """
    for name in ops:
        if name not in EVENT_AUGMENTS:
            raise ValueError(
                f"unknown augment {name!r}; known: {', '.join(EVENT_AUGMENTS)}"
                + did_you_mean(name, EVENT_AUGMENTS)
            )
    for i, (name, apply) in enumerate(EVENT_AUGMENTS.items()):
        if name in ops:
            sizes = roll_pixels, cutout_size, crop_padding
            frames = apply(jax.random.fold_in(key, i), frames, *sizes)
    return frames
