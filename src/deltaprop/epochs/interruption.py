"""SIGINT and SIGTERM are held back until a step is done, and what has been learned is written."""

from __future__ import annotations

import _thread
import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import known_to_all

#: What Python calls for a signal, or does at one.
Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None


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
    """A signal came during a long step, which has to be undone."""


class Interruption:
    """It knows whether a signal has asked the process to end.

    Attributes
    ----------
    signal : int or None
        The signal's number.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False

    def __call__(self) -> bool:
        """Tell whether to leave off."""
        return self.signal is not None

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note the first SIGINT or SIGTERM within; a second one does what it did before.

        This works in the main thread only. A signal that the program ignores stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Handler] = {}

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
        """Raise `Abandoned` within when a signal comes that `awaited` would hold back: for a step that takes long.

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

    def hear_others(self, ranks: Ranks) -> None:
        """Take over the first signal that has come on some rank; all ranks call this."""
        signals = ranks.gather(self.signal)
        self.signal = next((number for number in signals if number is not None), None)

    def obey_on_all(self, ranks: Ranks) -> None:
        """End on all ranks, as `obey` does, if a signal has come on some rank.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            On all ranks.
        """
        self.hear_others(ranks)
        try:
            self.obey()
        except BaseException as error:
            known_to_all(error)
            raise

    def obey(self) -> None:
        """End as the signal would have ended the process, if one has come: KeyboardInterrupt, or exit status 143.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            If a signal has come.
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
    """Run `work` so that signals are heard; it does not hear them itself, and leaves off once `stop` is not 0.

    If this is the main thread, `work` runs on a thread of its own, while this one listens. After SIGINT or SIGTERM
    `stop` is set; once `work` has left off, `undo` is called, and then the signal's handler. If the handler neither
    raises nor asks for a `pause`, the work is begun again.

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
        Whether the work is done; if not, it is undone.

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
    """Have SIGINT and SIGTERM only set `stop` within, if Python handles them; yield the list of those that came."""
    signals: list[int] = []
    handlers: dict[int, Handler] = {}

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
    """Run `work` on a thread of its own, to its end; return what it raised, or what another signal's handler did."""
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
