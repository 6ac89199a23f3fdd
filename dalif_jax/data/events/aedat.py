"""The original archives' formats, which tonic 1.7 cannot read: AEDAT-2 and AEDAT 3.1.

Formats: https://docs.inivation.com/software/software-advanced-usage/file-formats

A version, a camera or a coding that is not the expected one is refused: its bytes would be read as
plausible events.
"""

import re

import numpy as np

from dalif_jax.data.events.events import BadRecording, make_events, unwrap

CAMERA = "DVS128"
SENSOR = (128, 128)  # H, W
# A packet of AEDAT 3.1: 28 bytes, little-endian, then `capacity` events of `size` bytes.
PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("offset", "<i4"), ("overflow", "<i4"),
     ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
)  # fmt: skip
POLARITY = 1  # the packet type of a camera's events


def expect_version(data, version):
    """Raise BadRecording unless a file that begins with `data` is AEDAT of this version."""
    found = re.match(rb"#!AER-DAT([^\r\n]{0,20})\r?\n", data)
    if not found:
        raise BadRecording("is no AEDAT file: it does not start with #!AER-DAT and a version")
    if found[1].strip() != version.encode():
        raise BadRecording(
            f"is AEDAT {found[1].decode(errors='replace').strip()}, but {version} is expected here"
        )


def split_header(data, end=None):
    """(header, what follows it): lines that start with #, up to the line `end` where there is one.

    Raises:
      BadRecording: the file ends inside it, or `end` does not come.
    """
    start = 0
    while data[start : start + 1] == b"#":
        after = data.find(b"\n", start) + 1
        if not after:
            break
        line, start = data[start:after].strip(), after
        if line == end:
            return data[:start], data[start:]
    if end or data[start : start + 1] == b"#":
        raise BadRecording("its header does not end" + (f" with {end.decode()}" if end else ""))
    return data[:start], data[start:]


def _stated(header, pattern):
    """What the header says behind a name, as text; "" where it does not."""
    found = re.search(rb"^#[ \t]*" + pattern + rb"[ \t]*([^\r\n]*)", header, re.M | re.I)
    return found[1].decode(errors="replace").strip() if found else ""


def _expect_camera(name):
    # Tmpdiff128 is what the DVS128 was called first.
    if name and not re.search(r"DVS128|Tmpdiff128", name, re.I):
        raise BadRecording(f"is of another camera, {name[:80]}; expected {CAMERA}")


def read_aedat2(path):
    """Events of a DVS128 recording in AEDAT-2 (CIFAR10-DVS as published).

    Addresses are turned the way public readers of CIFAR10-DVS turn them, x = 127 - y, y = 127 - x,
    p = 1 - p, so that the images stand upright and the AEDAT-4 edition gives the same events.
    What the camera notes of its socket, not of a pixel (bit 15), is passed over.

    Raises:
      BadRecording: another version, camera or unit of time, a cut file, or impossible times.
    """
    with open(path, "rb") as file:
        data = file.read()
    expect_version(data, "2.0")
    header, data = split_header(data)
    _expect_camera(_stated(header, rb"AEChip:"))
    tick = _stated(header, rb"Timestamps tick is")
    if tick and tick.split()[:2] != ["1", "us"]:
        raise BadRecording(f"counts time in {tick}, not in 1 us")
    if len(data) % 8:
        raise BadRecording(f"truncated: {len(data)} bytes of events, each has 8")
    address, time = np.frombuffer(data, ">u4").reshape(-1, 2).T
    if (address >> 16).any():
        raise BadRecording(f"is of another camera: its addresses pass the 16 bits of a {CAMERA}")
    pixel = (address & 0x8000) == 0
    address, time = address[pixel], unwrap(time, 32)[pixel]
    x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
    return make_events(time, 127 - y.astype(np.int16), 127 - x.astype(np.int16), 1 - p.astype(int))


def read_aedat3(path):
    """Events of a DVS128 recording in AEDAT 3.1 (DVS128 Gesture as published); other packets are
    passed over, and so are events marked invalid.

    Raises:
      BadRecording: another version, camera or coding, a damaged file, or impossible times.
    """
    with open(path, "rb") as file:
        data = file.read()
    expect_version(data, "3.1")
    header, data = split_header(data, b"#!END-HEADER")
    if (coding := _stated(header, rb"Format:")) not in ("", "RAW"):
        raise BadRecording(f"holds events coded as {coding}, not RAW")
    place, columns, sources = 0, [], set()
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
            if size != 8 or packet["offset"] != 4 or packet["overflow"] < 0:
                raise BadRecording(
                    f"damaged: polarity events of {size} bytes with the time at byte "
                    f"{packet['offset']}, overflow {packet['overflow']}; expected 8, 4, 0 or more"
                )
            sources.add(int(packet["source"]))
            address, time = np.frombuffer(data, "<u4", 2 * number, place).reshape(-1, 2).T
            if (time >> 31).any():
                raise BadRecording("damaged: a negative time")
            time = time.astype(np.int64) + (int(packet["overflow"]) << 31)
            valid = address & 1 == 1
            columns.append(
                [c[valid] for c in (time, address >> 17, address >> 2 & 0x7FFF, address >> 1 & 1)]
            )
        place += size * capacity
    if not columns:
        raise BadRecording("no events")
    if len(sources) > 1:
        raise BadRecording(f"holds the events of {len(sources)} cameras, not of one")
    _expect_camera(_stated(header, rb"Source %d:" % sources.pop()))
    time, *others = map(np.concatenate, zip(*columns, strict=True))
    # The header of a packet counts how often the 31 bits were passed; some writers leave it at 0.
    return make_events(unwrap(time, 31), *others)
