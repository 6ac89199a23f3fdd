"""Image augmentation inside the jitted step: functions of one key and one uint8 image, to vmap.

An image's result depends on its key alone: not on batch size, sharding or device.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.data.autoaugment import cifar_autoaugment
from dalif_jax.suggest import did_you_mean

# name -> how jnp.pad goes on beyond an image's border.
BORDERS = {"black": "constant", "reflect": "reflect"}


def mean_pixel(mean):
    """The pixel, uint8 [C], that `normalize` brings nearest to 0: `mean` of the range [0, 1]."""
    return np.round(255 * np.asarray(mean)).astype(np.uint8)


# name -> the pixel that fills a hole, of a set's mean.
FILLS = {"black": lambda mean: 0, "mean": mean_pixel}


def random_crop(key, image, padding, border="black"):
    """A window of the image's own size out of the image padded on all sides, as torchvision's.

    Args:
      key: a PRNG key.
      image: uint8 [H, W, C].
      padding: pixels added on each side, >= 0; the window's corner is uniform in [0, 2*padding]^2.
      border: from BORDERS: zeros, or the image mirrored at its outermost pixels.
    Returns:
      uint8 [H, W, C].
    """
    sides = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, sides, mode=BORDERS[border])
    y, x = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
    return jax.lax.dynamic_slice(padded, (y, x, jnp.int32(0)), image.shape)


def random_flip(key, image):
    """The image [..., H, W, C], mirrored left to right with probability 1/2."""
    return jnp.where(jax.random.uniform(key, (), jnp.float32) < 0.5, image[..., ::-1, :], image)


def alternate_flip(key, index, epoch, image):
    """The image mirrored left to right in every other epoch, so that two epochs in a row show it
    both ways (Jordan 2024, arXiv 2404.00498).

    Args:
      key: a PRNG key, one for the whole run.
      index: of the image in its set; whether it starts mirrored is drawn from both.
      epoch: counted from 0.
      image: [H, W, C].
    Returns:
      [H, W, C] in the same dtype.
    """
    starts = jax.random.uniform(jax.random.fold_in(key, index), (), jnp.float32) < 0.5
    return jnp.where(starts ^ (epoch % 2 == 1), image[:, ::-1], image)


def cutout(key, image, size, fill=0):
    """Blank one square, clipped at the border (DeVries & Taylor 2017, arXiv 1708.04552).

    Args:
      key: a PRNG key.
      image: [..., H, W, C]. Leading axes, such as time, have the same square.
      size: side in pixels; the centre is uniform over the image, and the square reaches size // 2
        to either side of it, so that an odd side counts as the even one below.
      fill: what it is filled with, one number or C of them; 0, black, is that of the public code
        DA-LIF grew from, before normalization.
    Returns:
      [..., H, W, C] in the same dtype.
    """
    height, width = image.shape[-3:-1]
    y, x = jax.random.randint(key, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32)
    row = jnp.arange(height, dtype=jnp.int32)[:, None, None]
    column = jnp.arange(width, dtype=jnp.int32)[None, :, None]
    half = size // 2
    hole = (row >= y - half) & (row < y + half) & (column >= x - half) & (column < x + half)
    return jnp.where(hole, jnp.asarray(fill, image.dtype), image)


# The one that goes by image and epoch and not by a draw, in front of those of the table.
ALTERNATE = "alternate_flip"


class Sizes(NamedTuple):
    """How far they go, and what stands where there is no image: see `random_crop` and `cutout`."""

    crop_padding: int = 4
    crop_border: str = "black"
    cutout_size: int = 16
    cutout_fill: Any = 0


# name -> fn(key, image, sizes), in the order of application. A name's place is also its stream of
# random numbers: append, never reorder.
AUGMENTS = {
    "crop": lambda key, image, c: random_crop(key, image, c.crop_padding, c.crop_border),
    "flip": lambda key, image, c: random_flip(key, image),
    "autoaugment": lambda key, image, c: cifar_autoaugment(key, image),
    "cutout": lambda key, image, c: cutout(key, image, c.cutout_size, c.cutout_fill),
}


def augment(key, image, ops, **sizes):
    """Augment one image; vmap it over keys and images.

    Args:
      key: a PRNG key; each operation folds its own number into it, so that leaving one out does
        not change what the others draw.
      image: uint8 [H, W, C].
      ops: names from AUGMENTS, in any order: they are applied in the table's.
      sizes: fields of Sizes.
    Returns:
      uint8 [H, W, C].
    Raises:
      ValueError: an unknown name; "autoaugment" on an image without three channels.
    """
    for name in ops:
        if name not in AUGMENTS:
            raise ValueError(
                f"unknown augment {name!r}; known: {', '.join(AUGMENTS)}"
                + did_you_mean(name, AUGMENTS)
            )
    sizes = Sizes(**sizes)
    for i, (name, apply) in enumerate(AUGMENTS.items()):
        if name in ops:
            image = apply(jax.random.fold_in(key, i), image, sizes)
            # Without the barrier XLA works a stage out anew for every pixel the next one reads.
            image = jax.lax.optimization_barrier(image)
    return image


def normalize(images, mean, std, dtype):
    """(images / 255 - mean) / std.

    Args:
      images: uint8 [..., C].
      mean, std: C numbers, in units of the range [0, 1].
      dtype: of the result; computed in float64 for float64, else in float32.
    Returns:
      `dtype` [..., C].
    """
    exact = jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32
    mean, std = jnp.asarray(mean, exact), jnp.asarray(std, exact)
    return ((images.astype(exact) / 255 - mean) / std).astype(dtype)
