"""Read JSON that somebody else may have written: bounded, and an object or an error in words."""

import json
import math
import os
from pathlib import Path

MAX_BYTES = 2**24  # the largest eval.json of the networks here has a few hundred kilobytes
MAX_DEPTH = 32
MAX_INTEGER = 2**63


class JSONError(ValueError):
    """A text is not the JSON object that was expected; the message says why."""


def read(path, max_bytes=MAX_BYTES):
    """Read a file that holds one JSON object.

    Args:
      path: the file; a byte order mark is skipped.
      max_bytes: refuse a longer file before reading it.
    Returns:
      dict.
    Raises:
      JSONError: it is not a regular file, or see `parse`; names the file.
      OSError: the file cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise JSONError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise JSONError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read")
        data = file.read(max_bytes + 1)
    try:
        return parse(data, max_bytes)
    except JSONError as error:
        raise JSONError(f"{path} is not readable as JSON: {error}") from error


def parse(data, max_bytes=MAX_BYTES):
    """Parse bytes that hold one JSON object.

    Returns:
      dict.
    Raises:
      JSONError: longer than max_bytes, not UTF-8, no JSON, no object at the top, deeper than
        MAX_DEPTH, a key twice, NaN or an infinity, or an integer beyond 64 bits.
    """
    if len(data) > max_bytes:
        raise JSONError(f"it has more than {max_bytes:,} bytes")
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float,
            parse_int=_integer,
        )  # fmt: skip
    except RecursionError:
        raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except JSONError:
        raise
    except ValueError as error:
        raise JSONError(str(error)) from error
    if not isinstance(value, dict):
        raise JSONError(f"an object {{...}} is expected, it is {type(value).__name__}")
    _check_depth(value)
    return value


def _object(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise JSONError(f"the key {key!a:.80} appears twice")
            seen.add(key)
    return result


def _constant(word):
    raise JSONError(f"{word} is not a JSON number")


def _float(digits):
    value = float(digits)
    if not math.isfinite(value):
        raise JSONError(f"{digits:.30} is too large a number")
    return value


def _integer(digits):
    # Digits are counted first: converting a long number takes quadratic time.
    if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER:
        raise JSONError(f"{digits:.30} is too large an integer")
    return int(digits)


def _check_depth(value):
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise JSONError(f"it is nested deeper than {MAX_DEPTH} levels")
