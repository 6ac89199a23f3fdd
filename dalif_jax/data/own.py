"""Sets of one's own, which are found and not typed in: what is known of them, and class folders.

A folder holds train/<class>/ and test/<class>/, or the classes alone: then of each class, in the
order of a digest of its files' names, every fifth is of the test set, the same on every machine.
Classes are numbered in the order of their names.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dalif_jax.data.events.events import DataError

SPLIT = "every fifth of each class, in the order of a digest of its files' names"


class Found(NamedTuple):
    """What a set of one's own turned out to hold; plain values, kept in the run's config.json."""

    shape: tuple  # H, W, C
    classes: tuple  # names, in the order of labels
    train: int
    test: int
    mean: tuple = ()  # of the training set's pixels scaled to 0..1; () for frames of events
    std: tuple = ()
    timesteps: int = 0  # of frames of events that are given as such


# ---- Class folders.


def class_files(root, name, usable):
    """{"train": [(path, label)], "test": ...}, class names, and {why: [what was left out]}.

    Args:
      usable: (path) -> why it is left out, or "".
    Raises:
      DataError: no folder, no classes, a class without files, or one of the test set alone.
    """
    root = Path(root).expanduser() if root else None
    if root is None or not root.is_dir():
        raise DataError(
            f"{name}: {f'{root} is no folder' if root else 'data_dir is not given'}; it names one "
            "of class folders, or of train/ and test/ with class folders in each"
        )
    parts = {part: root / part for part in ("train", "test") if (root / part).is_dir()}
    if len(parts) == 1:
        there, missing = (*parts, *({"train", "test"} - set(parts)))
        raise DataError(
            f"{name}: {root} has {there}/ and no {missing}/; both, or neither, are read"
        )
    left_out, files = {}, {}
    for part, folder in (parts or {"": root}).items():
        entries = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
        for entry in entries:
            if not entry.is_dir():
                left_out.setdefault("no folder of a class", []).append(str(entry))
                continue
            for path in sorted(entry.rglob("*")):
                if path.is_dir() or path.name[0] == ".":
                    continue
                why = "a link to nothing" if not path.exists() else usable(path)
                if why:
                    left_out.setdefault(why, []).append(str(path))
                else:
                    files.setdefault((part, entry.name), []).append(path)
            if (part, entry.name) not in files:
                raise DataError(f"{name}: the class folder {entry} holds nothing that can be used")
    classes = sorted({cls for _, cls in files})
    if len(classes) < 2:
        raise DataError(f"{name}: {root} has {len(classes)} class folders; two at least are needed")
    splits = {"train": [], "test": []}
    for label, cls in enumerate(classes):
        for part in parts:
            if (part, cls) not in files:
                raise DataError(f"{name}: class {cls} has no folder in {parts[part]}")
            splits[part] += [(path, label) for path in files[part, cls]]
        if not parts:
            _divide(splits, files["", cls], label, root)
    if not splits["test"]:
        raise DataError(f"{name}: no class of {root} has the five files of which one is tested")
    return splits, tuple(classes), left_out


def _divide(splits, paths, label, root):
    def drawn(path):
        return hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()

    tested = set(sorted(paths, key=drawn)[4::5])
    for path in paths:
        splits["test" if path in tested else "train"].append((path, label))


def account(name, root, splits, left_out, divided):
    """Print what is used and what is left out, and why."""
    parts = [f"{name} in {root}: " + ", ".join(f"{k} {len(v):,}" for k, v in splits.items())]
    if divided:
        parts.append(SPLIT)
    if left_out:
        count = sum(map(len, left_out.values()))
        each = (f"{len(rows):,} {why} (e.g. {rows[0]})" for why, rows in left_out.items())
        parts.append(f"{count:,} left out: " + ", ".join(each))
    print("; ".join(parts), flush=True)


def fits(needed, name, shape):
    """Raise DataError where so many bytes are more than the machine has free for them."""
    pages = getattr(os, "sysconf", lambda _: -1)
    free = pages("SC_AVPHYS_PAGES") * pages("SC_PAGE_SIZE") if hasattr(os, "sysconf") else -1
    if 0 < free < 2 * needed:  # on the host, and on the device, which may be the same
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


def still(name, data_dir, found, now):
    """Raise DataError where a set of one's own is not what it was when the run began."""
    for key in ("shape", "classes", "train", "test"):
        before, after = (tuple(v) if key in ("shape", "classes") else v
                         for v in (found[key], getattr(now, key)))  # fmt: skip
        if before != after:
            raise DataError(
                f"{name}: {data_dir} is not what the run began with: {key} {before} then, {after} "
                "now"
            )
