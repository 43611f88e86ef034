"""Times calls on the device, between two events."""

import statistics
from collections.abc import Callable
from typing import Any

#: Calls before those that are timed.
WARM = 3


def device_seconds(call: Callable[[], object], repeats: int = 20, *, ahead: int = 0) -> list[float]:
    """Return the seconds of so many calls on the device, in rising order.

    Right before each, `ahead` calls are launched and not timed: they keep the device busy until the host has launched
    the timed one. With 0 the device waits for the host, and the wait is timed too.
    """
    import cupy

    seconds = []
    for turn in range(repeats + WARM):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        for _ in range(ahead):
            call()
        begin.record()
        call()
        end.record()
        end.synchronize()
        if turn >= WARM:
            seconds.append(cupy.cuda.get_elapsed_time(begin, end) * 1e-3)
    return sorted(seconds)


def facts(seconds: list[float], unit: float = 1.0) -> dict[str, Any]:
    """Return median and spread, in a unit of so many seconds."""
    return {"median": statistics.median(seconds) / unit, "spread": [min(seconds) / unit, max(seconds) / unit]}
