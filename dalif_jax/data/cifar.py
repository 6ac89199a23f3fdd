"""CIFAR-10 and CIFAR-100, from the official python archive or a folder of tensorflow-datasets."""

import codecs
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zlib
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from dalif_jax.data.events.events import DataError
from dalif_jax.data.events.shelf import DATA_DIR, home
from dalif_jax.data.records import Records, newest_version, passed_over


# fmt: off
class Archive(NamedTuple):
    """The official python archive of a CIFAR set."""

    file: str
    folder: str
    labels: bytes  # their key
    md5: dict[str, str]  # as published, of the files of the training set and, last, the test set


ARCHIVES = {
    "cifar10": Archive("cifar-10-python.tar.gz", "cifar-10-batches-py", b"labels", {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e"}),
    "cifar100": Archive("cifar-100-python.tar.gz", "cifar-100-python", b"fine_labels", {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}),
}
# fmt: on


def load(name, data_dir="", cache_dir=""):
    """CIFAR-10 or -100 (fine labels), from the first of these that is there.

    The official python archive (https://www.cs.toronto.edu/~kriz/cifar.html) unpacked in
    `data_dir` or as `data_dir`, its tar.gz in `data_dir`, a folder of tensorflow-datasets.
    Returns {"train": (images, labels), "test": (images, labels)}, uint8 [N, 32, 32, 3] and int32
    [N]. Raises DataError where none can be read.
    """
    root = home(data_dir)
    archive = ARCHIVES[name]
    folder, packed, prepared = root / archive.folder, root / archive.file, root / name
    # CIFAR-100's files have common names, so a folder of another name must hold them all.
    whole = root.name == archive.folder or all((root / file).is_file() for file in archive.md5)
    if whole and not folder.is_dir():
        folder = root
    version = newest_version(prepared)
    there = [path for path in (folder, packed) if path.exists()] + [version] * bool(version)
    try:
        if folder.is_dir():
            contents = {file: _read_file(folder / file) for file in archive.md5}
            return _account(name, there, _from_pickles(archive, contents, folder))
        if packed.is_file():
            return _account(name, there, _from_pickles(archive, _untar(archive, packed), packed))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{name}: cannot read the official archive in {root}: {error}") from error
    if version:
        return _from_tfds(name, version, cache_dir)
    raise DataError(
        f"{name} was not found. Looked for\n"
        f"  {root / archive.folder}{os.sep}  (the official archive, unpacked)\n"
        f"  {root / next(iter(archive.md5))}  (a file of it)\n"
        f"  {packed}  (the official archive)\n"
        f"  {prepared / '<version>' / 'dataset_info.json'}  (prepared by tensorflow-datasets"
        f"{passed_over(prepared)})\n"
        f"Either download {archive.file} (170 MB) from https://www.cs.toronto.edu/~kriz/cifar.html "
        f"and set data_dir to the folder it is in, or {_prepare(name, root)}\n{DATA_DIR}"
    )


def _account(name, there, splits):
    """The splits; prints how many examples were read from where, and what was not read."""
    read, *others = there
    sizes = ", ".join(f"{part} {len(labels):,}" for part, (_, labels) in splits.items())
    unused = f"; not read: {', '.join(map(str, others))}" if others else ""
    print(f"{name} from {read}: {sizes}{unused}", flush=True)
    return splits


# Larger than any file of the official archives (155,249,918 bytes), and than all of one (187 MB).
MAX_FILE, MAX_ARCHIVE = 2**28, 2**28


def _read_file(path):
    """Bytes of an unpacked file. Raises DataError where it is larger than any official one."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise DataError(f"{path} is another file: more than {MAX_FILE:,} bytes")
    return content


class _Bounded:
    """A file that is read, up to MAX_ARCHIVE bytes. Raises DataError for more."""

    def __init__(self, file, path):
        self._file, self._path, self._left = file, path, MAX_ARCHIVE

    def read(self, size):
        content = self._file.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._path} is another archive: it unpacks to more than {MAX_ARCHIVE:,} bytes"
            )
        return content


def _untar(archive, packed):
    """{file: bytes} of the archive's members; one pass, and nothing is written to disk."""
    contents = {}
    if not packed.is_file():
        raise DataError(f"{packed} is not a regular file")
    with (
        gzip.open(packed) as unpacked,
        tarfile.open(fileobj=_Bounded(unpacked, packed), mode="r|") as tar,
    ):
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isfile() and path.parent.name == archive.folder and path.name in archive.md5:
                # A sparse file has no bytes in the archive for its holes.
                if member.issparse() or member.size > MAX_FILE:
                    raise DataError(
                        f"{packed} is another archive: {member.name!a:.100} unpacks to "
                        f"{member.size:,} bytes"
                    )
                contents[path.name] = tar.extractfile(member).read()
    if missing := archive.md5.keys() - contents.keys():
        raise DataError(f"{packed} holds no {archive.folder}/{min(missing)}")
    return contents


class _NumpyOnly(pickle.Unpickler):
    """Unpickles arrays and plain values, and refuses every other class and function."""

    def find_class(self, module, name):
        wanted = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        if wanted == "numpy.dtype":
            # Old pickles give the flags as 0 and 1, which some NumPy 2 releases warn about.
            return lambda kind, align=False, copy=False: np.dtype(kind, bool(align), bool(copy))
        allowed = {
            "numpy._core.multiarray._reconstruct": np._core.multiarray._reconstruct,
            "numpy.ndarray": np.ndarray,
            "_codecs.encode": codecs.encode,
        }
        if wanted not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR file")
        return allowed[wanted]


def _from_pickles(archive, contents, where):
    images, labels = [], []
    for file, published in archive.md5.items():
        # Unpickling runs what a file says, so it must be the published one.
        found = hashlib.md5(contents[file], usedforsecurity=False).hexdigest()
        if found != published:
            raise DataError(
                f"{where}: {file} is damaged or another file: MD5 {found}, expected {published}"
            )
        try:
            values = _NumpyOnly(io.BytesIO(contents[file]), encoding="bytes").load()
        except pickle.UnpicklingError as error:
            raise DataError(f"{where}: {file}: {error}") from error
        # Planes of red, green and blue, one after the other.
        images.append(values[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.array(values[archive.labels], np.int32))
    train = np.ascontiguousarray(np.concatenate(images[:-1])), np.concatenate(labels[:-1])
    return {"train": train, "test": (np.ascontiguousarray(images[-1]), labels[-1])}


def _prepare(name, root):
    # tensorflow-datasets 4.9 imports importlib_resources when preparing without requiring it.
    return (
        "prepare it once (downloads 170 MB; preparing, not reading, needs `pip install "
        "tensorflow-datasets tensorflow importlib_resources`):\n"
        '  python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}', file_format='array_record')"
        '.download_and_prepare()"'
    )


def _from_tfds(name, folder, cache_dir):
    """Splits of a folder that tensorflow-datasets prepared, in either of its formats."""
    splits = {}
    opened = {part: Records(name, folder, part, cache_dir) for part in ("train", "test")}
    sizes = ", ".join(f"{part} {len(records):,}" for part, records in opened.items())
    unused = [file for records in opened.values() for file in records.unused()]
    more = f"; {len(unused)} files its description does not name ({unused[0]})" if unused else ""
    print(f"decoding {name} from {folder}: {sizes}{more} (10 s to 2 min)", flush=True)
    for part, records in opened.items():
        # One thread: decoding small images holds the interpreter's lock, two were half as fast.
        examples = [(records.example(i), i) for i in range(len(records))]
        if "id" in examples[0][0]:
            # Shuffled when prepared; the id restores one order for every copy.
            examples.sort(key=lambda example: example[0]["id"])
            for (one, i), (other, j) in pairwise(examples):
                if one["id"] == other["id"]:
                    raise DataError(f"{records.where(j)} has the id of record {i}: {one['id']!r}")
        labels = np.array([example["label"] for example, _ in examples], np.int32)
        images = [np.asarray(records.image(example["image"], i)) for example, i in examples]
        splits[part] = np.stack(images), labels
    return splits
