"""Times several ways to compute the same on the device, and finds the fastest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from deltaprop.backends.device import Stream

Way = Callable[[], None]

#: A way has to beat the first by this part of its time, so that noise alone does not choose.
MARGIN = 0.05
#: Seconds beyond which a way is timed once; and what the launches of shorter ones, at most so many after one
#: another, are to come to.
LONG, TOGETHER, MOST_LAUNCHES = 1e-3, 100e-6, 6
#: How often the ways are timed, and by what factor one may be slower than the best and is timed again.
ROUNDS, HOPEFUL = 3, 1.25
#: A launch from an idle stream may seem to take this many seconds longer than it does.
LAUNCH = 20e-6


def tunes() -> bool:
    """Whether anything is timed: unless ``DELTAPROP_TUNE`` is 0.

    Raises
    ------
    ValueError
        If it is neither 0 nor 1.
    """
    given = os.environ.get("DELTAPROP_TUNE") or "1"
    if given not in ("0", "1"):
        raise ValueError(f"DELTAPROP_TUNE: expected 0 or 1, got {given!r}")
    return given == "1"


class Watch(Protocol):
    """Times ways on the device, in seconds a launch."""

    def once(self, way: Way) -> float:
        """Time one launch, with the time that the host takes for it."""

    def many(self, way: Way, launches: int) -> float:
        """Time so many launches, without the time of the host; return the seconds of one."""


def fastest(ways: Sequence[Way], watch: Watch) -> int:
    """Return the number of the fastest way: the first, unless another beats it by more than `MARGIN`.

    Each has been launched before.
    """
    times = {i: watch.once(way) for i, way in enumerate(ways)}
    best = min(times.values())
    if best < LONG:
        launches = max(1, min(MOST_LAUNCHES, int(TOGETHER / max(best, 1e-6))))
        left = [i for i, seconds in times.items() if seconds <= 2.0 * best + LAUNCH]
        for _ in range(ROUNDS):
            for i in left:
                times[i] = min(times[i], watch.many(ways[i], launches))
            best = min(times.values())
            left = [i for i in left if times[i] <= HOPEFUL * best]
    winner = min(times, key=lambda i: times[i])
    return winner if times[winner] < (1.0 - MARGIN) * times[0] else 0


class DeviceWatch:
    """Times by events on a stream. The host waits for the stream, not for the device.

    Parameters
    ----------
    cp : module
        CuPy.
    stream : cupy.cuda.Stream
        On which the ways launch.
    delay : callable
        Launches what keeps the device busy while the host launches what is to be timed. Without it, short kernels
        would wait for the host, and all would seem to take as long as a launch does.
    """

    cp: Any
    stream: Stream
    delay: Callable[[], None]

    def __init__(self, cp: Any, stream: Stream, delay: Callable[[], None]) -> None:
        self.cp, self.stream, self.delay = cp, stream, delay

    def once(self, way: Way) -> float:
        """Time one launch on an idle stream."""
        return self._timed(way, 1)

    def many(self, way: Way, launches: int) -> float:
        """Time launches after a delay and an untimed launch, which brings the operands back into the cache."""
        self.delay()
        way()
        return self._timed(way, launches)

    def _timed(self, way: Way, launches: int) -> float:
        begin, end = self.cp.cuda.Event(), self.cp.cuda.Event()
        begin.record(self.stream)
        for _ in range(launches):
            way()
        end.record(self.stream)
        end.synchronize()
        milliseconds: float = self.cp.cuda.get_elapsed_time(begin, end)
        return milliseconds / 1e3 / launches


class GraphWatch(DeviceWatch):
    """Times ways as they will run: captured as a graph, in which one follows the other without the host.

    Parameters
    ----------
    cp : module
        CuPy.
    stream : cupy.cuda.Stream
        The current stream, which can be captured.
    capture : callable
        Turns what a function launches into a graph.
    """

    def __init__(self, cp: Any, stream: Stream, capture: Callable[[Any, Way], Any]) -> None:
        super().__init__(cp, stream, lambda: None)
        self.capture = capture
        self.graphs: dict[tuple[Way, int], Any] = {}

    def once(self, way: Way) -> float:
        """Time one launch as `many` does: the host takes no part in a graph."""
        return self.many(way, 1)

    def many(self, way: Way, launches: int) -> float:
        """Time a graph of so many launches, after an untimed replay."""

        def body() -> None:
            for _ in range(launches):
                way()

        if (way, launches) not in self.graphs:
            self.graphs[way, launches] = self.capture(self.stream, body)
        graph = self.graphs[way, launches]
        graph.launch(self.stream)
        return self._timed(lambda: graph.launch(self.stream), 1) / launches
