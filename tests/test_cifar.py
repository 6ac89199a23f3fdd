"""CIFAR's archive: known pictures come out as they went in, damage is named."""

import hashlib
import importlib.util
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    PICTURES,
    cifar10,  # noqa: F401  fixtures
    official,
    publish,
    write,
)

from dalif_jax.data import cifar, sets

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"


def pack(path, folder, contents):
    with tarfile.open(path, "w:gz") as tar:
        # As in the published archive, the order of the members is not that of the batches.
        for file in sorted(contents, reverse=True):
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(contents[file])
            tar.addfile(info, io.BytesIO(contents[file]))


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


@pytest.mark.parametrize("member", ["cifar-10-batches-py/data_batch_1", "another"])
def test_archive_that_inflates_is_refused(tmp_path, monkeypatch, member):
    monkeypatch.setattr(cifar, "MAX_FILE", 2**16)
    monkeypatch.setattr(cifar, "MAX_ARCHIVE", 2**16)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = 2**20
        tar.addfile(info, io.BytesIO(bytes(2**20)))
    with pytest.raises(cifar.DataError, match="unpacks to"):
        cifar.load("cifar10", str(tmp_path))
