"""NIR graphs as HDF5 files: written whole, and read only where the file is what it says."""

import io
import math

from dalif_jax.atomic_write import atomic_write
from dalif_jax.exchange.graphs import MAX_EDGES, MAX_NODES, NotRepresentable

# Bytes that all datasets may declare together: compression makes a real graph a few times smaller.
MAX_BYTES, MAX_RATIO = 2**28, 64
# A stored byte of gzip holds at most 1,032.
MAX_INFLATION, SLACK = 1032, 2**16
MAX_OBJECTS, MAX_LEVELS, MAX_NAME = 16 * MAX_NODES, 16, 4096


def write(path, graph):
    """Write a graph as NIR's HDF5 file."""
    import nir

    buffer = io.BytesIO()
    nir.write(buffer, graph)
    atomic_write(path, buffer.getvalue())


def read(path):
    """The nir.NIRGraph of an HDF5 file.

    Raises:
      NotRepresentable: the file is no NIR graph, refers to other files or to itself, or declares
        arrays that it does not hold; says why.
    """
    import nir

    try:
        _check(path)
        # Its own check of shapes knows square kernels alone; `run` checks them as it goes.
        graph = nir.read(str(path), type_check=False)
    except NotRepresentable:
        raise
    except Exception as error:  # of many kinds: h5py and nir check little of a malformed file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise NotRepresentable(f"{path} is no NIR file that can be read: {reason}") from error
    if type(graph).__name__ != "NIRGraph":
        raise NotRepresentable(f"{path} holds a {type(graph).__name__}, a NIRGraph is expected")
    return graph


def _check(path):
    """Walk through a file without reading its arrays. Raises NotRepresentable."""
    import h5py

    with h5py.File(str(path), "r") as file:
        most = max(MAX_BYTES, MAX_RATIO * file.id.get_filesize())
        seen, total = set(), 0
        waiting = [("", file, 0)]
        while waiting:
            where, group, level = waiting.pop()
            if level > MAX_LEVELS:
                raise NotRepresentable(f"{path}: {where:.100} is nested deeper than {MAX_LEVELS}")
            for name in group:
                inner = f"{where}/{name}"[:200]
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise NotRepresentable(f"{path}: {inner} is a link, which is not read")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise NotRepresentable(f"{path}: {inner} is in the file under two names")
                seen.add(address)
                if len(seen) > MAX_OBJECTS:
                    raise NotRepresentable(f"{path} holds more than {MAX_OBJECTS:,} objects")
                if isinstance(item, h5py.Group):
                    waiting.append((inner, item, level + 1))
                elif isinstance(item, h5py.Dataset):
                    total += _declared(path, inner, item)
                else:
                    raise NotRepresentable(f"{path}: {inner} is a named type, which is not read")
                if total > most:
                    raise NotRepresentable(
                        f"{path}: its arrays are more than {most:,} bytes up to {inner}; the file "
                        f"has {file.id.get_filesize():,}"
                    )


def _declared(path, name, dataset):
    """Bytes that reading a dataset takes. Raises NotRepresentable where the file has fewer."""
    import h5py

    if dataset.is_virtual or dataset.external:
        raise NotRepresentable(f"{path}: {name} lies in another file, which is not read")
    if dataset.shape is None:
        raise NotRepresentable(f"{path}: {name} is empty")
    size, stored = math.prod(dataset.shape), dataset.id.get_storage_size()
    if dataset.dtype.kind == "O":
        if not h5py.check_string_dtype(dataset.dtype):
            raise NotRepresentable(f"{path}: {name} holds {dataset.dtype}, which is not read")
        return _text_bytes(path, name, dataset, size)
    needed = size * dataset.dtype.itemsize
    if needed > MAX_INFLATION * stored + (SLACK if stored else 0):
        raise NotRepresentable(
            f"{path}: {name} declares {needed:,} bytes, and the file holds {stored:,} of it"
        )
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return max(needed, chunk)


def _text_bytes(path, name, dataset, size):
    """Bytes of a dataset of strings, read one by one: many may refer to one long text."""
    if len(dataset.shape) > 2 or dataset.shape[1:] > (2,):
        raise NotRepresentable(f"{path}: {name} is a table of texts of shape {dataset.shape}")
    if size > 2 * MAX_EDGES:
        raise NotRepresentable(f"{path}: {name} declares {size:,} texts")
    if dataset.chunks and math.prod(dataset.chunks) > 2 * MAX_EDGES:
        raise NotRepresentable(f"{path}: {name} is stored in chunks that are too large")
    total = 0
    rows = [dataset[()]] if not dataset.shape else (dataset[i] for i in range(len(dataset)))
    for row in rows:
        for text in [row] if isinstance(row, bytes | str) else row.ravel():
            if len(text) > MAX_NAME:
                raise NotRepresentable(f"{path}: {name} holds a text of {len(text):,} bytes")
            total += len(text) + 64
    return total
