"""What is known of a user's dataset, which is scanned and not typed in."""

import sys
from typing import NamedTuple

import numpy as np

from dalif_jax.data import fingerprint, memory
from dalif_jax.data.class_folders import account, class_files  # noqa: F401  used as this module's
from dalif_jax.data.events.events import DataError

KEPT = ("shape", "classes", "train", "test", "timesteps")  # what a run cannot change


class Found(NamedTuple):
    """What a set of one's own turned out to hold; plain values, kept in the run's config.json."""

    shape: tuple  # H, W, C
    classes: tuple  # names, in the order of labels
    train: int
    test: int
    mean: tuple = ()  # of the training set's pixels scaled to 0..1; () for frames of events
    std: tuple = ()
    timesteps: int = 0  # of frames of events that are given as such
    fingerprint: tuple = ()  # ((name of a part, number of examples, digest), ...)


def fits(needed, name, shape):
    """Raise DataError where so many bytes are more than the machine has free for them."""
    free = memory.available()
    if free is not None and free < 2 * needed:  # on the host, and on the device, which can share it
        raise DataError(
            f"{name}: {shape} are {needed:,} bytes, which lie in memory whole, and on a device; "
            f"{free:,} bytes are free. A smaller frame_size, or a part of the set, fits"
        )


def statistics(images):
    """(mean, std) of pixels scaled to 0..1, a number a channel: exact sums, divided once."""
    count = images.size // images.shape[-1]
    sums, squares = np.zeros((2, images.shape[-1]), object)
    for part in np.array_split(images, max(1, len(images) // 4096)):
        flat = part.reshape(-1, images.shape[-1]).astype(np.uint64)
        sums, squares = sums + flat.sum(0), squares + (flat * flat).sum(0)
    mean = [int(total) / count for total in sums]
    spread = [int(q) / count - m * m for q, m in zip(squares, mean, strict=True)]
    return (
        tuple(m / 255 for m in mean),
        # A channel of one value has no spread to divide by.
        tuple(max(v, 0.0) ** 0.5 / 255 or 1.0 for v in spread),
    )


def differences(before, now):
    """Lines: what differs between two scans of a dataset, as mappings of Found's fields.

    A scan without a fingerprint, by an earlier version, agrees with every fingerprint.
    """
    lines = []
    for key in KEPT:
        was, is_now = (_plain(scan.get(key, 0)) for scan in (before, now))
        if was != is_now:
            lines.append(f"{key} {was!s:.200} then, {is_now!s:.200} now")
    if not lines and before.get("fingerprint") and now.get("fingerprint"):
        try:
            changed = fingerprint.difference(before["fingerprint"], now["fingerprint"])
        except (TypeError, ValueError, LookupError):  # of a config.json from elsewhere
            changed = "its record has no readable fingerprint"
        lines += [changed] * bool(changed)
    return lines


def _plain(value):
    return tuple(value) if isinstance(value, list | tuple) else value


def still(name, data_dir, found, now):
    """Compare a user's dataset with what it was when the run began.

    Other files of the same number are a warning: a trained network may be measured on them. A run
    does not continue with them, see settings.config.claim.

    Raises:
      DataError: shape, classes or numbers of examples differ.
    """
    lines = differences(found, now._asdict())
    if not lines:
        return
    where = fingerprint.printable(data_dir)
    what = f"{name}: {where} is not what the run began with: {lines[0]}"
    if any(_plain(found.get(key, 0)) != _plain(getattr(now, key)) for key in KEPT):
        raise DataError(f"{what}. --data_dir=FOLDER names a copy of the first dataset")
    print(f"warning: {what}. What is measured now is of the changed dataset", file=sys.stderr)
