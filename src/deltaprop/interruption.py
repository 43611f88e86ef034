"""SIGINT and SIGTERM, held back until a step is done and what there is has been written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
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


class Interruption:
    """Whether a signal has asked the process to end.

    Attributes
    ----------
    signal : int or None
        Which.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to leave off."""
        return self.signal is not None

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Within, the first SIGINT or SIGTERM is noted, a second does what it did before; in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number
            for caught, handler in before.items():
                signal.signal(caught, handler)

        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            handler = signal.getsignal(number)
            if handler is not None:  # one that was not set by Python could not be put back
                before[number] = handler
                signal.signal(number, note)
        try:
            yield
        finally:
            for caught, handler in before.items():
                signal.signal(caught, handler)

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
