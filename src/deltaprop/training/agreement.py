"""What all ranks of a training have to agree on: its arguments and data, and the parameters before every epoch."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import AnyArray, HostArray
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.state import NetworkState
from deltaprop.files.plain_values import plain
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.inputs.sources import CheckedSource, Parts, Rows
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import failing_together, known_to_all

#: Rows of each array by which ranks tell that they have the same data.
ROWS_COMPARED = 64


def require_same(ranks: Ranks, described: Mapping[str, Any]) -> None:
    """Refuse arguments that are not the same on all ranks.

    described : what is compared, by name.

    Raises
    ------
    ValueError
        On every rank; it names the first argument that differs, and what two ranks have.
    """
    if ranks.size == 1:
        return
    of_all = ranks.gather({name: plain(value) for name, value in described.items()})
    for name, first in of_all[0].items():
        for rank, other in enumerate(of_all):
            if other.get(name) != first:
                seen = f"{first!r} on rank 0 and {other.get(name)!r} on rank {rank}"
                raise known_to_all(ValueError(f"ranks: expected the same {name} on every rank, got {seen}"))


def sample_of(array: Any, backend: Backend) -> str:
    """Describe data by their shape and a digest of a few rows, so that other data are told without reading them all."""
    if array is None:
        return "none"
    if isinstance(array, CheckedSource):
        source = array.source
        if isinstance(source, Rows):
            return f"{sample_of(source.X, backend)}, {sample_of(source.Y, backend)}"
        assert isinstance(source, Parts)
        sizes = _digest(np.array(source.sizes))
        return f"{source.describe()}, parts of {source.sizes[:12]} rows (digest {sizes}), {source.sample()}"
    if isinstance(array, HostData):
        return sample_of(array.array, backend)
    if isinstance(array, EncodedRows):
        return sample_of(array.stored, backend)
    rows = np.unique(np.linspace(0, array.shape[0] - 1, ROWS_COMPARED).astype(np.int64))
    return f"shape {tuple(array.shape)}, digest {_digest_of_rows(array, rows, backend)}"


def _digest_of_rows(array: AnyArray, rows: AnyArray, backend: Backend) -> str:
    if hasattr(array, "toarray"):  # a sparse matrix
        chosen = array[rows].toarray()
    elif backend.owns(array) and not backend.on_host:
        chosen = backend.to_numpy(array[backend.asarray(rows, np.int64)])
    else:
        chosen = np.asarray(array[rows])
    return _digest(chosen)


def _digest(array: HostArray) -> str:
    content = repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(str(array.dtype).encode() + content).hexdigest()[:16]


def same_generator(ranks: Ranks, own: np.random.RandomState, given: object) -> np.random.RandomState:
    """Return a generator that draws on every rank what rank 0 would draw.

    A generator that the user has `given` is set to the state of rank 0's, so that it stays the same on all ranks from
    then on. NumPy's global one stays as it is.

    Raises
    ------
    ValueError
        If generators are of different kinds.
    """
    if ranks.size == 1:
        return own
    state = own.get_state(legacy=False)
    first = ranks.from_first(state)
    with failing_together(ranks):
        if pickle.dumps(first) != pickle.dumps(state):
            own = own if given is own else np.random.RandomState()
            own.set_state(first)
    return own


class SameParameters:
    """It sees to it that all ranks have the same parameters and the same optimizer state, to the bit, in every epoch.

    So it does for the network's seed and number of epochs, by which random numbers are drawn. They are the same anyway,
    unless ranks began with different parameters, something changed them on rank 0 alone, as a callback may, or
    processors of different kinds round differently: rank 0's are then taken over by the others.

    Parameters
    ----------
    ranks : Ranks
    network : NetworkState
    state : dict
        The optimizer's state.
    """

    ranks: Ranks
    network: NetworkState
    state: OptimizerState

    def __init__(self, ranks: Ranks, network: NetworkState, state: OptimizerState) -> None:
        self.ranks, self.network, self.state = ranks, network, state

    def __call__(self) -> None:
        """Compare all arrays by a checksum; where they differ, take over rank 0's."""
        if self.ranks.size == 1:
            return
        backend = self.network.backend
        arrays = [self.network.parameters, *(value for value in self.state.values() if backend.owns(value))]
        self.network.seed, self.network.epochs_trained = self.ranks.from_first(
            (self.network.seed, self.network.epochs_trained)
        )
        sums = self.ranks.gather([_checksum(backend.to_numpy(array)) for array in arrays])
        for number, array in enumerate(arrays):
            if any(own[number] != sums[0][number] for own in sums):
                of_first = self.ranks.from_first(backend.to_numpy(array) if self.ranks.is_first else None)
                array[...] = backend.asarray(of_first, backend.dtype_of(array))


def _checksum(array: AnyArray) -> int:
    """Return a checksum of all bits, which takes a fraction of the time of a digest."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
