"""ImageNet folders of a few pictures, and what a run reads of them."""

import imagenet_files
import numpy as np
import pytest

from dalif_jax.data import sets

TRAIN = [(imagenet_files.jpeg(i, 40 + i, 60), i % 7) for i in range(22)]
VALIDATION = [(imagenet_files.jpeg(100 + i, 50, 40), i % 7) for i in range(5)]
FORMATS = [("array_record", 1), ("array_record", 3), ("tfrecord", 1), ("tfrecord", 3)]


@pytest.fixture(scope="module", params=FORMATS, ids="{0[0]}-{0[1]}".format)
def root(request, tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("imagenet")
    imagenet_files.prepare(root, TRAIN, VALIDATION, *request.param)
    return root


@pytest.fixture
def tfrecord(tmp_path):
    return imagenet_files.prepare(tmp_path, TRAIN, VALIDATION, "tfrecord", 2)


def load(root, **keys):
    keys = {"cache_dir": str(root / "cache"), "partial": True, "frame_size": 32} | keys
    return sets.load("imagenet", str(root), **keys)


def same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
