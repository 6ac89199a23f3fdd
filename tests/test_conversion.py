"""Recordings converted by several processes: whoever is killed, the cache is whole or goes on."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT
from event_files import draw_events, write_aedat4

from dalif_jax.data.events import conversion, frames, layouts, recordings
from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.frames import FrameSettings

# Loads the simulated digits' frames in a process of its own; argument: the cache's folder.
CHILD = """
import sys
from dalif_jax.data.events import frames, layouts, recordings
source = recordings.find("digits_dvs")
frames.load(source, frames.FrameSettings(4, (16, 16)), sys.argv[1])
"""


def digest(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".npy", ".json")
    }


def child(cache):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    process = child(cache)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


@pytest.mark.slow
def test_a_conversion_killed_half_way_goes_on(tmp_path, uninterrupted):
    process = child(tmp_path)
    deadline = time.monotonic() + 120
    while len(parts := list(tmp_path.glob("*.partial/*.npz"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # Nothing that looks finished, and what is done stays; a torn part is done again.
    assert not (tmp_path / uninterrupted.name).exists()
    (partial,) = tmp_path.glob("*.partial")
    torn = parts[0]
    torn.write_bytes(torn.read_bytes()[:-100])
    (partial / "train-000032.999.tmp").write_bytes(b"half a part")

    process = child(tmp_path)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert int(re.search(r"([\d,]+) of them done before", out)[1].replace(",", "")) >= 50
    assert digest(tmp_path / uninterrupted.name) == digest(uninterrupted)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_two_processes_at_once_make_one_cache(tmp_path, uninterrupted):
    processes = [child(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted("converting" in out for out in outputs) == [False, True]
    assert digest(tmp_path / uninterrupted.name) == digest(uninterrupted)


def test_a_file_that_ends_its_decoder_is_found(tmp_path):
    """These bytes of an AEDAT-4 header abort the decoder and with it the process it runs in."""
    for label, cls in enumerate(layouts.CIFAR_CLASSES[:2]):
        (tmp_path / cls).mkdir()
        for number in range(10):
            path = tmp_path / cls / f"cifar10_{cls}_{number}.aedat4"
            write_aedat4(path, draw_events(300, seed=10 * label + number))
    damaged = bytearray(path.read_bytes())
    for place, value in ((237, 0xD9), (323, 0xC6), (334, 0xEB), (337, 0x54)):
        damaged[place] = value
    path.write_bytes(damaged)
    source = recordings.find("cifar10dvs", tmp_path, partial=True)
    settings = FrameSettings(4, (64, 64))
    with pytest.raises(DataError, match=r"(?s)test recording 1, .*automobile_9\.aedat4: damaged"):
        frames.load(source, settings, tmp_path / "cache")
    splits = frames.load(source, settings._replace(skip_bad=True), tmp_path / "cache")
    assert [len(labels) for _, labels in splits.values()] == [18, 1]
    # The processes have ended, with their locks: none waits for a garbage collection.
    assert not list(Path("/dev/shm").glob(f"*loky-{os.getpid()}-*"))


def children(process):
    """Ids of the processes that a process started, those that ended and were not awaited aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_conversion_killed_parent_ends_its_workers(tmp_path):
    process = child(tmp_path)
    try:
        while not list(tmp_path.glob("*.partial/*.npz")):
            assert process.poll() is None
            time.sleep(0.05)
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    try:
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline, "workers outlive the conversion"
            time.sleep(0.1)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_conversion_marker_names_no_torn_recording(tmp_path, monkeypatch):
    """A process can be killed while it writes which recording it reads: the name is whole."""
    (tmp_path / "dog").mkdir()
    for number in range(2):
        write_aedat4(tmp_path / "dog" / f"cifar10_dog_{number}.aedat4", draw_events(300))
    source = recordings.find("cifar10dvs", tmp_path, partial=True)
    split, rows = next(part for part in source.splits.items() if part[1])

    def killed(descriptor):
        raise ZeroDivisionError

    monkeypatch.setattr(os, "fsync", killed)  # after the content was written, before it counts
    with pytest.raises(ZeroDivisionError):
        conversion._convert_part(source, None, tmp_path, set(), split, 0, rows)
    assert not list(tmp_path.glob("*.now"))
