"""The event data sets as folders: which recordings there are, in which split, how each is read.

Nothing is downloaded unless asked for (`download`), and the order of recordings is that of their
numbers, never of the folder. Readers are tonic's where it has one that works.
"""

import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dalif_jax import aedat, moving_digits
from dalif_jax.events import BadRecording, DataError, check, make_events

CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


class Recording(NamedTuple):
    """One example: a file, or the part of one between two times."""

    reader: str  # a key of READERS
    path: str
    label: int
    start: int = 0  # us; the part is start <= t < stop where stop is given
    stop: int | None = None
    row: int = 0  # its number in the file

    def __str__(self):
        return self.path + (f" row {self.row}" if self.stop is not None else "")


class Source(NamedTuple):
    """The recordings of a data set as they lie on this machine."""

    name: str
    edition: str  # which of the published forms was found
    sensor: tuple[int, int]  # H, W
    classes: int
    splits: dict[str, list[Recording]]


def home(data_dir):
    """The folder that holds the data sets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name, data_dir="", partial=False):
    """The recordings of an event data set.

    Args:
      name: a key of LAYOUTS.
      data_dir: the folder that holds the set; "" means TFDS_DATA_DIR of the environment, else
        ~/tensorflow_datasets.
      partial: take what recordings there are when some are missing, instead of refusing.
    Returns:
      Source, the same on every machine.
    Raises:
      DataError: nothing there, files missing or labels unreadable: says which, where, and how to
        get them.
    """
    root = home(data_dir)
    source = LAYOUTS[name](root, partial)
    for split, recordings in source.splits.items():
        if not recordings:
            raise DataError(f"{name}: no recordings for {split} in {root}")
    return source


def read(recording, source):
    """Events of one recording, checked.

    Raises:
      BadRecording: empty, truncated, damaged, outside the sensor, or with an impossible label.
    """
    if not 0 <= recording.label < source.classes:
        raise BadRecording(f"label {recording.label} outside 0..{source.classes - 1}")
    try:
        events = READERS[recording.reader](recording.path)
    except OSError as error:
        raise BadRecording(f"cannot be read: {error}") from error
    if recording.stop is not None:
        if recording.stop <= recording.start:
            raise BadRecording(f"zero length: from {recording.start} to {recording.stop} us")
        within = (events["t"] >= recording.start) & (events["t"] < recording.stop)
        events = events[within]
    return check(events, source.sensor)


# ---- Readers: path -> EVENT array.


def read_aedat4(path):
    """AEDAT-4 through tonic, which needs the package aedat."""
    import tonic.io

    try:
        events = tonic.io.read_aedat4(path)
    except ModuleNotFoundError as error:
        raise DataError(
            f"reading AEDAT-4 needs the package {error.name}: pip install aedat"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder raises of many kinds; its panics are no Exception
        raise BadRecording(f"truncated or damaged: {error}") from error
    return make_events(*(events[name] for name in events.dtype.names[:4]))


def read_nmnist(path):
    """N-MNIST's own format through tonic: five bytes an event."""
    import tonic.io

    if size := os.path.getsize(path) % 5:
        raise BadRecording(f"truncated: {size} bytes over a multiple of 5")
    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    events = tonic.io.read_mnist_file(path, dtype)
    return make_events(events["t"], events["x"], events["y"], events["p"])


def read_gesture_npy(path):
    """tonic's edition of DVS128 Gesture: an array [N, 4] of x, y, p, t in milliseconds."""
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy's parser of the header raises of many kinds
        raise BadRecording(f"truncated or no NumPy file: {error}") from error
    if values.ndim != 2 or values.shape[1] != 4 or values.dtype.kind not in "iuf":
        raise BadRecording(f"holds {values.dtype} {values.shape}, not events [N, 4]")
    x, y, p, t = values.T
    return make_events(t.astype(np.int64) * 1000, x, y, p)


READERS = {
    "aedat2": aedat.read_aedat2,
    # A gesture file holds a dozen recordings, converted one after the other.
    "aedat3": functools.lru_cache(maxsize=1)(aedat.read_aedat3),
    "aedat4": read_aedat4,
    "nmnist": read_nmnist,
    "gesture_npy": read_gesture_npy,
    "digits_dvs": moving_digits.read,
}


# ---- Layouts: (root, partial) -> Source.


def _folder(name, candidates, inside, how):
    for folder in candidates:
        if any((folder / entry).exists() for entry in inside):
            return folder
    raise DataError(
        f"{name} was not found. Looked for {' or '.join(map(str, inside[:2]))} in\n  "
        + "\n  ".join(map(str, candidates))
        + f"\n{how}"
    )


def _refuse_missing(name, missing, partial, how):
    if not missing or partial:
        return
    shown = "\n  ".join(missing[:5]) + (f"\n  ... {len(missing)} in all" if missing[5:] else "")
    raise DataError(
        f"{name} is not complete. Missing:\n  {shown}\n{how}\n"
        "To use what there is, set partial_data=True"
    )


def cifar10dvs(root, partial):
    """<class>/cifar10_<class>_<number>.aedat4 (tonic's edition) or .aedat (as published).

    There is no official split. Of each class the first nine tenths by number are the training set
    (0..899 of 1,000), the rest the test set, the split of the public code.
    """
    how = (
        "Get tonic's edition with --download, or the ten archives as published from "
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671, and unpack them there"
    )
    candidates = [root, root / "CIFAR10DVS", root / "extract", root / "CIFAR10DVS" / "extract"]
    folder = _folder("cifar10dvs", candidates, CIFAR_CLASSES, how)
    found = {suffix: list(folder.glob(f"*/*.{suffix}")) for suffix in ("aedat4", "aedat")}
    suffix = max(found, key=lambda suffix: len(found[suffix]))
    train, test, missing = [], [], []
    for label, cls in enumerate(CIFAR_CLASSES):
        numbers = {}
        for path in sorted(folder.glob(f"{cls}/*.{suffix}")):
            if match := re.search(r"(\d+)$", path.stem):
                numbers[int(match[1])] = path
        missing += [
            str(folder / cls / f"cifar10_{cls}_{number}.{suffix}")
            for number in range(1000)
            if number not in numbers
        ]
        ordered = [numbers[number] for number in sorted(numbers)]
        for rank, path in enumerate(ordered):
            split = train if rank < len(ordered) * 9 // 10 else test
            split.append(Recording(suffix if suffix == "aedat4" else "aedat2", str(path), label))
    _refuse_missing("cifar10dvs", missing, partial, how)
    edition = "AEDAT-4, tonic's edition" if suffix == "aedat4" else "AEDAT-2, as published"
    return Source("cifar10dvs", edition, (128, 128), 10, {"train": train, "test": test})


def dvsgesture(root, partial):
    """DVS128 Gesture as published: AEDAT 3.1 trials, cut by their label files.

    trials_to_train.txt and trials_to_test.txt give the official split by user; a row of
    `<trial>_labels.csv` is a sample: class 1..11, start and end in us, start <= t < end. That makes
    1,176 and 288 samples, as SpikingJelly and snnTorch count them too (SpikingJelly 2.0,
    datasets/dvs128_gesture.py); the 98.61 % of the paper is 284 of 288.
    """
    how = (
        "Get DvsGesture.tar.gz from "
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794 (a page, so "
        "it cannot be downloaded for you) and unpack it there: tar xzf DvsGesture.tar.gz"
    )
    candidates = [root, root / "DvsGesture", root / "DVSGesture", root / "extract" / "DvsGesture"]
    folder = _folder("dvsgesture", candidates, ["trials_to_train.txt"], how)
    splits, missing = {}, []
    for split in ("train", "test"):
        listing, splits[split] = folder / f"trials_to_{split}.txt", []
        if not listing.is_file():
            raise DataError(f"dvsgesture: {listing} is missing. {how}")
        for trial in filter(None, map(str.strip, listing.read_text().splitlines())):
            path = folder / trial
            labels = folder / f"{path.stem}_labels.csv"
            absent = [str(p) for p in (path, labels) if not p.is_file()]
            missing += absent
            if not absent:
                splits[split] += _gesture_rows(path, labels)
    _refuse_missing("dvsgesture", missing, partial, how)
    for (split, rows), expected in zip(splits.items(), (1176, 288), strict=True):
        if len(rows) != expected and not partial:
            raise DataError(
                f"dvsgesture {split}: the label files in {folder} hold {len(rows)} samples, the "
                f"published set {expected}; to use what there is, set partial_data=True"
            )
    return Source("dvsgesture", "AEDAT 3.1, as published", (128, 128), 11, splits)


def _gesture_rows(path, labels):
    rows = []
    for number, line in enumerate(labels.read_text().splitlines()[1:], 1):
        try:
            label, start, stop = map(int, line.split(",")[:3])
        except ValueError as error:
            raise DataError(
                f"dvsgesture: {labels} line {number + 1}: {line!r} is not class,start,end"
            ) from error
        rows.append(Recording("aedat3", str(path), label - 1, start, stop, number))
    return rows


def dvsgesture_tonic(root, partial):
    """DVS128 Gesture in tonic's edition: fewer samples (1,077 and 264), milliseconds.

    Not the published protocol: its test set is another one.
    """
    how = "Get it with --download, through tonic"
    candidates = [root / "DVSGesture", root]
    folders = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
    folder = _folder("dvsgesture_tonic", candidates, list(folders.values()), how)
    splits = {}
    for (split, inside), expected in zip(folders.items(), (1077, 264), strict=True):
        paths = [
            (int(trial[1]), trial[2], int(path.stem), str(path))
            for path in (folder / inside).glob("*/*.npy")
            if (trial := re.fullmatch(r"user(\d+)_(\w+)", path.parent.name)) and path.stem.isdigit()
        ]
        splits[split] = [Recording("gesture_npy", path, label) for *_, label, path in sorted(paths)]
        if len(paths) != expected:
            missing = [f"{expected - len(paths)} of {expected} recordings below {folder / inside}"]
            _refuse_missing("dvsgesture_tonic", missing, partial, how)
    return Source("dvsgesture_tonic", "tonic's edition", (128, 128), 11, splits)


def nmnist(root, partial):
    """N-MNIST: Train/<digit>/<number>.bin and Test/<digit>/<number>.bin, 60,000 and 10,000."""
    how = (
        "Get both archives from https://www.garrickorchard.com/datasets/n-mnist and unpack them "
        "there, or use --download, through tonic"
    )
    folder = _folder("nmnist", [root, root / "NMNIST"], ["Train", "Test"], how)
    splits, missing = {}, []
    for split, expected in (("Train", 60_000), ("Test", 10_000)):
        paths = {
            int(path.stem): path for path in (folder / split).glob("*/*.bin") if path.stem.isdigit()
        }
        missing += [
            str(folder / split / "<digit>" / f"{number:05}.bin")
            for number in range(1, expected + 1)
            if number not in paths
        ]
        splits[split.lower()] = [
            Recording(
                "nmnist", str(path), int(path.parent.name) if path.parent.name.isdigit() else -1
            )
            for _, path in sorted(paths.items())
        ]
    _refuse_missing("nmnist", missing, partial, how)
    return Source("nmnist", "bin, as published", (34, 34), 10, splits)


def digits_dvs(root, partial):
    """scikit-learn's digits before a simulated camera; needs no files. Splits as of `digits`."""
    splits = {
        split: [Recording("digits_dvs", f"digit/{index}", label) for index, label in pairs]
        for split, pairs in moving_digits.splits().items()
    }
    return Source("digits_dvs", moving_digits.EDITION, moving_digits.SENSOR, 10, splits)


LAYOUTS = {
    "cifar10dvs": cifar10dvs,
    "dvsgesture": dvsgesture,
    "dvsgesture_tonic": dvsgesture_tonic,
    "nmnist": nmnist,
    "digits_dvs": digits_dvs,
}


def download(name, data_dir):
    """Let tonic download and unpack its edition of a set into data_dir. Existing files stay.

    Raises:
      DataError: no edition of the set can be downloaded, or a file of that name is in the way.
    """
    if name == "digits_dvs":
        return
    classes = {"cifar10dvs": "CIFAR10DVS", "dvsgesture_tonic": "DVSGesture", "nmnist": "NMNIST"}
    if name not in classes:
        raise DataError(f"{name} cannot be downloaded; without --download the message says how")
    import tonic

    make = getattr(tonic.datasets, classes[name])
    parts = ({},) if name == "cifar10dvs" else ({"train": True}, {"train": False})
    root = home(data_dir)
    folder = root / classes[name]
    files = [make.filename] if name == "cifar10dvs" else [make.train_filename, make.test_filename]
    for file in files:
        # tonic would write over an archive of another checksum.
        if (folder / file).exists():
            raise DataError(
                f"{folder / file} is there already and a download could replace it: unpack it, "
                "or move it away"
            )
    for part in parts:
        make(save_to=str(root), **part)
