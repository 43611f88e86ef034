"""The exceptions of this package, and where its warnings point.

Every other error is a ValueError or TypeError that names the argument.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from deltaprop.reports.history import History

#: Packages whose code calls ours on behalf of somebody: a warning points past them, to the line that asked.
WRAPPERS = ("deltaprop", "sklearn", "joblib")


class BackendError(RuntimeError):
    """A backend is not available here; the message says why and which command installs it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> try:
    ...     backend = dp.get_backend("cupy")
    ... except dp.BackendError as error:  # on a machine without a CUDA device
    ...     backend = dp.get_backend("numpy")
    >>> backend.name in ("cupy", "numpy")
    True
    """


class RowError(Exception):
    """Something is wrong in one row of an array.

    Parameters
    ----------
    before : str
        What the message says before the number of the row.
    row : int
        The number of the row.
    after : str
        What the message says after it.
    remedy : str, default ""
        The end of the message: what helps.
    """

    before: str
    row: int
    after: str
    remedy: str

    def __init__(self, before: str, row: int, after: str, remedy: str = "") -> None:
        super().__init__(before, row, after, remedy)
        self.before, self.row, self.after, self.remedy = before, row, after, remedy

    def __str__(self) -> str:
        return f"{self.before}{self.row}{self.after}{self.remedy}"

    def in_row(self, row: int, of: str) -> Self:
        """Return the same error about row `row` of the whole data; `of` names the file or batch that the row is in."""
        return type(self)(self.before, row, self.after + of, self.remedy)


@contextmanager
def rows_counted_from(first: int) -> Iterator[None]:
    """Let errors raised inside count rows from `first`, the row of the data with which a part of them begins."""
    try:
        yield
    except RowError as error:
        raise error.in_row(first + error.row, "") from None


class RowValueError(RowError, ValueError):
    """A value in a row is not as expected."""


class RowTypeError(RowError, TypeError):
    """A row holds something that is not a number."""


class DivergenceError(ArithmeticError):
    """The cost or a parameter stopped being finite during training.

    The network keeps the parameters of the last epoch that ended with finite ones.

    Parameters
    ----------
    message : str
        What happened, and where.
    epoch : int
        The epoch in which it was found, counted from 1.
    learning_rate : float
        The learning rate of that epoch.
    history : History
        What the epochs before recorded.
    step : int or None
        The minibatch of that epoch, counted from 1, after which a number was not finite; None if that is unknown.
    layer : int or None
        The layer, 2 … L, of that number; None if that is unknown.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([1, 1], loss="squared_error")
    >>> try:
    ...     net.fit([[1.0], [1000.0]], [1.0, 2.0], optimizer=dp.SGD(10.0), epochs=200)
    ... except dp.DivergenceError as error:
    ...     print(error.learning_rate, error.epoch <= 200, error.history.epochs == error.epoch - 1)
    10.0 True True
    """

    def __init__(
        self,
        message: str,
        *,
        epoch: int,
        learning_rate: float,
        history: History,
        step: int | None = None,
        layer: int | None = None,
    ) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.learning_rate = learning_rate
        self.history = history
        self.step = step
        self.layer = layer

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy for another process; by default, exceptions are pickled without their keyword arguments."""
        names = ("epoch", "learning_rate", "history", "step", "layer")
        return partial(type(self), str(self), **{name: getattr(self, name) for name in names}), ()


class ScheduleError(ValueError):
    """A learning-rate schedule returned something that is not a learning rate.

    The network keeps what it has learned before: its parameters, or the best under early stopping.

    Parameters
    ----------
    message : str
        What the schedule returned.
    epoch : int
        The epoch for which it was called, counted from 1.
    history : History
        What the epochs before recorded.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([1, 1], loss="squared_error")
    >>> try:
    ...     net.fit([[1.0]], [2.0], optimizer=dp.SGD(lambda epoch, history: 0.3 - 0.2 * epoch), epochs=5)
    ... except ValueError as error:
    ...     print(type(error).__name__, error.epoch, error.history.epochs)
    ScheduleError 3 2
    """

    epoch: int
    history: History

    def __init__(self, message: str, *, epoch: int, history: History) -> None:
        super().__init__(message)
        self.epoch, self.history = epoch, history

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy for another process; by default, exceptions are pickled without their keyword arguments."""
        return partial(type(self), str(self), epoch=self.epoch, history=self.history), ()


def listing(names: Sequence[str]) -> str:
    """Name some things for a message, the first twelve of many."""
    shown = ", ".join(map(repr, names[:12]))
    return shown if len(names) <= 12 else f"{shown}, … ({len(names)} in all)"


def callers_level() -> int:
    """Find the line that called this package, from outside of it and of `WRAPPERS`.

    Returns
    -------
    int
        The ``stacklevel`` of that line, if the caller of this function passes it to `warnings.warn`. (`warn` has
        ``skip_file_prefixes`` from Python 3.12 on only.)
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in WRAPPERS:
        frame = frame.f_back
        while frame is not None and _is_of_import(frame):
            frame = frame.f_back
        level += 1
    return level


def _is_of_import(frame: FrameType) -> bool:
    """Whether a frame belongs to Python's own import code, which `warnings.warn` does not count."""
    name = frame.f_code.co_filename
    return "importlib" in name and "_bootstrap" in name
