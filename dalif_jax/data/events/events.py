"""Events of a camera, and the frames they become: NumPy alone, for it runs in many processes.

A recording is a structured array of EVENT, in the order of time. Frames are counts
[T, H, W, 2], the second polarity being the brighter one (p = 1).
"""

import itertools

import numpy as np

EVENT = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)])
LARGEST = {"t": 2**53, "x": 2**15, "y": 2**15}  # magnitudes that are kept to the unit
JITTER = 10_000  # us by which neighbours may be out of order
SPLITS_BY = ("number", "time")
RESIZES = ("sum", "bilinear", "area", "antialias")
VALUES = ("counts", "8bit")


class DataError(ValueError):
    """A data set cannot be used; the message says what is wrong, where, and what would be right."""


class BadRecording(ValueError):
    """One recording cannot be used; whoever knows its name adds where it lies."""


def make_events(t, x, y, p):
    """EVENT array of equally long columns.

    Args:
      t: microseconds, whole numbers.
      x, y: pixels, whole numbers.
      p: polarity, 1 where it got brighter; else 0 or, in other files, -1.
    Raises:
      BadRecording: a column holds something else.
    """
    events, on = np.empty(len(t), EVENT), np.asarray(p) == 1
    if not any((on | (np.asarray(p) == off)).all() for off in (0, -1)):
        found = ", ".join(f"{value:g}" for value in np.unique(p)[:5])
        raise BadRecording(f"polarities {found} ...: neither 0 and 1 nor -1 and 1")
    for name, column in (("t", t), ("x", x), ("y", y)):
        column = np.asarray(column)
        if column.dtype.kind == "f" and np.any(column != np.rint(column)):  # NaN is not itself
            raise BadRecording(f"{name} is not a whole number everywhere")
        if len(column) and not -LARGEST[name] < column.min() <= column.max() < LARGEST[name]:
            raise BadRecording(f"{name} reaches from {column.min()} to {column.max()}")
        events[name] = column
    events["p"] = on
    return events


def unwrap(t, bits):
    """Times of a counter of so many bits, which begins anew at 0: int64, going on instead.

    A fall by more than half of its range is such a beginning, a smaller one is left for `check`;
    events that are late by a little stay before it.

    Raises:
      BadRecording: a leap ahead by more than half of its range.
    """
    t = np.asarray(t).astype(np.int64)
    steps, half = np.diff(t, prepend=t[:1]), 2 ** (bits - 1)
    turns = np.cumsum((steps < -half).astype(np.int64) - (steps > half))
    times = t + (turns << bits)
    early = times[turns < 0]
    if ((early < t[:1] - JITTER) | (early > t[:1])).any():
        raise BadRecording(f"time leaps ahead by {steps.max():,} us, half of its range")
    return times


def check(events, sensor):
    """The events in the order of time.

    Args:
      events: EVENT array.
      sensor: (H, W) of the camera, in pixels.
    Raises:
      BadRecording: no events, some outside the sensor, or a clock that was set back.
    """
    if not len(events):
        raise BadRecording("no events")
    for name, size in zip("yx", sensor, strict=True):
        low, high = events[name].min(), events[name].max()
        if low < 0 or high >= size:
            outside = np.count_nonzero((events[name] < 0) | (events[name] >= size))
            raise BadRecording(
                f"{outside} of {len(events)} events outside the sensor: {name} reaches from "
                f"{low} to {high}, the sensor from 0 to {size - 1}"
            )
    steps = np.diff(events["t"])
    if (steps < 0).any():
        # Jitter is sorted, and so is a file in quite another order. A few falls in a file that is
        # in order otherwise are not: after each, time is counted from somewhere else.
        falls = np.flatnonzero(steps < -JITTER)
        if 0 < len(falls) <= max(1, len(steps) // 20):
            raise BadRecording(
                f"time falls back by {-steps[falls[0]]:,} us after event {falls[0]}: its clock was "
                "set anew, or it is two recordings in one file"
            )
        events = events[np.argsort(events["t"], kind="stable")]
    return events


def slices(events, timesteps, split_by, frame_us=0):
    """(start, stop) of each frame's events, T pairs that cover every event once.

    The borders are those of `tonic.transforms.ToFrame(n_event_bins=T)` or `n_time_bins=T`, which
    leave out the remainder of the division and, by time, the last event: here the last frame has
    them. By time a frame may be empty, by number none is.

    With `frame_us` a frame lasts so many microseconds, from the first event on: T of them, the last
    ones empty where the recording is shorter and what is left of a longer one unused; where T is 0,
    as many as it fills, at least one.

    Raises:
      BadRecording: fewer events than frames, or a recording shorter than T microseconds, which
        ToFrame would turn into frames of zeros.
    """
    if frame_us:
        times = events["t"] - events["t"][0]
        count = timesteps or max(1, int(times[-1] // frame_us))
        borders = np.searchsorted(times, frame_us * np.arange(count + 1))
        return [(int(start), int(stop)) for start, stop in itertools.pairwise(borders)]
    from tonic.slicers import SliceByEventBins, SliceByTimeBins

    if split_by == "number":
        if len(events) < timesteps:
            raise BadRecording(f"{len(events)} events cannot fill {timesteps} frames")
        slicer = SliceByEventBins(timesteps)
    else:
        span = int(events["t"][-1] - events["t"][0])
        if span < timesteps:
            raise BadRecording(f"{span} us cannot be cut into {timesteps} frames")
        slicer = SliceByTimeBins(timesteps)
    *borders, (last, _) = slicer.get_slice_metadata(events, 0)
    return [*((int(start), int(stop)) for start, stop in borders), (int(last), len(events))]


def to_frames(
    events, sensor, size, timesteps, split_by="number", resize="sum", frame_us=0, values="counts"
):
    """Count events into frames.

    Args:
      events: EVENT array as `check` returns it.
      sensor: (H, W) of the camera.
      size: (H, W) of the frames.
      timesteps: T; 0, with `frame_us`: as many as the recording fills.
      split_by: "number", frames of equally many events, or "time", of equal duration.
      resize: "sum", each event counts in the one pixel it falls in, so that counts are conserved;
        "bilinear", frames of the sensor's size interpolated as PyTorch's `interpolate` does
        (half-pixel centres, no antialias): means of 2x2 counts when the size is halved, a quarter
        of the sum; "area", means of the pixels that each new one reaches into, as its adaptive
        average pool does; "antialias", as bilinear, over as many pixels as one is made of, which
        is how images are made smaller.
      frame_us: duration of a frame, us; 0: the recording is split.
      values: "counts"; "8bit": each frame divided by its own largest count and kept in 256 levels
        from 0 to 1, as an image of it would be.
    Returns:
      [T, H, W, 2], uint32 counts, or float32 where it is resized otherwise than by sums, or 8bit.
    Raises:
      BadRecording: see `slices`.
    """
    weighted = resize != "sum" and tuple(size) != tuple(sensor)
    height, width = sensor if weighted else size
    # Pixel of the frame, exact in integers; the sensor's own when the sizes agree.
    y = events["y"].astype(np.int64) * height // sensor[0]
    x = events["x"].astype(np.int64) * width // sensor[1]
    cuts = slices(events, timesteps, split_by, frame_us)
    frame, timesteps = np.empty(len(events), np.int64), len(cuts)
    for t, (start, stop) in enumerate(cuts):
        frame[start:stop] = t
    last = cuts[-1][1]
    frame, y, x, p = frame[:last], y[:last], x[:last], events["p"][:last]
    place = ((frame * height + y) * width + x) * 2 + p
    # 64-bit counts: tonic's own are int16, which one busy pixel can pass.
    counts = np.bincount(place, minlength=timesteps * height * width * 2)
    frames = counts.reshape(timesteps, height, width, 2)
    if values == "8bit":
        frames = frames / np.maximum(frames.max((1, 2, 3), keepdims=True), 1)
    if weighted:
        rows, columns = (WEIGHTS[resize](*pair) for pair in zip(sensor, size, strict=True))
        frames = np.einsum("yh,thwp,xw->tyxp", rows, frames, columns, optimize=True)
    if values == "8bit":
        frames = np.rint(255 * frames) / 255
    return frames.astype(np.float32 if weighted or values == "8bit" else np.uint32)


def bilinear(before, after):
    """float64 [after, before]: the weights of linear interpolation, half-pixel centres."""
    centre = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    left = np.floor(centre).astype(int)
    right = np.minimum(left + 1, before - 1)
    weights = np.zeros((after, before))
    rows = np.arange(after)
    np.add.at(weights, (rows, left), 1 - (centre - left))
    np.add.at(weights, (rows, right), centre - left)
    return weights


def area(before, after):
    """float64 [after, before]: means of the pixels from floor(i before / after) to the ceiling of
    where the next begins."""
    i = np.arange(after)[:, None]
    first, end = i * before // after, -(-(i + 1) * before // after)
    inside = (np.arange(before) >= first) & (np.arange(before) < end)
    return inside / inside.sum(1, keepdims=True)


def antialias(before, after):
    """float64 [after, before]: a triangle about the centre, as wide as `bilinear`'s where it grows
    and before / after times as wide where it shrinks."""
    scale = max(before / after, 1.0)
    centre = (np.arange(after)[:, None] + 0.5) * before / after
    far = np.abs(np.arange(before) + 0.5 - centre) / scale
    weights = np.maximum(0.0, 1.0 - far)
    return weights / weights.sum(1, keepdims=True)


WEIGHTS = {"bilinear": bilinear, "area": area, "antialias": antialias}
