"""What a thread has to itself while it uses the CUDA backend, and what all threads and variants share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deltaprop.backends.base import Array
from deltaprop.backends.cuda.cublas import Products


@dataclass
class Narrowed:
    """Copies in 16 bits, by address of what they are copies of, shape and scale, and which of them are up to date."""

    buffers: dict[tuple[int, tuple[int, ...], float], Array] = field(default_factory=dict)
    valid: set[tuple[int, tuple[int, ...], float]] = field(default_factory=set)
    stream: int = 0


@dataclass
class Aside:
    """A stream beside the current one, what is to be launched on one of the two, and whether anything runs there."""

    stream: Any
    held: Callable[[], None] | None = None
    running: bool = False


@dataclass
class Belongings:
    """Scratch by purpose, dtype, device and stream, and streams by purpose and device."""

    buffers: dict[Any, Array] = field(default_factory=dict)
    streams: dict[tuple[str, int], Any] = field(default_factory=dict)


class Loan:
    """What a thread has of these until it ends and the next has them: there are as many as there were threads at once.

    Parameters
    ----------
    idle : list of Belongings
        Of threads that have ended.
    """

    def __init__(self, idle: list[Belongings]) -> None:
        self.idle = idle
        try:
            self.lent = idle.pop()
        except IndexError:
            self.lent = Belongings()

    def __del__(self) -> None:
        self.idle.append(self.lent)


class Here(threading.local):
    """What a thread has to itself: scratch and streams, and what the contexts it is in have set."""

    def __init__(self, idle: list[Belongings]) -> None:
        self.loan = Loan(idle)
        self.buffers, self.streams = self.loan.lent.buffers, self.loan.lent.streams
        #: The buffers that a graph uses which is being captured.
        self.captured: list[Array] | None = None
        #: The files that a step needs and that are not loaded, while it is taken without being launched.
        self.wanted: set[tuple[str, str, tuple[str, ...]]] | None = None
        self.step: Array | None = None
        self.narrowed: Narrowed | None = None
        self.aside: Aside | None = None
        #: The `SmallLayers` of the step that is being taken.
        self.small: Any = None


@dataclass
class Found:
    """What is found out once for the backends of all precisions and devices."""

    products: Products | None = None
    #: What has failed on a device, and is done without.
    failed: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)
