"""The records of a folder that tensorflow-datasets prepared, any one of them by its number.

array_record files are made for that. TFRecord files are not: where each record begins is found once
by walking from length to length, and kept. TensorFlow is needed for neither.
"""

import contextlib
import hashlib
import io
import json
import re
import struct
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from dalif_jax.atomic_write import atomic_write
from dalif_jax.data import cache
from dalif_jax.data.events.events import DataError

HEADER = struct.Struct("<QI")  # a record's length and the checksum of those eight bytes
CHECKSUM = struct.Struct("<I")  # of its bytes, after them
VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)


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
            self.source = _array_records(name, part, self.paths, self.counts)

    def __reduce__(self):
        return Records, self.arguments

    def __len__(self):
        return self.ends[-1]

    def unused(self):
        """Names of files of the split that the folder's description does not name."""
        names = {path.name for path in self.paths}
        shard = re.compile(rf".*-{re.escape(self.part)}\..*-\d{{5}}-of-\d{{5}}")
        there = {path.name for path in self.paths[0].parent.iterdir()}
        return sorted(name for name in there - names if shard.fullmatch(name))

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
        try:
            info = tfds.builder_from_directory(folder).info
            features, splits = info.features, info.splits
        except ParseError as error:
            if "no field named" not in str(error):
                raise
            features, splits = _read_newer(folder)
            unknown = str(error).splitlines()[0]
            print(f"{name}: a newer tensorflow-datasets prepared {folder}; what is not known here "
                  f"is passed over: {unknown}", flush=True)  # fmt: skip
        if part not in splits:
            raise KeyError(f"no split {part!r}, but {', '.join(splits) or 'none'}")
        split = splits[part]
        if not split.shard_lengths:
            raise ValueError(f"split {part!r} has no files")
        tfrecord = split.filename_template.filetype_suffix == "tfrecord"
        return features, split.filepaths, split.shard_lengths, tfrecord
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ParseError,
    ) as error:  # fmt: skip
        # By what is wrong where; tensorflow-datasets does not check before it reads.
        raise DataError(f"{name}: {folder} is damaged or not {name}: {error}") from error


def _read_newer(folder):
    """(features, splits) of a folder whose description has fields that are not known here."""
    import tensorflow_datasets as tfds
    from google.protobuf import json_format
    from tensorflow_datasets.core import naming, splits
    from tensorflow_datasets.core.proto import dataset_info_pb2, feature_pb2

    folder = Path(folder)
    text = (folder / "dataset_info.json").read_text()
    about = json_format.Parse(text, dataset_info_pb2.DatasetInfo(), ignore_unknown_fields=True)
    text = (folder / "features.json").read_text()
    known = json_format.Parse(text, feature_pb2.Feature(), ignore_unknown_fields=True)
    features = tfds.features.FeatureConnector.from_json(json_format.MessageToDict(known))
    features.load_metadata(folder, feature_name=None)
    template = naming.ShardedFileTemplate(
        dataset_name=about.name, data_dir=folder, filetype_suffix=about.file_format or "tfrecord"
    )
    return features, splits.SplitDict.from_proto(about.splits, filename_template=template)


def newest_version(prepared):
    """The newest version's folder below `prepared`, by number; None if there is none.

    A version is called N.N.N and no more: `5.1.0.incompleteA7B9C2` is one that was never finished,
    `5.1.0-old` one that was set aside.
    """
    versions = [path.parent for path in Path(prepared).glob("*/dataset_info.json")]
    versions = [path for path in versions if VERSION.fullmatch(path.name)]
    # 3.0.10 is after 3.0.2.
    return max(versions, key=lambda path: [int(n) for n in path.name.split(".")], default=None)


def passed_over(prepared):
    """What a message says of the folders below `prepared` when none is a version; "" if none."""
    there = Path(prepared)
    names = sorted(path.name for path in there.iterdir() if path.is_dir()) if there.is_dir() else []
    return f"; no finished version: {', '.join(names)}" if names else ""


def _array_records(name, part, paths, counts):
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from array_record.python.array_record_module import ArrayRecordReader

    def check(path, count):
        try:
            reader = ArrayRecordReader(str(path))
            found = reader.num_records()
            reader.close()
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{name} {part}: {path} is damaged: {error}; copy it anew") from error
        if found != count:
            raise DataError(
                f"{name} {part}: {path} holds {found} records, its dataset_info.json says {count}"
            )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(check, paths, counts))
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
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    digest = hashlib.sha256(json.dumps([stamps, counts]).encode()).hexdigest()
    inside = Path("records") / f"{name}-{part}-{digest[:16]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # absent or damaged: walk again
        starts = np.load(cache.folder(cache_dir, "") / inside, mmap_mode="r")
        if len(starts) == sum(counts):
            return starts
    print(f"looking up where the records of {name} {part} begin, once", flush=True)
    with ThreadPoolExecutor(16) as pool:
        starts = np.concatenate(
            list(pool.map(lambda pair: _walk(name, part, *pair), zip(paths, counts, strict=True)))
        )
    try:
        path = cache.folder(cache_dir, "") / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: np.save(file, starts))
    except OSError as error:
        cache.say_not_kept(f"{name} {part}: where its records begin is", error)
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
