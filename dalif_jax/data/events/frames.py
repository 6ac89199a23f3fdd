"""Recordings converted to frames once, into a cache on disk that is memory-mapped from then on.

A cache is a folder named after a digest of all that shapes it, and appears by one rename; its parts
lie in `<folder>.partial`, from which a killed conversion goes on. A lock makes others wait.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from filelock import FileLock

from dalif_jax.data import cache
from dalif_jax.data.events import recordings
from dalif_jax.data.events.events import BadRecording, DataError, to_frames

FORMAT = 2  # of the cache; another number lets old ones lie
PART = 32  # recordings in a part
UNSAFE = ("aedat4",)  # readers whose decoder can abort its process on a damaged file


class FrameSettings(NamedTuple):
    """What shapes the frames; config keys of the same names, `size` from `frame_size`."""

    timesteps: int
    size: tuple[int, int]  # H, W
    split_by: str = "number"
    resize: str = "sum"
    skip_bad: bool = False


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
      DataError: a recording cannot be used (and `skip_bad` is off); names set, split and file. A
        damaged cache, or no room anywhere.
    """
    about = describe(source, settings)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    size = "x".join(map(str, settings.size))
    name = f"{source.name}-T{settings.timesteps}-{size}-{digest[:16]}"
    try:
        root = cache.folder(cache_dir, "frames")
        folder = root / name
        if not folder.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f"{name}.lock"):
                if not folder.is_dir():  # another process may have made it meanwhile
                    _convert(source, settings, about, folder, workers)
    except OSError as error:
        cache.say_not_kept(f"{source.name}: its frames are", error)
        return _convert_for_now(source, settings, about, name, workers, error)
    return _open(folder)


def _convert_for_now(source, settings, about, name, workers, before):
    """As `load`, by way of a folder for temporary files, which is gone when this returns."""
    try:
        with tempfile.TemporaryDirectory(prefix="dalif_jax-") as temporary:
            folder = Path(temporary) / name
            _convert(source, settings, about, folder, workers)
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
        "settings": list(settings),
    }


def _open(folder):
    try:
        about, splits = json.loads((folder / "about.json").read_text()), {}
        skipped = about["skipped"]
        for split, examples in about["examples"].items():
            frames = np.load(folder / f"{split}.npy", mmap_mode="r")
            labels = np.load(folder / f"{split}_labels.npy")
            if len(frames) != examples or len(labels) != examples:
                raise ValueError(f"{split} has not {examples} examples")
            splits[split] = frames, labels
    except Exception as error:  # NumPy's parser of the header raises of many kinds
        again = "delete it, it will be made again"
        raise DataError(f"the cache {folder} is damaged ({error}): {again}") from error
    if skipped:
        name = about["dataset"]
        print(f"{name}: {len(skipped)} recordings could not be used and are left out; "
              f"{folder / 'about.json'} lists all; first: {skipped[0]}", flush=True)  # fmt: skip
    return splits


def _convert(source, settings, about, folder, workers):
    partial = folder.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    jobs = [
        (split, first, rows[first : first + PART])
        for split, rows in source.splits.items()
        for first in range(0, len(rows), PART)
    ]
    todo = [job for job in jobs if not _whole(_part(partial, *job[:2]))]
    total = sum(about["recordings"].values())
    done = total - _count(todo)
    print(
        f"converting {source.name} ({source.edition}) to {settings.timesteps} frames: "
        f"{total:,} recordings, {done:,} of them done before",
        flush=True,
    )
    started, fresh, crashed = time.monotonic(), _count(todo), set()
    while todo:
        try:
            _convert_parts(source, settings, partial, todo, crashed, workers)
        except BrokenProcessPool as error:
            # A decoder that aborts takes its process with it; which file was it?
            suspects = [tuple(json.loads(p.read_text())) for p in partial.glob("*.now")]
            found = {key for key in suspects if _crashes(source, *key)} - crashed
            if not found:
                raise DataError(
                    f"converting {source.name}: a process was killed, perhaps for want of memory; "
                    "the parts done so far are kept, the same command goes on from them"
                ) from error
            crashed |= found
        todo = [job for job in jobs if not _whole(_part(partial, *job[:2]))]
    _join(source, settings, about, jobs, partial)
    os.replace(partial / "whole", folder)
    shutil.rmtree(partial)
    seconds = time.monotonic() - started
    print(f"converted {fresh:,} recordings in {seconds:.0f} s into {folder}", flush=True)


def _count(jobs):
    return sum(len(rows) for *_, rows in jobs)


def _convert_parts(source, settings, partial, jobs, crashed, workers):
    """Convert parts in as many processes as there are cores; shows how far it is."""
    for left in partial.glob("*.now"):
        left.unlink()
    # A few parts are done in this process, unless their decoder could end it.
    few = len(jobs) <= 2 and not any(row.reader in UNSAFE for *_, rows in jobs for row in rows)
    run = joblib.Parallel(
        n_jobs=1 if few else max(2, workers or joblib.cpu_count()),
        return_as="generator_unordered",
    )
    total, fresh = _count(jobs), 0
    started = printed = time.monotonic()
    calls = (
        joblib.delayed(_convert_part)(source, settings, partial, crashed, *job) for job in jobs
    )
    for count in run(calls):
        fresh += count
        now = time.monotonic()
        if now - printed > 2:
            rate, printed = fresh / (now - started), now
            left = (total - fresh) / rate
            print(f"  {fresh:,} of {total:,}, {rate:.0f}/s, {left:.0f} s left", flush=True)


def _crashes(source, split, index):
    """Whether reading a recording ends the process it is read in."""
    try:
        joblib.Parallel(n_jobs=2)([joblib.delayed(_try)(source.splits[split][index], source)] * 2)
    except BrokenProcessPool:
        return True
    return False


def _try(row, source):
    with contextlib.suppress(BadRecording):
        recordings.read(row, source)


def _part(partial, split, first):
    return partial / f"{split}-{first:06}.npz"


def _whole(path):
    """Whether a part is there and undamaged; a power cut can leave a torn file."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _convert_part(source, settings, partial, crashed, split, first, rows):
    """Convert some recordings of a split into one part, in whatever process."""
    frames, labels, skipped = [], [], []
    marker = partial / f"{os.getpid()}.now"
    for index, row in enumerate(rows, first):
        try:
            if (split, index) in crashed:
                raise BadRecording("damaged: its decoder crashed")
            if row.reader in UNSAFE:
                marker.write_text(json.dumps((split, index)))
            events = recordings.read(row, source)
            frames.append(
                to_frames(
                    events,
                    source.sensor,
                    settings.size,
                    settings.timesteps,
                    settings.split_by,
                    settings.resize,
                )
            )
            labels.append(row.label)
        except BadRecording as error:
            message = f"{source.name} {split} recording {index}, {row}: {error}"
            if not settings.skip_bad:
                raise DataError(
                    f"{message}\nReplace the file, or set skip_bad=True to leave such recordings "
                    "out and count them"
                ) from error
            skipped.append(message)
    stacked = np.stack(frames) if frames else np.zeros((0, settings.timesteps, *settings.size, 2))
    if stacked.dtype.kind == "u":
        stacked = stacked.astype(np.min_scalar_type(int(stacked.max(initial=0))))
    path = _part(partial, split, first)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, frames=stacked, labels=np.array(labels, np.int32), skipped=skipped)
    os.replace(temporary, path)
    return len(rows)


def _join(source, settings, about, jobs, partial):
    """All parts as one array a split, in partial/whole."""
    whole = partial / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    kinds, counts, skipped = set(), dict.fromkeys(source.splits, 0), []
    labels = {split: [] for split in source.splits}
    for split, first, _ in jobs:
        with np.load(_part(partial, split, first)) as part:
            labels[split].append(part["labels"])
            counts[split] += len(part["labels"])
            if len(part["labels"]):
                kinds.add(part["frames"].dtype)
            skipped += part["skipped"].tolist()
    if bad := [split for split, count in counts.items() if not count]:
        raise DataError(f"{source.name} {bad[0]}: every recording is bad, e.g. {skipped[0]}")
    dtype = np.result_type(*kinds)
    for split, count in counts.items():
        shape = (count, settings.timesteps, *settings.size, 2)
        array = np.lib.format.open_memmap(whole / f"{split}.npy", "w+", dtype, shape)
        place = 0
        for other, first, _ in jobs:
            if other == split:
                with np.load(_part(partial, split, first)) as part:
                    frames = part["frames"]
                array[place : place + len(frames)] = frames
                place += len(frames)
        array.flush()
        np.save(whole / f"{split}_labels.npy", np.concatenate(labels[split]))
    values = about | {"examples": counts, "skipped": skipped, "dtype": dtype.name}
    (whole / "about.json").write_text(json.dumps(values, indent=2) + "\n")
