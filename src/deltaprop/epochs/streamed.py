"""An epoch over data that stay on the host because the device has no room for them: chunk after chunk is uploaded.

While the device trains on one chunk, the host gathers the next in page-locked memory and the copy engine uploads it.
The samples are visited in the order of the epoch, so the result is that of data on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.epochs.task import Epoch, Pass
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.sources import CHUNK_BYTES


class Chunk:
    """One of the two places on the device that chunks are uploaded to, and its twin in page-locked memory."""

    def __init__(self, backend: CupyBackend, rows: int, X: HostData, Y: HostData, dtype: np.dtype[Any]) -> None:
        self.backend = backend
        self.host = [backend.page_locked((rows, data.shape[1]), dtype) for data in (X, Y)]
        self.device = [backend.empty((rows, data.shape[1]), dtype) for data in (X, Y)]
        self.uploaded: Any = None
        self.used = backend.event()  # whoever had this memory before is done with it

    def upload(self, sources: Sequence[HostData], rows: np.ndarray[Any, Any] | slice, m: int, stream: Any) -> None:
        """Gather `m` rows of each source and send them off, once the chunk that was here before has been used."""
        self.backend.wait_on_host(self.uploaded)  # the page-locked memory is free again
        for source, host in zip(sources, self.host, strict=True):
            if isinstance(rows, slice):
                host[:m] = source.array[rows]
            else:
                np.take(source.array, rows, axis=0, out=host[:m], mode="clip")
        self.uploaded = self.backend.upload(
            [host[:m] for host in self.host], [device[:m] for device in self.device], stream, after=self.used
        )


class StreamedEpoch:
    """The minibatches of an epoch, chunk by chunk.

    Parameters
    ----------
    backend : CupyBackend
    X, Y : HostData, (m, s_1) and (m, s_L)
    batch_size : int
        A chunk is a whole number of minibatches, but for the last.
    dtype : numpy.dtype
    make_trainer : callable
        From arrays on the device to what trains on their minibatches.
    """

    def __init__(
        self,
        backend: CupyBackend,
        X: HostData,
        Y: HostData,
        batch_size: int,
        dtype: np.dtype[Any],
        make_trainer: Callable[[Array, Array], Epoch],
    ) -> None:
        self.backend, self.sources, self.batch, self.make_trainer = backend, (X, Y), batch_size, make_trainer
        self.samples = X.shape[0]
        bytes_a_batch = batch_size * (X.shape[1] + Y.shape[1]) * dtype.itemsize
        self.rows = min(batch_size * max(1, CHUNK_BYTES // bytes_a_batch), self.samples)
        self.chunks = [Chunk(backend, self.rows, X, Y, dtype) for _ in range(2)]
        self.trainers: dict[tuple[int, int], Epoch] = {}

    def __call__(self, given: Pass) -> None:
        """All minibatches."""
        per_chunk, stream = -(-self.rows // self.batch), self.backend.stream_for("uploads")
        for number, start in enumerate(range(0, self.samples, self.rows)):
            slot, stop = number % 2, min(start + self.rows, self.samples)
            chunk = self.chunks[slot]
            rows = slice(start, stop) if given.order is None else given.order[start:stop]
            chunk.upload(self.sources, rows, stop - start, stream)
            self.backend.wait_on_device(chunk.uploaded)
            weights = None if given.weights is None else given.weights[start:stop]
            sums = given.sums[number * per_chunk : (number + 1) * per_chunk]
            self._trainer(slot, stop - start).minibatches(replace(given, order=None, weights=weights, sums=sums))
            chunk.used = self.backend.event()

    def _trainer(self, slot: int, rows: int) -> Epoch:
        """What trains on so many rows of a chunk; one for each place and size, as captured steps hold addresses."""
        if (slot, rows) not in self.trainers:
            X, Y = (device[:rows] for device in self.chunks[slot].device)
            self.trainers[slot, rows] = self.make_trainer(X, Y)
        return self.trainers[slot, rows]
