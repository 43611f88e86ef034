"""Forks while other threads are at work: the child has one thread of its parent's, and locks that the others held.

Our own locks are made anew in the child, by `in_child`. Others cannot be: a child that imports what another thread was
importing waits for ever, and so does one that asks a BLAS whose threads were at work. And a child holds the pipes of a
process that another thread was starting, which then waits for their end. So a fork waits for imports that are under
way, as much of this library imports what it needs when it is first used, and for products of NumPy's BLAS and for
processes that begin (`no_fork`). It holds the lock of the generator behind `numpy.random` itself, from which all
threads may draw, so that none is in the middle of a draw.
"""

from __future__ import annotations

# A fork takes locks of these two, and imports need them. Had they come after our own hook, that would wait for such
# imports in vain.
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: For how many seconds a fork waits at most.
LONGEST_WAIT = 10.0
#: Seconds between two looks.
LOOKS_AFTER = 0.0005
#: The numbers of threads within `no_fork`, and of threads that fork.
_inside: set[int] = set()
_forking: set[int] = set()
#: The lock of NumPy's shared generator, while a thread that forks holds it.
_held: list[Any] = []


class NoFork:
    """A context in which no other thread forks; it has to be left soon, and not to be entered twice."""

    def __enter__(self) -> None:
        thread = threading.get_ident()
        _inside.add(thread)
        # Either this thread sees that another forks, or that one sees this one: each tells before it looks.
        while _forking and thread not in _forking:
            _inside.discard(thread)
            time.sleep(LOOKS_AFTER)
            _inside.add(thread)

    def __exit__(self, *raised: object) -> None:
        _inside.discard(threading.get_ident())


no_fork: NoFork = NoFork()


def in_child(callback: Callable[[], None]) -> None:
    """Let `callback` run in every child of a fork, where the system has such a thing, before anything else does."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def _is_importing() -> bool:
    """Whether another thread is importing something because code of ours asked for it."""
    here = threading.get_ident()
    return any(_imports_for_us(frame) for thread, frame in sys._current_frames().items() if thread != here)


def _imports_for_us(frame: FrameType | None) -> bool:
    imports = False
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        imports = imports or module in ("importlib._bootstrap", "_frozen_importlib", __package__)
        if imports and module.partition(".")[0] == __package__:
            return True
        frame = frame.f_back
    return False


def _wait_for_imports(until: float) -> None:
    while _is_importing() and time.monotonic() < until:
        time.sleep(LOOKS_AFTER)


def _hold_shared_generator(until: float) -> None:
    shared = getattr(sys.modules.get("numpy.random"), "get_bit_generator", None)
    if shared is not None:  # else nobody draws yet
        lock = shared().lock
        if lock.acquire(timeout=max(0.0, until - time.monotonic())):
            _held.append(lock)


def _let_go_of_shared_generator() -> None:
    while _held:
        _held.pop().release()


def _before() -> None:
    thread, until = threading.get_ident(), time.monotonic() + LONGEST_WAIT
    _wait_for_imports(until)
    _forking.add(thread)
    # Whoever leaves may import something next.
    while (_inside - {thread} or _is_importing()) and time.monotonic() < until:
        time.sleep(LOOKS_AFTER)
    _hold_shared_generator(until)


def _after_in_parent() -> None:
    _let_go_of_shared_generator()
    _forking.discard(threading.get_ident())


def _after_in_child() -> None:
    _let_go_of_shared_generator()
    _inside.clear()
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
