"""Recordings converted in parts, in as many processes as there are cores, then joined to one cache.

The parts lie in `<folder>.partial`, from which a killed conversion goes on; the cache appears by
one rename. Its files are on the disk by then, and about.json has their checksums.
"""

import contextlib
import functools
import json
import mmap
import os
import secrets
import shutil
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor

from dalif_jax.atomic_write import atomic_write
from dalif_jax.data.events import recordings
from dalif_jax.data.events.events import BadRecording, DataError, to_frames

PART = 32  # recordings in a part
CHUNK = 1 << 24  # bytes of a file with one checksum
UNSAFE = ("aedat4",)  # readers whose decoder can abort its process on a damaged file


def convert(source, settings, about, folder, workers):
    """Make a cache: the frames of all splits, as the whole folder or not at all.

    Args:
      source, settings, workers: as in frames.load.
      about: what the cache is of, written beside the frames.
      folder: where it is to be.
    Raises:
      DataError: as in frames.load.
    """
    partial = folder.with_suffix(".partial")
    if partial.is_symlink():  # the parts are written and removed here alone
        partial.unlink()
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
        f"converting {source.name} ({source.edition}) to {settings.timesteps or 'all their'} "
        f"frames: {total:,} recordings, {done:,} of them done before",
        flush=True,
    )
    started, fresh, crashed = time.monotonic(), _count(todo), set()
    while todo:
        try:
            _convert_parts(source, settings, partial, todo, crashed, workers)
        except BrokenProcessPool as error:
            # A decoder that aborts takes its process with it; which file was it?
            suspects = [tuple(json.loads(p.read_text())) for p in partial.glob("[0-9]*.now")]
            found = {key for key in suspects if _crashes(source, *key)} - crashed
            if not found:
                raise DataError(
                    f"converting {source.name}: a process was killed, perhaps for want of memory; "
                    "the parts done so far are kept, the same command goes on from them"
                ) from error
            crashed |= found
        todo = [job for job in jobs if not _whole(_part(partial, *job[:2]))]
    for left in partial.glob("whole-*"):  # by a conversion that was killed
        shutil.rmtree(left, ignore_errors=True)
    whole = partial / f"whole-{secrets.token_hex(8)}"
    _join(source, settings, about, jobs, partial, whole)
    os.replace(whole, folder)
    sync(folder.parent)
    shutil.rmtree(partial, ignore_errors=True)
    seconds = time.monotonic() - started
    print(f"converted {fresh:,} recordings in {seconds:.0f} s into {folder}", flush=True)


def _count(jobs):
    return sum(len(rows) for *_, rows in jobs)


def _convert_parts(source, settings, partial, jobs, crashed, workers):
    """Convert parts in as many processes as there are cores; shows how far it is."""
    for left in (*partial.glob("*.now"), *partial.glob("*.tmp")):
        left.unlink()
    # A few parts are done in this process, unless their decoder could end it.
    few = len(jobs) <= 2 and not any(row.reader in UNSAFE for *_, rows in jobs for row in rows)
    total, fresh = _count(jobs), 0
    started = printed = time.monotonic()
    calls = (
        joblib.delayed(_convert_part)(source, settings, partial, crashed, *job) for job in jobs
    )
    with _processes(1 if few else max(2, workers or joblib.cpu_count())) as run:
        for count in run(calls):
            fresh += count
            now = time.monotonic()
            if now - printed > 2:
                rate, printed = fresh / (now - started), now
                left = (total - fresh) / rate
                print(f"  {fresh:,} of {total:,}, {rate:.0f}/s, {left:.0f} s left", flush=True)


@contextlib.contextmanager
def _processes(count):
    """joblib's processes, ended with their use.

    Left idle they would hold their memory for minutes, and their locks until a garbage collection,
    which the interpreter's resource tracker does not bear at every moment.
    """
    try:
        yield joblib.Parallel(
            n_jobs=count,
            return_as="generator_unordered",
            # In the workers: a killed parent cannot end them.
            **({"initializer": end_with, "initargs": (os.getpid(),)} if count > 1 else {}),
        )
    finally:
        if count > 1:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def end_with(parent):
    """Let this process end within a second after its parent, however that ended.

    Args:
      parent: process id.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _crashes(source, split, index):
    """Whether reading a recording ends the process it is read in."""
    try:
        with _processes(2) as run:
            list(run([joblib.delayed(_try)(source.splits[split][index], source)] * 2))
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
                # By a rename: a pool that breaks kills its other processes wherever they are.
                atomic_write(marker, json.dumps((split, index)))
            events = recordings.read(row, source)
            frames.append(
                to_frames(
                    events,
                    source.sensor,
                    settings.size,
                    settings.timesteps,
                    settings.split_by,
                    settings.resize,
                    round(1000 * settings.frame_ms),
                    settings.frame_values,
                )
            )
            labels.append(row.label)
        except BadRecording as error:
            message = f"{source.name} {split} recording {index}, {row}: {error}"
            if not settings.skip_bad:
                raise DataError(
                    f"{message}. Replace the file, or set --config.skip_bad=True to leave such "
                    "recordings out and count them"
                ) from error
            skipped.append(message)
    most = max(map(len, frames), default=1)
    empty = np.zeros((0, most, *settings.size, 2))
    stacked = np.stack([_filled_up(each, most) for each in frames]) if frames else empty
    if stacked.dtype.kind == "u":
        stacked = stacked.astype(np.min_scalar_type(int(stacked.max(initial=0))))
    arrays = {"frames": stacked, "labels": np.array(labels, np.int32), "skipped": skipped}
    atomic_write(_part(partial, split, first), lambda file: np.savez(file, **arrays))
    return len(rows)


def _filled_up(frames, count):
    """[T, H, W, 2] -> [count, H, W, 2], empty frames behind."""
    return np.pad(frames, ((0, count - len(frames)), (0, 0), (0, 0), (0, 0)))


def _join(source, settings, about, jobs, partial, whole):
    """All parts as one array a split, in the new folder `whole`."""
    whole.mkdir()
    kinds, counts, skipped, most = set(), dict.fromkeys(source.splits, 0), [], 1
    labels = {split: [] for split in source.splits}
    for split, first, _ in jobs:
        with np.load(_part(partial, split, first)) as part:
            labels[split].append(part["labels"])
            counts[split] += len(part["labels"])
            if len(part["labels"]):
                kinds.add(part["frames"].dtype)
                most = max(most, part["frames"].shape[1])
            skipped += part["skipped"].tolist()
    if bad := [split for split, count in counts.items() if not count]:
        raise DataError(f"{source.name} {bad[0]}: every recording is bad, e.g. {skipped[0]}")
    dtype = np.result_type(*kinds)
    for split, count in counts.items():
        shape = (count, most, *settings.size, 2)
        array = np.lib.format.open_memmap(whole / f"{split}.npy", "w+", dtype, shape)
        place = 0
        for other, first, _ in jobs:
            if other == split:
                with np.load(_part(partial, split, first)) as part:
                    frames = part["frames"]
                array[place : place + len(frames), : frames.shape[1]] = frames
                place += len(frames)
        array.flush()
        sync(whole / f"{split}.npy")
        joined = np.concatenate(labels[split])
        atomic_write(whole / f"{split}_labels.npy", functools.partial(_save, joined))
    values = about | {"examples": counts, "skipped": skipped, "dtype": dtype.name}
    values["crc32"] = {path.name: checksums(path) for path in sorted(whole.glob("*.npy"))}
    atomic_write(whole / "about.json", json.dumps(values, indent=2) + "\n")


def _save(array, file):
    np.save(file, array)


def sync(path):
    """Write what the system holds of a file or folder to the disk, where it can."""
    with contextlib.suppress(OSError):  # folders cannot be synced on every file system
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checksums(path):
    """[CRC-32 of each CHUNK bytes] of a file, the chunks in as many threads as there are cores."""
    size = os.path.getsize(path)
    if not size:
        return []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        whole = memoryview(mapped)
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                starts = range(0, size, CHUNK)
                return list(pool.map(lambda start: _checksum(whole, start), starts))
        finally:
            whole.release()


def _checksum(whole, start):
    with whole[start : start + CHUNK] as chunk:
        return zlib.crc32(chunk)
