"""The original archives' formats, which tonic 1.7 cannot read: AEDAT-2 and AEDAT 3.1.

Formats: https://docs.inivation.com/software/software-advanced-usage/file-formats
"""

import numpy as np

from dalif_jax.events import BadRecording, make_events

# A packet of AEDAT 3.1: 28 bytes, little-endian, then `capacity` events of `size` bytes.
PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("offset", "<i4"), ("overflow", "<i4"),
     ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
)  # fmt: skip
POLARITY = 1  # the packet type of a camera's events


def body(data):
    """What follows the header: lines that start with #."""
    start = 0
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start)
        if end < 0:
            raise BadRecording("ends inside its header")
        line, start = data[start:end].strip(), end + 1
        if line == b"#!END-HEADER":
            break
    if not start or not data.startswith(b"#!AER-DAT"):
        raise BadRecording("is no AEDAT file: it does not start with #!AER-DAT")
    return data[start:]


def read_aedat2(path):
    """Events of a DVS128 recording in AEDAT-2 (CIFAR10-DVS as published).

    Addresses are turned the way public readers of CIFAR10-DVS turn them, x = 127 - y, y = 127 - x,
    p = 1 - p, so that the images stand upright and the AEDAT-4 edition gives the same events.
    """
    with open(path, "rb") as file:
        data = body(file.read())
    if len(data) % 8:
        raise BadRecording(f"truncated: {len(data)} bytes of events, each has 8")
    address, time = np.frombuffer(data, ">u4").reshape(-1, 2).T
    x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
    return make_events(time, 127 - y.astype(np.int16), 127 - x.astype(np.int16), 1 - p.astype(int))


def read_aedat3(path):
    """Events of a recording in AEDAT 3.1 (DVS128 Gesture as published); other packets are passed
    over, and so are events marked invalid."""
    with open(path, "rb") as file:
        data = body(file.read())
    place, columns = 0, []
    while place < len(data):
        if len(data) - place < PACKET.itemsize:
            raise BadRecording(f"truncated: {len(data) - place} bytes where a packet would start")
        packet = np.frombuffer(data, PACKET, 1, place)[0]
        size, capacity, number = (int(packet[key]) for key in ("size", "capacity", "number"))
        place += PACKET.itemsize
        if packet["type"] < 0 or size < 1 or not 0 <= number <= capacity:
            raise BadRecording(f"damaged: no packet at byte {place - PACKET.itemsize} of its data")
        if size * capacity > len(data) - place:
            raise BadRecording("truncated: it ends inside a packet")
        if packet["type"] == POLARITY:
            if size != 8:
                raise BadRecording(f"damaged: polarity events of {size} bytes, each has 8")
            address, time = np.frombuffer(data, "<u4", 2 * number, place).reshape(-1, 2).T
            time = time.astype(np.int64) + (int(packet["overflow"]) << 31)
            valid = address & 1 == 1
            columns.append(
                [c[valid] for c in (time, address >> 17, address >> 2 & 0x7FFF, address >> 1 & 1)]
            )
        place += size * capacity
    if not columns:
        raise BadRecording("no events")
    return make_events(*map(np.concatenate, zip(*columns, strict=True)))
