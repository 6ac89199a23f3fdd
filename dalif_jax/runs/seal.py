"""What seals a checkpoint: digests of its arrays in a record that carries a checksum of itself.

A record is plain values (JSON): `step`, `run` (the settings it belongs to), `version` (of this
package), `digest`, `score`, `extra`. Those of earlier versions lack the first three; what is not
there is not compared.
"""

import json
import zlib

import jax
import numpy as np


def digest(tree):
    """{path: [dtype, shape, CRC-32 of the bytes]} of a pytree of arrays in host memory."""
    return {
        jax.tree_util.keystr(path): [
            leaf.dtype.name,
            list(leaf.shape),
            zlib.crc32(np.ascontiguousarray(leaf).tobytes()),
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def differences(found, expected):
    """The paths of two digests, in order, at which they are not the same."""
    paths = [*expected, *(path for path in found if path not in expected)]
    return [path for path in paths if found.get(path) != expected.get(path)]


def other_arrays(saved, like):
    """Lines that name each array of digest `saved` that is not as in `like`, with both sides.

    Args:
      like: a pytree of what has dtype and shape.
    """
    expected = {
        jax.tree_util.keystr(path): [np.dtype(leaf.dtype).name, list(leaf.shape)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(like)
    }
    saved = {path: values[:2] for path, values in saved.items()}

    def shown(values):
        return "nothing" if values is None else f"{values[0]} {tuple(values[1])}"

    return [
        f"  {path}: {shown(saved.get(path))} there, {shown(expected.get(path))} expected"
        for path in differences(saved, expected)
    ]


def not_its_place(record, step, run):
    """Why a record does not belong where it lies, under `step` in the folder of `run`; else "".

    Args:
      run: settings by name, or None. Names that one side alone has are not compared, so that a
        version with more settings reads what an earlier one saved.
    """
    if record.get("step", step) != step:
        return f"it holds step {record['step']}, saved elsewhere or renamed"
    there, here = record.get("run") or {}, run or {}
    for key, value in there.items():
        if key in here and here[key] != value:
            return f"it is of another run: {key}={value!r} there, {here[key]!r} here"
    return ""


def sealed(record):
    """A record with a checksum of itself, for its own file can be damaged too."""
    return {**record, "seal": zlib.crc32(json.dumps(record, sort_keys=True).encode())}


def unsealed(record):
    """The record without its checksum. Raises ValueError where that is not the record's."""
    record = dict(record)
    if record.pop("seal", None) != zlib.crc32(json.dumps(record, sort_keys=True).encode()):
        raise ValueError("its record is not what was written")
    return record
