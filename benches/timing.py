"""Medians of interleaved measurements: what disturbs one contender disturbs all."""

import math
import statistics
import time
from collections.abc import Callable

#: Shortest time worth taking; quicker calls are repeated within one measurement, after a first one that is not timed.
SHORTEST = 20e-3


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int = 15, *, settle: float = 0.0
) -> dict[str, dict[str, float]]:
    """Seconds a call: median, and the quartiles as its spread, over `rounds` rounds of all of `calls` in turn.

    Before each measurement, `settle` seconds are let pass: OpenBLAS's threads spin for some 80 ms after their last
    work, and on few cores keep from running whoever comes next. A core that has slept then, with what somebody else
    left in its caches, is woken by a call that does not count, where calls are quick.
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
    result = {}
    for name, values in seconds.items():
        low, _, high = statistics.quantiles(values, n=4)
        result[name] = {"median": statistics.median(values), "lower_quartile": low, "upper_quartile": high}
    return result
