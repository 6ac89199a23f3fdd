"""Writers of the event data sets' own formats, for small recordings in tests."""

import struct

import flatbuffers
import numpy as np

from dalif_jax.data.events.events import make_events


def draw_events(count, size=128, seed=0, span=100_000):
    """`count` events of a camera with size x size pixels, in the order of time."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, size, (2, count))
    return make_events(np.sort(rng.integers(0, span, count)), x, y, rng.integers(0, 2, count))


def write_aedat2(path, events, more=b"", version=b"2.0"):
    """As CIFAR10-DVS was published: the camera's addresses, big-endian; `more` header lines."""
    x, y = 127 - events["y"].astype(np.uint32), 127 - events["x"].astype(np.uint32)
    address = y << 8 | x << 1 | (1 - events["p"]).astype(np.uint32)
    body = np.stack([address, events["t"].astype(np.uint32)], 1).astype(">u4")
    header = b"#!AER-DAT" + version + b"\r\n# This is a raw AE data file\r\n# Timestamps in us\r\n"
    path.write_bytes(header + more + body.tobytes())


def write_aedat3(
    path, events, packet=1000, overflow=0, more=b"#Source 1: DVS128\r\n", counted=True
):
    """As DVS128 Gesture was published, with a packet of another type between the events.

    The 31 bits of time are counted on in the header of each packet, unless not `counted`.
    """
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n" + more + b"#!END-HEADER\r\n"]
    turns = (events["t"] >> 31) + overflow
    for turn in np.unique(turns):
        same = events[turns == turn]
        for start in range(0, len(same), packet):
            some = same[start : start + packet]
            address = some["x"].astype(np.uint32) << 17 | some["y"].astype(np.uint32) << 2
            address |= some["p"].astype(np.uint32) << 1 | 1
            time = (some["t"] & 2**31 - 1).astype(np.uint32)
            body, count = np.stack([address, time], 1).astype("<u4").tobytes(), len(some)
            passed = int(turn) * counted
            parts += [struct.pack("<hhiiiiii", 1, 1, 8, 4, passed, count, count, count), body]
            parts += [struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1), bytes(8)]
    path.write_bytes(b"".join(parts))


def _finished(builder, identifier):
    # Size-prefixed, as every flatbuffer of AEDAT-4 is.
    builder.FinishSizePrefixed(builder.EndObject(), file_identifier=identifier)
    return bytes(builder.Output())


def write_aedat4(path, events, packet=1000, size=(128, 128)):
    """AEDAT-4 without compression: a header that names one stream of events, then packets; `size`
    is the camera's, (H, W)."""
    builder = flatbuffers.Builder(0)
    node = '<node name="{0}" path="/mainloop/Recorder/{1}">'.format
    attribute = '<attr key="{0}" type="{1}">{2}</attr>'.format
    text = builder.CreateString(
        '<dv version="2.0">' + node("outInfo", "outInfo/") + node("0", "outInfo/0/")
        + attribute("compression", "string", "NONE")
        + attribute("originalOutputName", "string", "events")
        + attribute("typeIdentifier", "string", "EVTS") + node("info", "outInfo/0/info/")
        + attribute("sizeX", "int", size[1]) + attribute("sizeY", "int", size[0])
        + "</node></node></node></dv>"
    )  # fmt: skip
    builder.StartObject(3)
    builder.PrependInt32Slot(0, 0, 1)
    builder.PrependInt64Slot(1, -1, 0)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    parts = [b"#!AER-DAT4.0\r\n", _finished(builder, b"IOHE")]
    record = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "?"), ("pad", "V3")])
    for start in range(0, len(events), packet):
        some = events[start : start + packet]
        rows = np.zeros(len(some), record)
        for name, column in (("t", "t"), ("x", "x"), ("y", "y"), ("on", "p")):
            rows[name] = some[column]
        builder = flatbuffers.Builder(0)
        builder.StartVector(record.itemsize, len(rows), 8)
        builder.head -= rows.nbytes
        builder.Bytes[builder.head : builder.head + rows.nbytes] = rows.tobytes()
        vector = builder.EndVector()
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        body = _finished(builder, b"EVTS")
        parts += [struct.pack("<ii", 0, len(body)), body]
    path.write_bytes(b"".join(parts))


def write_nmnist(path, events):
    """N-MNIST: x, y, polarity and 23 bits of time in five bytes."""
    t = events["t"].astype(np.uint32)
    columns = [events["x"], events["y"], events["p"] << 7 | t >> 16 & 127, t >> 8 & 255, t & 255]
    path.write_bytes(np.stack(columns, 1).astype(np.uint8).tobytes())


def write_gesture_npy(path, events):
    """tonic's edition of DVS128 Gesture: x, y, p, t in milliseconds."""
    columns = [events["x"], events["y"], events["p"], events["t"] // 1000]
    np.save(path, np.stack(columns, 1).astype(np.int64))


WRITERS = {
    "aedat2": write_aedat2,
    "aedat3": write_aedat3,
    "aedat4": write_aedat4,
    "nmnist": write_nmnist,
    "gesture_npy": write_gesture_npy,
}
SUFFIX = {"aedat2": "aedat", "aedat3": "aedat", "aedat4": "aedat4", "nmnist": "bin",
          "gesture_npy": "npy"}  # fmt: skip


def write_gesture(root, trials, rows_of):
    """The published folder of DVS128 Gesture.

    Args:
      trials: {"train": [name], "test": [name]} without .aedat.
      rows_of: trial -> (events, [(class 1..11, start us, end us)]).
    """
    folder = root / "DvsGesture"
    folder.mkdir()
    for split, names in trials.items():
        (folder / f"trials_to_{split}.txt").write_text(
            "".join(f"{n}.aedat\n" for n in names) + "\n"
        )
        for name in names:
            events, rows = rows_of(name)
            write_aedat3(folder / f"{name}.aedat", events)
            lines = ["class,startTime_usec,endTime_usec", *(",".join(map(str, r)) for r in rows)]
            (folder / f"{name}_labels.csv").write_text("\n".join(lines) + "\n")
    return folder
