"""The functions that stand in place of scikit-learn's own: training and prediction of a multi-layer perceptron."""

from __future__ import annotations

import inspect
import time
import weakref
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from deltaprop.accel import refusals
from deltaprop.accel.profiling import PROFILE, SCIKIT_LEARN
from deltaprop.estimators.counterpart import (
    REFUSED,
    Counterpart,
    NotPreparedError,
    their_number_of_iterations,
    type_of_loss,
)
from deltaprop.forks import in_child

#: By the id of an estimator, the estimator and its counterpart. It is no attribute: pickles and `vars` are as ever.
_counterparts: dict[int, tuple[weakref.ref[Any], Counterpart]] = {}
#: The functions that stand in place of others now, by name.
PATCHED: dict[str, Any] = {}

Original = Callable[..., Any]
# In a child process another thread's lock would never be released.
in_child(_counterparts.clear)


def _known(theirs: Any) -> Counterpart | None:
    """Return the counterpart of an estimator, if it has one that would compute the same."""
    entry = _counterparts.get(id(theirs))
    if entry is None or entry[0]() is not theirs or not entry[1].agrees_with(theirs):
        return None
    return entry[1]


def _remember(theirs: Any, counterpart: Counterpart) -> None:
    key = id(theirs)
    _counterparts[key] = weakref.ref(theirs, lambda _: _counterparts.pop(key, None)), counterpart


def _counterpart(theirs: Any, dtype: str) -> Counterpart:
    """Return the counterpart of an estimator: the one there is, or a new one."""
    known = _known(theirs)
    if known is not None and known.network.dtype == dtype:
        return known
    return Counterpart(theirs, dtype)


def _by_scikit_learn(theirs: Any, method: str, reason: str, original: Original, *args: Any, **options: Any) -> Any:
    """Call scikit-learn's own function, and record that and why."""
    PROFILE.fell_back(type(theirs).__name__, method, reason)
    began = time.perf_counter()
    try:
        return original(theirs, *args, **options)
    finally:
        PROFILE.add(type(theirs).__name__, method, SCIKIT_LEARN, time.perf_counter() - began)


def fit_stochastic(original: Original, enabled: Callable[[], bool]) -> Original:
    """Make the function in place of ``_fit_stochastic``."""
    signature = inspect.signature(original)

    @wraps(original)
    def _fit_stochastic(self: Any, *args: Any, **options: Any) -> Any:
        if not enabled():
            return original(self, *args, **options)
        began = time.perf_counter()
        given = signature.bind(self, *args, **options).arguments
        X, y, weights, incremental = given["X"], given["y"], given.get("sample_weight"), given["incremental"]
        method = "partial_fit" if incremental else "fit"
        reason = refusals.of_object(self, "stochastic", PATCHED) or refusals.of_training(
            self, X, y, weights, given["layer_units"], incremental=incremental
        )
        if reason is None:
            reason = _fit(
                self,
                X.dtype.name,
                method,
                lambda ours: ours.fit_by_minibatches(self, _csr(X), y, weights, incremental=incremental),
                began,
            )
        return None if reason is None else _by_scikit_learn(self, method, reason, original, *args, **options)

    return _fit_stochastic


def fit_lbfgs(original: Original, enabled: Callable[[], bool]) -> Original:
    """Make the function in place of ``_fit_lbfgs``."""
    signature = inspect.signature(original)

    @wraps(original)
    def _fit_lbfgs(self: Any, *args: Any, **options: Any) -> Any:
        if not enabled():
            return original(self, *args, **options)
        began = time.perf_counter()
        given = signature.bind(self, *args, **options).arguments
        X, y, weights, layer_units = given["X"], given["y"], given.get("sample_weight"), given["layer_units"]
        reason = refusals.of_object(self, "lbfgs", PATCHED) or refusals.of_training(self, X, y, weights, layer_units)

        def train(counterpart: Counterpart) -> None:
            _leave_places(self, layer_units)
            result = counterpart.fit_by_full_batch(self, _csr(X), y, weights)
            self.n_iter_ = their_number_of_iterations(result, self.max_iter)
            self.loss_ = type_of_loss(X, y, weights)(result.fun)

        if reason is None:
            reason = _fit(self, "float64", "fit", train, began)  # as scipy has the parameters
        return None if reason is None else _by_scikit_learn(self, "fit", reason, original, *args, **options)

    return _fit_lbfgs


def _fit(theirs: Any, dtype: str, method: str, train: Callable[[Counterpart], None], began: float) -> str | None:
    """Train an estimator by its counterpart and record that; return why that cannot be, before anything is trained."""
    try:
        counterpart = _counterpart(theirs, dtype)
    except REFUSED as error:
        return str(error)
    _remember(theirs, counterpart)
    refused = False
    try:
        train(counterpart)
    except NotPreparedError as error:
        refused = True
        return str(error)
    finally:
        if not refused:
            who = f"deltaprop, {counterpart.where}, {counterpart.way}"
            PROFILE.add(type(theirs).__name__, method, who, time.perf_counter() - began)
    return None


def _leave_places(theirs: Any, layer_units: list[int]) -> None:
    """Set the attributes that say where each layer stands in scikit-learn's flat vector."""
    theirs._coef_indptr, theirs._intercept_indptr, start = [], [], 0
    for fan_in, fan_out in pairwise(layer_units):
        theirs._coef_indptr.append((start, start + fan_in * fan_out, (fan_in, fan_out)))
        start += fan_in * fan_out
    for fan_out in layer_units[1:]:
        theirs._intercept_indptr.append((start, start + fan_out))
        start += fan_out


def forward_pass_fast(original: Original, enabled: Callable[[], bool]) -> Original:
    """Make the function in place of ``_forward_pass_fast``, by which scikit-learn makes all predictions."""

    @wraps(original)
    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> Any:
        if not enabled():
            return original(self, X, check_input=check_input)
        began = time.perf_counter()
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        counterpart = _counterpart_for_prediction(self, X)
        if isinstance(counterpart, str):
            return _by_scikit_learn(self, "predict", counterpart, original, X, check_input=False)
        outputs = counterpart.outputs(_csr(X))
        PROFILE.add(type(self).__name__, "predict", f"deltaprop, {counterpart.where}", time.perf_counter() - began)
        return outputs

    return _forward_pass_fast


def _counterpart_for_prediction(theirs: Any, X: Any) -> Counterpart | str:
    """Return the counterpart that predicts for checked inputs, or the reason why scikit-learn's own code does."""
    try:
        reason = refusals.of_object(theirs, "predict", PATCHED) or refusals.of_prediction(theirs, X)
        if reason is not None:
            return reason
        known = _known(theirs)
        if known is None:
            known = Counterpart(theirs, theirs.coefs_[0].dtype.name)
            _remember(theirs, known)
    except REFUSED as error:
        return str(error)
    return known


def _csr(X: Any) -> Any:
    """Return `X`, as CSR where it is sparse."""
    return X if isinstance(X, np.ndarray) else X.tocsr()
