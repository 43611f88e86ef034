"""The door of a network: what users pass to it is checked, and becomes arrays of its backend and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np

from deltaprop.arguments import refuse_masked
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, DType, Indices
from deltaprop.derivation.losses import describe
from deltaprop.derivation.state import NetworkState
from deltaprop.errors import RowError, rows_counted_from
from deltaprop.inputs.arrays import (
    HostData,
    as_inputs,
    as_targets,
    as_weights,
    is_above_limit,
    is_on_cuda,
    stays_on_host,
    takes_much_memory,
)
from deltaprop.inputs.encoded_rows import EncodedRows, check_encoded_rows
from deltaprop.inputs.parts import find_source
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.inputs.sources import CHUNK_BYTES, CheckedSource, Rows, Source, converted_rows
from deltaprop.ranks.base import ALONE, Ranks, bounds_of_rank


class DataDoor:
    """Checks and converts data for one network.

    Parameters
    ----------
    network : NetworkState
        Its widths, loss, dtype and backend decide what is expected.
    """

    features: int
    outputs: int
    backend: Backend
    dtype: DType
    loss: Any

    __slots__ = ("backend", "dtype", "features", "loss", "outputs")

    def __init__(self, network: NetworkState) -> None:
        self.features, self.outputs = network.layer_sizes[0], network.layer_sizes[-1]
        self.loss, self.backend, self.dtype = network.loss, network.backend, network.dtype

    def inputs(self, X: ArrayLike, name: str = "X", *, may_stay: bool = False) -> AnyArray:
        """Convert inputs to an array of the network; to `HostData` if they may stay and would take much room.

        `EncodedRows` that may stay become `HostData` too.
        """
        width = self.features
        if isinstance(X, EncodedRows):
            rows = HostData(self.encoded(X, name))
            return rows if may_stay else rows.rows(slice(None), self.backend, self.dtype)
        if may_stay and stays_on_host(X, self.backend, width + self.outputs, self.dtype):
            return HostData(as_inputs(X, name, columns=width, backend=get_backend("reference"), dtype=self.dtype))
        if may_stay and (isinstance(X, HostData) or takes_much_memory(X, self.backend, self.dtype)):
            return self._kept_inputs(X, name)
        return as_inputs(X, name, columns=width, backend=self.backend, dtype=self.dtype)

    def encoded(self, X: EncodedRows, name: str = "X") -> EncodedRows:
        """Check encoded rows, and return them."""
        check_encoded_rows(X, name, columns=self.features, dtype=self.dtype)
        return X

    def _kept_inputs(self, X: ArrayLike, name: str) -> HostData:
        """Check inputs on the host chunk by chunk, and keep them as they are."""
        for rows in self._chunks(X):
            part = X.rows(rows, self.backend, self.dtype) if isinstance(X, HostData) else X[rows]
            with rows_counted_from(rows.start):
                self.inputs(part, name)
        return X if isinstance(X, HostData) else HostData(X)

    def _chunks(self, X: ArrayLike) -> Iterator[slice]:
        """Yield the rows of X, as many at a time as may be converted together."""
        at_once = max(1, CHUNK_BYTES // ((self.features + self.outputs) * self.dtype.itemsize))
        m = X.shape[0]
        return (slice(start, min(start + at_once, m)) for start in range(0, m, at_once))

    def rows(self, value: ArrayLike, name: str, rows: int, columns: int) -> AnyArray:
        """Convert `value` to an array with one row a sample."""
        return as_inputs(value, name, columns=columns, rows=rows, backend=self.backend, dtype=self.dtype)

    def weights(self, sample_weight: ArrayLike, inputs: AnyArray) -> AnyArray | None:
        """Convert sample weights, if there are any, to an array of the network."""
        if sample_weight is None:
            return None
        rows = inputs.shape[0]
        return as_weights(sample_weight, "sample_weight", rows=rows, backend=self.backend, dtype=self.dtype)

    def data(
        self, X: ArrayLike, Y: ArrayLike, X_name: str = "X", Y_name: str = "Y", *, may_stay: bool = False
    ) -> tuple[AnyArray, AnyArray]:
        """Convert inputs and targets to arrays of the network, or both to `HostData`, see `inputs`."""
        kept = self._kept(X, Y, X_name, Y_name) if may_stay else None
        if kept is not None:
            return kept
        stay = may_stay and (isinstance(X, EncodedRows) or not self.backend.on_host)
        inputs = self.inputs(X, X_name, may_stay=stay)
        if isinstance(inputs, HostData):
            return inputs, HostData(self._targets(Y, Y_name, inputs.shape[0], get_backend("reference")))
        return inputs, self._targets(Y, Y_name, inputs.shape[0], self.backend)

    def encoded_data(self, X: EncodedRows, Y: ArrayLike) -> tuple[EncodedRows, Array]:
        """Check encoded rows, which stay as they are, and convert their targets."""
        return self.encoded(X), self._targets(Y, "Y", len(X), self.backend)

    def _kept(self, X: ArrayLike, Y: ArrayLike, X_name: str, Y_name: str) -> tuple[HostData, HostData] | None:
        """Check inputs and targets on the host chunk by chunk, and keep them so; None if they take little memory.

        Inputs that are `HostData` already stay so.
        """
        outputs = self.outputs
        if not isinstance(X, HostData):
            if not (self.backend.on_host and isinstance(X, np.ndarray) and X.ndim == 2):
                return None
            labels_are_large = outputs > 1 and is_above_limit(len(X), outputs, self.dtype) and np.ndim(Y) == 1
            if not (labels_are_large or any(takes_much_memory(x, self.backend, self.dtype) for x in (X, Y))):
                return None
            if backend_of(Y) not in (None, self.backend) or is_on_cuda(Y):
                return None
        Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        if Y.shape[:1] != X.shape[:1]:
            self._targets(Y, Y_name, X.shape[0], self.backend)  # which names what is wrong
        inputs = self._kept_inputs(X, X_name)
        for rows in self._chunks(X):
            with rows_counted_from(rows.start):
                self._targets(Y[rows], Y_name, rows.stop - rows.start, self.backend)
        return inputs, HostData(Y, outputs, lambda part: self._targets(part, Y_name, len(part), self.backend))

    def _targets(self, Y: ArrayLike, name: str, rows: int, backend: Backend) -> AnyArray:
        """Convert targets to an array of `backend`."""
        loss = describe(self.loss)
        return as_targets(
            Y,
            name,
            rows=rows,
            columns=self.outputs,
            lowest=loss.lowest,
            highest=loss.highest,
            rows_sum_to_one=loss.rows_sum_to_one,
            backend=backend,
            dtype=self.dtype,
        )

    def samples(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike, *, may_stay: bool = False
    ) -> tuple[AnyArray, AnyArray, Array | None]:
        """Convert inputs and targets as `data` does, and sample weights, if there are any."""
        inputs, targets = self.data(X, Y, may_stay=may_stay)
        return inputs, targets, self.weights(sample_weight, inputs)

    def training_data(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike, batch_size: object, ranks: Ranks = ALONE
    ) -> tuple[AnyArray, AnyArray, Array | None]:
        """Convert the samples of a training; data that are larger than memory stay where they are.

        Host data for which a device has no room will be uploaded chunk by chunk, sources will be read part by part, and
        data that would take much memory once converted will be converted chunk by chunk. Several ranks read every
        memory-mapped array chunk by chunk, each its own rows, unless all rows are one minibatch.
        """
        found = find_source(X, Y)
        if found is None and self._is_on_disk(X, shared=ranks.takes_shards and batch_size is not None):
            refuse_masked(Y, "Y")
            found = Rows(X, Y if isinstance(Y, np.ndarray) else np.asarray(Y), on_disk=True)
        if found is not None:
            return self._from_source(found, sample_weight)
        # A chunk has the samples of a step at least, and is there twice.
        rows = X.shape[0] if isinstance(X, np.ndarray) and X.ndim else 0
        steps_are_small = isinstance(batch_size, Integral) and 4 * int(batch_size) <= rows
        stays = isinstance(X, HostData) or not self.backend.on_host
        may_stay = (steps_are_small or stays) and not isinstance(X, EncodedRows)
        inputs, targets, weights = self.samples(X, Y, sample_weight, may_stay=may_stay)
        if isinstance(inputs, HostData) and self.backend.on_host:
            source = converted_rows(inputs, targets, self.backend, self.dtype)
            return source, source, weights
        return inputs, targets, weights

    def validation_data(self, X: ArrayLike, Y: ArrayLike, ranks: Ranks = ALONE) -> tuple[AnyArray, AnyArray]:
        """Convert validation data as `data` does; ranks that share a memory-mapped array read rows of their own."""
        names = "validation X", "validation Y"
        if not (ranks.takes_shards and self._is_on_disk(X, shared=True)):
            return self.data(X, Y, *names, may_stay=True)
        refuse_masked(Y, names[1])
        source = Rows(X, Y if isinstance(Y, np.ndarray) else np.asarray(Y), on_disk=True)
        if source.Y.shape[:1] != X.shape[:1]:
            self._targets(source.Y, names[1], X.shape[0], self.backend)  # which names what is wrong
        return self.rows_of_source(source, np.arange(X.shape[0]), ranks, *names)

    def rows_of_source(
        self, source: Rows, numbers: Indices, ranks: Ranks, X_name: str = "X", Y_name: str = "Y"
    ) -> tuple[HostData, HostData]:
        """Check some rows of a source, and keep them as they are, to be converted chunk by chunk.

        Each rank checks its share of them. An error names the row of the source.
        """
        own = numbers[slice(*bounds_of_rank(len(numbers), ranks))]
        for rows in self._chunks(own):
            which = own[rows]
            try:
                self.data(source.X[which], source.Y[which], X_name, Y_name)
            except RowError as error:
                raise error.in_row(int(which[error.row]), "") from None
        return HostData(RawRows(source.X, numbers)), self.kept_targets(RawRows(source.Y, numbers))

    def kept_targets(self, Y: AnyArray) -> HostData:
        """Keep targets as they are; they are checked when they are converted."""
        return HostData(Y, self.outputs, lambda part: self._targets(part, "Y", len(part), self.backend))

    def _is_on_disk(self, X: ArrayLike, *, shared: bool) -> bool:
        """Tell whether X is memory-mapped, and is shared out over ranks or cannot be trained on where it is."""
        is_mapped = isinstance(X, np.memmap) and X.ndim == 2
        return is_mapped and (shared or not (self.backend.on_host and X.dtype == self.dtype and X.flags.c_contiguous))

    def _from_source(self, source: Source, sample_weight: ArrayLike) -> tuple[AnyArray, AnyArray, Array | None]:
        """Return the source together with the check of its chunks, and its sample weights, if there are any."""
        if source.shape[1] != self.features:
            raise ValueError(f"X: expected {self.features} features, got {source.shape[1]} ({source.describe()})")
        if isinstance(source, Rows) and len(source.Y) != source.shape[0]:
            raise ValueError(f"Y: expected one row for each of X, got {len(source.Y)} for {source.shape[0]}")
        weights = None
        if sample_weight is not None:
            if not isinstance(source, Rows):
                raise ValueError(
                    "sample_weight: expected None, as sample weights are not supported for Parquet files, folders and "
                    f"iterables, got some with {source.describe()}"
                )
            weights = self.weights(sample_weight, source)
        checked = CheckedSource(source, self.data)
        return checked, checked, weights
