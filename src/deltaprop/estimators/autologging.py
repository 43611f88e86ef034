"""`mlflow.sklearn.autolog` and our estimators: MLflow is told of them, so that it records them as scikit-learn's own.

MLflow patches the classes that `sklearn.utils.all_estimators` lists, and has no hook for others. So we add ours to its
list, once it is loaded; nothing is imported for it. A fit never fails because MLflow has changed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

from sklearn.base import _fit_context

from deltaprop.backends.typed_decorators import KeepsType, keeps_type
from deltaprop.epochs.way_log import logger
from deltaprop.ranks.choice import find_ranks

Fit = TypeVar("Fit", bound=Callable[..., Any])
#: The module of MLflow, once somebody has imported it, and the function there that lists the classes it patches.
MODULE, LISTS_CLASSES = "mlflow.sklearn", "_gen_estimators_to_patch"
#: The function that tells searches, whose results are recorded, from other estimators.
FINDS_SEARCHES = "_is_parameter_search_estimator"
#: Our classes, in the order in which they were made.
_ours: list[type] = []
#: Those of them that are searches.
_searches: list[type] = []
#: The module that has been told of them, or could not be, and of how many.
_told: list[tuple[Any, int]] = []


def recorded(cls: type, *, is_search: bool = False) -> None:
    """Have MLflow record the fits of a class; of a search also its results, as of scikit-learn's searches."""
    _ours.append(cls)
    if is_search:
        _searches.append(cls)


def fit_context(*, prefer_skip_nested_validation: bool) -> KeepsType:
    """Decorate a method as scikit-learn's `_fit_context` does; a `fit` also tells MLflow of our classes, if need be."""

    def decorate(method: Any) -> Any:
        inner = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)(method)
        return telling_fit(inner) if method.__name__ == "fit" else inner

    return keeps_type(decorate)


def telling_fit(inner: Fit) -> Fit:
    """Decorate a method `fit`, so that it tells MLflow of our classes, if need be; of several ranks, rank 0 does."""

    @functools.wraps(inner)
    def fit(estimator: Any, *arguments: Any, **options: Any) -> Any:
        if MODULE in sys.modules and _is_first(estimator) and tell_mlflow(sys.modules[MODULE], type(estimator)):
            return type(estimator).fit(estimator, *arguments, **options)  # the method that MLflow has put there
        return inner(estimator, *arguments, **options)

    return cast(Fit, fit)


def _is_first(estimator: Any) -> bool:
    return find_ranks(getattr(estimator, "ranks", None)).is_first


def tell_mlflow(module: Any, cls: type) -> bool:
    """Add our classes to those that MLflow patches; return whether it has patched `cls` just now."""
    known = max((count for each, count in _told if each is module), default=None)
    if known is not None and known >= len(_ours):
        return False
    _told.append((module, len(_ours)))
    try:
        if known is None:
            _list_ours(module)
        functions = sys.modules["mlflow.utils.autologging_utils"]
        if functions.autologging_is_disabled("sklearn"):
            return False  # the next call of `autolog` finds our classes in the list
        module.autolog(**functions.AUTOLOGGING_INTEGRATIONS["sklearn"])
    except Exception as error:  # noqa: BLE001  (whatever this version of MLflow does differently)
        _told.append((module, sys.maxsize))
        logger.warning("mlflow.sklearn.autolog does not record deltaprop's estimators: %s: %s", MODULE, error)
        return False
    return not issubclass(cls, tuple(_ours[:known])) if known else True


def _list_ours(module: Any) -> None:
    """Put our classes into MLflow's lists, also those that are imported later."""
    listed = getattr(module, LISTS_CLASSES)

    @functools.wraps(listed)
    def with_ours() -> list[type]:
        classes: list[type] = list(listed())
        return [*classes, *(cls for cls in _ours if cls not in classes)]

    utilities = import_module(f"{MODULE}.utils")
    finds_searches = getattr(utilities, FINDS_SEARCHES)

    @functools.wraps(finds_searches)
    def is_search(estimator: Any) -> bool:
        return bool(finds_searches(estimator)) or isinstance(estimator, tuple(_searches))

    setattr(module, LISTS_CLASSES, with_ours)
    setattr(utilities, FINDS_SEARCHES, is_search)
