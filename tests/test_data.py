"""The data: known pictures come out as they went in, and the order holds what it promises."""

import functools
import hashlib
import importlib.util
import io
import json
import math
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import imagenet_files
import jax
import numpy as np
import pytest
from PIL import Image

from dalif_jax import data

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"


# ---- Digits


def test_digits_follow_the_index_rule():
    from sklearn.datasets import load_digits

    splits = data.load("digits", "")
    sizes = {name: len(split.labels) for name, split in splits.items()}
    assert sizes == {"train": 1150, "test": 287, "unseen_writers": 360}
    source = load_digits()
    rule = {
        "train": [i for i in range(1437) if i % 5 != 4],
        "test": [i for i in range(1437) if i % 5 == 4],
        "unseen_writers": list(range(1437, 1797)),
    }
    # Disjoint and complete: every index of the collection occurs once.
    assert sorted(i for part in rule.values() for i in part) == list(range(1797))
    for name, split in splits.items():
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (8, 8, 1)
        assert split.labels.dtype == np.int32
        assert set(split.labels.tolist()) == set(range(10))
        np.testing.assert_array_equal(split.images[..., 0] / 15, source.images[rule[name]])
        np.testing.assert_array_equal(split.labels, source.target[rule[name]])


def test_digits_mean_and_std_are_those_of_the_training_part():
    pixels = data.load("digits", "")["train"].images / 255
    np.testing.assert_allclose(pixels.mean(), data.spec("digits").mean[0], atol=5e-5)
    np.testing.assert_allclose(pixels.std(), data.spec("digits").std[0], atol=5e-5)


def test_unknown_and_unavailable_names():
    with pytest.raises(ValueError, match="digits, cifar10, cifar100, imagenet"):
        data.spec("cifar11")
    assert data.spec("imagenet").shape == (224, 224, 3)


# ---- Order


@pytest.mark.parametrize("examples, batch_size", [(12, 4), (13, 4), (1150, 128), (5, 5)])
def test_an_epoch_visits_no_example_twice(examples, batch_size):
    order = np.asarray(data.epoch_order(3, 0, examples, batch_size))
    assert order.dtype == np.int32
    assert order.shape == (examples // batch_size, batch_size)
    assert len(set(order.ravel().tolist())) == order.size
    assert order.min() >= 0 and order.max() < examples


def test_order_is_the_same_under_jit_with_traced_seed_and_epoch_and_in_x64(x64):
    jitted = jax.jit(data.epoch_order, static_argnums=(2, 3))
    with jax.enable_x64(False):
        expected = np.asarray(data.epoch_order(7, 2, 100, 8))
        np.testing.assert_array_equal(jitted(7, 2, 100, 8), expected)
    np.testing.assert_array_equal(data.epoch_order(7, 2, 100, 8), expected)


def test_order_differs_between_epochs_and_seeds_and_other_uses_of_the_seed():
    orders = [
        np.asarray(data.epoch_order(seed, epoch, 64, 64))[0] for seed in (0, 1) for epoch in (0, 1)
    ]
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), 0)
    orders.append(np.asarray(jax.random.permutation(key, 64)))
    assert len({tuple(order) for order in orders}) == 5


def test_a_batch_in_the_middle_is_recomputed_from_its_step_alone():
    steps = data.steps_per_epoch(103, 10)
    assert steps == 10
    run = [row for epoch in range(3) for row in np.asarray(data.epoch_order(5, epoch, 103, 10))]
    for k in (0, 9, 10, 17, 29):
        np.testing.assert_array_equal(data.epoch_order(5, k // steps, 103, 10)[k % steps], run[k])


def test_the_dropped_remainder_changes_with_the_epoch():
    left_out = [
        set(range(11)) - set(np.asarray(data.epoch_order(0, epoch, 11, 5)).ravel().tolist())
        for epoch in range(20)
    ]
    assert all(len(one) == 1 for one in left_out) and len(set.union(*left_out)) > 3


@pytest.mark.parametrize("batch_size", [0, 51])
def test_impossible_batch_size_is_named(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} .*50"):
        data.steps_per_epoch(50, batch_size)


@pytest.mark.parametrize("examples, batch_size", [(12, 4), (13, 4), (3, 8), (1, 1)])
def test_evaluation_covers_every_example_once(examples, batch_size):
    batches = list(data.eval_batches(examples, batch_size))
    seen = []
    for indices, valid in batches:
        assert indices.shape == valid.shape == (batch_size,)
        assert indices.dtype == np.int32 and valid.dtype == bool
        assert not indices[~valid].any()
        seen += indices[valid].tolist()
    assert sorted(seen) == list(range(examples))
    assert len(batches) == math.ceil(examples / batch_size)


# ---- Validation split


def test_hold_out_by_hand():
    # floor(0.3 i) for i = 0..10 is 0 0 0 0 1 1 1 2 2 2 3: it rises after 3, 6 and 9.
    assert np.flatnonzero(data.hold_out(10, 0.3)).tolist() == [3, 6, 9]
    assert not data.hold_out(10, 0.0).any()


@pytest.mark.parametrize(
    "share, held",
    [(0.1, 5000), (0.25, 12500), (0.3, 15000), (1 / 3, 16666), (0.29, 14500), (0.9, 45000)],
)
def test_hold_out_is_exact_and_even(share, held):
    # int(50000 * 0.29) in floating point is 14499, and 1/3 passes 64 bits in the product.
    mask = data.hold_out(50_000, share)
    assert mask.sum() == held
    gaps = np.diff(np.flatnonzero(mask))
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3])
def test_validation_part_is_cut_out_of_the_training_part(share):
    whole = data.load("digits", "")
    cut = data.load("digits", "", share)
    assert len(cut["validation"].labels) == math.floor(1150 * share)
    mask = data.hold_out(1150, share)
    for part, where in (("train", ~mask), ("validation", mask)):
        np.testing.assert_array_equal(cut[part].images, whole["train"].images[where])
        np.testing.assert_array_equal(cut[part].labels, whole["train"].labels[where])
    np.testing.assert_array_equal(cut["test"].images, whole["test"].images)
    assert "validation" not in whole


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), 1e-4])
def test_impossible_validation_split_is_refused(share):
    with pytest.raises(ValueError, match="validation_split"):
        data.load("digits", "", share)


# ---- The official archives, small and hand made


def picture(red, green, blue):
    """[32, 32, 3] in one colour, but for a white top left pixel and a grey one to its right."""
    pixels = np.empty((32, 32, 3), np.uint8)
    pixels[:] = red, green, blue
    pixels[0, 0], pixels[0, 1] = 255, 77
    return pixels


PICTURES = [picture(200, 0, 0), picture(0, 150, 0), picture(0, 0, 100), picture(10, 20, 30)]


def official(pixels, labels, key=b"labels"):
    """Bytes as the archives hold them: planes in a row, protocol 2, byte keys, NumPy of 2009."""
    planes = np.stack([image[..., channel].ravel() for image in pixels for channel in range(3)])
    extra = {b"coarse_labels": [0] * len(labels)} if key == b"fine_labels" else {}
    values = {b"data": planes.reshape(len(labels), 3072), key: labels, **extra}
    content = pickle.dumps(values, protocol=2)
    for new, old in ((b"numpy._core", b"numpy.core"), (b"\x89\x88\x87", b"K\x00K\x01\x87")):
        assert content.count(new) == 1  # the name of the module; dtype's flags as 0 and 1
        content = content.replace(new, old)
    return content


def write(folder, contents):
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)


def pack(path, folder, contents):
    with tarfile.open(path, "w:gz") as tar:
        # As in the published archive, the order of the members is not that of the batches.
        for file in sorted(contents, reverse=True):
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(contents[file])
            tar.addfile(info, io.BytesIO(contents[file]))


def publish(monkeypatch, name, contents, train, test):
    """Make `contents` the published files of a data set with so many examples."""
    sums = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(data.ARCHIVES, name, data.ARCHIVES[name]._replace(md5=sums))
    monkeypatch.setitem(data.SPECS, name, data.SPECS[name]._replace(train=train, test=test))


@pytest.fixture
def cifar10(monkeypatch):
    contents = {f"data_batch_{i + 1}": official([PICTURES[i % 4]], [i]) for i in range(5)}
    contents["test_batch"] = official(PICTURES[:2], [9, 8])
    publish(monkeypatch, "cifar10", contents, train=5, test=2)
    return contents


def test_the_published_tables_name_the_files_in_order():
    assert [*data.ARCHIVES["cifar10"].md5] == [
        *(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
    ]
    assert [*data.ARCHIVES["cifar100"].md5] == ["train", "test"]


@pytest.mark.parametrize("form", ["unpacked", "the folder itself", "a renamed folder", "tar.gz"])
def test_cifar10_pictures_come_out_as_they_went_in(form, cifar10, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    if form == "tar.gz":
        pack(tmp_path / "cifar-10-python.tar.gz", folder.name, cifar10)
    elif form == "a renamed folder":
        write(tmp_path / "mine", cifar10)
    else:
        write(folder, cifar10)
    where = {"the folder itself": folder, "a renamed folder": tmp_path / "mine"}
    before = sorted(tmp_path.rglob("*"))

    splits = data.load("cifar10", str(where.get(form, tmp_path)))
    assert set(splits) == {"train", "test"}
    assert splits["train"].labels.tolist() == [0, 1, 2, 3, 4]
    assert splits["test"].labels.tolist() == [9, 8]
    for i, image in enumerate(splits["train"].images):
        np.testing.assert_array_equal(image, PICTURES[i % 4])
    np.testing.assert_array_equal(splits["test"].images, PICTURES[:2])
    for split in splits.values():
        assert split.images.dtype == np.uint8 and split.images.flags.c_contiguous
        assert split.labels.dtype == np.int32
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted


def test_cifar100_has_fine_labels(monkeypatch, tmp_path):
    contents = {
        "train": official(PICTURES, [0, 99, 5, 50], b"fine_labels"),
        "test": official(PICTURES[:1], [42], b"fine_labels"),
    }
    publish(monkeypatch, "cifar100", contents, train=4, test=1)
    write(tmp_path / "cifar-100-python", contents)
    splits = data.load("cifar100", str(tmp_path))
    assert splits["train"].labels.tolist() == [0, 99, 5, 50]
    assert splits["test"].labels.tolist() == [42]
    np.testing.assert_array_equal(splits["train"].images, PICTURES)


def test_data_dir_from_the_environment_and_the_home_folder(cifar10, monkeypatch, tmp_path):
    write(tmp_path / "cifar-10-batches-py", cifar10)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load("cifar10", "")["train"].labels) == 5
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    assert len(data.load("cifar10", f"~/{tmp_path.name}")["train"].labels) == 5
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(data.DataError, match=str(tmp_path.parent / "tensorflow_datasets")):
        data.load("cifar10", "")


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_a_changed_byte_is_refused_with_both_sums(form, cifar10, tmp_path):
    changed = cifar10["test_batch"][:-1] + b"!"
    contents = {**cifar10, "test_batch": changed}
    if form == "folder":
        write(tmp_path / "cifar-10-batches-py", contents)
    else:
        pack(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", contents)
    with pytest.raises(data.DataError) as caught:
        data.load("cifar10", str(tmp_path))
    for part in (changed, cifar10["test_batch"]):
        assert hashlib.md5(part).hexdigest() in str(caught.value)
    assert "test_batch" in str(caught.value) and str(tmp_path) in str(caught.value)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Evaluated:
    def __reduce__(self):
        return eval, ("1",)


def test_a_pickle_that_runs_code_is_refused_even_with_the_right_sum(cifar10, monkeypatch, tmp_path):
    for number, content in enumerate((Malicious(str(tmp_path / "ran")), Evaluated())):
        contents = {**cifar10, "test_batch": pickle.dumps({b"data": content}, protocol=2)}
        publish(monkeypatch, "cifar10", contents, train=5, test=2)
        write(tmp_path / str(number) / "cifar-10-batches-py", contents)
        with pytest.raises(data.DataError, match=r"test_batch.*has no place"):
            data.load("cifar10", str(tmp_path / str(number)))
    assert not (tmp_path / "ran").exists()


def test_incomplete_and_damaged_archives_are_named(cifar10, tmp_path):
    folder = tmp_path / "a" / "cifar-10-batches-py"
    write(folder, cifar10)
    (folder / "data_batch_3").unlink()
    with pytest.raises(data.DataError, match="data_batch_3"):
        data.load("cifar10", str(tmp_path / "a"))

    (tmp_path / "b").mkdir()
    packed = tmp_path / "b" / "cifar-10-python.tar.gz"
    some = {file: content for file, content in cifar10.items() if file != "data_batch_2"}
    pack(packed, "cifar-10-batches-py", some)
    with pytest.raises(data.DataError, match=r"holds no .*data_batch_2"):
        data.load("cifar10", str(packed.parent))
    whole = packed.read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2]):
        packed.write_bytes(content)
        with pytest.raises(data.DataError, match=r"cannot read|holds no"):
            data.load("cifar10", str(packed.parent))


def test_wrong_counts_and_labels_are_refused(cifar10, monkeypatch, tmp_path):
    write(tmp_path / "cifar-10-batches-py", cifar10)
    small = data.SPECS["cifar10"]
    monkeypatch.setitem(data.SPECS, "cifar10", small._replace(train=6))
    with pytest.raises(data.DataError, match=r"train.*expected \(6, 32, 32, 3\)"):
        data.load("cifar10", str(tmp_path))
    monkeypatch.setitem(data.SPECS, "cifar10", small._replace(classes=9))
    with pytest.raises(data.DataError, match=r"test: a label lies outside 0\.\.8"):
        data.load("cifar10", str(tmp_path))


@pytest.mark.parametrize(
    "name, folder, file",
    [
        ("cifar10", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python", "cifar-100-python.tar.gz"),
    ],
)
def test_missing_data_names_every_path_and_both_ways_out(name, folder, file, tmp_path):
    with pytest.raises(data.DataError) as caught:
        data.load(name, str(tmp_path))
    message = str(caught.value)
    for path in (tmp_path / folder, tmp_path / file, tmp_path / name):
        assert str(path) in message
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in message
    assert f"tfds.builder('{name}', data_dir='{tmp_path}', file_format='array_record')" in message
    assert "pip install" in message and "tensorflow" in message


# ---- A folder of tensorflow-datasets


@functools.cache
def png(number):
    file = io.BytesIO()
    Image.fromarray(PICTURES[number]).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """A prepared folder of 4 training and 2 test pictures; example i has id i and label 9 - i."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")
        name = "cifar10"

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {
                "train": self._generate_examples("train", 4),
                "test": self._generate_examples("test", 2),
            }

        def _generate_examples(self, part, examples):
            for i in range(examples):
                key = f"{part}_{i:05d}"
                yield key, {"id": key, "image": io.BytesIO(png(i)), "label": 9 - i}

    Cifar10(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    monkeypatch.setitem(data.SPECS, "cifar10", data.SPECS["cifar10"]._replace(train=4, test=2))
    return tmp_path / "cifar10" / "3.0.2"


def test_a_prepared_folder_is_read_in_the_order_of_its_ids(prepared, tmp_path, capsys):
    capsys.readouterr()
    splits = data.load("cifar10", str(tmp_path))
    assert capsys.readouterr().out.count("\n") == 1  # one line says that decoding takes a while
    np.testing.assert_array_equal(splits["train"].images, PICTURES)
    np.testing.assert_array_equal(splits["test"].images, PICTURES[:2])
    assert splits["train"].labels.tolist() == [9, 8, 7, 6]
    assert splits["test"].labels.tolist() == [9, 8]
    assert splits["train"].images.dtype == np.uint8 and splits["train"].labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_the_archive_comes_before_a_prepared_folder(prepared, tmp_path, monkeypatch):
    contents = {"data_batch_1": official(PICTURES, [1, 1, 1, 1])}
    contents["test_batch"] = official(PICTURES[:2], [1, 1])
    publish(monkeypatch, "cifar10", contents, train=4, test=2)
    write(tmp_path / "cifar-10-batches-py", contents)
    assert data.load("cifar10", str(tmp_path))["train"].labels.tolist() == [1, 1, 1, 1]


def test_the_newest_version_is_read(prepared, tmp_path):
    # By number: as text, 3.0.2 would come after 3.0.10.
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "version": "3.0.10"}))
    prepared.rename(prepared.with_name("3.0.10"))
    write(prepared, {"dataset_info.json": b"{}"})
    assert len(data.load("cifar10", str(tmp_path))["train"].labels) == 4


def test_a_tfrecord_folder_is_read_as_well(prepared, tmp_path):
    imagenet_files.cut(prepared, "tfrecord", 2)
    splits = data.load("cifar10", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(splits["train"].images, PICTURES)
    assert splits["test"].labels.tolist() == [9, 8]
    assert "tensorflow" not in sys.modules


def test_a_damaged_prepared_folder_is_named(prepared, tmp_path):
    for file in prepared.glob("*train*"):
        file.unlink()
    with pytest.raises(data.DataError, match="cifar10 train: 1 of 1 files are missing"):
        data.load("cifar10", str(tmp_path))


def test_a_prepared_folder_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    write(tmp_path / "cifar10" / "3.0.2", {"dataset_info.json": b"{}"})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.DataError, match="pip install tensorflow-datasets"):
        data.load("cifar10", str(tmp_path))


def test_digits_and_the_archive_need_no_data_library(cifar10, tmp_path):
    """In a fresh process, in which importing any of these packages fails."""
    write(tmp_path / "cifar-10-batches-py", cifar10)
    sums = data.ARCHIVES["cifar10"].md5
    program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets", "tonic", "grain", "array_record"):
    sys.modules[name] = None
from dalif_jax import data
assert len(data.load("digits", "")["train"].labels) == 1150
data.ARCHIVES["cifar10"] = data.ARCHIVES["cifar10"]._replace(md5={sums!r})
data.SPECS["cifar10"] = data.SPECS["cifar10"]._replace(train=5, test=2)
assert len(data.load("cifar10", {str(tmp_path)!r})["train"].labels) == 5
assert data.epoch_order(0, 0, 5, 2).shape == (2, 2)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


# ---- Real pictures


@pytest.mark.skipif(not (REAL / "test_batch.xz").is_file(), reason="no CIFAR-10 beside the project")
def test_real_test_batch_agrees_with_an_independent_decoder():
    """A differently stored copy of test_batch, put back into the published file's format."""
    location = importlib.util.spec_from_file_location("unpack", REAL / "unpack_cifar10.py")
    unpack = importlib.util.module_from_spec(location)
    location.loader.exec_module(unpack)
    planes, labels = unpack.load(REAL / "test_batch.xz")
    content = pickle.dumps({b"data": planes, b"labels": labels.tolist()}, protocol=2)
    # The same file serves as both parts; the tables below say so.
    md5 = dict.fromkeys(("first", "last"), hashlib.md5(content).hexdigest())
    archive = data.ARCHIVES["cifar10"]._replace(md5=md5)
    test = data._from_pickles(archive, dict.fromkeys(md5, content), "memory")["test"]
    assert test.images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    np.testing.assert_array_equal(test.labels, labels)
    for channel in range(3):
        plane = planes[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        np.testing.assert_array_equal(test.images[..., channel], plane)
