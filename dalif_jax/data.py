"""The data sets, decoded once into memory as uint8, and the order of their examples.

The order is a pure function of (seed, step), so a run that continues at step k sees exactly what
one that was never stopped sees, and nothing about the data needs saving.
"""

import hashlib
import io
import os
import pickle
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ORDER = 2  # the stream of randomness that shuffles; training.py uses others of the same seed


class Spec(NamedTuple):
    """What is known of a data set without reading it; `mean` and `std` of pixels scaled to 0..1."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Split(NamedTuple):
    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]


class DataError(ValueError):
    """A data set cannot be used; the message says what is wrong, where, and what would be right."""


# fmt: off
SPECS = {
    "digits": Spec((8, 8, 1), 10, 1150, 287, (0.2881,), (0.3540,)),
    "cifar10": Spec((32, 32, 3), 10, 50_000, 10_000,
                    (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Spec((32, 32, 3), 100, 50_000, 10_000,
                     (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Spec((224, 224, 3), 1000, 1_281_167, 50_000,
                     (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# fmt: on


class Archive(NamedTuple):
    """The official python archive of a CIFAR set, and the published MD5 of each file in it."""

    file: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    labels: bytes


ARCHIVES = {
    "cifar10": Archive(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        {"test_batch": "40351d587109b95175f43aff81a1287e"},
        b"labels",
    ),
    "cifar100": Archive(
        "cifar-100-python.tar.gz",
        "cifar-100-python",
        {"train": "16019d7e3df5f24257cddd939b257f8d"},
        {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        b"fine_labels",
    ),
}


def spec(name):
    """Spec of a data set. Raises DataError for an unknown name."""
    if name not in SPECS:
        raise DataError(f"unknown dataset {name!r}; known: {', '.join(SPECS)}")
    return SPECS[name]


def load(name, data_dir="", validation_split=0.0):
    """Read a data set whole.

    Args:
      name: a key of SPECS.
      data_dir: where CIFAR lies; "" means TFDS_DATA_DIR of the environment, else
        ~/tensorflow_datasets.
      validation_split: share of the training set held out, 0 <= f < 1; see `hold_out`.
    Returns:
      {"train": Split, "test": Split}, with "validation" where a share is held out and
      "unseen_writers" for digits.
    Raises:
      DataError: unknown, missing or damaged data.
    """
    spec(name)
    if name == "imagenet":
        raise DataError(
            "imagenet cannot be read by this version, which keeps data sets in memory; "
            "--dry_run works"
        )
    splits = digits() if name == "digits" else cifar(name, data_dir)
    for part in ("train", "test"):
        _check(name, part, splits[part])
    if validation_split:
        held = hold_out(len(splits["train"].labels), validation_split)
        images, labels = splits["train"]
        splits["train"] = Split(images[~held], labels[~held])
        splits["validation"] = Split(images[held], labels[held])
    return splits


def _check(name, part, split):
    known = SPECS[name]
    expected = getattr(known, part)
    if split.images.shape != (expected, *known.shape) or len(split.labels) != expected:
        raise DataError(
            f"{name} {part}: found images {split.images.shape} and {len(split.labels)} labels, "
            f"expected {(expected, *known.shape)}"
        )
    if split.labels.min() < 0 or split.labels.max() >= known.classes:
        raise DataError(f"{name} {part}: a label lies outside 0..{known.classes - 1}")


def hold_out(examples, share):
    """bool [examples]: floor(examples * share) of them, evenly spaced, whatever the seed.

    Example i is held out where floor((i + 1) share) > floor(i share), in exact arithmetic.
    """
    share = Fraction(str(share))
    i = np.arange(examples + 1, dtype=np.int64)
    whole = i * share.numerator // share.denominator
    return np.diff(whole) > 0


def digits():
    """The 1,797 real 8x8 digits of scikit-learn, by an index rule, for there is no official split.

    The last 360 in file order are `unseen_writers`: their writers are not among the earlier ones.
    Of the first 1,437, every fifth (index 4, 9, ...) is `test`, the rest `train`. The grey levels
    0..16 are stored times 15, which is exact and spreads them over a byte.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., None] * 15).astype(np.uint8)
    labels = bunch.target.astype(np.int32)
    index = np.arange(len(labels))
    known, every_fifth = index < 1437, index % 5 == 4
    parts = {
        "train": known & ~every_fifth,
        "test": known & every_fifth,
        "unseen_writers": ~known,
    }
    return {name: Split(images[part], labels[part]) for name, part in parts.items()}


def cifar(name, data_dir=""):
    """CIFAR-10 or -100 from the official python archive, else from a tensorflow-datasets folder."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    archive = ARCHIVES[name]
    folders = [root / archive.folder, root]
    for folder in folders:
        if (folder / next(iter(archive.train))).is_file():
            return _read_archive(archive, lambda file: (folder / file).read_bytes(), folder)  # noqa: B023
    packed = root / archive.file
    if packed.is_file():
        with tarfile.open(packed) as tar:
            # Members are read by name and never extracted, so no path can leave the archive.
            return _read_archive(
                archive, lambda file: tar.extractfile(f"{archive.folder}/{file}").read(), packed
            )
    prepared = root / name
    if prepared.is_dir():
        return _read_tfds(name, prepared)
    raise DataError(
        f"{name} was not found. Looked for\n"
        f"  {root / archive.folder}{os.sep}  (the official archive, unpacked)\n"
        f"  {packed}  (the official archive)\n"
        f"  {prepared}{os.sep}  (a tensorflow-datasets folder)\n"
        f"Set --config.data_dir to the folder that holds one of them: either download "
        f"{archive.file} from https://www.cs.toronto.edu/~kriz/cifar.html into it (170 MB), or\n"
        f"{_prepare(name, root)}"
    )


def _prepare(name, root):
    return (
        "prepare it once (downloads 170 MB; preparing, not reading, needs `pip install "
        f'tensorflow`):\n  python -c "import tensorflow_datasets as tfds; tfds.builder('
        f"'{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\""
    )


class _NumpyOnly(pickle.Unpickler):
    """Unpickles arrays and plain values, and refuses every other class."""

    def find_class(self, module, name):
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) == ("numpy._core.multiarray", "_reconstruct"):
            return np._core.multiarray._reconstruct
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR file")


def _read_archive(archive, read, where):
    splits = {}
    for part in ("train", "test"):
        images, labels = [], []
        for file, expected in getattr(archive, part).items():
            try:
                content = read(file)
            except (OSError, KeyError, EOFError, tarfile.TarError) as error:
                raise DataError(f"{where}: cannot read {file}: {error}") from error
            # Unpickling runs what a file says, so it must be the published one.
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != expected:
                raise DataError(
                    f"{where}: {file} is damaged or another file: MD5 {found}, published {expected}"
                )
            try:
                values = _NumpyOnly(io.BytesIO(content), encoding="bytes").load()
            except pickle.UnpicklingError as error:
                raise DataError(f"{where}: {file}: {error}") from error
            images.append(values[b"data"])
            labels += values[archive.labels]
        planes = np.concatenate(images).reshape(-1, 3, 32, 32)
        pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        splits[part] = Split(pixels, np.array(labels, np.int32))
    return splits


def _read_tfds(name, folder):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"{folder} is a tensorflow-datasets folder, and tensorflow-datasets is not installed: "
            "pip install tensorflow-datasets"
        ) from error
    versions = sorted(path for path in folder.iterdir() if (path / "dataset_info.json").is_file())
    if not versions:
        raise DataError(f"{folder} holds no prepared version; {_prepare(name, folder.parent)}")
    splits = {}
    print(f"decoding {name} from {versions[-1]} (a minute or two)", flush=True)
    for part in ("train", "test"):
        try:
            builder = tfds.builder_from_directory(versions[-1])
            source = builder.as_data_source(split=part)
        except NotImplementedError as error:
            raise DataError(
                f"{versions[-1]} was prepared as TFRecord, which needs TensorFlow to be read; "
                f"{_prepare(name, folder.parent)}"
            ) from error
        records = [source[i] for i in range(len(source))]
        if records and "id" in records[0]:
            # Shuffled when prepared; the id restores one order for every copy.
            records.sort(key=lambda record: record["id"])
        images = np.stack([record["image"] for record in records])
        labels = np.array([record["label"] for record in records], np.int32)
        splits[part] = Split(images, labels)
    return splits


def steps_per_epoch(examples, batch_size):
    """Whole batches in an epoch; what is left over waits for another epoch's order."""
    if examples < batch_size:
        raise DataError(f"batch_size={batch_size} exceeds the {examples} training examples")
    return examples // batch_size


def epoch_order(seed, epoch, examples, batch_size):
    """The training examples of one epoch.

    The batch of global step k is `epoch_order(seed, k // steps, ...)[k % steps]`.

    Returns:
      int32 [steps, batch_size], a random permutation of the examples without its remainder.
    """
    steps = steps_per_epoch(examples, batch_size)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), ORDER)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def eval_batches(examples, batch_size):
    """Batches that cover every example once: (indices int32 [B], valid bool [B]), NumPy.

    The last is filled up with example 0, marked not valid, so that all have one shape.
    """
    for start in range(0, examples, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        valid = indices < examples
        yield np.where(valid, indices, 0).astype(np.int32), valid
