"""scikit-learn's digits as a simulated event camera sees them: the event set that needs no files.

The way CIFAR10-DVS and N-MNIST were recorded: the image moves along a closed path before the
sensor, and a pixel sends an event whenever its log intensity has changed by a threshold since its
last one (Lichtsteiner et al. 2008, DOI 10.1109/JSSC.2007.914337). Pixels differ in their threshold,
as real ones do; that is all that is random, and it depends on (seed, digit) alone.
"""

import functools

import numpy as np

from dalif_jax.data.digits import digits
from dalif_jax.data.events.events import EVENT, make_events

SENSOR = (16, 16)  # H, W
SCALE = 1.5  # sensor pixels a pixel of the image: 12 of 16, the rest is room to move
RADIUS = 2.0  # of the circle the image moves on, in sensor pixels
POSITIONS = 60  # rendered along the circle
DURATION = 300_000  # us of one round
THRESHOLD = 0.25  # of log intensity
MISMATCH = 0.03  # standard deviation of a pixel's threshold
DARK = 0.1  # intensity of black, where white is 1
SEED = 0
EDITION = (
    f"simulated: {SENSOR}, scale {SCALE}, radius {RADIUS}, {POSITIONS} positions in {DURATION} us, "
    f"threshold {THRESHOLD} +- {MISMATCH}, dark {DARK}, seed {SEED}"
)


@functools.cache
def _digits():
    images, labels = digits()
    return images / 16.0, labels


def splits():
    """{split: [(index, label)]}, the rule of `sets.digits`: every fifth of the first 1,437 is
    `test`, the last 360 are `unseen_writers`, the rest `train`."""
    parts = {"train": [], "test": [], "unseen_writers": []}
    for index, label in enumerate(_digits()[1].tolist()):
        split = "unseen_writers" if index >= 1437 else "test" if index % 5 == 4 else "train"
        parts[split].append((index, label))
    return parts


def read(path):
    """Events of `digit/<index>`."""
    index = int(path.rpartition("/")[2])
    return record(_digits()[0][index], np.random.default_rng([SEED, index]))


def record(image, rng):
    """Events of an image that moves once around a circle.

    Args:
      image: [H, W], intensity 0..1.
      rng: NumPy generator of the pixels' thresholds.
    Returns:
      EVENT array in the order of time; times in us.
    """
    angle = 2 * np.pi * np.arange(POSITIONS + 1) / POSITIONS
    rows = _weights(SENSOR[0], image.shape[0], RADIUS * np.sin(angle))
    columns = _weights(SENSOR[1], image.shape[1], RADIUS * np.cos(angle))
    seen = np.log(DARK + (1 - DARK) * np.einsum("khi,ij,kwj->khw", rows, image, columns))
    threshold = np.maximum(rng.normal(THRESHOLD, MISMATCH, SENSOR), THRESHOLD / 2)
    times = np.linspace(0, DURATION, POSITIONS + 1)
    reference, parts = seen[0].copy(), []
    for k in range(1, POSITIONS + 1):
        change = seen[k] - reference
        crossings = np.floor(np.abs(change) / threshold).astype(int)
        y, x = np.repeat(np.argwhere(crossings), crossings[crossings > 0], axis=0).T
        if not len(y):
            continue
        sign = np.sign(change[y, x])
        # The n-th crossing of a pixel, and when the straight line between two positions meets it.
        first = np.r_[True, (np.diff(y) != 0) | (np.diff(x) != 0)]
        begins = np.flatnonzero(first)
        nth = np.arange(len(y)) - np.repeat(begins, np.diff(np.r_[begins, len(y)])) + 1
        level = reference[y, x] + sign * nth * threshold[y, x]
        slope = seen[k][y, x] - seen[k - 1][y, x]
        share = np.clip((level - seen[k - 1][y, x]) / np.where(slope, slope, 1.0), 0.0, 1.0)
        moments = times[k - 1] + share * (times[k] - times[k - 1])
        parts.append(make_events(moments.astype(np.int64), x, y, sign > 0))
        reference += np.sign(change) * crossings * threshold
    events = np.concatenate(parts) if parts else np.empty(0, EVENT)
    return events[np.lexsort((events["p"], events["x"], events["y"], events["t"]))]


def _weights(sensor, image, shifts):
    """[K, sensor, image]: linear interpolation of an image moved by each shift; dark outside."""
    centre = (np.arange(sensor) - (sensor - 1) / 2 - shifts[:, None]) / SCALE + (image - 1) / 2
    return np.maximum(0.0, 1.0 - np.abs(centre[..., None] - np.arange(image)))
