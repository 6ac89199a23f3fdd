"""CIFAR, from either form it lies in: known pictures come out as they went in."""

import functools
import hashlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import imagenet_files
import numpy as np
import pytest
from PIL import Image

from dalif_jax.data import cifar, sets

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"

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
    monkeypatch.setitem(cifar.ARCHIVES, name, cifar.ARCHIVES[name]._replace(md5=sums))
    monkeypatch.setitem(sets.SPECS, name, sets.SPECS[name]._replace(train=train, test=test))


@pytest.fixture
def cifar10(monkeypatch):
    contents = {f"data_batch_{i + 1}": official([PICTURES[i % 4]], [i]) for i in range(5)}
    contents["test_batch"] = official(PICTURES[:2], [9, 8])
    publish(monkeypatch, "cifar10", contents, train=5, test=2)
    return contents


def test_the_published_tables_name_the_files_in_order():
    assert [*cifar.ARCHIVES["cifar10"].md5] == [
        *(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
    ]
    assert [*cifar.ARCHIVES["cifar100"].md5] == ["train", "test"]


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

    splits = sets.load("cifar10", str(where.get(form, tmp_path)))
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
    splits = sets.load("cifar100", str(tmp_path))
    assert splits["train"].labels.tolist() == [0, 99, 5, 50]
    assert splits["test"].labels.tolist() == [42]
    np.testing.assert_array_equal(splits["train"].images, PICTURES)


def test_data_dir_from_the_environment_and_the_home_folder(cifar10, monkeypatch, tmp_path):
    write(tmp_path / "cifar-10-batches-py", cifar10)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(sets.load("cifar10", "")["train"].labels) == 5
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    assert len(sets.load("cifar10", f"~/{tmp_path.name}")["train"].labels) == 5
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(sets.DataError, match=str(tmp_path.parent / "tensorflow_datasets")):
        sets.load("cifar10", "")


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_a_changed_byte_is_refused_with_both_sums(form, cifar10, tmp_path):
    changed = cifar10["test_batch"][:-1] + b"!"
    contents = {**cifar10, "test_batch": changed}
    if form == "folder":
        write(tmp_path / "cifar-10-batches-py", contents)
    else:
        pack(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", contents)
    with pytest.raises(sets.DataError) as caught:
        sets.load("cifar10", str(tmp_path))
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
        with pytest.raises(sets.DataError, match=r"test_batch.*has no place"):
            sets.load("cifar10", str(tmp_path / str(number)))
    assert not (tmp_path / "ran").exists()


def test_incomplete_and_damaged_archives_are_named(cifar10, tmp_path):
    folder = tmp_path / "a" / "cifar-10-batches-py"
    write(folder, cifar10)
    (folder / "data_batch_3").unlink()
    with pytest.raises(sets.DataError, match="data_batch_3"):
        sets.load("cifar10", str(tmp_path / "a"))

    (tmp_path / "b").mkdir()
    packed = tmp_path / "b" / "cifar-10-python.tar.gz"
    some = {file: content for file, content in cifar10.items() if file != "data_batch_2"}
    pack(packed, "cifar-10-batches-py", some)
    with pytest.raises(sets.DataError, match=r"holds no .*data_batch_2"):
        sets.load("cifar10", str(packed.parent))
    whole = packed.read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2]):
        packed.write_bytes(content)
        with pytest.raises(sets.DataError, match=r"cannot read|holds no"):
            sets.load("cifar10", str(packed.parent))


def test_wrong_counts_and_labels_are_refused(cifar10, monkeypatch, tmp_path):
    write(tmp_path / "cifar-10-batches-py", cifar10)
    small = sets.SPECS["cifar10"]
    monkeypatch.setitem(sets.SPECS, "cifar10", small._replace(train=6))
    with pytest.raises(sets.DataError, match=r"train.*expected \(6, 32, 32, 3\)"):
        sets.load("cifar10", str(tmp_path))
    monkeypatch.setitem(sets.SPECS, "cifar10", small._replace(classes=9))
    with pytest.raises(sets.DataError, match=r"test: a label lies outside 0\.\.8"):
        sets.load("cifar10", str(tmp_path))


@pytest.mark.parametrize(
    "name, folder, file",
    [
        ("cifar10", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python", "cifar-100-python.tar.gz"),
    ],
)
def test_missing_data_names_every_path_and_both_ways_out(name, folder, file, tmp_path):
    with pytest.raises(sets.DataError) as caught:
        sets.load(name, str(tmp_path))
    message = str(caught.value)
    for path in (tmp_path / folder, tmp_path / file, tmp_path / name):
        assert str(path) in message
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in message
    assert f"tfds.builder('{name}', data_dir='{tmp_path}', file_format='array_record')" in message
    assert "pip install" in message and "tensorflow" in message
    assert "--config.data_dir=FOLDER of train.py, by --data_dir=FOLDER of eval.py" in message
    (tmp_path / name / "3.0.2.incompleteAB").mkdir(parents=True)
    with pytest.raises(sets.DataError, match=r"no finished version: 3\.0\.2\.incompleteAB\)"):
        sets.load(name, str(tmp_path))


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
    monkeypatch.setitem(sets.SPECS, "cifar10", sets.SPECS["cifar10"]._replace(train=4, test=2))
    return tmp_path / "cifar10" / "3.0.2"


def test_a_prepared_folder_is_read_in_the_order_of_its_ids(prepared, tmp_path, capsys):
    capsys.readouterr()
    splits = sets.load("cifar10", str(tmp_path))
    assert capsys.readouterr().out.count("\n") == 1  # one line says that decoding takes a while
    np.testing.assert_array_equal(splits["train"].images, PICTURES)
    np.testing.assert_array_equal(splits["test"].images, PICTURES[:2])
    assert splits["train"].labels.tolist() == [9, 8, 7, 6]
    assert splits["test"].labels.tolist() == [9, 8]
    assert splits["train"].images.dtype == np.uint8 and splits["train"].labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_the_archive_comes_before_a_prepared_folder(prepared, tmp_path, monkeypatch, capsys):
    contents = {"data_batch_1": official(PICTURES, [1, 1, 1, 1])}
    contents["test_batch"] = official(PICTURES[:2], [1, 1])
    publish(monkeypatch, "cifar10", contents, train=4, test=2)
    write(tmp_path / "cifar-10-batches-py", contents)
    capsys.readouterr()
    assert sets.load("cifar10", str(tmp_path))["train"].labels.tolist() == [1, 1, 1, 1]
    out = capsys.readouterr().out
    assert f"{tmp_path / 'cifar-10-batches-py'}: train 4, test 2; not read: {prepared}" in out


def test_the_newest_version_is_read(prepared, tmp_path):
    # By number: as text, 3.0.2 would come after 3.0.10.
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "version": "3.0.10"}))
    prepared.rename(prepared.with_name("3.0.10"))
    write(prepared, {"dataset_info.json": b"{}"})
    assert len(sets.load("cifar10", str(tmp_path))["train"].labels) == 4


def test_a_tfrecord_folder_is_read_as_well(prepared, tmp_path):
    imagenet_files.cut(prepared, "tfrecord", 2)
    splits = sets.load("cifar10", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(splits["train"].images, PICTURES)
    assert splits["test"].labels.tolist() == [9, 8]
    assert "tensorflow" not in sys.modules


def test_a_damaged_prepared_folder_is_named(prepared, tmp_path):
    for file in prepared.glob("*train*"):
        file.unlink()
    with pytest.raises(sets.DataError, match="cifar10 train: 1 of 1 files are missing"):
        sets.load("cifar10", str(tmp_path))


def test_a_prepared_folder_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    write(tmp_path / "cifar10" / "3.0.2", {"dataset_info.json": b"{}"})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(sets.DataError, match="pip install tensorflow-datasets"):
        sets.load("cifar10", str(tmp_path))


def test_digits_and_the_archive_need_no_data_library(cifar10, tmp_path):
    """In a fresh process, in which importing any of these packages fails."""
    write(tmp_path / "cifar-10-batches-py", cifar10)
    sums = cifar.ARCHIVES["cifar10"].md5
    program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets", "tonic", "grain", "array_record"):
    sys.modules[name] = None
from dalif_jax.data import cifar, sets
assert len(sets.load("digits", "")["train"].labels) == 1150
cifar.ARCHIVES["cifar10"] = cifar.ARCHIVES["cifar10"]._replace(md5={sums!r})
sets.SPECS["cifar10"] = sets.SPECS["cifar10"]._replace(train=5, test=2)
assert len(sets.load("cifar10", {str(tmp_path)!r})["train"].labels) == 5
assert sets.epoch_order(0, 0, 5, 2).shape == (2, 2)
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
    archive = cifar.ARCHIVES["cifar10"]._replace(md5=md5)
    test = cifar._from_pickles(archive, dict.fromkeys(md5, content), "memory")["test"]
    test = sets.Split(*test)
    assert test.images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    np.testing.assert_array_equal(test.labels, labels)
    for channel in range(3):
        plane = planes[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        np.testing.assert_array_equal(test.images[..., channel], plane)
