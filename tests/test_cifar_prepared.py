"""CIFAR from a folder that tensorflow-datasets prepared, or without that package."""

import functools
import io
import json
import subprocess
import sys
from pathlib import Path

import imagenet_files
import numpy as np
import pytest
from cifar_files import (
    PICTURES,
    cifar10,  # noqa: F401  fixtures
    official,
    publish,
    write,
)
from PIL import Image

from dalif_jax.data import cifar, sets


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
