"""CIFAR of a few pictures, as it is published."""

import hashlib
import pickle

import numpy as np
import pytest

from dalif_jax.data import cifar, sets


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
