"""Describes the device, in a process of its own, so that the process that starts the parts holds no context."""

from typing import Any

from .channel import Channel
from .part import Options


def run(_: Options, tell: Channel) -> None:
    import cupy

    import deltaprop as dp

    backend: Any = dp.get_backend("cupy")
    shared, blocks, multiprocessors = backend.shared_memory_limits()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    tell.row(
        properties["name"].decode(),
        compute_capability=cupy.cuda.Device().compute_capability,
        multiprocessors=multiprocessors,
        shared_memory_a_block=shared,
        blocks_a_cluster=blocks,
        memory_bytes=properties["totalGlobalMem"],
        driver=cupy.cuda.runtime.driverGetVersion(),
        runtime=cupy.cuda.runtime.runtimeGetVersion(),
        products=type(backend.products).__name__,
    )
