"""What lies in the folder of an event set: what of it is used, what is left out, and why.

Whatever looks like a recording is either used or named among those left out.
"""

import os
import stat
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from dalif_jax.data.events.events import DataError
from dalif_jax.data.fingerprint import printable

DATA_DIR = (
    "The folder is named by --config.data_dir=FOLDER of train.py, by --data_dir=FOLDER of eval.py"
)


class Recording(NamedTuple):
    """One example: a file, or the part of one between two times."""

    reader: str  # a key of recordings.READERS
    path: str
    label: int
    start: int = 0  # us; the part is start <= t < stop where stop is given
    stop: int | None = None
    row: int = 0  # its number in the file

    def __str__(self):
        return self.path + (f" row {self.row}" if self.stop is not None else "")


class Source(NamedTuple):
    """The recordings of a data set as they lie on this machine."""

    name: str
    edition: str  # which of the published forms was found
    sensor: tuple[int, int]  # H, W
    classes: int
    splits: dict[str, list[Recording]]
    folder: Path | None = None  # None where there are no files
    left_out: tuple[tuple[str, str], ...] = ()  # (what lies there and is not used, why)
    published: int = 0  # samples of the whole set
    notes: tuple[str, ...] = ()  # what was concluded from the files, to be printed


def home(data_dir):
    """The folder that holds the data sets. Raises DataError where ~ means nothing."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise DataError(f"data_dir={given}: {error}. {DATA_DIR}") from error


def account(source):
    """One line: how many samples are used, how many things are left out and why, what is missing;
    and which classes a split has nothing of."""
    used = sum(map(len, source.splits.values()))
    parts = [f"{source.name} in {source.folder}: {used:,} samples used"]
    if reasons := Counter(why for _, why in source.left_out):
        counts = []
        for why, count in reasons.items():
            first = next(what for what, other in source.left_out if other == why)
            counts.append(f"{count:,} {why} ({'e.g. ' * (count > 1)}{first})")
        parts.append(f"{len(source.left_out):,} left out: " + ", ".join(counts))
    if used != source.published:
        parts.append(f"the published set has {source.published:,}")
    for split, rows in source.splits.items():
        if empty := sorted(set(range(source.classes)) - {row.label for row in rows}):
            parts.append(f"{split} has nothing of class {', '.join(map(str, empty))}")
    return printable("; ".join([*parts, *source.notes]))


class Taken(NamedTuple):
    """A file that is a sample."""

    path: Path
    key: tuple
    link: bool
    named: bool  # whether it can have another name


class Shelf:
    """One file for each sample; whatever else lies there is kept in `left_out`, with why."""

    def __init__(self):
        self.files, self.left_out, self.doubtful = {}, [], False
        self._seen = {}  # (device, inode) -> Taken

    def find(self, name, candidates, inside, how):
        """The first of some folders with an entry of `inside`. Raises DataError if none has."""
        there = [c for c in candidates if any((c / entry).exists() for entry in inside)]
        if not there:
            raise DataError(
                f"{name} was not found. Looked for {' or '.join(map(str, inside[:2]))} in\n  "
                + "\n  ".join(map(str, candidates))
                + f"\n{how}.\n{DATA_DIR}"
            )
        for other in there[1:]:
            self.leave(other, "a folder of the same set, not looked into")
        return there[0]

    def leave(self, what, why):
        self.left_out.append((str(what), why))

    def add(self, key, path):
        """Take a file as the sample `key`; True where it was taken.

        Not taken: a broken link, another name of a file that is there, and the second file of a
        key, for which of the two is right is in doubt.
        """
        try:
            status, link = os.stat(path), os.path.islink(path)
        except OSError:
            self.leave(path, "a link to nothing" if os.path.islink(path) else "not to be read")
            return False
        if not stat.S_ISREG(status.st_mode):
            self.leave(path, "no file")
            return False
        # Inodes are not to be trusted on every network disk: only where a second name can be.
        place, named = (status.st_dev, status.st_ino), link or status.st_nlink > 1
        other = self._seen.get(place)
        if other and (named or other.named):
            if link or not other.link:
                self.leave(f"{path} = {other.path}", "another name of a file that is there")
                return False
            del self.files[other.key]  # the link came first, in another folder
            self.leave(f"{other.path} = {path}", "another name of a file that is there")
        if key in self.files:
            self.doubtful = True
            self.leave(f"{path}, {self.files[key]}", "a second one for the same sample")
            return False
        self._seen[place] = Taken(path, key, link, named)
        self.files[key] = path
        return True

    def settle(self, name, missing, partial, how):
        """Raise DataError, naming what is missing and not used, for a set that is not whole or in
        doubt, unless `partial`."""
        if partial or not (missing or self.doubtful):
            return
        lines = [f"{name} is not complete." if missing else f"{name} is in doubt."]
        for title, rows in (
            ("Missing", missing),
            ("Not used", [f"{what}: {why}" for what, why in self.left_out]),
        ):
            if rows:
                lines += [f"{title}:", *(f"  {row}" for row in rows[:5])]
                lines += [f"  ... {len(rows):,} in all"] * bool(rows[5:])
        raise DataError(
            "\n".join(lines) + f"\n{how}.\nTo use what there is, set --config.partial_data=True"
        )


def files_below(folder):
    """Paths of the files below a folder, links after the others, each in the order of names.

    Hidden ones are not looked at, nor a link to a folder it lies in. Raises DataError where a
    folder cannot be read.
    """

    def fail(error):
        if not isinstance(error, FileNotFoundError):
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    found = []
    for where, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        around = os.path.join(os.path.realpath(where), "")
        targets = {name: os.path.realpath(os.path.join(where, name)) for name in folders}
        folders[:] = [
            name
            for name, target in targets.items()
            if name[0] != "." and not around.startswith(os.path.join(target, ""))
        ]
        found += [Path(where) / name for name in names if name[0] != "."]
    return sorted(found, key=lambda path: (path.is_symlink(), path))


def lines_of(path):
    """Lines of a text file, whoever wrote it: with or without a byte order mark, CR LF or LF.

    Raises:
      DataError: not to be read, or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
