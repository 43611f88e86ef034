"""State of the CUDA backend: what each thread has to itself, and what all threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deltaprop.backends.array_types import AnyArray
from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.cuda.cublas import Products
from deltaprop.backends.device import Event, Stream

#: The address of an array, the shape of its copy in 16 bits, and the factor of the copy.
NarrowKey: TypeAlias = tuple[int, tuple[int, ...], float]


@dataclass
class Narrowed:
    """Copies in 16 bits, made on `stream`.

    `valid` says which are up to date; some of these are so only after their event in `ready`.
    """

    buffers: dict[NarrowKey, Array] = field(default_factory=dict)
    valid: set[NarrowKey] = field(default_factory=set)
    ready: dict[NarrowKey, Event] = field(default_factory=dict)
    stream: int = 0


@dataclass
class Aside:
    """A stream beside the current one, a launch that is held back, and whether anything runs on the stream."""

    stream: Stream
    held: Callable[[], None] | None = None
    running: bool = False


@dataclass
class Belongings:
    """Scratch by purpose, dtype, device and stream, and streams by purpose and device."""

    buffers: dict[Any, Array] = field(default_factory=dict)
    streams: dict[tuple[str, int], Stream] = field(default_factory=dict)


class Loan:
    """Lends `Belongings` to a thread until the thread ends; then the next thread gets them.

    Parameters
    ----------
    idle : list of Belongings
        Left by threads that have ended.
    """

    def __init__(self, idle: list[Belongings]) -> None:
        self.idle = idle
        try:
            self.lent: Belongings = idle.pop()
        except IndexError:
            self.lent = Belongings()

    def __del__(self) -> None:
        self.idle.append(self.lent)


class Here(threading.local):
    """The state of one thread: its scratch and streams, and what the context managers around it have set."""

    buffers: dict[Any, AnyArray]
    streams: dict[tuple[str, int], Stream]

    def __init__(self, idle: list[Belongings]) -> None:
        self.loan: Loan = Loan(idle)
        self.buffers, self.streams = self.loan.lent.buffers, self.loan.lent.streams
        #: The buffers used by the graph that is being captured.
        self.captured: list[Array] | None = None
        #: The kernel files that a step needs, while `compile_for` collects them and launches nothing.
        self.wanted: set[tuple[str, str, tuple[str, ...]]] | None = None
        self.step: Array | None = None
        self.narrowed: Narrowed | None = None
        self.aside: Aside | None = None
        #: The `SmallLayers` of the step that is being taken.
        self.small: Any = None


@dataclass
class Found:
    """What is found out once, for the backends of all precisions and devices."""

    products: Products | None = None
    #: Names of what has failed on a device and is no longer used.
    failed: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)
