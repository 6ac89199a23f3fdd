"""The cache of frames: made once, whole or not at all, whoever is killed and however many try."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from event_files import draw_events, write_aedat2, write_nmnist

from dalif_jax.data.events import frames, recordings
from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.frames import FrameSettings

ROOT = Path(__file__).resolve().parent.parent


def nmnist(root, train=6, test=3):
    """A folder of small N-MNIST recordings; digit k % 10."""
    for split, count in (("Train", train), ("Test", test)):
        for number in range(1, count + 1):
            folder = root / split / str(number % 10)
            folder.mkdir(parents=True, exist_ok=True)
            seen = draw_events(200, 34, seed=number + 1000 * (split == "Test"))
            write_nmnist(folder / f"{number:05}.bin", seen)
    return root


def found(root):
    return recordings.find("nmnist", root, partial=True)


def test_frames_are_made_once_and_memory_mapped(tmp_path, capsys):
    source = found(nmnist(tmp_path / "data"))
    first = frames.load(source, FrameSettings(5, (34, 34)), tmp_path / "cache")
    assert "converting nmnist" in capsys.readouterr().out
    again = frames.load(source, FrameSettings(5, (34, 34)), tmp_path / "cache")
    assert "convert" not in capsys.readouterr().out
    for split, count in (("train", 6), ("test", 3)):
        array, labels = again[split]
        assert isinstance(array, np.memmap) and array.dtype == np.uint8
        assert array.shape == (count, 5, 34, 34, 2) and array.sum() == 200 * count
        np.testing.assert_array_equal(array, first[split][0])
        assert labels.dtype == np.int32 and labels.tolist() == [k % 10 for k in range(1, count + 1)]
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_every_setting_and_every_file_is_part_of_the_key(tmp_path):
    source = found(nmnist(tmp_path / "data"))
    base = FrameSettings(5, (34, 34))
    variants = [
        base,
        base._replace(timesteps=4),
        base._replace(size=(17, 17)),
        base._replace(split_by="time"),
        base._replace(resize="bilinear"),
        base._replace(skip_bad=True),
    ]
    keys = [json.dumps(frames.describe(source, settings)) for settings in variants]
    (tmp_path / "data" / "Train" / "1" / "00001.bin").write_bytes(
        (tmp_path / "data" / "Train" / "2" / "00002.bin").read_bytes()[:-5]
    )
    keys.append(json.dumps(frames.describe(source, base)))
    (tmp_path / "data" / "Train" / "2" / "00002.bin").unlink()
    keys.append(json.dumps(frames.describe(found(tmp_path / "data"), base)))
    assert len(set(keys)) == len(keys)


def test_the_narrowest_type_that_holds_every_count(tmp_path):
    root = nmnist(tmp_path / "data")
    busy = draw_events(300, 34)
    busy["x"], busy["y"], busy["p"] = 3, 4, 1
    write_nmnist(root / "Train" / "1" / "00001.bin", busy)
    cache = tmp_path / "cache"
    train, _ = frames.load(found(root), FrameSettings(1, (34, 34)), cache)["train"]
    assert train.dtype == np.uint16 and train[0, 0, 4, 3, 1] == 300
    test, _ = frames.load(found(root), FrameSettings(1, (34, 34)), cache)["test"]
    assert test.dtype == np.uint16
    half, _ = frames.load(found(root), FrameSettings(1, (17, 17), "number", "bilinear"), cache)[
        "train"
    ]
    assert half.dtype == np.float32 and half[0, 0, 2, 1, 1] == 75


def test_a_bad_recording_is_refused_by_name_or_skipped_and_counted(tmp_path, capsys):
    root = nmnist(tmp_path / "data")
    bad = root / "Train" / "4" / "00004.bin"
    bad.write_bytes(bad.read_bytes()[:-2])
    (root / "Test" / "2" / "00002.bin").write_bytes(b"")
    settings, cache = FrameSettings(5, (34, 34)), tmp_path / "cache"
    with pytest.raises(
        DataError, match=r"nmnist t\w+ recording \d, .*0000[24]\.bin: (truncated|no events)"
    ):
        frames.load(found(root), settings, cache)
    assert not [path for path in cache.iterdir() if path.is_dir() and path.suffix != ".partial"]

    splits = frames.load(found(root), settings._replace(skip_bad=True), cache)
    assert splits["train"][1].tolist() == [1, 2, 3, 5, 6]
    assert splits["test"][1].tolist() == [1, 3]
    assert "2 recordings could not be used" in capsys.readouterr().out
    frames.load(found(root), settings._replace(skip_bad=True), cache)
    assert "2 recordings could not be used" in capsys.readouterr().out

    for path in root.glob("Test/*/*.bin"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="nmnist test: every recording is bad"):
        frames.load(found(root), settings._replace(skip_bad=True), cache)


def test_frames_do_not_depend_on_the_folders_order(tmp_path):
    """The same files written in another order: the same examples in the same order."""
    results = []
    for name, order in (("a", range(10)), ("b", reversed(range(10)))):
        for number in order:
            folder = tmp_path / name / "dog"
            folder.mkdir(parents=True, exist_ok=True)
            write_aedat2(folder / f"cifar10_dog_{number}.aedat", draw_events(400, seed=number))
        source = recordings.find("cifar10dvs", tmp_path / name, partial=True)
        results.append(frames.load(source, FrameSettings(4, (64, 64)), tmp_path / name / "cache"))
    for split in ("train", "test"):
        np.testing.assert_array_equal(results[0][split][0], results[1][split][0])


# ---- Caches that cannot be written, or are damaged.


def test_without_a_writable_cache_frames_are_made_for_now(tmp_path, capsys, monkeypatch):
    source, settings = found(nmnist(tmp_path / "data")), FrameSettings(5, (34, 34))
    kept = frames.load(source, settings, tmp_path / "cache")
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for cache_dir, home in ((tmp_path / "file" / "x", None), ("", "/proc/nowhere")):
        if home:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
            monkeypatch.setenv("HOME", home)
        capsys.readouterr()
        before = sorted(tmp_path.iterdir())
        now = frames.load(source, settings, cache_dir)
        out = capsys.readouterr().out
        assert "nmnist: its frames are not kept" in out and "--config.cache_dir=FOLDER" in out
        assert sorted(tmp_path.iterdir()) == before
        for split, arrays in kept.items():
            for ours, theirs in zip(now[split], arrays, strict=True):
                np.testing.assert_array_equal(ours, theirs)


LIMITED = """
import resource, sys
from dalif_jax.data.events import events, frames, recordings
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
source = recordings.find("nmnist", sys.argv[1], partial=True)
try:
    frames.load(source, frames.FrameSettings(5, (34, 34)), sys.argv[2])
except events.DataError as error:
    print("DataError", error)
"""


def test_no_room_anywhere_is_one_line_and_leaves_no_cache(tmp_path):
    """A limit on the size of files stands for a full disk: every write beyond it fails."""
    nmnist(tmp_path / "data")
    arguments = [sys.executable, "-c", LIMITED, tmp_path / "data", tmp_path / "cache", "1000"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        list(map(str, arguments)), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"DataError nmnist: its frames fit neither the cache \(.*too large", done.stdout
    )
    assert "--config.cache_dir=FOLDER" in done.stdout and not list(tmp_path.glob("dalif_jax-*"))
    splits = frames.load(found(tmp_path / "data"), FrameSettings(5, (34, 34)), tmp_path / "cache")
    assert splits["train"][0].sum() == 1200


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("about.json", b"{"),
        ("about.json", b"[]"),
        ("about.json", b'{"examples": {"train": 7}, "skipped": []}'),
        ("train.npy", b""),
        ("train.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': $$$}   "),
        ("test_labels.npy", b"no array"),
        ("test_labels.npy", None),
    ],
)
def test_frames_damaged_cache_is_made_again(tmp_path, capsys, file, content):
    source, settings = found(nmnist(tmp_path / "data")), FrameSettings(2, (8, 8))
    right = frames.load(source, settings, tmp_path / "cache")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    check_made_again(source, settings, tmp_path / "cache", right, capsys)


def check_made_again(source, settings, cache, right, capsys):
    """A damaged cache is named and replaced by the right frames and labels."""
    capsys.readouterr()
    now = frames.load(source, settings, cache)
    assert "is damaged" in capsys.readouterr().out
    for split, arrays in right.items():
        for ours, theirs in zip(now[split], arrays, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    frames.load(source, settings, cache)
    assert "convert" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["train.npy", "test.npy", "train_labels.npy"])
def test_frames_flipped_byte_is_made_again(tmp_path, capsys, file):
    """The file keeps its length, type and shape: only its checksum differs."""
    source, settings = found(nmnist(tmp_path / "data")), FrameSettings(2, (8, 8))
    right = {
        split: tuple(map(np.array, arrays))
        for split, arrays in frames.load(source, settings, tmp_path / "cache").items()
    }
    (path,) = (tmp_path / "cache").glob(f"*/{file}")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    check_made_again(source, settings, tmp_path / "cache", right, capsys)


def test_frames_cache_through_a_link_spares_its_target(tmp_path):
    """Neither a link at the cache's name nor one at that of its parts is written through."""
    source, settings = found(nmnist(tmp_path / "data")), FrameSettings(2, (8, 8))
    right = frames.load(source, settings, tmp_path / "cache")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "kept.now").write_text("not ours")
    for name in (folder.name, f"{folder.name}.partial"):
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(target)
    now = frames.load(source, settings, tmp_path / "links")
    np.testing.assert_array_equal(now["train"][0], right["train"][0])
    assert [path.name for path in target.iterdir()] == ["kept.now"]
    assert not (tmp_path / "links" / folder.name).is_symlink()
