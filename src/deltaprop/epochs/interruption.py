"""SIGINT and SIGTERM, held back until a step is done and what there is has been written."""

from __future__ import annotations

import _thread
import ctypes
import signal
import sys
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


#: Seconds after which the main thread looks for a signal that another thread has been given.
LOOKS_AFTER = 0.05


def run_abandonable(
    work: Callable[[], None],
    undo: Callable[[], None],
    stop: ctypes.c_int32,
    pause: Callable[[], bool] = lambda: False,
) -> bool:
    """Run `work`, which is deaf to Python's signals and leaves off once `stop` is not 0, so that signals are heard.

    In the main thread it goes to a thread of its own, while this one listens. After SIGINT or SIGTERM `stop` is set;
    once `work` has left off, `undo` is called and the signal's handler. Where that neither raises nor asks for a
    `pause`, the work is begun again.

    Parameters
    ----------
    work, undo : callable
    stop : ctypes.c_int32
        0 before and after.
    pause : callable, optional
        Whether to leave the work undone.

    Returns
    -------
    bool
        Whether the work is done; else it is undone.

    Raises
    ------
    BaseException
        What a handler raises, such as KeyboardInterrupt; the work is undone then.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return True
    while True:
        with _noted(stop) as signals:
            failure = _on_a_thread(work, stop)
            undone = bool(stop.value)
            if undone:
                undo()
        # From here on signals do what they did before; one that has been noted has set `stop`.
        done = not stop.value
        stop.value = 0
        if not (done or undone):
            undo()
        if failure is not None:
            raise failure
        for number in signals:
            handler: Any = signal.getsignal(number)
            handler(number, sys._getframe())
        if done or pause():
            return done


@contextmanager
def _noted(stop: ctypes.c_int32) -> Iterator[list[int]]:
    """Within, SIGINT and SIGTERM do nothing but set `stop`, where Python handles them; yields those that have come."""
    signals: list[int] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        stop.value = 1

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, signal.Handlers):
                handlers[number] = handler
                signal.signal(number, note)
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _on_a_thread(work: Callable[[], None], stop: ctypes.c_int32) -> BaseException | None:
    """Run `work` on a thread of its own, to its end; what it raised, or the handler of another signal meanwhile."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001  (it is raised in the thread that waits)
            failures.append(failure)
        finally:
            over.set()

    try:
        # Not `threading.Thread`, which waits for the thread to begin, and might be left by what a handler raises.
        _thread.start_new_thread(run, ())
    except RuntimeError:  # there can be no more threads
        run()
    while not over.is_set():  # memory that is being written into must not be left to others
        try:
            over.wait(LOOKS_AFTER)
        except BaseException as failure:  # noqa: BLE001  (it is raised once the work has left off)
            failures.append(failure)
            stop.value = 1
    return failures[0] if failures else None
