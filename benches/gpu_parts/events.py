"""Seconds on the device, between two events."""

import statistics
from collections.abc import Callable
from typing import Any

#: Calls that are not timed, before those that are.
WARM = 3


def device_seconds(call: Callable[[], object], repeats: int = 20, *, ahead: int = 0) -> list[float]:
    """Of so many calls, in rising order.

    So many calls as `ahead` says are launched right before each, and not timed: the device is busy with them until the
    host has launched the one that is timed. With 0 the device waits for the host, and that is timed as well.
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
    """Median and spread, in a unit of so many seconds."""
    return {"median": statistics.median(seconds) / unit, "spread": [min(seconds) / unit, max(seconds) / unit]}
