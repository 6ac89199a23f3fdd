"""Data of one's own: found, trained on and evaluated through the commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import own_data_campaign
import pytest
from commands import run
from event_files import draw_events, write_aedat2, write_aedat4, write_nmnist
from PIL import Image

from dalif_jax.data import arrays, image_folder, memory, own, sets
from dalif_jax.data.events import frames, own_recordings
from dalif_jax.data.events.events import DataError
from dalif_jax.settings import config

SHORT = ("--config.model=tiny", "--config.timesteps=2", "--config.epochs=1",
         "--config.warmup_epochs=0.0", "--config.augment=()")  # fmt: skip


def train(workdir, *words):
    return run("train.py", "--config=configs/digits.py", f"--workdir={workdir}", *SHORT, *words)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits as PNG files and as arrays."""
    folder = tmp_path_factory.mktemp("digits")
    splits = sets.digits()
    for part in ("train", "test"):
        for number, (image, label) in enumerate(zip(*splits[part], strict=True)):
            path = (
                folder / "png" / part / str(label) / f"{number:05}.{'PNG' if number % 2 else 'png'}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    (folder / "png" / "train" / "3" / "notes.txt").write_text("a note")
    keys = {f"{p}_{k}": getattr(splits[p], k) for p in ("train", "test") for k in splits[p]._fields}
    np.savez(folder / "arrays.npz", **keys, class_names=[f"digit {i}" for i in range(10)])
    return folder


def test_a_folder_of_images_is_trained_on_evaluated_and_shared(tmp_path, digits):
    words = ("--config.dataset=image_folder", f"--config.data_dir={digits / 'png'}")
    code, out = train(tmp_path / "run", *words)
    assert code == 0, out
    assert "train 1,150, test 287; 1 left out: 1 of another kind than PNG and JPEG" in out
    found = json.loads((tmp_path / "run" / "config.json").read_text())["found"]
    pixels = sets.digits()["train"].images / 255
    assert found["shape"] == [8, 8, 1] and found["classes"] == list("0123456789")
    np.testing.assert_allclose(
        [*found["mean"], *found["std"]], [pixels.mean(), pixels.std()], 1e-12
    )
    first = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert first["examples"] == 287 and "data_dir" not in first
    code, out = run("eval.py", f"--workdir={tmp_path / 'run'}", f"--export={tmp_path / 'card'}")
    assert code == 0 and "network.nir" in out, out
    code, out = run("eval.py", f"--card={tmp_path / 'card'}", f"--data_dir={digits / 'png'}")
    assert code == 0 and "agrees with the card" in out, out
    # A folder that changed is not what the run began with.
    copy = shutil.copytree(digits / "png", tmp_path / "png")
    tested = copy / "test" / "3"
    shutil.copy(next(tested.iterdir()), tested / "more.png")
    code, out = run("eval.py", f"--workdir={tmp_path / 'run'}", f"--data_dir={copy}")
    assert code == 2 and "is not what the run began with: test 287 then, 288 now" in out, out


@pytest.mark.slow
def test_arrays_are_the_same_run_as_the_set_they_are_of(tmp_path, digits):
    """Given the same order and statistics: every record of the evaluations, bit for bit."""
    spec = sets.SPECS["digits"]
    words = ("--config.dataset=arrays", f"--config.data_dir={digits / 'arrays.npz'}",
             f"--config.data_mean={spec.mean}", f"--config.data_std={spec.std}")  # fmt: skip
    results = []
    for name, more in (("arrays", words), ("digits", ())):
        code, out = train(tmp_path / name, *more)
        assert code == 0, out
        values = json.loads((tmp_path / name / "eval.json").read_text())
        results.append([values[key] for key in ("accuracy", "loss", "layers", "confusion")])
    assert results[0] == results[1]
    assert "digit 7" not in (tmp_path / "digits" / "report.html").read_text()


@pytest.mark.slow
def test_digits_as_images_train_to_the_accuracy_of_digits(tmp_path, digits):
    accuracies = {}
    for name, words in (("digits", ()), ("image_folder", (f"--config.data_dir={digits / 'png'}",))):
        code, out = run("train.py", "--config=configs/digits.py", f"--workdir={tmp_path / name}",
                        f"--config.dataset={name}", "--config.epochs=20", *words)  # fmt: skip
        assert code == 0, out
        accuracies[name] = json.loads((tmp_path / name / "eval.json").read_text())["accuracy"]
    assert accuracies["digits"] > 0.9
    assert abs(accuracies["digits"] - accuracies["image_folder"]) < 0.04, accuracies


@pytest.mark.slow
def test_a_folder_of_recordings_is_trained_on(tmp_path):
    """Two classes in two formats of one camera, divided by their names."""
    for label in range(2):
        for number in range(10):
            events = draw_events(400, 128, 10 * label + number)
            if label:
                events["x"] //= 4
            suffix, write = ((".aedat", write_aedat2), (".aedat4", write_aedat4))[number % 2]
            path = tmp_path / "data" / f"kind {label}" / f"{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, events)
    words = ("--config.dataset=event_folder", f"--config.data_dir={tmp_path / 'data'}",
             "--config.frame_size=16", f"--config.cache_dir={tmp_path / 'cache'}",
             "--config.batch_size=8", "--config.eval_batch_size=8")  # fmt: skip
    code, out = run("train.py", "--config=configs/digits_dvs.py", f"--workdir={tmp_path / 'run'}",
                    *SHORT, *words)  # fmt: skip
    assert code == 0, out
    assert "20 samples used" in out and "train 16, test 4" in out
    found = json.loads((tmp_path / "run" / "config.json").read_text())["found"]
    assert found["shape"] == [128, 128, 2] and found["classes"] == ["kind 0", "kind 1"]
    code, out = run("eval.py", f"--workdir={tmp_path / 'run'}")
    assert code == 0 and "accuracy" in out, out


# ---- What is found, by the functions.


def image(path, size=(6, 6), mode="L", value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16", "1") else (value,) * len(mode)).save(path)


def test_the_split_is_a_function_of_the_names_alone(tmp_path):
    for cls in "ab":
        for number in range(13):
            image(tmp_path / cls / f"{number}.png", value=number)
    splits, found = image_folder.image_folder(tmp_path, 0)
    assert (found.train, found.test) == (22, 4) and found.classes == ("a", "b")
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere")
    again, _ = image_folder.image_folder(tmp_path.parent / "elsewhere", 0)
    for part in splits:
        np.testing.assert_array_equal(splits[part][0], again[part][0])
        np.testing.assert_array_equal(splits[part][1], again[part][1])


def test_grey_stays_grey_and_one_of_colour_makes_all_colour(tmp_path):
    for cls in "ab":
        for number in range(5):
            image(tmp_path / cls / f"{number}.png")
    assert image_folder.image_folder(tmp_path, 4)[1].shape == (4, 4, 1)
    image(tmp_path / "a" / "9.jpg", mode="RGB", size=(9, 5))
    assert image_folder.image_folder(tmp_path, 4)[1].shape == (4, 4, 3)


def test_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (70, 5, 4, 3), np.uint8)
    mean, std = own.statistics(images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-12)
    assert own.statistics(np.full((3, 2, 2, 1), 7, np.uint8))[1] == (1.0,)


def folders(root):
    for cls in "ab":
        for number in range(5):
            image(root / cls / f"{number}.png")


def broken(root):
    (root / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")


def empty_class(root):
    (root / "c").mkdir()


def deep(root):
    image(root / "a" / "0.png", mode="I;16")


def sizes(root):
    image(root / "a" / "0.png", size=(7, 6))


def one_class(root):
    shutil.rmtree(root / "b")


def few(root):
    for cls in "ab":
        (root / cls / "0.png").unlink()


def only_train(root):
    for cls in "ab":
        (root / "train").mkdir(exist_ok=True)
        (root / cls).rename(root / "train" / cls)


def only_tested(root):
    only_train(root)
    shutil.copytree(root / "train", root / "test")
    (root / "test" / "a").rename(root / "test" / "z")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken, "0.png cannot be read as an image"),
        (empty_class, "c holds nothing that can be used"),
        (deep, "more than 8 bits a channel"),
        (sizes, "images are of 2 sizes, most 6x6, 7x6; set --config.frame_size"),
        (one_class, "has 1 class folders; two at least"),
        (few, r"no class of .* has the five files"),
        (only_train, "has train/ and no test/"),
        (only_tested, r"class a has no folder in .*test"),
        (shutil.rmtree, "is no folder"),
    ],
)
def test_folders_that_are_no_set_are_refused(tmp_path, spoil, message):
    folders(tmp_path / "set")
    spoil(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        image_folder.image_folder(tmp_path / "set", 0)


IMAGES, LABELS = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 3
FRAMES = np.zeros((20, 4, 8, 8, 2), np.uint16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": IMAGES}, "has images and lacks labels"),
        ({"train_images": IMAGES, "train_labels": LABELS}, "lacks test_images, test_labels"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images is float64"),
        ({"images": IMAGES.astype(np.int64), "labels": LABELS}, "images is int64"),
        ({"images": FRAMES[..., :1], "labels": LABELS}, "expected uint8"),
        ({"images": FRAMES.astype(np.float32), "labels": LABELS}, "unsigned counts"),
        ({"images": IMAGES, "labels": LABELS[:-1]}, "an integer for each of 20 examples"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, "labels is float64"),
        ({"images": IMAGES, "labels": LABELS - 1}, "must be classes from 0"),
        ({"images": IMAGES, "labels": LABELS * 0}, "has one class"),
        ({"images": IMAGES, "labels": LABELS, "class_names": ["a", "b"]}, "2 class_names"),
        ({"images": IMAGES[:4], "labels": LABELS[:4]}, "the five examples"),
        ({"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:, :4],
          "test_labels": LABELS}, r"test_images \(4, 8, 1\)"),
        ({"images": np.array([None] * 20), "labels": LABELS}, "cannot be read as an .npz"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_set_are_refused(tmp_path, given, message):
    np.savez(tmp_path / "x.npz", **given)
    with pytest.raises(DataError, match=message):
        arrays.arrays(tmp_path / "x.npz")


def test_arrays_of_frames_have_their_own_timesteps(tmp_path):
    np.savez(tmp_path / "arrays.npz", images=FRAMES, labels=LABELS)
    splits, found = arrays.arrays(tmp_path)
    assert found._replace(fingerprint=()) == own.Found(
        (8, 8, 2), ("0", "1", "2"), 17, 3, timesteps=4
    )
    assert splits["train"][0].shape == (17, 4, 8, 8, 2) and splits["train"][0].dtype == np.uint16
    words = ("--config.dataset=arrays", f"--config.data_dir={tmp_path}", "--dry_run")
    code, out = run("train.py", "--config=configs/digits_dvs.py", *SHORT, *words)
    assert code == 2 and "--config.timesteps=4 takes them" in out, out


def test_what_does_not_fit_is_refused_with_sizes(tmp_path):
    with pytest.raises(DataError, match=r"are [\d,]{18,} bytes.*[\d,]+ bytes are free"):
        own.fits(10**16, "arrays", (1, 2))
    own.fits(10, "arrays", (1, 2))


def test_recordings_of_several_sensors_are_refused(tmp_path):
    for cls in "ab":
        (tmp_path / cls).mkdir()
        for number in range(5):
            write_nmnist(tmp_path / cls / f"{number}.bin", draw_events(50, 34, number))
    source, classes = own_recordings.look(tmp_path)
    assert source.sensor == (34, 34) and classes == ("a", "b")
    write_aedat2(tmp_path / "a" / "9.aedat", draw_events(50, 128, 0))
    with pytest.raises(DataError, match=r"several sensors: 34x34 .*128x128"):
        own_recordings.look(tmp_path)


# ---- Memory, units of time, layouts.

GIB = 2**30


def machine(root, groups, mine):
    """Files of /proc and /sys/fs/cgroup: 64 GiB available; groups: {path: {file: text}}."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(
        f"MemTotal: {128 * 2**20} kB\nMemFree: {2**20} kB\nMemAvailable: {64 * 2**20} kB\n"
    )
    (root / "proc" / "self" / "cgroup").write_text(mine)
    for path, files in groups.items():
        (root / "groups" / path).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / "groups" / path / name).write_text(text)
    return memory.available(root / "proc", root / "groups")


def group(limit, used, cache, prefix=""):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if prefix else (
        "memory.max", "memory.current")  # fmt: skip
    stat = f"anon 5\n{prefix}inactive_file {cache}\n{prefix}active_file 0\n"
    return {names[0]: f"{limit}\n", names[1]: f"{used}\n", "memory.stat": stat}


@pytest.mark.parametrize(
    ("groups", "mine", "expected"),
    [
        ({}, "0::/\n", 64),
        ({"a": group("max", 0, 0)}, "0::/a\n", 64),
        ({"a": group(16 * GIB, 10 * GIB, 6 * GIB)}, "0::/a\n", 12),
        # The limit of a group around it.
        ({"a": group(8 * GIB, GIB, 0), "a/b": group(32 * GIB, GIB, 0)}, "0::/a/b\n", 7),
        # Inside a container, where the path is that of the host.
        ({"": group(4 * GIB, 3 * GIB, 2 * GIB)}, "0::/host/path\n", 3),
        ({"memory/a": group(6 * GIB, 5 * GIB, GIB, "total_")}, "3:cpu:/x\n2:memory:/a\n", 2),
        ({"a": {"memory.max": "no number"}}, "0::/a\n", 64),
    ],
)
def test_available_memory_counts_cache_and_limits(tmp_path, groups, mine, expected):
    assert machine(tmp_path, groups, mine) == expected * GIB


def test_available_memory_unknown_accepts_every_set(tmp_path, monkeypatch):
    assert memory.available(tmp_path, tmp_path) is None
    monkeypatch.setattr(memory, "available", lambda: None)
    own.fits(10**16, "arrays", (1, 2))


def recorded(root, scale, named=False, count=5):
    """Two classes of recordings of 0.3 s; times in microseconds / scale."""
    rng = np.random.default_rng(0)
    for cls in "ab":
        (root / cls).mkdir(parents=True)
        for i in range(count):
            x, y, p = rng.integers(0, (16, 16, 2), (80, 3)).T
            t = np.linspace(0, 300_000, 80).astype(np.int64) / scale
            if scale in (1, 1000) and np.all(t == np.rint(t)):
                t = t.astype(np.int64)
            fields = {"t": t, "x": x, "y": y, "p": p}
            if named:
                np.savez(root / cls / f"{i}.npz", **fields)
            else:
                np.save(root / cls / f"{i}.npy", np.stack([x, y, p, t], 1))
    return root


@pytest.mark.parametrize(
    ("scale", "named", "unit"),
    [(1, True, "auto"), (1, False, "auto"), (1000, False, "auto"), (1000, True, "ms"),
     (1_000_000, True, "s"), (1_000_000, False, "s")],
)  # fmt: skip
def test_event_folder_unit_of_time_gives_same_frames(tmp_path, capsys, scale, named, unit):
    """0.3 s are five frames of 60 ms in every unit, and what was decided is printed."""
    root = recorded(tmp_path / "set", scale, named)
    settings = frames.FrameSettings(0, (16, 16), "time", frame_ms=60.0, time_unit=unit)
    splits = sets.event_frames("event_folder", root, settings, tmp_path / "cache")
    out = capsys.readouterr().out
    assert {split.images.shape[1] for split in splits.values()} == {5}
    assert "--config.time_unit" in out and "every fifth of each class" in out


def test_event_folder_fractions_of_microseconds_are_refused(tmp_path):
    root = recorded(tmp_path / "set", 1_000_000, named=True)
    settings = frames.FrameSettings(2, (16, 16))
    with pytest.raises(DataError, match=r"--config\.time_unit=ms or s"):
        sets.event_frames("event_folder", root, settings, tmp_path / "cache")


def test_event_folder_frames_npz_is_refused(tmp_path):
    for cls in "ab":
        (tmp_path / cls).mkdir()
        for i in range(5):
            np.savez(tmp_path / cls / f"{i}.npz", frames=np.zeros((4, 2, 8, 8)))
    with pytest.raises(DataError, match="not events"):
        own_recordings.look(tmp_path)


def test_load_recordings_shorter_than_a_slice_are_refused(tmp_path):
    settings = config.base_config()
    settings.update({
        "dataset": "event_folder", "data_dir": str(recorded(tmp_path / "set", 1, True)),
        "cache_dir": str(tmp_path / "cache"), "split_by": "time", "frame_ms": 60.0,
        "timesteps": 5, "test_slices": 2,
    })  # fmt: skip
    config.find(settings)
    assert config.load_data(settings)["train"].images.shape[1] == 5
    settings.timesteps = 6
    with pytest.raises(DataError, match=r"fills 5 frames of 60 ms.*timesteps=6"):
        config.load_data(settings)


def test_image_folder_says_what_it_drops(tmp_path, capsys):
    folders(tmp_path)
    image(tmp_path / "a" / "5.png", mode="RGBA")
    image(tmp_path / "a" / "6.jpg", mode="CMYK")
    image_folder.image_folder(tmp_path, 0)
    out = capsys.readouterr().out
    assert "1 images have transparency" in out and "1 images are CMYK" in out


def test_class_folders_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    folders(tmp_path)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        own.class_files(tmp_path, "image_folder", lambda path: "")


def test_user_datasets_odd_or_damaged_are_handled(tmp_path):
    counts = own_data_campaign.user_datasets(tmp_path, 1)
    assert counts["tries"] == counts["read_right"] + counts["refused"] >= 60, counts
