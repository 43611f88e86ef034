"""A digest of every row, taken chunk by chunk, by which data are told from other data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, zip_longest
from typing import Any

import numpy as np

from deltaprop.backends import Backend, backend_of
from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.native.scipy_threads import own_cores
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.sources import CheckedSource, Parts, Rows, Source

#: Bytes that are hashed at a time: many enough to share out over the processors.
CHUNK = 4 * 2**20
#: More threads would be no faster, since memory is the limit.
MOST_THREADS = 8


def fingerprint(data: Any, backend: Backend) -> str:
    """Return shape and digest of an array of `backend` or of the host, or of a source, which is read once.

    An array on a device is copied to the host chunk by chunk. An iterable is read twice. If it yields something else
    the second time, only its shape is returned.
    """
    if isinstance(data, CheckedSource):
        return _of_source(data.source)
    array = data.array if isinstance(data, HostData) else data
    if hasattr(array, "indptr"):  # a sparse matrix, of compressed rows or columns
        parts = [_of_array(part, None) for part in (array.indptr, array.indices, array.data)]
        return f"{tuple(array.shape)} {array.format} {' '.join(parts)}"
    return f"{tuple(array.shape)} {_of_array(array, backend)}"


def _of_array(array: AnyArray, backend: Backend | None) -> str:
    """Compute a digest of the dtype and all entries; it is the same on every device."""
    on_device = backend is not None and not backend.on_host and backend.owns(array)
    dtype = backend.dtype_of(array) if on_device and backend else array.dtype
    rows = max(1, CHUNK // max(1, dtype.itemsize * math.prod(array.shape[1:])))
    digest = hashlib.sha256(str(dtype).encode())
    starts = range(0, len(array), rows)
    if on_device or len(starts) < 2:
        chunks = (array[start : start + rows] for start in starts)
        parts = [_digest(backend.to_numpy(chunk) if on_device and backend else chunk) for chunk in chunks]
    else:  # hashing lets other threads run
        with ThreadPoolExecutor(min(len(starts), own_cores(), MOST_THREADS)) as threads:
            parts = list(threads.map(lambda start: _digest(array[start : start + rows]), starts))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _digest(chunk: Any) -> bytes:
    if chunk.dtype.kind == "O":
        return hashlib.sha256(repr(chunk.tolist()).encode()).digest()
    return hashlib.sha256(np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data).digest()


def _of_source(source: Source) -> str:
    if isinstance(source, Rows):
        return f"{_of_values(source.X)} {_of_values(source.Y)}"
    assert isinstance(source, Parts)
    parts = list(_of_parts(source))
    # One pass after the other, since both may use one iterator.
    if not source.by_number and any(part != again for part, again in zip_longest(parts, _of_parts(source))):
        return f"{source.describe()}, others every time"
    digest = hashlib.sha256("".join(parts).encode())
    return f"{source.shape} {digest.hexdigest()[:32]}"


def _of_parts(source: Parts) -> Iterator[str]:
    pieces = source.parts(range(len(source.sizes)))
    if not source.digest_of_wholes:
        for piece in pieces:
            yield f"{_of_values(piece.X)} {_of_values(piece.Y)}"
        return
    for _, of_part in groupby(pieces, lambda piece: piece.number):
        arrays = zip(*((piece.X, piece.Y) for piece in of_part), strict=True)
        # In the bytes' own order, as in the file.
        yield " ".join(_of_values(np.concatenate(own, dtype=own[0].dtype)) for own in arrays)


def _of_values(values: Any) -> str:
    backend = backend_of(values)
    # An object may act as an array here without being one, such as rows that are read when they are needed.
    is_array = backend is not None or (hasattr(values, "dtype") and not hasattr(values, "__array__"))
    array = values if is_array else np.asarray(values)
    return f"{tuple(array.shape)} {_of_array(array, backend)}"
