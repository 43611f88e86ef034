"""Puts functions of ours in place of scikit-learn's, and takes them out again."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sklearn
from sklearn.model_selection import _search
from sklearn.neural_network import _multilayer_perceptron as perceptrons
from sklearn.utils import parallel

from deltaprop.accel import fits, searches, workers
from deltaprop.accel.profiling import LOGGER
from deltaprop.forks import in_child

#: What an attribute is where its owner has none of its own.
MISSING = object()
_lock = threading.RLock()
_by_user = False
_tasks = 0


def enabled() -> bool:
    """Return whether ours is to work: `install` has been called, or a task from an installed process runs."""
    return _by_user or _tasks > 0


@dataclass
class Patch:
    """One attribute that is replaced.

    Attributes
    ----------
    owner : class or module
    name : str
    make : callable
        Makes the replacement from what is there and from `enabled`.
    found, ours : object
        What was there, and the replacement; `ours` is MISSING where it is not in place.
    """

    owner: Any
    name: str
    make: Callable[[Any, Callable[[], bool]], Any]
    found: Any = MISSING
    ours: Any = MISSING

    def apply(self) -> None:
        """Put the replacement in place, unless it still is: behind something that somebody has wrapped around it."""
        if self.ours is MISSING:
            self.found = vars(self.owner).get(self.name, MISSING)
            self.ours = self.make(getattr(self.owner, self.name, None), enabled)
            setattr(self.owner, self.name, self.ours)

    def undo(self) -> None:
        """Put back what was there, unless somebody has wrapped something around the replacement.

        Then it stays, and calls what was there for as long as ours is not `enabled`.
        """
        if self.ours is MISSING or vars(self.owner).get(self.name) is not self.ours:
            return
        if self.found is MISSING:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.found)
        self.ours = MISSING


#: The parameters by which each function is called.
EXPECTED = {
    "_fit_stochastic": {"X", "y", "layer_units", "incremental"},
    "_fit_lbfgs": {"X", "y", "layer_units"},
    "_forward_pass_fast": {"X", "check_input"},
}


def _check() -> None:
    """Refuse a scikit-learn whose functions are not those that we know.

    Raises
    ------
    RuntimeError
        If a function is not there, or has other parameters.
    """
    for patch in PERCEPTRONS:
        function = getattr(patch.owner, patch.name, None)
        missing = EXPECTED[patch.name] - set(inspect.signature(function).parameters if callable(function) else ())
        if missing:
            raise RuntimeError(
                f"deltaprop.accel knows scikit-learn 1.6 to 1.9; in the installed version {sklearn.__version__}, "
                f"{patch.name} is not there or has no parameter {', '.join(sorted(missing))}. Nothing was changed."
            )


def _put_in() -> None:
    _check()
    for patch in PERCEPTRONS:
        patch.apply()
        fits.PATCHED[patch.name] = patch.ours
    for patch in AROUND:
        patch.apply()
    for owner, name, _, loss in OTHERS:
        if not hasattr(owner, name):
            LOGGER.warning("%s: scikit-learn %s has no %s where it was", loss, sklearn.__version__, name)


def _take_out() -> None:
    for patch in (*PERCEPTRONS, *AROUND):
        patch.undo()


def install() -> None:
    """See `deltaprop.accel.install`."""
    global _by_user
    with _lock:
        if not enabled():
            _put_in()
        _by_user = True


def uninstall() -> None:
    """See `deltaprop.accel.uninstall`."""
    global _by_user
    with _lock:
        _by_user = False
        if not enabled():
            _take_out()


def run_installed(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function that an installed process has sent to this one, with ours installed while it runs."""
    global _tasks
    with _lock:
        if not enabled():
            _put_in()
        _tasks += 1
    try:
        return function(*args, **options)
    finally:
        with _lock:
            _tasks -= 1
            if not enabled():
                _take_out()


PERCEPTRONS = tuple(
    Patch(perceptrons.BaseMultilayerPerceptron, name, make)
    for name, make in (
        ("_fit_stochastic", fits.fit_stochastic),
        ("_fit_lbfgs", fits.fit_lbfgs),
        ("_forward_pass_fast", fits.forward_pass_fast),
    )
)
#: What else is replaced, where the installed scikit-learn has it, and what is otherwise lost.
OTHERS: tuple[tuple[Any, str, Any, str], ...] = (
    (_search, "Parallel", searches.parallel_of_searches, "searches train one candidate after another"),
    (
        getattr(parallel, "_FuncWrapper", None),
        "__reduce__",
        partial(workers.reduce_of_tasks, run_installed),
        "worker processes run scikit-learn's own code",
    ),
)
AROUND = tuple(Patch(owner, name, make) for owner, name, make, _ in OTHERS if hasattr(owner, name))


def _new_lock() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held the old one when the process was copied


in_child(_new_lock)
