"""Recordings of one's own: class folders of any format that is read here."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from dalif_jax.data import class_folders, fingerprint
from dalif_jax.data.events import aedat, event_arrays
from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.shelf import Recording, Source
from dalif_jax.data.fingerprint import printable

ARRAY = "array"  # the readers of NumPy files, which are called after their unit of time
BY_SUFFIX = {".aedat4": "aedat4", ".bin": "nmnist", ".npy": ARRAY, ".npz": ARRAY}
# A sensor so many times wider than what holds nearly all events is an outlier's.
OUTLYING = 4


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
    NumPy files (event_arrays.py) the smallest square that holds all events.

    Raises:
      DataError: as class_files; recordings of several sensors, or with an event far outside.
    """
    return look(root)[0]


def look(root):
    """(Source, class names). NumPy files that cannot be read are left to the conversion."""

    def usable(path):
        return "" if reader_of(path) else "of no format of recordings"

    rows, classes, left_out = class_folders.class_files(root, "event_folder", usable)
    readers = {path: reader_of(path) for labelled in rows.values() for path, _ in labelled}
    sensors = {
        (34, 34) if reader == "nmnist" else aedat.SENSOR: path
        for path, reader in readers.items()
        if reader != ARRAY
    }
    notes = []
    if arrays := [path for path, reader in readers.items() if reader == ARRAY]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            surveys = dict(zip(arrays, pool.map(_survey, arrays), strict=True))
        side, path = _side(surveys)
        sensors[side, side] = path
        units = _units(surveys, notes)
        notes.append(
            f"its sensor is taken as {side}x{side}, the smallest square that holds all events of "
            "NumPy files"
        )
        readers |= {path: f"{ARRAY}_{units[path]}" for path in arrays}
    if len(sensors) > 1:
        shown = ", ".join(f"{h}x{w} (e.g. {printable(path)})" for (h, w), path in sensors.items())
        raise DataError(f"event_folder: recordings of several sensors: {shown}; one is expected")
    (sensor,) = sensors
    splits = {
        part: [Recording(readers[path], str(path), label) for path, label in labelled]
        for part, labelled in rows.items()
    }
    left = tuple((what, why) for why, names in left_out.items() for what in names)
    root = Path(root).expanduser()
    if not class_folders.part_folders(root, "event_folder")[0]:
        notes.append(f"the test set is {class_folders.SPLIT}")
    edition = " and ".join(sorted(set(readers.values())))
    source = Source(
        "event_folder", edition, sensor, len(classes), splits, root, left,
        sum(map(len, splits.values())), tuple(notes),
    )  # fmt: skip
    return source, classes


def content(source, classes):
    """Fingerprint of the recordings of a Source of `look`, see data/fingerprint.py.

    Raises:
      DataError: a file cannot be read.
    """
    rows = {
        part: [(Path(row.path), row.label) for row in some] for part, some in source.splits.items()
    }
    paths = [path for some in rows.values() for path, _ in some]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    return fingerprint.of_folders(source.folder, rows, classes, digests)


def with_unit(source, unit):
    """The Source with times of NumPy files in a unit of event_arrays.TIME_UNITS."""
    if unit == "auto":
        return source
    splits = {
        part: [
            row._replace(reader=f"{ARRAY}_{unit}") if row.reader.startswith(ARRAY) else row
            for row in rows
        ]
        for part, rows in source.splits.items()
    }
    return source._replace(splits=splits)


def _digest(path):
    try:
        status = os.stat(path)
        return fingerprint.of_file(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(
            f"event_folder: {printable(path)} cannot be read: {error.strerror}"
        ) from error


def _survey(path):
    status = os.stat(path)
    return _survey_once(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _survey_once(path, size, changed):
    return event_arrays.survey(path)


def _side(surveys):
    """(side, path): the smallest square that holds all events, and the recording that needs it.

    Raises:
      DataError: no recording can be used, or an event lies far outside the others.
    """
    usable = {path: survey for path, survey in surveys.items() if survey.side > 0}
    if not usable:
        path, survey = next(iter(surveys.items()))
        why = survey.error or "its coordinates are negative"
        raise DataError(f"event_folder: no NumPy file can be used, e.g. {printable(path)}: {why}")
    path = max(usable, key=lambda path: usable[path].side)
    widest = usable[path]
    usual = max(survey.usual_side for survey in usable.values())
    if widest.side > OUTLYING * usual:
        raise DataError(
            f"event_folder: {printable(path)}: {widest.farthest}, while nearly all events of the "
            f"dataset lie within {usual}x{usual} pixels. A sensor of {widest.side}x{widest.side} "
            "would squeeze them into a corner: remove the event, or the file"
        )
    return widest.side, path


def _units(surveys, notes):
    """{path: unit of time}; what was decided is added to `notes`."""
    units = {}
    for named, what in ((True, "NumPy files with named fields"), (False, "tables [N, 4]")):
        rows = {path: survey for path, survey in surveys.items()
                if survey.side > 0 and survey.named == named}  # fmt: skip
        if not rows:
            continue
        span = median(survey.span for survey in rows.values())
        fractions = any(survey.fractions for survey in rows.values())
        unit = "us" if named or (span > event_arrays.LONGEST_MS and not fractions) else "ms"
        units |= dict.fromkeys(rows, unit)
        lasts = span * event_arrays.MICROSECONDS[unit] / 1e6
        notes.append(
            f"times of {len(rows):,} {what} are taken as {unit}, the median recording lasts "
            f"{lasts:.4g} s then; --config.time_unit=us, ms or s overrides"
        )
    usual = next(iter(units.values()), "us")  # files that cannot be used are refused when read
    return {path: units.get(path, usual) for path in surveys}
