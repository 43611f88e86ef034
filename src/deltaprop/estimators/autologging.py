"""`mlflow.sklearn.autolog` and our estimators: MLflow is told of them, so that it records them as scikit-learn's own.

MLflow patches the classes that `sklearn.utils.all_estimators` lists, and has no hook for others. So we add ours to its
list, once it is loaded; nothing is imported for it. A fit never fails because MLflow has changed.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from sklearn.base import _fit_context

from deltaprop.backends.typed_decorators import KeepsType, keeps_type
from deltaprop.epochs.way_log import logger

#: The module of MLflow, once somebody has imported it, and the function there that lists the classes it patches.
MODULE, LISTS_CLASSES = "mlflow.sklearn", "_gen_estimators_to_patch"
#: Our classes, in the order in which they were made.
_ours: list[type] = []
#: The module that has been told of them, or could not be.
_told: list[Any] = []


def recorded(cls: type) -> None:
    """Have MLflow record the fits of a class."""
    _ours.append(cls)


def fit_context(*, prefer_skip_nested_validation: bool) -> KeepsType:
    """Decorate a method as scikit-learn's `_fit_context` does; a `fit` also tells MLflow of our classes, if need be."""

    def decorate(method: Any) -> Any:
        inner = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)(method)
        if method.__name__ != "fit":
            return inner

        @functools.wraps(inner)
        def fit(estimator: Any, *arguments: Any, **options: Any) -> Any:
            if MODULE in sys.modules and tell_mlflow(sys.modules[MODULE]):
                return type(estimator).fit(estimator, *arguments, **options)  # the method that MLflow has put there
            return inner(estimator, *arguments, **options)

        return fit

    return keeps_type(decorate)


def tell_mlflow(module: Any) -> bool:
    """Add our classes to those that MLflow patches; return whether it has patched them just now."""
    if any(module is each for each in _told):
        return False
    _told.append(module)
    try:
        listed = getattr(module, LISTS_CLASSES)
        functions = sys.modules["mlflow.utils.autologging_utils"]

        @functools.wraps(listed)
        def with_ours() -> list[type]:
            classes: list[type] = list(listed())
            return [*classes, *(cls for cls in _ours if cls not in classes)]

        setattr(module, LISTS_CLASSES, with_ours)
        if functions.autologging_is_disabled("sklearn"):
            return False  # the next call of `autolog` finds our classes in the list
        module.autolog(**functions.AUTOLOGGING_INTEGRATIONS["sklearn"])
    except Exception as error:  # noqa: BLE001  (whatever this version of MLflow does differently)
        logger.warning("mlflow.sklearn.autolog does not record deltaprop's estimators: %s: %s", MODULE, error)
        return False
    return True
