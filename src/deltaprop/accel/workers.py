"""Tasks that scikit-learn sends to other processes: there, too, its perceptrons train by deltaprop."""

from __future__ import annotations

from collections.abc import Callable
from copyreg import __newobj__  # type: ignore[attr-defined]
from functools import partial
from typing import Any

from deltaprop.accel.profiling import PROFILE


def reduce_of_tasks(run: Callable[..., Any], _: Any, enabled: Callable[[], bool]) -> Callable[[Any], tuple[Any, ...]]:
    """Make ``__reduce__`` of the functions that scikit-learn's ``delayed`` makes.

    Parameters
    ----------
    run : callable
        Calls a function in the other process.
    enabled : callable
        Whether the functions are pickled so that `run` calls them.
    """

    def reduce(self: Any) -> tuple[Any, ...]:
        if not enabled():
            return __newobj__, (type(self),), vars(self)
        PROFILE.sent += 1
        return restored, (run, type(self), vars(self))

    return reduce


def restored(run: Callable[..., Any], kind: Any, state: dict[str, Any]) -> Callable[..., Any]:
    """Make the function anew from its class and its attributes, to be called by `run`."""
    function = kind.__new__(kind)
    vars(function).update(state)
    return partial(run, function)
