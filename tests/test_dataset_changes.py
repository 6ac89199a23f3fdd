"""A user's dataset is what it was: changes between the parts of a run are refused or reported."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from dalif_jax.data import sets
from dalif_jax.settings import config


def draw_set(kind, root):
    """A small dataset of two classes; returns its data_dir."""
    rng = np.random.default_rng(0)
    if kind == "arrays":
        root.mkdir()
        images = rng.integers(0, 255, (40, 8, 8), np.uint8)
        np.savez(root / "arrays.npz", images=images, labels=np.arange(40) % 2)
        return root
    for part in ("train", "test"):
        for cls in "ab":
            folder = root / part / cls
            folder.mkdir(parents=True)
            for i in range(6):
                if kind == "image_folder":
                    pixels = rng.integers(0, 255, (8, 8), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i}.png")
                else:
                    x, y, p = rng.integers(0, (16, 16, 2), (99, 3)).T
                    t = np.sort(rng.integers(0, 999, 99))
                    np.save(folder / f"{i}.npy", np.stack([x, y, p, t], 1))
    return root


def settings_of(kind, data_dir, **keys):
    settings = config.base_config()
    settings.update({"dataset": kind, "data_dir": str(data_dir), "model": "tiny", **keys})
    return settings


def start(workdir, kind, data_dir, **keys):
    """What train.py does before its first step."""
    sets.look_at_images.cache_clear()
    settings = settings_of(kind, data_dir, **keys)
    config.find(settings)
    config.claim(workdir, settings)
    return settings


def swap(root):
    """Exchange two files of different classes: all counts and statistics stay."""
    first, second = (sorted((root / "train" / cls).iterdir())[0] for cls in "ab")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def rename(root):
    path = sorted((root / "train" / "a").iterdir())[0]
    path.rename(path.with_name(f"z{path.suffix}"))


def exchange_parts(root):
    (root / "train").rename(root / "x")
    (root / "test").rename(root / "train")
    (root / "x").rename(root / "test")


def edit_test(root):
    """One byte of the content of a test example, the same size."""
    path = sorted((root / "test" / "b").iterdir())[-1]
    if path.suffix == ".png":
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(path)
    else:
        values = np.load(path)
        values[0, 0] ^= 1
        np.save(path, values)


def shuffle_arrays(root):
    with np.load(root / "arrays.npz") as file:
        images, labels = file["images"], file["labels"]
    order = np.random.default_rng(1).permutation(len(labels))
    np.savez(root / "arrays.npz", images=images[order], labels=labels[order])


def swap_labels(root):
    with np.load(root / "arrays.npz") as file:
        images, labels = file["images"], file["labels"]
    labels[[0, 1]] = labels[[1, 0]]
    np.savez(root / "arrays.npz", images=images, labels=labels)


CHANGES = [
    *((kind, change) for kind in ("image_folder", "event_folder")
      for change in (swap, rename, exchange_parts, edit_test)),
    ("arrays", shuffle_arrays),
    ("arrays", swap_labels),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_resume_changed_dataset_is_refused(tmp_path, kind, change):
    data = draw_set(kind, tmp_path / "data")
    start(tmp_path / "run", kind, data)
    before = (tmp_path / "run" / "config.json").read_bytes()
    start(tmp_path / "run", kind, data)
    change(data)
    with pytest.raises(config.ConfigError, match="not what the run began with"):
        start(tmp_path / "run", kind, data)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["image_folder", "event_folder", "arrays"])
def test_resume_copied_dataset_is_accepted(tmp_path, kind):
    """Another place, other times and another compression of the same content."""
    data = draw_set(kind, tmp_path / "data")
    start(tmp_path / "run", kind, data)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    if kind == "arrays":
        with np.load(data / "arrays.npz") as file:
            np.savez_compressed(tmp_path / "copy" / "arrays.npz", **file)
    start(tmp_path / "run", kind, tmp_path / "copy")


def test_evaluation_changed_dataset_warns(tmp_path, capsys):
    data = draw_set("image_folder", tmp_path / "data")
    start(tmp_path / "run", "image_folder", data)
    settings = config.load(tmp_path / "run")
    sets.look_at_images.cache_clear()
    config.load_data(settings)
    assert "warning" not in capsys.readouterr().err
    swap(data)
    sets.look_at_images.cache_clear()
    config.load_data(settings)
    error = capsys.readouterr().err
    assert "warning" in error and "2 of its 4 parts changed" in error and "train/a" in error


@pytest.mark.parametrize("value", ["text", [1, 2], [[]], [["train/a", None]], {"a": 1}])
def test_evaluation_odd_fingerprint_warns(tmp_path, capsys, value):
    data = draw_set("image_folder", tmp_path / "data")
    start(tmp_path / "run", "image_folder", data)
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    values["found"]["fingerprint"] = value
    (tmp_path / "run" / "config.json").write_text(json.dumps(values))
    config.load_data(config.load(tmp_path / "run"))
    assert "warning" in capsys.readouterr().err


def test_resume_without_fingerprint_records_one(tmp_path, capsys):
    data = draw_set("image_folder", tmp_path / "data")
    run = tmp_path / "run"
    settings = start(run, "image_folder", data)
    values = json.loads((run / "config.json").read_text())
    whole = values["found"].pop("fingerprint")
    (run / "config.json").write_text(json.dumps(values))
    config.load_data(config.load(run))
    assert "warning" not in capsys.readouterr().err
    # The same run for its checkpoints.
    assert config.identity(config.load(run)) == config.identity(settings)
    start(run, "image_folder", data)
    assert json.loads((run / "config.json").read_text())["found"]["fingerprint"] == whole
    swap(data)
    with pytest.raises(config.ConfigError, match="not what the run began with"):
        start(run, "image_folder", data)


def test_resume_old_split_of_arrays_is_refused(tmp_path):
    """Earlier versions held out other examples: neither may be trained on what it held out."""
    data = draw_set("arrays", tmp_path / "data")
    run = tmp_path / "run"
    start(run, "arrays", data, validation_split=0.25)
    values = json.loads((run / "config.json").read_text())
    del values["found"]["fingerprint"]
    (run / "config.json").write_text(json.dumps(values))
    with pytest.raises(config.ConfigError, match="validation split"):
        start(run, "arrays", data, validation_split=0.25)
    # 32 training examples that alternate: the earlier rule holds out 3, 7, ..., all of class 1.
    old = config.load_data(config.load(run))["validation"].labels
    assert np.bincount(old, minlength=2).tolist() == [0, 8]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.5])
def test_hold_out_periodic_labels_keeps_each_class(share):
    labels = np.arange(200) % 10
    held = sets.hold_out(200, share, labels)
    assert held.sum() == int(200 * share)
    counts = np.bincount(labels[held], minlength=10)
    assert counts.max() - counts.min() <= 1 and counts.min() > 0
    # Sorted by class it is the rule without labels, bit for bit.
    np.testing.assert_array_equal(
        sets.hold_out(200, share, np.sort(labels)), sets.hold_out(200, share)
    )


def test_arrays_validation_split_is_stratified(tmp_path):
    data = draw_set("arrays", tmp_path / "data")
    settings = start(tmp_path / "run", "arrays", data, validation_split=0.25)
    held = config.load_data(settings)["validation"].labels
    assert np.bincount(held).tolist() == [4, 4]


def test_sample_covers_all_classes():
    labels = np.repeat(np.arange(4), 100).astype(np.int32)
    images = np.arange(400, dtype=np.uint16)[:, None]
    some = sets.sample(sets.Split(images, labels), 20)[:, 0]
    assert np.bincount(labels[some]).tolist() == [5, 5, 5, 5]
    assert sets.sample(sets.Split(images, labels), 1000).shape == (400, 1)


def test_config_write_replaces_a_link(tmp_path):
    """A run directory from elsewhere may hold links at any name."""
    (tmp_path / "run").mkdir()
    (tmp_path / "target").write_text("kept")
    (tmp_path / "run" / "config.json.tmp").symlink_to(tmp_path / "target")
    config.claim(tmp_path / "run", config.base_config())
    assert (tmp_path / "target").read_text() == "kept"


def test_arrays_zip_member_order_does_not_matter(tmp_path):
    data = draw_set("arrays", tmp_path / "data")
    start(tmp_path / "run", "arrays", data)
    with zipfile.ZipFile(data / "arrays.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(data / "arrays.npz", "w") as file:
        for name in reversed(members):
            file.writestr(name, members[name])
    start(tmp_path / "run", "arrays", data)
