"""SIGINT and SIGTERM, held back until a step is done and what there is has been written."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Paused(Exception):  # noqa: N818  (nothing is wrong)
    """Training left off inside an epoch, between two steps.

    Attributes
    ----------
    batch : int
        Minibatches of the epoch that are done.
    """

    def __init__(self, batch: int) -> None:
        super().__init__(f"after minibatch {batch}")
        self.batch = batch


class Abandoned(BaseException):
    """A signal that is held back until a step is done has come during a long step, which is to be left undone."""


class Interruption:
    """Whether a signal has asked the process to end.

    Attributes
    ----------
    signal : int or None
        Which.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False

    def __call__(self) -> bool:
        """Whether to leave off."""
        return self.signal is not None

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Within, the first SIGINT or SIGTERM is noted, a second does what it did before; in the main thread only.

        A signal that the program ignores stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number
            for caught, handler in before.items():
                signal.signal(caught, handler)
            if self._at_once:
                raise Abandoned

        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            handler = signal.getsignal(number)
            # One that was not set by Python could not be put back.
            if handler is not None and handler is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, note)
        try:
            yield
        finally:
            for caught, handler in before.items():
                signal.signal(caught, handler)

    @contextmanager
    def heard_at_once(self) -> Iterator[None]:
        """Within, a signal that `awaited` would hold back is raised as `Abandoned`: for a step that takes long.

        Raises
        ------
        Abandoned
            If there is such a signal, or one has come already.
        """
        self._at_once = True
        try:
            if self.signal is not None:
                raise Abandoned
            yield
        finally:
            self._at_once = False

    def obey(self) -> None:
        """End as the signal would have ended the process: KeyboardInterrupt, or exit status 143.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            If there has been one.
        """
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.signal is not None:
            raise KeyboardInterrupt


def run_abandonable(work: Callable[[], None], undo: Callable[[], None], stop: ctypes.c_int32) -> None:
    """Run `work`, which is deaf to Python's signals and leaves off once `stop` is not 0, so that signals are heard.

    In the main thread it goes to a thread of its own, while this one listens. Where a signal raises, `stop` is set,
    `undo` is called once `work` has left off, and the exception goes on; a second signal has to wait for that.

    Parameters
    ----------
    work, undo : callable
    stop : ctypes.c_int32
        0 before and after.

    Raises
    ------
    BaseException
        What a signal raises here: KeyboardInterrupt, or `Abandoned`.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    worked, judged, over = threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []
    kept = True

    def run() -> None:
        try:
            work()
            worked.set()
            judged.wait()
            if not kept:
                undo()
        except BaseException as failure:  # noqa: BLE001  (it is raised in the thread that waits)
            failures.append(failure)
        finally:
            worked.set()
            over.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        worked.wait()
    except BaseException:
        kept, stop.value = False, 1
        raise
    finally:
        judged.set()
        _wait_through(over)
        stop.value = 0
    if failures:
        raise failures[0]


def _wait_through(event: threading.Event) -> None:
    """Wait whatever signals raise; memory that is being written into must not be left to others."""
    while not event.is_set():
        try:
            event.wait()
        except BaseException:  # noqa: BLE001  (the first of them is on its way already)
            continue
