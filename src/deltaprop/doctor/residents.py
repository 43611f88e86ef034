"""Compiles the kernels of the networks that stages train in shared memory: each network has a kernel of its own."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from deltaprop.backends.choices import FloatName
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.doctor.fits import OPTIMIZERS, Fit

DTYPES: tuple[FloatName, ...] = ("float64", "float32")
#: An optimizer without moments and one with both, for stages that do not try them all.
TWO_RULES = ("SGD", "AdamW")


def clusters_of(backend: CupyBackend) -> list[int]:
    """Return the numbers of blocks that a cluster may have on this device."""
    return [blocks for blocks in shared_memory.CLUSTERS if blocks <= backend.shared_memory_limits()[1]]


def compile_residents(backend: CupyBackend, clusters: Sequence[int]) -> None:
    """Compile the kernels of clusters of so many blocks, several at a time, as NVRTC takes a second or two for each."""

    def kernels() -> None:
        for blocks in clusters:
            for dtype in DTYPES:
                for name in TWO_RULES:
                    fit, rule = Fit(dtype, name), OPTIMIZERS[name].rule()
                    if rule is None:
                        continue
                    network = fit.network("reference")
                    what = (network.layer_sizes, network.activations, network.loss, network.dtype, fit.batch)
                    with patch.object(shared_memory, "CLUSTERS", (blocks,)):
                        found = shared_memory.find_residence(backend, *what, rule)
                    if found is not None:
                        backend.resident_kernel(network.dtype, found)

    backend.compile_for(kernels)
