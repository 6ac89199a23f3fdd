"""The records of a folder that tensorflow-datasets prepared, any one of them by its number.

array_record files are made for that. TFRecord files are not: where each record begins is found once
by walking from length to length, and kept. TensorFlow is needed for neither.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import struct
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from dalif_jax.events import DataError

HEADER = struct.Struct("<QI")  # a record's length and the checksum of those eight bytes
CHECKSUM = struct.Struct("<I")  # of its bytes, after them


class Records:
    """The records of one split, as bytes; pickled, it opens its files anew.

    Args:
      name: of the set, for messages.
      folder: with dataset_info.json and the shards.
      part: the split's name there.
      cache_dir: where the index of TFRecord files is kept; "" means $XDG_CACHE_HOME/dalif_jax.
    Raises:
      DataError: no such split, missing, damaged or unreadable files.
    """

    def __init__(self, name, folder, part, cache_dir=""):
        self.arguments = name, folder, part, cache_dir
        self.name, self.part = name, part
        self.features, files, self.counts, self.tfrecord = read_description(name, folder, part)
        self.paths = [Path(path) for path in files]
        self.ends = list(accumulate(self.counts))
        missing = [path.name for path in self.paths if not path.is_file()]
        if missing:
            raise DataError(
                f"{name} {part}: {len(missing)} of {len(self.paths)} files are missing in "
                f"{folder}, the first is {missing[0]}; copy them there or prepare the set anew"
            )
        if self.tfrecord:
            self.starts = _index(name, part, self.paths, self.counts, cache_dir)
        else:
            self.source = _array_records(self.paths, self.counts)

    def __reduce__(self):
        return Records, self.arguments

    def __len__(self):
        return self.ends[-1]

    def where(self, i):
        """What a message calls record i: set, split, number, and its place in a file."""
        shard = bisect_right(self.ends, i)
        inside = i - self.ends[shard] + self.counts[shard]
        return f"{self.name} {self.part}: record {i} ({self.paths[shard]}, record {inside} of it)"

    def __getitem__(self, i):
        """The bytes of record i. Raises DataError, which names it, if they are damaged."""
        try:
            return _read(self.paths, self.ends, self.starts, i) if self.tfrecord else self.source[i]
        except (OSError, RuntimeError, ValueError) as error:
            # array_record raises RuntimeError and ValueError for what its checksums find.
            raise DataError(f"{self.where(i)} is damaged: {error}") from error

    def example(self, i):
        """{feature: value} of record i; images as the bytes of their file. Raises DataError."""
        from google.protobuf.message import DecodeError
        from tensorflow_datasets import decode

        record = self[i]
        try:
            return self.features.deserialize_example_np(
                record, decoders={"image": decode.SkipDecoding()}
            )
        except (DecodeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"{self.where(i)} is not an example of the set: {error}") from error

    def image(self, encoded, i):
        """The Pillow image, RGB, of record i's encoded bytes. Raises DataError if damaged."""
        try:
            # Grey and CMYK files among them become RGB.
            return Image.open(io.BytesIO(encoded)).convert("RGB")
        except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as e:
            raise DataError(f"{self.where(i)}: its image is damaged: {e}") from e


def read_description(name, folder, part):
    """(features, paths, records in each, whether TFRecord) of a split of a prepared folder.

    Raises:
      DataError: no such split, or the two JSON files that describe the folder are damaged.
    """
    try:
        import tensorflow_datasets as tfds
        from google.protobuf.json_format import ParseError
    except ImportError as error:
        raise DataError(
            f"{name}: {folder} needs a package: {error}; pip install tensorflow-datasets"
        ) from error
    try:
        info = tfds.builder_from_directory(folder).info
        if part not in info.splits:
            raise KeyError(f"no split {part!r}, but {', '.join(info.splits) or 'none'}")
        split = info.splits[part]
        tfrecord = split.filename_template.filetype_suffix == "tfrecord"
        return info.features, split.filepaths, split.shard_lengths, tfrecord
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ParseError,
    ) as error:  # fmt: skip
        # By what is wrong where; tensorflow-datasets does not check before it reads.
        raise DataError(f"{name}: {folder} is damaged or not {name}: {error}") from error


def newest_version(prepared):
    """The newest version's folder below `prepared`, by number; None if there is none."""
    versions = [path.parent for path in Path(prepared).glob("[0-9]*/dataset_info.json")]
    # 3.0.10 is after 3.0.2.
    return max(
        versions, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)], default=None
    )


def _array_records(paths, counts):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    _allow_open_files(len(paths))
    # Told how long each file is, it opens none before it is read.
    return ArrayRecordDataSource(
        [f"{path}[0:{count}]" for path, count in zip(paths, counts, strict=True)]
    )


def _allow_open_files(files):
    """Each array_record file stays open; the usual limit of 1,024 is less than ImageNet's."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + files
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_NOFILE,
            (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard),
        )


def _masked(data):
    """CRC-32C the way TFRecord stores it, rotated and shifted."""
    import google_crc32c  # here: sets that need it not are used without it

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _read(paths, ends, starts, i):
    start = int(starts[i])
    with open(paths[bisect_right(ends, i)], "rb") as file:
        file.seek(start)
        length, _ = HEADER.unpack(file.read(HEADER.size))
        data = file.read(length)
        (checksum,) = CHECKSUM.unpack(file.read(CHECKSUM.size))
    if checksum != _masked(data):
        raise ValueError("its checksum does not match")
    return data


def _index(name, part, paths, counts, cache_dir):
    """int64 [records]: where each begins in its file; walked once, then from the cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dalif_jax"
    root = Path(cache_dir or home).expanduser() / "records"
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    digest = hashlib.sha256(json.dumps([stamps, counts]).encode()).hexdigest()
    path = root / f"{name}-{part}-{digest[:16]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # absent or damaged: walk again
        starts = np.load(path, mmap_mode="r")
        if len(starts) == sum(counts):
            return starts
    print(f"looking up where the records of {name} {part} begin, once", flush=True)
    with ThreadPoolExecutor(16) as pool:
        starts = np.concatenate(
            list(pool.map(lambda pair: _walk(name, part, *pair), zip(paths, counts, strict=True)))
        )
    root.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.save(file, starts)
    temporary.replace(path)
    return starts


def _walk(name, part, path, count):
    starts, at, size = [], 0, path.stat().st_size
    # Unbuffered: a buffer would read all that lies between the headers.
    with open(path, "rb", buffering=0) as file:
        while at < size:
            file.seek(at)
            header = file.read(HEADER.size)
            whole = len(header) == HEADER.size
            length, checksum = HEADER.unpack(header) if whole else (0, 0)
            after = at + HEADER.size + length + CHECKSUM.size
            if not whole or checksum != _masked(header[:8]) or after > size:
                raise DataError(
                    f"{name} {part}: {path} is damaged or cut off at its record {len(starts)}, "
                    f"byte {at}; copy it anew"
                )
            starts.append(at)
            at = after
    if len(starts) != count:
        raise DataError(
            f"{name} {part}: {path} holds {len(starts)} records, its dataset_info.json says {count}"
        )
    return np.array(starts, np.int64)
