"""How long work takes on the device itself, without the host that launches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltaprop.backends.cupy import CupyBackend

#: Launches a graph, and graphs a measurement, of which the shortest counts: what disturbs makes it longer.
LAUNCHES, GRAPHS = 10, 3
#: A way has to be so much faster than the one before it in the list to be taken in its place.
WORTHWHILE = 0.97


def seconds_on_device(backend: CupyBackend, stream: Any, call: Callable[[], None]) -> float:
    """Seconds that `call`, which only launches work on the current stream, takes on the device.

    It is captured as a graph, for the host takes longer to launch a small kernel than the device to run it. Waits for
    the device.
    """
    events = backend.cp.cuda.Event
    with backend.on_stream(stream):
        call()  # kernels are loaded, and scratch is there

        def body() -> None:
            for _ in range(LAUNCHES):
                call()

        graph = backend.capture(stream, body)
        graph.launch(stream)
        taken = []
        for _ in range(GRAPHS):
            begin, end = events(), events()
            begin.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.synchronize()
            taken.append(backend.cp.cuda.get_elapsed_time(begin, end) * 1e-3)
    return min(taken) / LAUNCHES


def fastest(seconds: Mapping[str, float]) -> str:
    """The name of the way that takes the fewest seconds; an earlier one where a later gains next to nothing."""
    names = list(seconds)
    best = names[0]
    for name in names[1:]:
        if seconds[name] < WORTHWHILE * seconds[best]:
            best = name
    return best
