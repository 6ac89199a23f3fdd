"""Processes that train one run together: what they compare, and how an error in one ends all.

They talk through the key-value store of JAX's coordination service, which needs neither devices nor
equal programs, so that nothing is compiled before they are known to agree.
"""

import itertools
import json
import os
import platform
import threading
import zlib
from contextlib import suppress
from importlib import metadata

import numpy as np
from jax._src import distributed  # JAX offers the store nowhere else; orbax takes it from here too

from dalif_jax import __version__
from dalif_jax.data.sets import DataError
from dalif_jax.settings import config

PREFIX = "dalif_jax"
SLICE_MS = 1000  # after each, a process that waits looks for errors of the others
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class PeerError(config.ConfigError):
    """Another process ended with an error."""


def size():
    """The number of processes; 1 without --distributed."""
    return distributed.global_state.num_processes if distributed.global_state.client else 1


def rank():
    """The number of this process, from 0."""
    return distributed.global_state.process_id


def run_description(settings, workdir, **flags):
    """What must be the same in every process before anything is read, as flat JSON values."""
    values = config.to_json(settings)
    keys = {key: value for key, value in values.items() if key not in config.NOT_THE_RUN}
    versions = {f"version of {name}": metadata.version(name) for name in LIBRARIES}
    return {
        **keys,
        **versions,
        "version of dalif_jax": __version__,
        "version of Python": platform.python_version(),
        "--workdir": workdir and os.path.abspath(workdir),
        **{f"--{name}": value for name, value in flags.items()},
    }


def data_digest(splits):
    """{"train examples": ..., "train labels": ..., ...}: what the splits hold, as JSON values.

    Arrays are compared by shape, dtype and CRC-32; a streamed split by the names and sizes of its
    files and by the records that belong to it.
    """
    values = {}
    for name, split in splits.items():
        if hasattr(split, "records"):
            files = [(path.name, path.stat().st_size) for path in split.records.paths]
            values[f"{name} files"] = zlib.crc32(repr(files).encode())
            values[f"{name} records"] = _array_digest(np.asarray(split.rows))
        else:
            values |= {
                f"{name} {field}": _array_digest(np.asarray(getattr(split, field)))
                for field in ("images", "labels")
            }
    return values


def _array_digest(array):
    crc = 0
    rows = max(1, 2**24 // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):  # a memory-mapped array is not copied whole
        crc = zlib.crc32(np.ascontiguousarray(array[start : start + rows]), crc)
    return f"{array.dtype} {list(array.shape)} CRC-32 {crc:08x}"


def differences(descriptions):
    """Lines that name each key on which processes differ, with both values.

    Args:
      descriptions: a dict of each process, in their order.
    """
    first, lines = descriptions[0], []
    for number, other in enumerate(descriptions[1:], 1):
        for key in sorted(first.keys() | other.keys()):
            one, two = (values.get(key, "nothing") for values in (first, other))
            if one != two:
                lines.append(f"  {key}: {one!r} in process 0, {two!r} in process {number}")
    return lines


def agree(topic, description):
    """Compare a description with those of all other processes; return when all have compared.

    Every process waits until the others have arrived, or until one of them has failed.

    Args:
      topic: a name for this comparison; each may be used once.
      description: flat dict of JSON values.
    Raises:
      ConfigError: they differ, in every process; lists the keys and values. PeerError: another
        process ended with an error.
    """
    if size() == 1:
        return
    store = distributed.global_state.client
    store.key_value_set(f"{PREFIX}/{topic}/{rank()}", json.dumps(description))
    descriptions = [json.loads(_wait(f"{PREFIX}/{topic}/{n}")) for n in range(size())]
    if lines := differences(descriptions):
        shown = lines[:20] + [f"  ... {len(lines)} in all"] * (len(lines) > 20)
        raise config.ConfigError(
            f"the {size()} processes of this run do not agree on its {topic}:\n"
            + "\n".join(shown)
            + "\nStart all of them with the same command, data and versions"
        )


def _wait(key):
    store = distributed.global_state.client
    while True:
        try:
            return store.blocking_key_value_get(key, SLICE_MS)
        except RuntimeError as error:  # jax.errors.JaxRuntimeError
            if "DEADLINE_EXCEEDED" not in str(error):
                raise config.ConfigError(
                    f"the other processes cannot be reached: {str(error).splitlines()[0]}"
                ) from error
        if message := peer_error():
            raise PeerError(message)


def finish():
    """Wait until the first process has written the result; it calls this when it has.

    Raises:
      PeerError: it ended with an error.
    """
    if size() == 1:
        return
    if rank() == 0:
        distributed.global_state.client.key_value_set(f"{PREFIX}/end", "", allow_overwrite=True)
    else:
        _wait(f"{PREFIX}/end")


def announce(message):
    """Let the other processes end too, because this one ends with an error."""
    if size() == 1:
        return
    try:
        key = f"{PREFIX}/failed/{rank()}"
        distributed.global_state.client.key_value_set(key, str(message), allow_overwrite=True)
    except RuntimeError:  # nobody is left to hear it
        return


def peer_error():
    """What another process failed with, in words; None if none did."""
    for key, text in distributed.global_state.client.key_value_dir_get(f"{PREFIX}/failed"):
        number = key.rsplit("/", 1)[-1]
        if number != str(rank()):
            return f"process {number} ended with an error: {text}"
    return None


class Stop:
    """An agreement of all processes to stop at the same place.

    Every process counts its calls of `reached`. When one requests a stop, a thread in each holds
    the count, publishes it, and reads the others': all stop at the first count that none of them
    has passed. It must be a thread, because the main thread may wait for a step of a process whose
    count is held.
    """

    def __init__(self):
        self.requested = None  # the signal that this process received
        self._lock = threading.Lock()
        self._count, self._last, self._number = 0, None, None

    def request(self, number):
        """Ask all processes to stop, from a signal handler; False if this one did so before."""
        first = self.requested is None
        if first:
            self.requested = number
        return first

    def reached(self):
        """Count a call; the number of the signal from which on all stop, else None."""
        with self._lock:
            self._count += 1
            return self._number if self._last is not None and self._count >= self._last else None

    def listen(self):
        """Start the thread."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        store, key = distributed.global_state.client, f"{PREFIX}/stop"
        try:
            while True:
                if self.requested is not None:
                    with suppress(RuntimeError):  # another process has requested it
                        store.key_value_set(key, str(int(self.requested)))
                try:
                    number = int(store.blocking_key_value_get(key, SLICE_MS))
                    break
                except RuntimeError as error:
                    if "DEADLINE_EXCEEDED" not in str(error):
                        raise
            with self._lock:
                store.key_value_set(f"{key}_at/{rank()}", str(self._count))
                counts = [int(_wait(f"{key}_at/{n}")) for n in range(size())]
                self._last, self._number = max(counts) + 1, number
        except (RuntimeError, AttributeError, config.ConfigError):
            return  # the program ends


STOP = Stop()


class AgreedFeed:
    """A streamed feed whose errors reach all processes at the same batch.

    A step takes part of its batch from every process. So each batch is used only when all processes
    have read theirs: the others would wait for a step that one of them cannot make. The exchange
    takes under a millisecond of host time while the device computes the step before.

    Raises:
      DataError: from either iterator, in every process.
    """

    def __init__(self, feed):
        self._feed, self.examples, self.example = feed, feed.examples, feed.example

    def train(self, step):
        """See feed.Resident.train."""
        return _agreed(self._feed.train(step))

    def evaluate(self):
        """See feed.Resident.evaluate."""
        return _agreed(self._feed.evaluate())


def agreed(feed):
    """The feed itself if this is the only process or nothing is read while training."""
    streamed = hasattr(feed.split, "records")
    return AgreedFeed(feed) if streamed and size() > 1 else feed


_barriers = itertools.count()  # of all batches; every process makes them in the same order


def _agreed(batches):
    store = distributed.global_state.client
    while True:
        failed = batch = None
        # The number keeps a process that is still at the batch before from stopping there.
        errors = f"{PREFIX}/batch/{next(_barriers)}"
        try:
            batch = next(batches, None)
        except DataError as error:
            failed = error
            store.key_value_set(f"{errors}/{rank()}", str(error))
        store.wait_at_barrier(f"{PREFIX}/batch", 24 * 3600 * 1000)
        if failed is not None:
            raise failed
        for key, text in store.key_value_dir_get(errors):
            raise DataError(f"process {key.rsplit('/', 1)[-1]} ended with an error: {text}")
        if batch is None:
            return
        yield batch
