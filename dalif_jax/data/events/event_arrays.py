"""Events in NumPy files of any origin.

A file holds a table [N, 4] of x, y, polarity and time; a structured array, as tonic has its events;
or, as an .npz, an array for each field, as SpikingJelly writes them.
"""

from typing import NamedTuple

import numpy as np

from dalif_jax.data.events.events import BadRecording, make_events

# Fields and their names elsewhere.
FIELDS = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "polarities"),
}
MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000}
TIME_UNITS = ("auto", *MICROSECONDS)
# A table whose median recording would last longer than this, were its times milliseconds, is taken
# to be in microseconds: 200 s against 0.2 s.
LONGEST_MS = 200_000


class Columns(NamedTuple):
    """Equally long arrays of numbers, as they stand in a file."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    named: bool  # whether they have names there; a table has none


class Survey(NamedTuple):
    """What a look at a recording shows, before its events are used."""

    side: int  # of the smallest square that holds all events; 0 where the file cannot be used
    usual_side: int  # the same without the few that lie farthest out
    farthest: str  # the event that needs `side`, for messages
    named: bool
    span: float  # of the times as they stand
    fractions: bool  # whether times are no whole numbers
    error: str = ""


def columns(path):
    """Columns of a .npy or .npz file.

    Raises:
      BadRecording: damaged, or of another layout.
    """
    try:
        # Opened here: where an archive is damaged, np.load(path) leaves its file open.
        with open(path, "rb") as file:
            values = np.load(file, allow_pickle=False)
            if isinstance(values, np.lib.npyio.NpzFile):
                values = {key: values[key] for key in values.files}
    except Exception as error:  # NumPy's parser of the header raises exceptions of many kinds
        # NumPy takes every file of another kind for a pickle, and would advise to load it.
        why = "it holds no arrays of numbers" if "pickle" in str(error) else error
        raise BadRecording(f"truncated or no NumPy file: {why}") from error
    if isinstance(values, dict) and len(values) == 1:
        (values,) = values.values()
    if not isinstance(values, dict) and values.dtype.names:
        values = {name: values[name].ravel() for name in values.dtype.names}
    named = isinstance(values, dict)
    if named:
        keys = {
            field: next((name for name in names if name in values), None)
            for field, names in FIELDS.items()
        }
        if missing := [field for field, key in keys.items() if key is None]:
            has = ", ".join(values) or "nothing"
            more = "; frames of events in one .npz are dataset=arrays" if "frames" in values else ""
            raise BadRecording(f"has the fields {has:.100} and lacks {', '.join(missing)}{more}")
        found = {field: values[key] for field, key in keys.items()}
    elif values.ndim == 2 and values.shape[1] == 4:
        found = dict(zip("xypt", values.T, strict=True))
    else:
        raise BadRecording(
            f"holds {values.dtype} {values.shape}, not events: expected [N, 4] of x, y, p, t, or "
            "fields of these names"
        )
    shapes = {array.shape for array in found.values()}
    kinds = {array.dtype.kind for array in found.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not kinds <= set("iufb"):
        about = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in found.items())
        raise BadRecording(f"holds {about}; expected as many numbers of each")
    return Columns(**found, named=named)


def read(path, unit):
    """EVENT array of a file. Fractions of a microsecond are rounded; p is 0 and 1 or -1 and 1.

    Args:
      unit: of its times, a key of MICROSECONDS.

    Raises:
      BadRecording: damaged, of another layout, or with numbers that are no events.
    """
    t, x, y, p, _ = columns(path)
    if unit == "us":
        if _fractional(t):
            raise BadRecording(
                "has times with fractions, which are not microseconds: set --config.time_unit=ms "
                "or s"
            )
    else:
        t = np.rint(t.astype(np.float64) * MICROSECONDS[unit])
    return make_events(t, x, y, p)


def survey(path):
    """Survey of a file."""
    try:
        t, x, y, _, named = columns(path)
        if not len(t):
            raise BadRecording("no events")
        place = np.maximum(x, y)
        numbers = place.astype(np.float64)
        if not (np.isfinite(numbers).all() and np.isfinite(t.astype(np.float64)).all()):
            raise BadRecording("holds numbers that are not finite")
    except BadRecording as error:
        return Survey(0, 0, "", False, 0.0, False, str(error))
    far = int(numbers.argmax())
    # Without a thousandth of the events, and at least four.
    without = max(4, len(numbers) // 1000)
    usual = np.partition(numbers, -without - 1)[-without - 1] if without < len(numbers) else 0
    return Survey(
        int(numbers[far]) + 1,
        int(usual) + 1,
        f"event {far} lies at x={x[far]:g}, y={y[far]:g}",
        named,
        float(t.max()) - float(t.min()),
        _fractional(t),
    )


def _fractional(t):
    return t.dtype.kind == "f" and bool(np.any(t != np.rint(t)))
