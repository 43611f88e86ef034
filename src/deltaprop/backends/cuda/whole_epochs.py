"""Whole epochs in one launch, of networks that stay in shared memory."""

from __future__ import annotations

from typing import Any

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import DType
from deltaprop.backends.cuda.launching import Launching
from deltaprop.backends.device import Resident


class WholeEpochs(Launching):
    """Launches ``kernels/cuda/resident.cu``."""

    def shrink_clusters(self, blocks: int, error: Exception) -> None:
        instead = "smaller clusters are tried, and without them networks are trained layer by layer"
        self.do_without("a launch with a network in shared memory", instead, error)
        limit, most, multiprocessors = self.shared_memory_limits()
        self._limits[self.cp.cuda.Device().id] = limit, min(most, blocks // 2), multiprocessors

    def resident_kernel(self, dtype: DType, residence: Resident) -> Any:
        """What trains this network in shared memory."""
        function, definitions = f"resident_{residence.blocks}", residence.definitions
        return self._kernel("resident", function, dtype, definitions, residence.shared_bytes)

    def run_resident(self, plan: Array, dtype: DType, residence: Resident, members: int) -> None:
        kernel = self.resident_kernel(dtype, residence)
        grid, block = (members * residence.blocks,), (residence.shape.threads,)
        kernel(grid, block, (plan,), shared_mem=residence.shared_bytes)
