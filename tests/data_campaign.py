"""Data that is not what its name says, and folders that hold more or less than their set.

Two parts of the campaign behind docs/reliability.md (`campaign.py`); the suite runs a short form.
"""

import os
import random

import numpy as np
from event_files import (
    WRITERS,
    draw_events,
    write_aedat2,
    write_aedat3,
    write_aedat4,
    write_nmnist,
)

from dalif_jax.data.events import recordings
from dalif_jax.data.events.events import BadRecording, make_events
from dalif_jax.data.events.layouts import CIFAR_CLASSES
from dalif_jax.data.events.shelf import Recording, Source

READERS = tuple(WRITERS)
DAVIS = b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
CODED = b"#Format: Serial-TS\r\n#Source 1: DVS128\r\n"
ODD = (
    b"##\r\n",
    b"# #!AER-DAT3.1\r\n",
    b"#!END-HEADER\r\n# and on\r\n",
    "# Gerät: \x00 Größe\r\n".encode("latin-1"),
    b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n# Timestamps tick is 1 us\r\n",
    b"# ends with LF alone\n",
)


def read(reader, path, size=128):
    """Events of a file as training reads them, whichever format it is taken for."""
    source = Source("any", "any", (size, size), 10, {})
    recordings.READERS["aedat3"].cache_clear()
    return recordings.read(Recording(reader, str(path), 0), source)


def foreign(path, seed):
    """(what, reader, true events, or None where the file must be refused); writes each to path."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(200, 1500))
    seen = {name: draw_events(count, 34 if name == "nmnist" else 128, seed) for name in READERS}
    seen["gesture_npy"]["t"] -= seen["gesture_npy"]["t"] % 1000
    any_seen = seen["aedat2"]
    # Every format under the name of every other.
    for name in READERS:
        WRITERS[name](path, seen[name])
        whole = path.read_bytes()
        for reader in READERS:
            path.write_bytes(whole)
            yield f"{name} as {reader}", reader, seen[name] if reader == name else None
        # Another version behind the same kind of header.
        for version in (b"1.0", b"2.0", b"2.1", b"3.0", b"3.1", b"4.0", b"2", b"", b"20"):
            own = {"aedat2": b"2.0", "aedat3": b"3.1", "aedat4": b"4.0"}.get(name)
            if own and version != own:
                path.write_bytes(whole.replace(b"AER-DAT" + own, b"AER-DAT" + version, 1))
                yield f"{name} called {version!r}", name, None
    # Other cameras: named in the header, or only by their addresses or events.
    write_aedat2(path, any_seen, DAVIS)
    yield "AEDAT-2 of a DAVIS240", "aedat2", None
    x, y = rng.integers(0, 240, count), rng.integers(0, 180, count)
    words = np.stack([y << 22 | x << 12 | 1 << 11, any_seen["t"]], 1).astype(">u4")
    path.write_bytes(b"#!AER-DAT2.0\r\n# no word of a camera\r\n" + words.tobytes())
    yield "AEDAT-2 with a DAVIS240's addresses", "aedat2", None
    path.write_bytes(b"#!AER-DAT2.0\r\n#\r\n" + b"#" + words.tobytes()[1:])
    yield "AEDAT-2 whose events begin with #", "aedat2", None
    write_aedat3(path, any_seen, more=b"#Source 1: DAVIS240C\r\n")
    yield "AEDAT 3.1 of a DAVIS240", "aedat3", None
    wide = make_events(any_seen["t"], x, y, any_seen["p"])
    write_aedat3(path, wide, more=b"")
    yield "AEDAT 3.1 with a DAVIS240's events", "aedat3", None
    write_aedat3(path, any_seen, more=CODED)
    path.write_bytes(path.read_bytes().replace(b"#Format: RAW\r\n", b"", 1))
    yield "AEDAT 3.1, coded", "aedat3", None
    write_aedat4(path, any_seen, size=(260, 346))
    yield "AEDAT-4 of a DAVIS346", "aedat4", None
    # Comments of any kind.
    for more in ODD:
        write_aedat2(path, any_seen, more)
        yield f"AEDAT-2 with {more!r}", "aedat2", any_seen
        if b"END-HEADER" not in more:
            write_aedat3(path, any_seen, more=more)
            yield f"AEDAT 3.1 with {more!r}", "aedat3", any_seen
    # Clocks that begin anew, with neighbours that came in the wrong order there; or are set back.
    for reader, bits, write in (
        ("aedat2", 32, write_aedat2),
        ("aedat3", 31, write_aedat3),
        ("aedat3", 31, lambda path, events: write_aedat3(path, events, counted=False)),
        ("nmnist", 23, write_nmnist),
    ):
        later = seen[reader].copy()
        later["t"] += 2**bits - int(rng.integers(10_000, 90_000))
        write(path, later)
        yield f"{reader} over the end of its clock", reader, later
        half = count // 2
        set_back = seen[reader].copy()
        set_back["t"] += 100_000
        set_back["t"][half:] -= set_back["t"][half] - 7
        write(path, set_back)
        yield f"{reader} with its clock set back", reader, None
    # Numbers that a table of events can hold and a camera does not send.
    x, y, p, t = (seen["gesture_npy"][name].astype(np.int64) for name in "xypt")
    fine = make_events(t + 123, x, y, p)
    for what, columns, truth in (
        ("-1 and 1", (x, y, 2 * p - 1, t // 1000), seen["gesture_npy"]),
        ("fractions of a millisecond", (x, y, p, (t + 123) / 1000), fine),
        ("polarities 1 and 2", (x, y, p + 1, t // 1000), None),
        ("polarities -1, 0, 1", (x, y, np.r_[-1, p[1:]], t // 1000), None),
        ("half a pixel", (x + 0.5, y, p, t / 1000), None),
        ("no number", (x, y, p, np.where(x == x[0], np.nan, t)), None),
        ("pixels past 16 bits", (x + 2**16, y, p, t // 1000), None),
        ("times past 64 bits", (x, y, p, t * 1e12), None),
        ("p, t swapped", (x, y, t // 1000, p), None),
        ("t, x, y, p", (t // 1000, x, y, p), None),
    ):
        with open(path, "wb") as file:
            np.save(file, np.stack(columns, 1))
        yield f"npy: {what}", "gesture_npy", truth
    with open(path, "wb") as file:
        np.savez(file, x=x)
    yield "npz as npy", "gesture_npy", None


def foreign_headers(folder, seeds):
    """Files that are not what their name says: refused, or read as what they hold."""
    counts = {"files": 0, "refused": 0, "read_right": 0, "silent_errors": 0}
    for seed in range(seeds):
        for what, reader, truth in foreign(folder / "recording.npy", seed):
            counts["files"] += 1
            try:
                seen = read(reader, folder / "recording.npy", 34 if reader == "nmnist" else 128)
            except BadRecording as error:
                assert truth is None, (what, seed, str(error))
                counts["refused"] += 1
                continue
            assert truth is not None, (what, seed, "was read")
            relative = [events["t"] - events["t"][0] for events in (seen, truth)]
            np.testing.assert_array_equal(*relative, err_msg=what)
            for name in "xyp":
                np.testing.assert_array_equal(seen[name], truth[name], err_msg=what)
            counts["read_right"] += 1
    return counts


# ---- Folders.


def some_nmnist(root):
    for split, count in (("Train", 30), ("Test", 10)):
        for number in range(1, count + 1):
            yield root / split / str(number % 10) / f"{number:05}.bin"


def some_cifar10dvs(root):
    for cls in CIFAR_CLASSES:
        for number in range(4):
            yield root / cls / f"cifar10_{cls}_{number}.aedat"


def some_gesture(root):
    for split in ("Train", "Test"):
        for user in range(3):
            for label in range(11):
                yield root / f"ibmGesture{split}" / f"user{user:02}_led" / f"{label}.npy"


SETS = {
    "nmnist": some_nmnist,
    "cifar10dvs": some_cifar10dvs,
    "dvsgesture_tonic": some_gesture,
}


def strays(root, files, rng):
    """Do one thing to a folder that makes it hold more or less than its set; says what."""
    path, other = rng.sample(sorted(p for p in files if p.exists()), 2)
    what = rng.choice(
        ["capitals", "twice", "broken link", "link", "hard link", "copy", "text", "no class",
         "number", "deeper", "gone", "empty class", "hidden"]
    )  # fmt: skip
    digits = path.stem.rpartition("_")
    if what == "capitals":
        path.rename(path.with_suffix(path.suffix.upper()))
    elif what == "twice":
        path.with_name(f"{digits[0]}{digits[1]}0{digits[2]}{path.suffix}").write_bytes(b"another")
    elif what == "broken link":
        path.unlink()
        path.symlink_to(root / "nowhere")
    elif what == "link":
        path.unlink()
        path.symlink_to(other)
    elif what == "hard link":
        path.unlink()
        os.link(other, path)
    elif what == "copy":
        path.with_name(f"{path.stem} (1){path.suffix}").write_bytes(b"a copy")
    elif what == "text":
        path.with_name("notes.txt").write_text("a note")
    elif what == "no class":
        (path.parent.parent / "more").mkdir(exist_ok=True)
        (path.parent.parent / "more" / path.name).write_bytes(b"of no class")
    elif what == "number":
        path.with_name(f"{digits[0]}{digits[1]}{digits[2]}12345{path.suffix}").write_bytes(b"")
    elif what == "deeper":
        (path.parent / "deeper").mkdir(exist_ok=True)
        path.rename(path.parent / "deeper" / path.name)
    elif what == "gone":
        path.unlink()
    elif what == "empty class":
        for file in path.parent.iterdir():
            if file.is_file() or file.is_symlink():
                file.unlink()
    else:
        path.with_name(".hidden").write_bytes(b"")
    return what


def lost_samples(folder, seeds):
    """Folders with strays: every file is a sample or named among those left out, and no file is
    two samples."""
    counts = {"folders": 0, "files": 0, "used": 0, "left_out": 0, "unaccounted": 0}
    for seed in range(seeds):
        for name, some in SETS.items():
            rng, root = random.Random(seed), folder / f"{name}{seed}"
            files = list(some(root))
            for number, path in enumerate(files):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"%d" % number)
            done = [strays(root, files, rng) for _ in range(rng.randint(1, 4))]
            source = recordings.find(name, root, partial=True)
            used = [row.path for rows in source.splits.values() for row in rows]
            left = [what.split(" = ")[0].split(", ")[0] for what, _ in source.left_out]
            there = {
                os.path.join(where, file)
                for where, _, names in os.walk(root)
                for file in names
                if file[0] != "."
            }
            assert sorted(used + left) == sorted(there), (name, seed, done)
            assert len({os.path.realpath(path) for path in used}) == len(used), (name, seed, done)
            counts["folders"] += 1
            for key, values in (("files", there), ("used", used), ("left_out", left)):
                counts[key] += len(values)
    return counts
