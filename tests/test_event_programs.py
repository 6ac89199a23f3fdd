"""Event recordings in their original formats, through both commands, to the streaming example."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from commands import run
from event_files import draw_events, write_aedat2, write_gesture, write_nmnist

from dalif_jax.data.events import events, layouts, recordings

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "nmnist" / "nmnist-small.tar.xz"
SHORT = (
    "--config.model=tiny", "--config.timesteps=4", "--config.epochs=1", "--config.batch_size=4",
    "--config.warmup_epochs=0", "--config.partial_data=True",
)  # fmt: skip


def cifar10dvs(root):
    for label, cls in enumerate(layouts.CIFAR_CLASSES[:3]):
        (root / cls).mkdir()
        for number in range(10):
            seen = draw_events(400, seed=10 * label + number)
            write_aedat2(root / cls / f"cifar10_{cls}_{number}.aedat", seen)


def dvsgesture(root):
    def rows_of(name):
        seen = draw_events(2400, seed=len(name), span=12_000)
        return seen, [(k % 11 + 1, 1000 * k, 1000 * (k + 1)) for k in range(12)]

    write_gesture(root, {"train": ["user01_led"], "test": ["user24_a_led"]}, rows_of)


def nmnist(root):
    for split, count in (("Train", 8), ("Test", 4)):
        for number in range(1, count + 1):
            folder = root / split / str(number)
            folder.mkdir(parents=True)
            write_nmnist(folder / f"{number:05}.bin", draw_events(200, 34, seed=number))


@pytest.mark.parametrize(
    ("recipe", "write", "test", "more"),
    [
        pytest.param(
            "cifar10dvs_r20", cifar10dvs, 3, ("--config.frame_size=16",), marks=pytest.mark.slow
        ),
        pytest.param(
            "dvsgesture_vgg11", dvsgesture, 12, ("--config.frame_size=16",), marks=pytest.mark.slow
        ),
        ("nmnist", nmnist, 4, ("--config.split_by=time",)),
    ],
)
def test_original_files_train_evaluate_and_stream(tmp_path, recipe, write, test, more):
    root, workdir = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    write(root)
    where = f"--config.data_dir={root}", f"--config.cache_dir={tmp_path / 'cache'}"
    arguments = "--config", f"configs/{recipe}.py", "--workdir", workdir, *where, *SHORT, *more
    code, out = run("train.py", *arguments)
    assert code == 0 and "test: accuracy" in out, out
    # Again: the run is finished and the frames are there, nothing is converted.
    code, out = run("train.py", *arguments)
    assert code == 0 and "converting" not in out, out

    code, out = run("eval.py", "--workdir", workdir, "--sample", 1)
    assert code == 0 and "converting" not in out, out
    assert (workdir / "sample_1.png").read_bytes()[:4] == b"\x89PNG"
    report = json.loads((workdir / "eval.json").read_text())
    assert report["examples"] == test and report["timesteps"] == 4

    code, out = run("-m", "examples.stream_events", "--workdir", workdir, "--sample", 1)
    assert code == 0, out
    assert len(re.findall(r"events  so far class \d", out)) == 4
    assert float(re.search(r"largest difference (\S+)", out)[1]) < 1e-5

    code, out = run("eval.py", "--workdir", workdir, "--sample", 99)
    assert code == 2 and f"--sample=99 must lie in 0..{test - 1}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config.augment=('tilt',)",), "unknown augment 'tilt' for digits_dvs, which holds"),
        (("--config.frame_size=32",), "larger than digits_dvs's sensor of 16x16"),
        (("--config.split_by=event",), "unknown split_by 'event'; known: number, time"),
        (("--config.resize=nearest",), "unknown resize 'nearest'; known: sum, bilinear"),
        (
            ("--config.dataset=digits", "--config.frame_size=8"),
            "event cameras and imagenet, not digits",
        ),
        (("--config.dataset=dvsgesture", "--download"), "dvsgesture cannot be downloaded"),
        (("--config.dataset=cifar10dvs", "--config.data_dir=/no"), "cifar10dvs was not found"),
        (
            ("--config.dataset=dvsgesture", "--config.augment=('flip',)"),
            "error: augment 'flip' mirrors dvsgesture's gestures into those of other classes",
        ),
    ],
)
def test_bad_event_settings_are_one_clear_line(tmp_path, arguments, message):
    workdir = tmp_path / "run"
    code, out = run(
        "train.py", "--config", "configs/digits_dvs.py", "--workdir", workdir, *arguments
    )
    assert code == 2 and message in out, out
    assert "Traceback" not in out and not workdir.exists()


@pytest.mark.slow
def test_strays_and_an_unwritable_cache_are_a_line_each(tmp_path):
    """The run goes on, on the very frames; what was left out and not kept is said both times."""
    root = tmp_path / "data"
    nmnist(root)
    (root / "Train" / "1" / "00001 (1).bin").touch()
    (tmp_path / "file").touch()
    for program, arguments in (
        ("train.py", ("--config", "configs/nmnist.py", f"--config.data_dir={root}",
                      f"--config.cache_dir={tmp_path / 'file' / 'x'}", *SHORT)),
        ("eval.py", ()),
    ):  # fmt: skip
        code, out = run(program, "--workdir", tmp_path / "run", *arguments)
        assert code == 0 and "test: accuracy" in out, out
        assert "12 samples used; 1 left out: 1 not named like a recording (" in out
        assert "nmnist: its frames are not kept, for the cache cannot be written" in out
    (root / "Test" / "1" / "00001.bin").write_bytes(b"#!AER-DAT2.0\r\n ")
    code, out = run("eval.py", "--workdir", tmp_path / "run")
    assert code == 2 and "00001.bin: is an AEDAT or NumPy file" in out and "Traceback" not in out


def test_mirrored_digits_are_warned_of():
    flip = "--config.augment=('flip',)"
    code, out = run("train.py", "--config", "configs/digits_dvs.py", "--dry_run", flip)
    assert code == 0 and "warning: augment 'flip' trains on mirrored digits" in out


def test_without_tonic_the_error_names_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['tonic'] = None\n")
    code, out = run(
        "train.py", "--config", "configs/digits_dvs.py", "--workdir", tmp_path / "run",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert code == 2 and "needs the package tonic" in out, out


@pytest.mark.skipif(not REAL.exists(), reason="the real N-MNIST recordings are not here")
def test_real_recordings_of_nmnist(tmp_path):
    """1,000 and 100 of them: every event in one frame, three saccades, about 4,100 events each."""
    with tarfile.open(REAL) as tar:
        tar.extractall(tmp_path, filter="data")
    (root,) = (path.parent for path in tmp_path.rglob("Train"))
    with pytest.raises(events.DataError, match=r"(?s)nmnist is not complete.*partial_data=True"):
        recordings.find("nmnist", root)
    source = recordings.find("nmnist", root, partial=True)
    assert {split: len(rows) for split, rows in source.splits.items()} == {
        "train": 1000, "test": 100,
    }  # fmt: skip
    counts = []
    for row in source.splits["test"]:
        seen = recordings.read(row, source)
        counts.append(len(seen))
        assert 250_000 < seen["t"][-1] - seen["t"][0] < 350_000
        for split_by in ("number", "time"):
            frames = events.to_frames(seen, source.sensor, (34, 34), 6, split_by)
            assert frames.sum() == len(seen)
    assert 3500 < np.mean(counts) < 4700
