"""Check the inputs of an estimator: tables on the host as scikit-learn does, arrays on a device in our own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data

from deltaprop.arguments import refuse_masked
from deltaprop.backends import Array, backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, Indices
from deltaprop.inputs.arrays import adopt, takes_much_memory

FLOATS = (np.float64, np.float32)


class Number(Interval):
    """An interval of numbers; it does not contain True and False."""

    def is_satisfied_by(self, val: object) -> bool:
        """Return whether `val` is in the interval."""
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


def on_device(X: ArrayLike) -> Array | None:
    """Return `X` as an array of its device's backend, in the same memory; None where it is on the host."""
    adopted = adopt(X, "X")
    backend = backend_of(adopted)
    return None if backend is None or backend.on_host else adopted


def on_host(values: AnyArray, name: str = "values") -> AnyArray:
    """Return `values`, copied to the host where they are on a device.

    Raises
    ------
    ValueError
        If some are masked.
    """
    refuse_masked(values, name)
    adopted = adopt(values, name)
    backend = backend_of(adopted)
    return values if backend is None or backend.on_host else backend.to_numpy(adopted)


def take(X: ArrayLike, rows: Indices) -> AnyArray:
    """Return some rows of a checked `X`, on the host or on a device."""
    backend = backend_of(X)
    return X[rows] if backend is None else X[backend.asarray(rows, np.int64)]


@contextmanager
def _named_overflow(name: str) -> Iterator[None]:
    """Raise an error that names the argument, where a Python number is too large for float64.

    Raises
    ------
    ValueError
        If the block meets such a number.
    """
    try:
        yield
    except OverflowError as error:
        raise ValueError(f"{name}: expected finite numbers in float64, got a larger one ({error})") from None


def checked_inputs(estimator: Any, X: ArrayLike, *, dtype: DTypeLike | None) -> AnyArray:
    """Check `X` as scikit-learn's `validate_data` does, and compare it with the data `estimator` was fitted on.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator.
    X : array_like, sparse matrix, DataFrame or device array, (m, n_features)
        Inputs.
    dtype : dtype or None
        The dtype that X is converted to; None leaves float32 and float64, and makes float64 of anything else.

    Returns
    -------
    X : array or sparse matrix
        On the host (dense, or CSR where it was sparse) or on the device where it was.
    """
    if _is_as_fitted(estimator, X, dtype):
        return X
    refuse_masked(X, "X")
    device = on_device(X)
    if device is not None:
        return _checked_on_device(estimator, device, dtype, reset=False)
    with _named_overflow("X"):
        return validate_data(estimator, X, accept_sparse="csr", dtype=_checked_dtype(X, dtype), reset=False)


def _checked_dtype(X: ArrayLike, dtype: DTypeLike | None) -> Any:
    """Return the dtype that scikit-learn converts X to; None where the copy would take much memory.

    Such an array is converted chunk by chunk when it is used, which changes no entry.
    """
    own = np.dtype(dtype or np.float64)
    if takes_much_memory(X, get_backend("numpy"), own) and np.can_cast(X.dtype, own):
        return None
    return dtype or FLOATS


def _is_as_fitted(estimator: Any, X: ArrayLike, dtype: DTypeLike | None) -> bool:
    """Return whether `validate_data`, which takes longer than a small prediction, would leave `X` as it is."""
    return (
        type(X) is np.ndarray
        and X.shape[1:] == (estimator.n_features_in_,)
        and not hasattr(estimator, "feature_names_in_")
        and _is_table(X, dtype)
    )


def _is_table(X: ArrayLike, dtype: DTypeLike | None) -> bool:
    """Return whether `validate_data` would leave `X`, the inputs of a fit, as they are."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and (X.dtype in FLOATS if dtype is None else X.dtype == dtype)
        and X.size > 0
        and get_backend("numpy").all_finite(X)
    )


def _is_plain(y: ArrayLike, rows: int, estimator: Any) -> bool:
    """Return whether `validate_data` would leave targets of so many rows as they are."""
    if not (type(y) is np.ndarray and y.shape == (rows,)):
        return False
    if y.dtype.kind == "f":
        return not hasattr(estimator, "classes_") and get_backend("numpy").all_finite(y)
    return y.dtype.kind in "iubU"


def checked_data(
    estimator: Any, X: ArrayLike, y: ArrayLike, *, dtype: DTypeLike | None, reset: bool, **options: Any
) -> tuple[Any, Any]:
    """Check `X` as `checked_inputs` does, and `y` as `validate_data` does.

    `y` is then on the host, (m,) where it has one column. With `reset`, ``n_features_in_`` and ``feature_names_in_``
    are set rather than compared. `options` are the options of `validate_data` for `y`.
    """
    if reset and _is_table(X, dtype) and _is_plain(y, X.shape[0], estimator):
        _set_features(estimator, X)
        return X, y
    if not reset and _is_as_fitted(estimator, X, dtype) and _is_plain(y, X.shape[0], estimator):
        return X, y
    options |= {"multi_output": True}
    refuse_masked(X, "X")
    y, device = on_host(y, "y"), on_device(X)
    if device is None:
        checks = {"accept_sparse": "csr", "dtype": _checked_dtype(X, dtype), "reset": reset}
        with _named_overflow("X or y"):
            X, y = validate_data(estimator, X, y, **checks, **options)
    else:
        X = _checked_on_device(estimator, device, dtype, reset)
        # The inputs stay where they are: one column of as many rows stands for them while the targets are checked.
        _, y = validate_data(BaseEstimator(), np.zeros((X.shape[0], 1)), y, **options)
    return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


def _set_features(estimator: Any, X: AnyArray) -> None:
    """Let an estimator expect as many columns as `X` has, without names."""
    estimator.n_features_in_ = int(X.shape[1])
    estimator.__dict__.pop("feature_names_in_", None)


def _checked_on_device(estimator: Any, X: Array, dtype: DTypeLike | None, reset: bool) -> Array:
    backend, name = backend_of(X), type(estimator).__name__
    assert backend is not None
    if X.ndim != 2:
        raise ValueError(f"X: expected a 2-D array of shape (m, n_features), got shape {X.shape}")
    if X.shape[0] == 0:
        raise ValueError(f"X: expected at least one sample, got shape {X.shape}")
    if X.dtype.kind not in "iubf":
        raise TypeError(f"X: expected numbers, got dtype {X.dtype}")
    if reset:
        _set_features(estimator, X)
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {name} is expecting {estimator.n_features_in_} features as input"
        )
    own = X.dtype if X.dtype.name in ("float32", "float64") else np.dtype(np.float64)
    X = backend.asarray(X, dtype or own)
    if not backend.all_finite(X):
        raise ValueError("Input X contains NaN or infinity.")
    return X
