"""The recordings of the event data sets: found, read, checked; downloaded when asked to.

Readers are tonic's where it has one that works. Each reads one version of one camera's files and
refuses what is another's.
"""

import functools
import os

import numpy as np

from dalif_jax.data.events import aedat, event_arrays, moving_digits
from dalif_jax.data.events.events import BadRecording, DataError, check, make_events, unwrap
from dalif_jax.data.events.layouts import LAYOUTS
from dalif_jax.data.events.shelf import account, home


def find(name, data_dir="", partial=False):
    """The recordings of an event data set; prints how many are used and left out, and why.

    Args:
      name: a key of layouts.LAYOUTS.
      data_dir: the folder that holds the set; "" means TFDS_DATA_DIR of the environment, else
        ~/tensorflow_datasets.
      partial: take what recordings there are when some are missing, instead of refusing.
    Returns:
      Source, the same on every machine.
    Raises:
      DataError: nothing there, files missing or in doubt, or labels unreadable: says which,
        where, and how to get them.
    """
    root = home(data_dir)
    source = LAYOUTS[name](root, partial)
    for split, recordings in source.splits.items():
        if not recordings:
            raise DataError(f"{name}: no recordings for {split} in {root}")
    if source.folder:
        print(account(source), flush=True)
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
    """AEDAT 4.0 of one DVS128, through tonic, which needs the package aedat."""
    import tonic.io

    with open(path, "rb") as file:
        aedat.expect_version(file.read(64), "4.0")
    try:
        from aedat import Decoder

        streams = [s for s in Decoder(path).id_to_stream().values() if s["type"] == "events"]
        events = tonic.io.read_aedat4(path)
    except ModuleNotFoundError as error:
        raise DataError(
            f"reading AEDAT-4 needs the package {error.name}: pip install aedat"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder raises of many kinds; its panics are no Exception
        raise BadRecording(f"truncated or damaged: {error}") from error
    sensors = [(stream["height"], stream["width"]) for stream in streams]
    if sensors != [aedat.SENSOR]:
        raise BadRecording(
            f"is of another camera: events of {' and '.join(f'{h}x{w}' for h, w in sensors)} "
            f"pixels; expected {aedat.CAMERA}"
        )
    return make_events(*(events[name] for name in events.dtype.names[:4]))


def read_nmnist(path):
    """N-MNIST's own format through tonic: five bytes an event, 23 bits of them the time."""
    import tonic.io

    if size := os.path.getsize(path) % 5:
        raise BadRecording(f"truncated: {size} bytes over a multiple of 5")
    with open(path, "rb") as file:
        if file.read(6) in (b"#!AER-", b"\x93NUMPY"):  # as events they lie outside the sensor
            raise BadRecording("is an AEDAT or NumPy file, not one of N-MNIST's")
    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    events = tonic.io.read_mnist_file(path, dtype)
    return make_events(unwrap(events["t"], 23), events["x"], events["y"], events["p"])


def read_gesture_npy(path):
    """tonic's edition of DVS128 Gesture: an array [N, 4] of x, y, p, t in milliseconds, whole
    numbers or fractions, which come to the nearest microsecond; p is 0 and 1 or -1 and 1."""
    try:
        with open(path, "rb") as file:
            values = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy's parser of the header raises of many kinds
        raise BadRecording(f"truncated or no NumPy file: {error}") from error
    if not isinstance(values, np.ndarray):
        raise BadRecording("holds several arrays, not one of events [N, 4]")
    if values.ndim != 2 or values.shape[1] != 4 or values.dtype.kind not in "iuf":
        raise BadRecording(f"holds {values.dtype} {values.shape}, not events [N, 4]")
    x, y, p, t = values.T
    return make_events(np.rint(t.astype(np.float64) * 1000), x, y, p)


READERS = {
    "aedat2": aedat.read_aedat2,
    # A gesture file holds a dozen recordings, converted one after the other.
    "aedat3": functools.lru_cache(maxsize=1)(aedat.read_aedat3),
    "aedat4": read_aedat4,
    "nmnist": read_nmnist,
    "gesture_npy": read_gesture_npy,
    **{
        f"array_{unit}": functools.partial(event_arrays.read, unit=unit)
        for unit in event_arrays.MICROSECONDS
    },
    "digits_dvs": moving_digits.read,
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
