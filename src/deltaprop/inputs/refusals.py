"""Errors for what is no dense array of numbers, each with a remedy: sparse matrices, text, dates, gaps, ragged rows."""

from __future__ import annotations

from collections.abc import Sized
from datetime import date, timedelta
from typing import Any

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.errors import RowTypeError, RowValueError

#: What helps, by the argument and by what was seen in it.
LABELS = (
    "; number the classes 0 … K − 1, as numpy.unique(Y, return_inverse=True)[1] does, or use dp.MLPClassifier, which "
    "takes labels of any kind"
)
COLUMNS = (
    "; encode it as numbers, or use dp.TabularClassifier or dp.TabularRegressor, which take columns of text, dates and "
    "gaps"
)
GAPS = "; fill missing values, as sklearn.impute.SimpleImputer does, or leave their rows out"


def refuse_sparse(value: object, name: str) -> None:
    """Refuse a sparse array of any library.

    Raises
    ------
    TypeError
        The message names the argument, its shape, and the method that makes it dense.
    """
    if not hasattr(type(value), "nnz"):
        return
    method, argument = "toarray" if hasattr(value, "toarray") else "todense", name.rpartition(" ")[2]
    other = ", or dp.MLPClassifier or dp.MLPRegressor, which take sparse X" if _is(name, "X") else ""
    raise TypeError(
        f"{name}: expected a dense array, got a sparse {type(value).__name__} of shape {getattr(value, 'shape', None)}"
        f"; use {argument}.{method}(){other}"
    )


def not_rectangular(value: Any, name: str, said: Exception) -> ValueError:
    """Make the error for nested lists that are no array; NumPy has `said` why."""
    expected = f"{name}: expected a rectangular array of numbers"
    if isinstance(value, (list, tuple)):
        lengths = [len(row) if isinstance(row, Sized) and not isinstance(row, (str, bytes)) else None for row in value]
        for row, length in enumerate(lengths):
            if length != lengths[0]:
                seen = ["one value" if n is None else f"{n} value{'' if n == 1 else 's'}" for n in (lengths[0], length)]
                return ValueError(f"{expected}, got {seen[0]} in row 0 and {seen[1]} in row {row}")
    return ValueError(f"{expected} ({said})")


def not_numbers(array: Any, name: str) -> TypeError:
    """Make the error for an array whose dtype is not one of real numbers."""
    kind, expected = getattr(array.dtype, "kind", ""), f"{name}: expected numbers, got "
    if kind in "US" and array.size:
        for place, entry in np.ndenumerate(array):
            if not _is_number(entry):
                return no_number(entry.item(), place, name)
        return TypeError(f"{expected}numbers written as text, such as {array.flat[0].item()!r}; convert them to float")
    if kind in "mM":
        what = "dates" if kind == "M" else "durations"
        return TypeError(f"{expected}{what} of dtype {array.dtype}{_remedy(name, None)}")
    if kind == "V" and array.dtype.names:
        remedy = f"numpy.lib.recfunctions.structured_to_unstructured({name.rpartition(' ')[2]})"
        return TypeError(f"{expected}a structured array of dtype {array.dtype}; use {remedy}")
    return TypeError(f"{expected}dtype {array.dtype}")


def no_number(entry: object, place: tuple[int, ...], name: str) -> TypeError:
    """Make the error for an entry that is not a number, at some place of an array."""
    kind = "text such as " if isinstance(entry, (str, bytes)) else ""
    before, remedy = f"{name}: expected numbers, got {kind}{_short(entry)}", _remedy(name, entry)
    if not place:
        return TypeError(before + remedy)
    return RowTypeError(f"{before} at {name}[", place[0], after_row(place), remedy)


def too_large(entry: object, place: tuple[int, ...], name: str) -> ValueError:
    """Make the error for a number beyond float64, at some place of an array."""
    before = f"{name}: expected finite numbers in float64, got a larger {type(entry).__name__}"
    return RowValueError(f"{before} at {name}[", place[0], after_row(place)) if place else ValueError(before)


def objects_to_float(value: HostArray, name: str) -> HostArray:
    """Convert an object array (such as a DataFrame of several dtypes) to float64; an error names the entry at fault.

    Raises
    ------
    TypeError
        If an entry is not a number.
    ValueError
        If one is beyond float64.
    """
    try:
        return value.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        for place, entry in np.ndenumerate(value):
            try:
                float(entry)
            except (TypeError, ValueError):
                raise no_number(entry, place, name) from None
            except OverflowError:
                raise too_large(entry, place, name) from None
        raise


def after_row(place: tuple[int, ...]) -> str:
    """Return the text between brackets that follows the row of an entry."""
    return "".join(f", {int(i)}" for i in place[1:]) + "]"


def _is(name: str, argument: str) -> bool:
    """Return whether `name` is that argument, of one member, or of validation data."""
    return name.partition("[")[0].rpartition(" ")[2] == argument


def _remedy(name: str, entry: object) -> str:
    """Say what helps; `entry` is None for a whole array of dates."""
    if not (entry is None or isinstance(entry, (str, bytes, date, timedelta, np.datetime64, np.timedelta64))):
        is_gap = type(entry).__name__ in ("NAType", "NaTType")
        return GAPS if is_gap else ""
    if _is(name, "X"):
        return COLUMNS
    return LABELS if _is(name, "Y") and isinstance(entry, (str, bytes)) else ""


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(entry: object) -> str:
    text = repr(entry)
    return text if len(text) <= 60 else f"{text[:57]}…"
