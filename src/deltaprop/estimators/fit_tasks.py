"""scikit-learn's protocol of callbacks (`sklearn.callback`, from version 1.9 on): a fit is a tree of tasks.

The fit is the root, and every epoch is a task of it. With older versions of scikit-learn there is no `set_callbacks`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deltaprop.backends.array_types import ArrayLike
from deltaprop.training.callbacks import Callback, EpochBegin, EpochEnd, FitBegin, FitEnd

if TYPE_CHECKING:

    class CallbackSupport:
        """`sklearn.callback.CallbackSupportMixin`, or nothing."""

else:
    try:
        from sklearn.callback import CallbackSupportMixin as CallbackSupport
    except ImportError:  # an older version

        class CallbackSupport:
            """Nothing: this version of scikit-learn has no callbacks."""


#: The attributes of an estimator that change from epoch to epoch with its network.
OF_THE_NETWORK = ("coefs_", "intercepts_", "_network", "_handed_out", "_fitted_configuration")


class FitTasks(Callback):
    """Tells the callbacks that `set_callbacks` has set of a fit, as a callback of ours.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator that is fitted.
    X, y : array
        The data as they were given.
    sample_weight : array, optional
        As given.
    """

    def __init__(self, estimator: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> None:
        self.estimator = estimator
        self.options: dict[str, Any] = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self.root: Any = None
        self.task: Any = None

    @classmethod
    def of(cls, estimator: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> list[FitTasks]:
        """Return one, in a list, if scikit-learn's callbacks have been set; else nothing."""
        return [cls(estimator, X, y, sample_weight)] if getattr(estimator, "_skl_callbacks", ()) else []

    def on_fit_begin(self, event: FitBegin) -> None:
        """Begin the root of the tasks, which sets the callbacks up."""
        self.root = self.estimator._init_callback_context(max_subtasks=event.epochs)
        self.root.call_on_fit_task_begin(**self.options)

    def on_epoch_begin(self, event: EpochBegin) -> None:
        """Begin the task of the epoch."""
        self.task = self._begin(event)

    def _begin(self, event: EpochBegin | EpochEnd) -> Any:
        task = self.root.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(**self.options, reconstruction_attributes=self._now(event))
        return task

    def on_epoch_end(self, event: EpochEnd) -> bool:
        """End the task of the epoch; return whether a callback asks to stop. An iteration has not begun one."""
        task = self.task or self._begin(event)
        self.task = None
        return bool(task.call_on_fit_task_end(**self.options, reconstruction_attributes=self._now(event)))

    def on_fit_end(self, event: FitEnd) -> None:
        """End the root; scikit-learn tears the callbacks down itself."""
        if self.root is not None and event.error is None:
            self.root.call_on_fit_task_end(**self.options, reconstruction_attributes=self._now(event))

    def _now(self, event: EpochBegin | EpochEnd | FitEnd) -> Callable[[], dict[str, Any]]:
        """Return what makes the attributes of an estimator fitted so far; they share no memory with the network."""

        def attributes() -> dict[str, Any]:
            fitted = copy.copy(self.estimator)
            fitted._hand_out(event.network.copy(), self.estimator.coefs_[0])
            return {name: fitted.__dict__[name] for name in OF_THE_NETWORK}

        return attributes
