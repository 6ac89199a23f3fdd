"""Recordings converted to frames once, into a cache on disk that is memory-mapped from then on.

A cache is a folder named after a digest of all that shapes it, and appears by one rename; its parts
lie in `<folder>.partial`, from which a killed conversion goes on. A lock makes others wait.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dalif_jax.data import cache
from dalif_jax.data.events.conversion import checksums, convert
from dalif_jax.data.events.events import DataError
from dalif_jax.data.fingerprint import printable
from dalif_jax.file_lock import file_lock

FORMAT = 2  # of the cache; another number lets old ones lie


class FrameSettings(NamedTuple):
    """What shapes the frames; config keys of the same names, `size` from `frame_size`.

    With 0 timesteps, and `frame_ms`, recordings become all frames that they fill; those of shorter
    ones end with empty frames.
    """

    timesteps: int
    size: tuple[int, int]  # H, W
    split_by: str = "number"
    resize: str = "sum"
    skip_bad: bool = False
    frame_ms: float = 0.0
    frame_values: str = "counts"
    time_unit: str = "auto"


def load(source, settings, cache_dir="", workers=0):
    """Frames of every split, converted if they are not in the cache.

    Args:
      source: recordings.Source.
      settings: FrameSettings.
      cache_dir: where caches lie; "" means $XDG_CACHE_HOME/dalif_jax/frames. Where nothing can be
        written there, frames are made for this process alone, and a line says so.
      workers: processes that convert; 0 means one a core.
    Returns:
      {split: (frames [N, T, H, W, 2], labels int32 [N])}; frames memory-mapped, in the narrowest
      unsigned type that holds every count, or float32 (bilinear).
    Raises:
      DataError: a recording cannot be used (and `skip_bad` is off); names set, split and file. Or
        no room anywhere. A damaged cache is made again.
    """
    about = describe(source, settings)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    size = "x".join(map(str, settings.size))
    name = f"{source.name}-T{settings.timesteps}-{size}-{digest[:16]}"
    try:
        root = cache.folder(cache_dir, "frames")
        folder = root / name
        splits = _kept(folder)
        if splits is None:
            root.mkdir(parents=True, exist_ok=True)
            with file_lock(root / f"{name}.lock"):
                # Another process may have made it meanwhile.
                splits = _kept(folder, print_damage=True)
                if splits is None:
                    if os.path.lexists(folder):
                        _remove(folder)
                    convert(source, settings, about, folder, workers)
                    splits = _open(folder)
    except OSError as error:
        cache.say_not_kept(f"{source.name}: its frames are", error)
        return _convert_for_now(source, settings, about, name, workers, error)
    return splits


def _remove(folder):
    """Remove a damaged cache; of a link only the link."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()


def _convert_for_now(source, settings, about, name, workers, before):
    """As `load`, by way of a folder for temporary files, which is gone when this returns."""
    try:
        with tempfile.TemporaryDirectory(prefix="dalif_jax-") as temporary:
            folder = Path(temporary) / name
            convert(source, settings, about, folder, workers)
            # What is mapped stays readable without its name.
            return _open(folder)
    except OSError as error:
        raise DataError(
            f"{source.name}: its frames fit neither the cache ({before}) nor "
            f"{tempfile.gettempdir()} ({error}): make room, or name another folder by "
            "--config.cache_dir=FOLDER of train.py, XDG_CACHE_HOME or TMPDIR"
        ) from error


def describe(source, settings):
    """Everything that shapes the frames, as plain values: the cache's key."""
    files = hashlib.sha256()
    for split, rows in source.splits.items():
        stamps = {}
        for row in rows:
            if row.path not in stamps:
                try:
                    status = os.stat(row.path)
                    stamps[row.path] = (status.st_size, status.st_mtime_ns)
                except OSError:
                    stamps[row.path] = None  # simulated, or gone: then reading says so
            place = (split, row.reader, Path(row.path).parts[-2:], row.label, row.start, row.stop)
            files.update(repr((place, stamps[row.path])).encode())
    return {
        "format": FORMAT,
        "dataset": source.name,
        "edition": source.edition,
        "recordings": {split: len(rows) for split, rows in source.splits.items()},
        "files": files.hexdigest(),
        # Those that came later only where they are used: caches of before stay what they are.
        "settings": [*settings[:5], *(v for v in settings[5:] if v not in (0, "counts", "auto"))],
    }


def _kept(folder, print_damage=False):
    """The splits of a whole cache; None where there is none, or a damaged one."""
    if not os.path.lexists(folder):
        return None
    try:
        return _open(folder)
    except DataError as error:
        if print_damage:
            print(f"{error}; it is made again", flush=True)
        return None


def _open(folder):
    """The splits of a cache.

    Raises:
      DataError: a file is missing, or is not what its checksums say.
      OSError: a file cannot be read, which says nothing of its content.
    """
    try:
        about, splits = json.loads((folder / "about.json").read_text()), {}
        skipped = about["skipped"]
        if "crc32" not in about:
            raise ValueError("it is of an earlier version, without checksums")
        for split, examples in about["examples"].items():
            for file in (f"{split}.npy", f"{split}_labels.npy"):
                if checksums(folder / file) != about["crc32"][file]:
                    raise ValueError(f"{file} does not match its checksum")
            frames = np.load(folder / f"{split}.npy", mmap_mode="r")
            labels = np.load(folder / f"{split}_labels.npy")
            if len(frames) != examples or len(labels) != examples:
                raise ValueError(f"{split} has not {examples} examples")
            splits[split] = frames, labels
    except Exception as error:  # NumPy's parser of the header raises exceptions of many kinds
        missing = (FileNotFoundError, NotADirectoryError)
        if isinstance(error, OSError) and not isinstance(error, missing):
            raise
        raise DataError(f"the cache {printable(folder)} is damaged ({error})") from error
    if skipped:
        name = about["dataset"]
        print(f"{name}: {len(skipped)} recordings could not be used and are left out; "
              f"{printable(folder / 'about.json')} lists all; first: {printable(skipped[0])}",
              flush=True)  # fmt: skip
    return splits
