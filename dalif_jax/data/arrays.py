"""Images, or frames of events, as arrays in an .npz."""

import zipfile
from pathlib import Path

import numpy as np

from dalif_jax.data import fingerprint
from dalif_jax.data.events.events import DataError
from dalif_jax.data.fingerprint import printable
from dalif_jax.data.own import Found, fits


def arrays(path):
    """(splits, Found without statistics) of an .npz, or of arrays.npz in a folder.

    `images` and `labels`, of which every fifth example of a class is tested, or `train_images`,
    `train_labels`, `test_images`, `test_labels`; `class_names` if there are any. Images are uint8
    [N, H, W] or [N, H, W, 1 or 3]; counts of events unsigned [N, T, H, W, 2]. Labels are integers
    from 0; each class up to the largest needs an example in the training set, or its name.

    Raises:
      DataError: no such file, keys, shapes or labels; says which.
    """
    try:
        path = Path(path).expanduser() if path else None
    except RuntimeError as error:
        raise DataError(f"arrays: data_dir={path}: {error}; write it out") from error
    if path is not None and path.is_dir():
        path = path / "arrays.npz"
    if path is None or not path.is_file():
        raise DataError(
            f"arrays: data_dir={path or ''} is no .npz file, nor a folder of arrays.npz"
        )
    parts = {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, whole = set(file.files), ("images", "labels")
            wanted = sum(parts.values(), ()) if "train_images" in keys else whole
            if missing := [key for key in wanted if key not in keys]:
                raise DataError(
                    f"arrays: {path} has {', '.join(sorted(keys)) or 'nothing'} and lacks "
                    f"{', '.join(missing)}; images and labels, or train_ and test_ of both"
                )
            fits(_bytes(path, wanted), "arrays", path.name)
            got = {key: file[key] for key in wanted}
            names = file["class_names"] if "class_names" in keys else None
    except DataError:
        raise
    except Exception as error:  # zip files and NumPy's headers raise of many kinds
        raise DataError(f"arrays: {path} cannot be read as an .npz: {error}") from error
    checked = {
        pair: _checked(path, *pair, got)
        for pair in ([whole] if wanted == whole else parts.values())
    }
    content = tuple(
        fingerprint.of_array(key, array)
        for pair, arrays in checked.items()
        for key, array in zip(pair, arrays, strict=True)
    )
    if wanted == whole:
        got = _parted(path, *checked[whole], parts)
    else:
        got = {part: checked[pair] for part, pair in parts.items()}
    names = _class_names(path, names, {part: labels for part, (_, labels) in got.items()})
    (images, _), (tested, _) = got["train"], got["test"]
    if images.shape[1:] != tested.shape[1:]:
        raise DataError(
            f"arrays: {path}: train_images are {images.shape[1:]}, test_images {tested.shape[1:]}"
        )
    events = images.ndim == 5
    shape, steps = (
        images.shape[2:] if events else images.shape[1:],
        images.shape[1] if events else 0,
    )
    about = ", ".join(f"{part} {len(rows[1]):,}" for part, rows in got.items())
    note = "; every fifth example of a class is tested" if wanted == whole else ""
    print(f"arrays in {printable(path)}: {about}, {len(names)} classes{note}", flush=True)
    return got, Found(
        tuple(shape), names, len(images), len(tested), timesteps=steps, fingerprint=content
    )


def _class_names(path, names, labels):
    """Names of all classes in the order of labels; prints which have no example.

    Args:
      names: the file's class_names, None without.
      labels: {part: int32 [N]}.
    Raises:
      DataError: labels that leave out classes which have no name, or names of another kind.
    """
    count = 1 + max(int(some.max()) for some in labels.values())
    trained = np.unique(labels["train"])
    absent = sorted(set(range(count)) - set(trained.tolist()))
    if names is None:
        if absent:
            only_tested = sorted(set(np.unique(labels["test"]).tolist()) - set(trained.tolist()))
            shown = ", ".join(map(str, np.r_[trained[:3], trained[-1:]] if len(trained) > 4
                                  else trained))  # fmt: skip
            why = (
                f"class {only_tested[0]} has examples in the test set alone"
                if only_tested
                else f"the labels of the training set are {len(trained)} different ones "
                f"({shown}), with none for class {absent[0]}"
            )
            raise DataError(
                f"arrays: {path}: {why}. Labels must be 0, 1, 2, ... without gaps: "
                "numpy.unique(labels, return_inverse=True)[1] numbers them so, or class_names, "
                "with a name for each class, says that classes are empty"
            )
        names = tuple(map(str, range(count)))
    else:
        if names.ndim != 1 or names.dtype.kind not in "USiu":
            raise DataError(
                f"arrays: {path}: class_names is {names.dtype} {names.shape}; expected a list of "
                "names, one for each class"
            )
        encoded = names.dtype.kind == "S"
        names = tuple(
            name.decode("utf-8", "replace") if encoded else str(name) for name in names.tolist()
        )
    if len(names) < count:
        raise DataError(f"arrays: {path}: {len(names)} class_names, and a label is {count - 1}")
    if len(names) < 2:
        raise DataError(f"arrays: {path} has one class; two at least are needed")
    for part, some in labels.items():
        if empty := sorted(set(range(len(names))) - set(np.unique(some).tolist())):
            shown = ", ".join(names[label] for label in empty[:5]) + ", ..." * (len(empty) > 5)
            print(f"arrays: {part} has nothing of {len(empty)} classes: {printable(shown)}")
    return names


def _checked(path, images_key, labels_key, got):
    images, labels = (
        array.astype(array.dtype.newbyteorder("="), copy=False)
        for array in (got[images_key], got[labels_key])
    )
    if images.ndim == 3:
        images = images[..., None]
    counts = images.ndim == 5 and images.shape[-1] == 2 and images.dtype.kind == "u"
    if not counts and not (
        images.ndim == 4 and images.shape[-1] in (1, 3) and images.dtype == np.uint8
    ):
        raise DataError(
            f"arrays: {path}: {images_key} is {got[images_key].dtype} {got[images_key].shape}; "
            "expected uint8 [N, H, W] or [N, H, W, 1 or 3], or unsigned counts [N, T, H, W, 2]"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        raise DataError(
            f"arrays: {path}: {labels_key} is {labels.dtype} {labels.shape}; expected an integer "
            f"for each of {len(images):,} examples"
        )
    if not len(labels) or labels.min() < 0 or labels.max() >= 2**15:
        raise DataError(
            f"arrays: {path}: {labels_key} must be classes from 0, at least one example"
        )
    if not images.size:
        raise DataError(
            f"arrays: {path}: {images_key} is {images.shape}: its images have no pixels"
        )
    if images.dtype.itemsize > 4:  # JAX would cut them to 32 bits
        images = images.astype(np.min_scalar_type(int(images.max())))
    return np.ascontiguousarray(images), labels.astype(np.int32)


def _parted(path, images, labels, parts):
    """Every fifth example of a class, in its order in the file, is tested."""
    tested = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        tested[np.flatnonzero(labels == label)[4::5]] = True
    if not tested.any():
        raise DataError(f"arrays: {path}: no class has the five examples of which one is tested")
    return {
        part: (images[mask], labels[mask])
        for part, mask in zip(parts, (~tested, tested), strict=True)
    }


def _bytes(path, keys):
    """Bytes of arrays in an .npz as its directory has them, without reading them."""
    with zipfile.ZipFile(path) as file:
        return sum(info.file_size for info in file.infolist() if info.filename[:-4] in keys)
