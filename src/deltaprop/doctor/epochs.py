"""Stages that train on a device, in every way, and compare with NumPy step by step."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from deltaprop.backends import Backend
from deltaprop.backends.base import Precision
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.doctor.device import require_cublaslt
from deltaprop.doctor.fits import OPTIMIZERS, Fit
from deltaprop.doctor.record import NotTriedError, Record
from deltaprop.doctor.residents import DTYPES, TWO_RULES, compile_residents
from deltaprop.doctor.ways import only
from deltaprop.epochs import chunked
from deltaprop.epochs.chunked import ChunkedEpoch
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.epochs.task import Pass

#: Samples of an epoch of captured steps: more than one graph of many steps holds, then single steps, then a short one.
CAPTURED_SAMPLES = 7 * 20 + 3
#: Bytes of a chunk of a streamed epoch: three minibatches of 7 of 24 numbers.
CHUNK_BYTES = 3 * 7 * 24 * 8


def compare(backend: Backend, record: Record, fit: Fit, how: str = "") -> None:
    """Compare a training with the reference; `how` tells it from others of the same name."""
    name = f"{fit.name}, {how}" if how else fit.name
    record.trying(name)
    record.compare(name, fit.error(backend), fit.allowed)


def resident_on(blocks: int) -> Callable[[CupyBackend, Record], None]:
    """Return the stage that trains each epoch in one launch of a cluster of so many blocks."""

    def stage(backend: CupyBackend, record: Record) -> None:
        if blocks > backend.shared_memory_limits()[1]:
            raise NotTriedError("clusters of blocks need compute capability 9.0")
        record.trying("to compile the kernels")
        compile_residents(backend, (blocks,))
        with patch.object(shared_memory, "CLUSTERS", (blocks,)), only(ResidentEpoch) as found:
            for dtype in DTYPES:
                for rule in TWO_RULES:
                    compare(backend, record, Fit(dtype, rule))
            used = {epoch.run.residence.blocks for epoch in found if isinstance(epoch, ResidentEpoch)}
            _check_way(record, len(found) == len(DTYPES) * len(TWO_RULES) and used == {blocks}, "resident")

    return stage


def captured(backend: CupyBackend, record: Record) -> None:
    """Train by steps captured as CUDA graphs, with every optimizer."""
    require_cublaslt(backend)
    with only(GraphEpoch) as found:
        for dtype in DTYPES:
            for rule in OPTIMIZERS:
                compare(backend, record, Fit(dtype, rule, samples=CAPTURED_SAMPLES))
        _check_way(record, len(found) == len(DTYPES) * len(OPTIMIZERS), "captured")


def in_precision(precision: Precision) -> Callable[[CupyBackend, Record], None]:
    """Return the stage of captured steps in this precision, with odd widths and with widths that suit matrix units."""

    def stage(backend: CupyBackend, record: Record) -> None:
        require_cublaslt(backend)
        with only(GraphEpoch) as found:
            for sizes in ((20, 33, 17, 4), (64, 128, 64, 10)):
                fit = Fit("float32", "SGD", 16 * 20 + 5, 16, 2, sizes, precision)
                compare(backend, record, fit, "-".join(map(str, sizes)))
            _check_way(record, len(found) == 2, "captured")

    return stage


def streamed(backend: CupyBackend, record: Record) -> None:
    """Train on data that stay on the host and are uploaded in chunks of a few minibatches, resident and captured."""
    epochs: list[ChunkedEpoch] = []
    call = ChunkedEpoch.__call__

    def counted(self: ChunkedEpoch, given: Pass) -> None:
        epochs.append(self)
        call(self, given)

    with (
        patch.object(backend, "room", lambda: 0),
        patch.object(chunked, "CHUNK_BYTES", CHUNK_BYTES),
        patch.object(ChunkedEpoch, "__call__", counted),
    ):
        for dtype in DTYPES:
            for name, ways in (("resident", (ResidentEpoch,)), ("captured", (GraphEpoch,))):
                with only(*ways) as found:
                    compare(backend, record, Fit(dtype), name)
                    _check_way(record, bool(found) or not _possible(backend, name), name)
    _check_way(record, len(epochs) == 2 * len(DTYPES) * Fit().epochs, "streamed")


def steps(backend: Backend, record: Record) -> None:
    """Train by single calls of the backend."""
    with only():
        for dtype in DTYPES:
            for rule in TWO_RULES:
                compare(backend, record, Fit(dtype, rule))


def second_stream(backend: CupyBackend, record: Record) -> None:
    """Train while the caller's current stream is not the default one."""
    stream = backend.new_stream()
    for name, ways in (("resident", (ResidentEpoch,)), ("captured", (GraphEpoch,)), ("steps", ())):
        for dtype in DTYPES:
            with only(*ways) as found, backend.on_stream(stream):
                compare(backend, record, Fit(dtype), name)
                _check_way(record, bool(found) or not ways or not _possible(backend, name), name)


def _possible(backend: CupyBackend, way: str) -> bool:
    """Whether epochs can go this way: captured ones need cublasLt, whose absence another stage reports."""
    return way != "captured" or bool(backend.products.capturable)


def _check_way(record: Record, as_asked: bool, way: str) -> None:
    if not as_asked:
        record.not_taken(way)
