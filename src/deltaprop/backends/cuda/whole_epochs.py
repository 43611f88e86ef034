"""Whole epochs in one launch, of networks that stay in shared memory."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from deltaprop.backends.base import Array
from deltaprop.backends.cuda.launching import Launching


class Resident(Protocol):
    """How a network lies in shared memory: `deltaprop.backends.cuda.shared_memory.Residence`."""

    @property
    def blocks(self) -> int:
        """Blocks of a cluster, which hold one network."""

    @property
    def shape(self) -> Any:
        """The network, and the threads of a block, as the kernel reads them."""

    @property
    def definitions(self) -> tuple[str, ...]:
        """Options of the compiler that make the kernel of this network."""

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a block."""


class WholeEpochs(Launching):
    """Launches ``kernels/cuda/resident.cu``."""

    def shrink_clusters(self, blocks: int, error: Exception) -> None:
        """Let no cluster have more than half as many blocks as one that was refused with `error`; half of 1 is none.

        Raises
        ------
        Exception
            The same `error`, where the device does not go on after it.
        """
        instead = "smaller clusters are tried, and without them networks are trained layer by layer"
        self.do_without("a launch with a network in shared memory", instead, error)
        limit, most, multiprocessors = self.shared_memory_limits()
        self._limits[self.cp.cuda.Device().id] = limit, min(most, blocks // 2), multiprocessors

    def resident_kernel(self, dtype: np.dtype[Any], residence: Resident) -> Any:
        """What trains this network in shared memory."""
        function, definitions = f"resident_{residence.blocks}", residence.definitions
        return self._kernel("resident", function, dtype, definitions, residence.shared_bytes)

    def run_resident(self, plan: Array, dtype: np.dtype[Any], residence: Resident, members: int) -> None:
        """Launch ``kernels/cuda/resident.cu``: one cluster a member. The bytes of `plan` lie on the device."""
        kernel = self.resident_kernel(dtype, residence)
        grid, block = (members * residence.blocks,), (residence.shape.threads,)
        kernel(grid, block, (plan,), shared_mem=residence.shared_bytes)
