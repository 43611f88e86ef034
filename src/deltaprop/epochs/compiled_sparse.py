"""What the compiled library is told about sparse inputs."""

from __future__ import annotations

import ctypes
from typing import Any, TypeGuard

import numpy as np

from deltaprop.backends.array_types import AnyArray, DType
from deltaprop.backends.native.arrays import address, check_rows
from deltaprop.backends.native.library import SparseInputs

#: Entries that the library can number.
MOST_ENTRIES = 2**31 - 1


def is_csr(X: AnyArray) -> TypeGuard[Any]:
    """Tell whether these are the rows of a sparse matrix of SciPy, no more than the library can number."""
    return not isinstance(X, np.ndarray) and getattr(X, "format", None) == "csr" and X.nnz <= MOST_ENTRIES


def entries_of_a_batch(starts: AnyArray, batch_size: int) -> int:
    """Return how many entries the minibatches of a sparse matrix have at most, in whichever order its rows come."""
    lengths = np.diff(starts)
    if batch_size < len(lengths):
        lengths = np.partition(lengths, len(lengths) - batch_size)[-batch_size:]
    return int(lengths.sum(dtype=np.int64))


class CompiledSparse:
    """One ``struct SparseInputs``, and the arrays that it points to; it lives as long as the plans that point to it.

    Parameters
    ----------
    X : sparse matrix or array of SciPy, (m, s_1)
        In CSR. Columns may be in any order, and occur more than once.
    dtype : dtype
        The network's.
    batch_size : int
        Samples of a minibatch.

    Attributes
    ----------
    address : int
        The address of the structure.
    slots : float
        The mean number of entries of a row.

    Raises
    ------
    ValueError
        If an entry is outside of the matrix.
    """

    def __init__(self, X: Any, dtype: DType, batch_size: int) -> None:
        check_rows("X", X.indptr, X.indices, len(X.data), X.shape[1])
        entries = int(X.indptr[-1])
        self._starts = np.ascontiguousarray(X.indptr, np.int64)
        self._columns = np.ascontiguousarray(X.indices[:entries], np.int32)
        self._values = np.ascontiguousarray(X.data[:entries], dtype)
        self._structure = SparseInputs(
            address("X.indptr", self._starts, np.int64, (X.shape[0] + 1,)),
            address("X.indices", self._columns, np.int32, (entries,)),
            address("X.data", self._values, dtype, (entries,)),
            entries_of_a_batch(self._starts, batch_size),
        )
        self.address: int = ctypes.addressof(self._structure)
        self.slots: float = entries / max(1, X.shape[0])
