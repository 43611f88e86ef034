"""Takes medians of interleaved measurements, so that a disturbance hits all contenders."""

import math
import statistics
import time
from collections.abc import Callable

#: The shortest time to measure; quicker calls are repeated within a measurement, after one that is not timed.
SHORTEST = 20e-3


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int = 15, *, settle: float = 0.0
) -> dict[str, dict[str, float]]:
    """Return the seconds of each call, median and quartiles, over `rounds` rounds of all `calls` in turn.

    Before each measurement it waits for `settle` seconds: OpenBLAS's threads spin for some 80 ms after their last work,
    and on few cores they slow down the next contender. Then the core has slept, and its caches hold other data: so a
    quick call is first made once without being timed.
    """
    repeats = {}
    for name, call in calls.items():
        call()  # buffers, caches and threads
        began = time.perf_counter()
        call()
        repeats[name] = max(1, math.ceil(SHORTEST / max(time.perf_counter() - began, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(settle)
            if repeats[name] > 1:
                call()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    return {name: quartiles(values) for name, values in seconds.items()}


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median of some values, two at least, and their quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "lower_quartile": low, "upper_quartile": high}
