"""Recordings of one's own: class folders of any format that is read here."""

from pathlib import Path

import numpy as np

from dalif_jax.data import own
from dalif_jax.data.events import aedat
from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.shelf import Recording, Source

BY_SUFFIX = {".aedat4": "aedat4", ".bin": "nmnist", ".npy": "gesture_npy"}


def reader_of(path):
    """The key of recordings.READERS for a file: by its ending, AEDAT by its first line; "" for
    none."""
    suffix = path.suffix.lower()
    if suffix != ".aedat":
        return BY_SUFFIX.get(suffix, "")
    with open(path, "rb") as file:
        return "aedat3" if file.read(10).startswith(b"#!AER-DAT3") else "aedat2"


def event_folder(root, partial):
    """The Source of class folders of recordings, as own.class_files has them.

    All are of one sensor: that of their format, DVS128 for AEDAT and 34x34 for N-MNIST's .bin; of
    .npy files [N, 4] of x, y, p, t in milliseconds, the smallest square that holds all events.

    Raises:
      DataError: as class_files; recordings of several sensors.
    """
    return look(root)[0]


def look(root):
    """(Source, class names)."""

    def usable(path):
        return "" if reader_of(path) else "of no format of recordings"

    rows, classes, left_out = own.class_files(root, "event_folder", usable)
    splits = {
        part: [Recording(reader_of(path), str(path), label) for path, label in labelled]
        for part, labelled in rows.items()
    }
    everything = [recording for part in splits.values() for recording in part]
    found = {}
    for recording in everything:
        found.setdefault(_sensor(recording), recording.path)
    squares = {sensor: path for sensor, path in found.items() if sensor[0] < 0}
    if squares:  # of .npy files the largest stands for all
        largest = min(squares)
        path = squares[largest]
        for sensor in squares:
            del found[sensor]
        found[(-largest[0], -largest[1])] = path
    if len(found) > 1:
        shown = ", ".join(f"{h}x{w} (e.g. {path})" for (h, w), path in found.items())
        raise DataError(f"event_folder: recordings of several sensors: {shown}; one is expected")
    (sensor,) = found
    left = tuple((what, why) for why, names in left_out.items() for what in names)
    edition = " and ".join(sorted({recording.reader for recording in everything}))
    folder = Path(root).expanduser()
    source = Source(
        "event_folder", edition, sensor, len(classes), splits, folder, left, len(everything)
    )
    return source, classes


def _sensor(recording):
    """(H, W) of a recording's format; negative the square that a .npy file needs at least."""
    if recording.reader == "nmnist":
        return (34, 34)
    if recording.reader != "gesture_npy":
        return aedat.SENSOR
    try:
        values = np.load(recording.path, allow_pickle=False, mmap_mode="r")
        side = int(values[:, :2].max()) + 1
    except Exception as error:  # NumPy's parser of the header raises of many kinds
        raise DataError(f"event_folder: {recording.path} cannot be read: {error}") from error
    return (-side, -side)
