"""Class folders: which file is an example of which class, in which part of the dataset.

A folder holds train/<class>/ and test/<class>/, or the classes alone: then of each class, in the
order of a digest of its files' names, every fifth is of the test set, the same on every machine.
Classes are numbered in the order of their names. Names are compared in composed Unicode form.
"""

import hashlib
import os
from pathlib import Path

from dalif_jax.data.events.events import DataError
from dalif_jax.data.fingerprint import name_bytes, normalised, printable

SPLIT = "every fifth of each class, in the order of a digest of its files' names"
# Names of the folders of a part, in any capitalisation.
PART_NAMES = {
    **dict.fromkeys(
        ("train", "training", "trainset", "train_set", "training_set", "seg_train"), "train"
    ),
    **dict.fromkeys(("test", "testing", "testset", "test_set", "seg_test"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validation_set", "val_set"), "validation"),
}
# Folders that systems and archivers add, next to those whose name begins with a dot.
SYSTEM_FOLDERS = (
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
    "__pycache__",
)  # fmt: skip


def class_files(root, name, usable):
    """{"train": [(path, label)], "test": ...}, class names, and {why: [what was left out]}.

    Args:
      root: the dataset's folder.
      name: of the dataset, for messages.
      usable: (path) -> why it is left out, or "".
    Raises:
      DataError: no folder, no classes, a class without files, or one of the test set alone.
    """
    root = _directory(root, name)
    parts, left_out = part_folders(root, name)
    folders = {
        (part, entry): class_name(entry.name)
        for part, folder in (parts or {"": root}).items()
        for entry in _folders(folder, name, left_out)
    }
    around = {os.path.realpath(folder) for folder in (root, *parts.values())}
    around |= {os.path.realpath(entry) for _, entry in folders}
    files = {}
    for (part, entry), cls in folders.items():
        if (part, cls) in files:
            raise DataError(
                f"{name}: two folders are the class {cls}, {printable(entry)} is one of them: "
                "their names differ only in how they are encoded. Merge or rename them"
            )
        paths = files[part, cls] = []
        for path in _files_below(entry, set(around), left_out):
            why = _why_unusable(path, usable)
            if why:
                left_out.setdefault(why, []).append(str(path))
            else:
                paths.append(path)
        if not paths:
            raise DataError(
                f"{name}: the class folder {printable(entry)} holds nothing that can be used"
            )
    classes = sorted({cls for _, cls in files})
    if len(classes) < 2:
        raise DataError(
            f"{name}: {printable(root)} has {len(classes)} class folders; two at least are needed"
        )
    splits = {"train": [], "test": []}
    for label, cls in enumerate(classes):
        for part in parts:
            if (part, cls) not in files:
                raise DataError(f"{name}: class {cls} has no folder in {printable(parts[part])}")
            splits[part] += [(path, label) for path in files[part, cls]]
        if not parts:
            _divide(splits, files["", cls], label, root)
    if not splits["test"]:
        raise DataError(
            f"{name}: no class of {printable(root)} has the five files of which one is tested"
        )
    return splits, tuple(classes), left_out


def class_name(folder_name):
    """The class that a folder's name stands for: composed, bytes that are no UTF-8 replaced."""
    return name_bytes(folder_name).decode("utf-8", "replace")


def part_folders(root, name):
    """{"train": folder, "test": folder}, {} for classes alone; and {why: [what is left out]}.

    A validation folder is the test set where there is no other.

    Raises:
      DataError: one of the two is missing, or two folders are the same part.
    """
    found, others, left_out = {}, [], {}
    for folder in _folders(root, name, {}):
        part = PART_NAMES.get(folder.name.lower())
        if not part:
            others.append(str(folder))
        elif part in found:
            raise DataError(
                f"{name}: {printable(folder)} and {printable(found[part])} are both the {part} "
                "set by their names. Keep one of them, or rename one that is a class"
            )
        else:
            found[part] = folder
    if not found:
        return {}, left_out
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    if missing := {"train", "test"} - set(found):
        existing = next(iter(found.values())).name
        raise DataError(
            f"{name}: {printable(root)} has {existing}/ and no {min(missing)}/; both, or neither, "
            f"are read. If {existing} is a class, give its folder another name"
        )
    if "validation" in found:
        left_out["not used, because the test set has a folder"] = [str(found.pop("validation"))]
    if others:
        left_out["neither the training nor the test set"] = others
    parts = {part: _innermost(found[part], part, name) for part in ("train", "test")}
    return parts, left_out


def _innermost(folder, part, name):
    """`folder`, or the folder in it where that holds the part once more: seg_train/seg_train/."""
    inside = _folders(folder, name, {})
    again = len(inside) == 1 and PART_NAMES.get(inside[0].name.lower()) == part
    return inside[0] if again else folder


def _directory(root, name):
    """The dataset's folder as a path. Raises DataError where it is not a directory."""
    try:
        path = Path(root).expanduser() if root else None
    except RuntimeError as error:
        raise DataError(f"{name}: data_dir={printable(root)}: {error}; write it out") from error
    if path is None or not path.is_dir():
        given = f"{printable(path)} is no folder" if path else "data_dir is not given"
        raise DataError(
            f"{name}: {given}; --config.data_dir=FOLDER names one of class folders, or of train/ "
            "and test/ with class folders in each"
        )
    return path


def _hidden(folder_name):
    return folder_name[0] == "." or folder_name.lower() in SYSTEM_FOLDERS


def _folders(folder, name, left_out):
    """Folders in a folder, in the order of their names, without hidden ones."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: normalised(entry.name))
    except OSError as error:
        raise DataError(f"{name}: {printable(folder)} cannot be read: {error.strerror}") from error
    visible = [entry for entry in entries if not _hidden(entry.name)]
    for entry in visible:
        if not entry.is_dir():
            left_out.setdefault("no folder of a class", []).append(str(entry))
    return [entry for entry in visible if entry.is_dir()]


def _why_unusable(path, usable):
    """Why a file is left out, "" where it is an example."""
    if not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "no file"
    try:
        return usable(path)
    except OSError:
        return "not to be read"


def _files_below(folder, seen, left_out):
    """Files below a class folder, in the order of their names.

    Links to folders are followed, each folder once, and none that is read elsewhere: a link can
    lead back to a folder around it.

    Args:
      seen: real paths of the folders that are read already; those met are added.
    Raises:
      DataError: a folder cannot be read.
    """

    def fail(error):
        raise DataError(f"{printable(error.filename)} cannot be read: {error.strerror}") from error

    paths = []
    for where, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        followed = []
        for name in sorted(folders, key=lambda name: (os.path.islink(os.path.join(where, name)),
                                                      normalised(name))):  # fmt: skip
            path = os.path.join(where, name)
            real = os.path.realpath(path)
            if _hidden(name):
                left_out.setdefault("a hidden folder", []).append(path)
            elif real in seen:
                left_out.setdefault("a link to a folder that is read already", []).append(path)
            else:
                seen.add(real)
                followed.append(name)
        folders[:] = followed
        paths += [Path(where, name) for name in names if name[0] != "."]
    order = {path: tuple(map(normalised, path.parts)) for path in paths}
    return sorted(paths, key=lambda path: (order[path], path))


def _divide(splits, paths, label, root):
    def drawn(path):
        return hashlib.sha256(name_bytes(path.relative_to(root).as_posix())).digest()

    tested = set(sorted(paths, key=drawn)[4::5])
    for path in paths:
        splits["test" if path in tested else "train"].append((path, label))


def account(name, root, splits, left_out, divided):
    """Print what is used and what is left out, and why."""
    parts = [
        f"{name} in {printable(root)}: " + ", ".join(f"{k} {len(v):,}" for k, v in splits.items())
    ]
    if divided:
        parts.append(SPLIT)
    if left_out:
        count = sum(map(len, left_out.values()))
        each = (f"{len(v):,} {why} (e.g. {printable(v[0])})" for why, v in left_out.items())
        parts.append(f"{count:,} left out: " + ", ".join(each))
    print("; ".join(parts), flush=True)
