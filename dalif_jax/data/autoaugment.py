"""AutoAugment's CIFAR-10 policy on one uint8 image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax.data.pillow_operations import (
    LEVELS,
    UNSIGNED,
    enhance,
    geometry_of,
    lookup,
    nearest,
    sample,
    settle,
    tone_of,
)

# (probability, operation, level) twice per sub-policy.
CIFAR10_POLICY = (
    ((0.1, "invert", 7), (0.2, "contrast", 6)),
    ((0.7, "rotate", 2), (0.3, "translate_x", 9)),
    ((0.8, "sharpness", 1), (0.9, "sharpness", 3)),
    ((0.5, "shear_y", 8), (0.7, "translate_y", 9)),
    ((0.5, "autocontrast", 8), (0.9, "equalize", 2)),
    ((0.2, "shear_y", 7), (0.3, "posterize", 7)),
    ((0.4, "color", 3), (0.6, "brightness", 7)),
    ((0.3, "sharpness", 9), (0.7, "brightness", 9)),
    ((0.6, "equalize", 5), (0.5, "equalize", 1)),
    ((0.6, "contrast", 7), (0.6, "sharpness", 5)),
    ((0.7, "color", 7), (0.5, "translate_x", 8)),
    ((0.3, "equalize", 7), (0.4, "autocontrast", 8)),
    ((0.4, "translate_y", 3), (0.2, "sharpness", 6)),
    ((0.9, "brightness", 6), (0.2, "color", 8)),
    ((0.5, "solarize", 2), (0.0, "invert", 3)),
    ((0.2, "equalize", 0), (0.6, "autocontrast", 0)),
    ((0.2, "equalize", 8), (0.8, "equalize", 4)),
    ((0.9, "color", 9), (0.6, "equalize", 6)),
    ((0.8, "autocontrast", 4), (0.2, "solarize", 8)),
    ((0.1, "brightness", 3), (0.7, "color", 0)),
    ((0.4, "solarize", 5), (0.9, "autocontrast", 3)),
    ((0.9, "translate_y", 9), (0.7, "translate_y", 9)),
    ((0.9, "autocontrast", 2), (0.8, "solarize", 3)),
    ((0.8, "equalize", 8), (0.1, "invert", 3)),
    ((0.7, "translate_y", 9), (0.9, "autocontrast", 1)),
)


@functools.cache
def _policy(height, width):
    """The policy for an image size, as tables.

    Returns:
      chance: float32 [25, 2], of each sub-policy's two operations.
      choice: int32 [25, 2, 2], the operation of (sub-policy, slot, sign); operation 0 does nothing.
      tones: dict of arrays [operations], the arguments of `lookup` and `enhance`.
      moves: for each slot an int32 [operations] of places in that slot's (taps, weights), both
        int32 [places, T, H*W]; T is 1 in a slot that needs no bicubic weights.
    """
    operations = [(None, 0.0)]
    choice = np.zeros((len(CIFAR10_POLICY), 2, 2), np.int32)
    for row, slot, sign in np.ndindex(choice.shape):
        _, name, level = CIFAR10_POLICY[row][slot]
        factor = 1.0 if name in UNSIGNED else (-1.0, 1.0)[sign]
        operation = (name, float(LEVELS[name][level]) * factor)
        if operation not in operations:
            operations.append(operation)
        choice[row, slot, sign] = operations.index(operation)
    tones = [tone_of(*operation) for operation in operations]
    tones = {key: np.array([tone[key] for tone in tones]) for key in tones[0]}
    tones = {k: v.astype(np.float32 if v.dtype.kind == "f" else np.int32) for k, v in tones.items()}
    moves = []
    for slot in (0, 1):
        place = np.zeros(len(operations), np.int32)
        maps = [nearest((1, 0, 0, 0, 1, 0), height, width)]
        for index in np.unique(choice[:, slot]):
            geometry = geometry_of(*operations[index], height, width)
            if geometry is not None:
                place[index] = len(maps)
                maps.append(geometry)
        count = max(len(taps) for taps, _ in maps)
        # A map of one source pixel, among maps of four: the other three weigh nothing.
        taps = np.stack([np.resize(taps, (count, height * width)) for taps, _ in maps])
        weights = np.stack([np.pad(w, ((0, count - len(w)), (0, 0))) for _, w in maps])
        moves.append((place, taps, weights))
    chance = np.array([[p for p, _, _ in row] for row in CIFAR10_POLICY], np.float32)
    return chance, choice, tones, moves


def cifar_autoaugment(key, image):
    """One of the 25 sub-policies found for CIFAR-10, each as likely, on one image.

    AutoAugment (Cubuk et al. 2019, arXiv 1805.09501, Table 7) with the magnitudes, signs and fill
    of the public PyTorch `CIFAR10Policy` (DeepVoltaire/AutoAugment), on Pillow's operations. The
    second probability of sub-policy 16, counted from 0, is that code's 0.8; Table 7 has 0.6. A
    shear may differ from Pillow's by one grey level: 20 of 614,400 values did.

    Args:
      key: a PRNG key.
      image: uint8 [H, W, 3].
    Returns:
      uint8 [H, W, 3].
    Raises:
      ValueError: the image has not three channels.
    """
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"autoaugment needs an image [H, W, 3], not {image.shape}")
    chance, choice, tones, moves = jax.tree.map(jnp.asarray, _policy(*image.shape[:2]))
    row_key, chance_key, sign_key = jax.random.split(key, 3)
    row = jax.random.randint(row_key, (), 0, len(CIFAR10_POLICY), jnp.int32)
    applied = jax.random.uniform(chance_key, (2,), jnp.float32) < chance[row]
    sign = jax.random.randint(sign_key, (2,), 0, 2, jnp.int32)
    for slot in (0, 1):
        operation = jnp.where(applied[slot], choice[row, slot, sign[slot]], 0)
        tone = {name: values[operation] for name, values in tones.items()}
        place, taps, weights = moves[slot]
        image = settle(sample(image, taps[place[operation]], weights[place[operation]]))
        image = settle(lookup(image, tone["kind"], tone["threshold"], tone["mask"]))
        image = settle(enhance(image, tone["base"], tone["high"], tone["low"]))
    return image
