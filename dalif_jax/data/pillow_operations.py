"""Operations of augmentation policies on one uint8 image, each as Pillow does it.

The operations follow Pillow's integer and rounding rules, not just its formulas, so a recipe
behaves as it did in the PyTorch implementations it was published with. What depends only on an
operation's magnitude is worked out on the host in float64, as Pillow does; what depends on pixels
is integer arithmetic, or float32 arithmetic whose result no fused multiply-add can change.
"""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

FILL = 128  # grey level that geometric operations show from outside the image
WEIGHT_BITS = 22  # of a bicubic weight's fraction: 1.25 * 255 * 2^22 still fits int32
GRADES, AUTOCONTRAST, EQUALIZE = range(3)  # kinds of lookup table
BLACK, MEAN, GREY, SMOOTH = range(4)  # images that the enhancing operations move away from

# Ten levels of each operation's magnitude; the last three have none.
LEVELS = {
    **dict.fromkeys(("shear_x", "shear_y"), np.linspace(0, 0.3, 10)),
    **dict.fromkeys(("translate_x", "translate_y"), np.linspace(0, 150 / 331, 10)),
    "rotate": np.linspace(0, 30, 10),
    **dict.fromkeys(("color", "contrast", "sharpness", "brightness"), np.linspace(0, 0.9, 10)),
    "posterize": np.round(np.linspace(8, 4, 10)),
    "solarize": np.linspace(256, 0, 10),
    **dict.fromkeys(("autocontrast", "equalize", "invert"), np.zeros(10)),
}
_BASES = {"color": GREY, "contrast": MEAN, "sharpness": SMOOTH, "brightness": BLACK}
UNSIGNED = ("rotate", "posterize", "solarize", "autocontrast", "equalize", "invert")

# Host side: what an operation's magnitude fixes, in float64.


def nearest(matrix, height, width):
    """Source pixel of each pixel, [1, H*W] int32, height*width where it lies outside."""
    a, b, c, d, e, f = matrix
    if b == 0 and d == 0:  # Pillow steps through an upright grid by repeated addition
        x = np.floor(np.add.accumulate([c + a * 0.5] + [a] * (width - 1)))[None, :]
        y = np.floor(np.add.accumulate([f + e * 0.5] + [e] * (height - 1)))[:, None]
    else:  # and through a slanted one in 16.16 fixed point
        fixed = [math.floor(v * 65536.0 + 0.5) for v in (a, b, d, e)]
        start = (c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5)
        origin = [math.floor(v * 65536.0 + 0.5) for v in start]
        row, column = np.mgrid[:height, :width]
        x = (origin[0] + column * fixed[0] + row * fixed[1]) >> 16
        y = (origin[1] + column * fixed[2] + row * fixed[3]) >> 16
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    source = np.where(inside, y * width + x, height * width)
    weights = np.full((1, height * width), 1 << WEIGHT_BITS, np.int32)
    return source.reshape(1, -1).astype(np.int32), weights


def _shear(coefficient, along_x, height, width):
    """Four source pixels of each pixel and their bicubic weights, both [4, H*W] int32.

    A shear moves along one axis only, so that of the 4 x 4 neighbours four have a weight. Pillow's
    kernel is the cubic of Keys with a = -1, its border replicated.
    """
    row, column = np.mgrid[:height, :width]
    at, across, size = (column, row, width) if along_x else (row, column, height)
    place = (at + 0.5) + coefficient * (across + 0.5)
    outside = (place < 0) | (place >= size)
    floor = np.floor(place - 0.5)
    t = (place - 0.5) - floor
    near = np.clip(floor.astype(int) + np.arange(-1, 3)[:, None, None], 0, size - 1)
    taps = row * width + near if along_x else near * width + column
    taps = np.where(outside, height * width, taps)
    kernel = [-t + 2 * t**2 - t**3, 1 - 2 * t**2 + t**3, t + t**2 - t**3, t**3 - t**2]
    weights = np.round(np.array(kernel) * 2**WEIGHT_BITS).astype(np.int32)
    weights[1] += (1 << WEIGHT_BITS) - weights.sum(0)  # so that a flat area stays as it is
    return taps.reshape(4, -1).astype(np.int32), weights.reshape(4, -1)


def geometry_of(name, value, height, width):
    """Source pixels and weights of a geometric operation; None where it moves nothing."""
    if name in ("shear_x", "shear_y"):
        return _shear(value, name == "shear_x", height, width)
    if name == "translate_x":
        return nearest((1, 0, value * width, 0, 1, 0), height, width)
    if name == "translate_y":
        return nearest((1, 0, 0, 0, 1, value * height), height, width)
    if name == "rotate" and value % 360:
        angle = -math.radians(value % 360.0)
        cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
        x, y = width / 2, height / 2
        matrix = (cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y)
        return nearest(matrix, height, width)
    return None


def tone_of(name, value):
    """Numbers that steer `lookup` and `enhance`; those of the identity where nothing is named."""
    tone = {"kind": GRADES, "threshold": 256, "mask": 255, "base": BLACK, "factor": 1.0}
    if name == "posterize":
        tone["mask"] = 255 & ~(2 ** (8 - int(value)) - 1)
    elif name == "solarize":
        tone["threshold"] = math.ceil(value)
    elif name == "invert":
        tone["threshold"] = 0
    elif name in ("autocontrast", "equalize"):
        tone["kind"] = AUTOCONTRAST if name == "autocontrast" else EQUALIZE
    elif name in _BASES:
        tone |= {"base": _BASES[name], "factor": 1.0 + value}
    # Two factors of at most 12 bits: each times a difference of grey levels is exact in float32,
    # and their sum is rounded once, as Pillow's product is, with fused multiply-adds or without.
    factor = np.float32(tone.pop("factor"))
    high = (factor.view(np.int32) & np.int32(-4096)).view(np.float32)
    return tone | {"high": high, "low": factor - high}


@functools.cache
def _autocontrast_error():
    """What rounding adds to v * (255 / n) in float64, [256 n, 256 v] float32, in units of 2^-52."""
    error = np.zeros((256, 256), np.float32)
    for n in range(1, 256):
        for v in range(256):
            error[n, v] = (Fraction(v * (255.0 / n)) - Fraction(v * 255, n)) * 2**52
    return error


# Without such barriers XLA works a stage out anew for every pixel of the next that reads it.
settle = jax.lax.optimization_barrier


# Device side: each stage leaves the image as it is when its numbers are the identity's.


def sample(image, taps, weights):
    """Weighted sum of the source pixels `taps` [T, H*W], which may point at the fill colour."""
    pixels = image.reshape(-1, image.shape[-1])
    pixels = jnp.concatenate([pixels, jnp.full_like(pixels[:1], FILL)])
    if taps.shape[0] == 1:
        return pixels[taps[0]].reshape(image.shape)
    total = (pixels[taps].astype(jnp.int32) * weights[..., None]).sum(0, dtype=jnp.int32)
    return jnp.clip(total >> WEIGHT_BITS, 0, 255).astype(jnp.uint8).reshape(image.shape)


def _autocontrast_table(low, high):
    """Stretch of [low, high] to [0, 255]; low, high int32 [C, 1], result int32 [C, 256].

    Pillow truncates v * scale - low * scale in float64, which falls one short where the quotient
    is whole and the two products were rounded apart by more than the difference rounds back.
    """
    v = jnp.arange(256, dtype=jnp.int32)
    span = jnp.maximum(high - low, 1)
    quotient = jax.lax.div(jnp.clip((v - low) * 255, 0, 255 * span), span + 0 * v)
    whole = (v - low) * 255 == quotient * span
    error = jnp.asarray(_autocontrast_error())[span[:, 0]]
    apart = jnp.round(error - jnp.take_along_axis(error, low, 1)).astype(jnp.int32)
    half_step = jnp.int32(1) << (32 - jax.lax.clz(jnp.maximum(quotient, 1) - 1))  # in 2^-54
    short = whole & (quotient > 0) & (4 * apart < -half_step)
    return jnp.where(high > low, quotient - short.astype(jnp.int32), v)


def _equalize_table(counts, high):
    """Pillow's histogram equalization; counts int32 [C, 256], high [C, 1], result like counts."""
    last = jnp.take_along_axis(counts, high, 1)
    step = (counts.sum(1, keepdims=True, dtype=jnp.int32) - last) // 255
    below = settle(jnp.cumsum(counts, axis=1, dtype=jnp.int32) - counts)
    table = jnp.minimum(jax.lax.div(step // 2 + below, jnp.maximum(step, 1) + 0 * below), 255)
    return jnp.where(step > 0, table, jnp.arange(256, dtype=jnp.int32))


def lookup(image, kind, threshold, mask):
    """Operations that map grey levels: one table per channel, chosen by `kind`."""
    channels = image.shape[-1]
    pixels = image.reshape(-1, channels)
    places = pixels.astype(jnp.int32) + 256 * jnp.arange(channels, dtype=jnp.int32)
    low, high = (f(0).astype(jnp.int32)[:, None] for f in (pixels.min, pixels.max))
    counts = jnp.zeros(channels * 256, jnp.int32).at[places].add(1, mode="promise_in_bounds")
    low, high, counts = settle((low, high, counts.reshape(channels, 256)))
    v = jnp.arange(256, dtype=jnp.int32)
    table = jnp.where(v < threshold, v, 255 - v) & mask
    table = jnp.where(kind == AUTOCONTRAST, _autocontrast_table(low, high), table)
    table = jnp.where(kind == EQUALIZE, _equalize_table(counts, high), table)
    table = settle(jnp.broadcast_to(table, (channels, 256)).astype(jnp.uint8))
    return table.reshape(-1).at[places].get(mode="promise_in_bounds").reshape(image.shape)


def enhance(image, base, high, low):
    """Blend from a degenerate image to `image` and beyond: d + (high + low) * (image - d)."""
    pixels = image.astype(jnp.int32)
    luma = jnp.array([19595, 38470, 7471], jnp.int32)
    grey = ((pixels * luma).sum(-1, keepdims=True, dtype=jnp.int32) + 0x8000) >> 16
    mean = (2 * grey.sum(dtype=jnp.int32) + grey.size) // (2 * grey.size)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    smooth = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    smooth = pixels.at[1:-1, 1:-1].set((2 * smooth + 13) // 26)
    degenerate = jnp.where(base == MEAN, mean, 0)
    degenerate = jnp.where(base == GREY, grey, degenerate)
    degenerate = jnp.where(base == SMOOTH, smooth, degenerate)
    difference = (pixels - degenerate).astype(jnp.float32)
    blend = degenerate.astype(jnp.float32) + (high * difference + low * difference)
    return jnp.clip(blend, 0, 255).astype(jnp.uint8)


def _operate(name, image, value=0.0):
    geometry, tone = geometry_of(name, value, *image.shape[:2]), tone_of(name, value)
    if geometry is not None:
        return sample(image, *map(jnp.asarray, geometry))
    if name in _BASES:
        return enhance(image, tone["base"], tone["high"], tone["low"])
    return lookup(image, tone["kind"], tone["threshold"], tone["mask"])


# name -> fn(image, value): uint8 [H, W, 3] to the same. `value` is a Python number with its sign:
# shear coefficient; translation as a fraction of the side; degrees; 1 + value the factor of color,
# contrast, sharpness and brightness; bits kept; threshold in [0, 256]; unused by the last three.
OPERATIONS = {name: functools.partial(_operate, name) for name in LEVELS}
