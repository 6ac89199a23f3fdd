"""Digests of a user's dataset, which show whether it is still the one a run began with."""

import functools
import hashlib
import unicodedata

LENGTH = 16  # hexadecimal digits that are kept


def normalised(name):
    """A file name in composed Unicode form (NFC).

    File systems keep the same name composed or decomposed, depending on the machine that wrote it.
    """
    return unicodedata.normalize("NFC", name)


def name_bytes(name):
    """UTF-8 bytes of a file name; bytes that were no UTF-8 on the disk come out unchanged."""
    return normalised(name).encode("utf-8", "surrogateescape")


def printable(name):
    r"""Text that can be printed on every terminal: bytes that are no UTF-8 appear as \xff."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@functools.cache
def of_file(path, size, changed):
    """SHA-256 of a file's content; `size` and `changed`, from os.stat, make a new one of it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def of_class(examples):
    """(number of examples, digest) of a class.

    Args:
      examples: (path below the dataset's folder, digest of the content), in the order of training.
    """
    whole = hashlib.sha256()
    for path, content in examples:
        name = name_bytes(path)
        whole.update(len(name).to_bytes(4, "little") + name + content)
    return len(examples), whole.hexdigest()[:LENGTH]


def of_folders(root, rows, classes, contents):
    """Fingerprint of class folders: ((part/class, number of examples, digest), ...).

    Args:
      rows: {part: [(path, label)]}.
      classes: names in the order of labels.
      contents: {path: digest of the file}.
    """
    examples = {(part, label): [] for part in rows for label in range(len(classes))}
    for part, labelled in rows.items():
        for path, label in labelled:
            name = path.relative_to(root).as_posix()
            examples[part, label].append((name, contents[path]))
    return tuple(
        (f"{part}/{classes[label]}", *of_class(some)) for (part, label), some in examples.items()
    )


def of_array(name, array):
    """(name, length, digest) of an array: its values in their order, its shape and type."""
    whole = hashlib.sha256(repr((array.shape, array.dtype.str.lstrip("<>=|"))).encode())
    whole.update(array.data if array.flags.c_contiguous else array.tobytes())
    return name, len(array), whole.hexdigest()[:LENGTH]


def difference(before, now):
    """What differs between two fingerprints, in words; "" where they agree."""
    before, now = ({name: tuple(rest) for name, *rest in rows} for rows in (before, now))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not differing:
        return ""
    first = differing[0]
    counts = [rows[first][0] if first in rows else 0 for rows in (before, now)]
    detail = (
        f"{counts[0]:,} examples then, {counts[1]:,} now"
        if counts[0] != counts[1]
        else f"{counts[0]:,} examples then and now, with other names or contents"
    )
    return (
        f"{len(differing)} of its {len({**before, **now})} parts changed; the first is {first} "
        f"({detail})"
    )
