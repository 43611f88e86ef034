"""Stages about memory: a lack of it gives a clear error, and trainings leave none behind."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np

from deltaprop.backends import Backend
from deltaprop.doctor.epochs import compare
from deltaprop.doctor.fits import Fit
from deltaprop.doctor.record import Record
from deltaprop.doctor.ways import only
from deltaprop.epochs.compiled import CompiledEpoch
from deltaprop.epochs.graph import GraphEpoch

#: Trainings, and how many of them fill the caches that later ones use.
FITS, KEPT_AFTER = 40, 5
#: MiB that may be gone after the others, as allocators take memory in blocks. If each fit kept a workspace of 32 MiB,
#: 1120 MiB would be gone.
ALLOWED = 32.0


def out_of_memory(backend: Backend, record: Record) -> None:
    """Ask for more memory than the device has: the error says so, and a training works afterwards."""
    room = backend.room() or 0
    record.trying(f"an array of {4 * room:,} bytes")
    try:
        backend.empty((4 * room,), np.uint8)
    except MemoryError as error:
        if "bytes are needed on the device" not in str(error):
            raise RuntimeError(f"the error does not say how much is needed and free: {error}") from error
    else:
        raise RuntimeError(f"an array of {4 * room:,} bytes was allocated, though {room:,} are free")
    for dtype in ("float64", "float32"):
        compare(backend, record, Fit(dtype), "afterwards")


def flat_memory(backend: Backend, record: Record) -> None:
    """Train forty times in the ways that keep the most memory: captured steps, or the compiled library."""
    before: list[tuple[str, float]] = []
    with only(GraphEpoch, CompiledEpoch):
        for turn in range(FITS):
            record.trying(f"training {turn + 1}")
            fit = Fit("float32", samples=31, epochs=1)
            network = fit.network(backend)
            fit.train(network, *fit.data())
            del network
            if turn + 1 == KEPT_AFTER:
                before = _used(backend)
    for (name, was), (_, now) in zip(before, _used(backend), strict=True):
        record.compare(f"{name} left by {FITS - KEPT_AFTER} fits", max(0.0, now - was), ALLOWED, "MiB")


def _used(backend: Backend) -> list[tuple[str, float]]:
    """Return the MiB in use: on the device, as minus the free memory; in this process, where Linux says it."""
    gc.collect()
    used = []
    room = backend.room()
    if room is not None:
        used.append(("device memory", -room / 2**20))
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(("host memory", pages * resource.getpagesize() / 2**20))
    return used
