"""Chunks of data that stay on the host because the device has no room for them.

While the device trains on one chunk, the host gathers the next in page-locked memory and the copy engine uploads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, DType, HostArray, Indices
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.device import Event, Stream
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.chunked import Chunk, Feed, rows_of_chunks
from deltaprop.epochs.shared_chunks import ChunkShares
from deltaprop.inputs.arrays import HostData


class Slot:
    """One of the two places on the device that chunks are uploaded to, and its twin in page-locked memory.

    Attributes
    ----------
    device : list of array
        X and Y on the device, with room for a whole chunk.
    used : event
        It is over when the device no longer reads the chunk that is there.
    """

    def __init__(self, backend: CupyBackend, rows: int, columns: Sequence[int], dtype: DType) -> None:
        self.backend = backend
        self.host: list[HostArray] = [backend.page_locked((rows, width), dtype) for width in columns]
        self.device: list[AnyArray] = [backend.empty((rows, width), dtype) for width in columns]
        self.uploaded: Event = None
        self.used: Event = backend.event()  # whoever had this memory before is done with it

    def upload(self, sources: Sequence[HostData], rows: Indices | slice, m: int, stream: Stream) -> None:
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


class UploadedChunks(Feed):
    """Uploads the samples once an epoch, in its order.

    Parameters
    ----------
    network : NetworkState
        On the CUDA backend.
    X, Y : HostData, (m, s_1) and (m, s_L)
    batch_size : int
    shared : ChunkShares, optional
        Where several ranks share minibatches: the rows of this rank.
    """

    sources: tuple[HostData, HostData]
    shared: ChunkShares | None
    cuts: list[int]

    def __init__(
        self, network: NetworkState, X: HostData, Y: HostData, batch_size: int, shared: ChunkShares | None = None
    ) -> None:
        backend: Any = network.backend
        self.backend: CupyBackend = backend
        self.sources, self.shared = (X, Y), shared
        samples = int(X.shape[0])
        self.rows: int = rows_of_chunks(network, samples, batch_size) if shared is None else shared.most
        self.cuts = [*range(0, samples, self.rows), samples] if shared is None else shared.cuts
        columns = [data.shape[1] for data in self.sources]
        self.slots: list[Slot] = [Slot(backend, self.rows, columns, network.dtype) for _ in range(2)]

    def chunks(self, order: Indices | None) -> Iterator[Chunk]:
        """Upload all samples, chunk by chunk; the host does not wait for the device."""
        stream = self.backend.stream_for("uploads")
        for number, (start, stop) in enumerate(pairwise(self.cuts)):
            place, m = number % 2, stop - start
            slot = self.slots[place]
            if m:
                slot.upload(self.sources, slice(start, stop) if order is None else order[start:stop], m, stream)
                self.backend.wait_on_device(slot.uploaded)
            X, Y = (device[:m] if self.shared is None else device for device in slot.device)
            yield Chunk(place, X, Y)
            slot.used = self.backend.event()
