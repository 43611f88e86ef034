"""Checks that many functions share: an error names the argument, what was expected and what was seen."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np


def check_choice(name: str, value: object, choices: object) -> Any:
    """Return `value` if it is one of `choices`, a Literal of strings.

    Raises
    ------
    ValueError
        If it is not.
    """
    known = get_args(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def check_whole_number(name: str, value: Any, *, least: int) -> int:
    """Return `value` as an int of at least `least`.

    Raises
    ------
    TypeError
        If it is not a whole number; True and False are not whole numbers.
    ValueError
        If it is smaller.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {number}")
    return number


def check_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a finite float of at least `least`, greater than `above`, at most `most` and less than `below`.

    Raises
    ------
    TypeError
        If it is not a real number; True and False are not numbers.
    ValueError
        If it is out of range, nan or infinite.
    """
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # it may have more digits than Python prints
        raise ValueError(f"{name}: expected {_range(least, above, most, below)}, got a number beyond float64") from None
    if not (math.isfinite(number) and least <= number <= most and above < number < below):
        raise ValueError(f"{name}: expected {_range(least, above, most, below)}, got {value!r}")
    return number


def _range(least: float, above: float, most: float, below: float) -> str:
    """Say in words which numbers are expected."""
    low, high = max(least, above), min(most, below)
    if math.isinf(high):
        if math.isinf(low):
            return "a finite number"
        return f"a finite number {'above' if above == low else 'of at least'} {low:g}"
    return f"a number in {'(' if above == low else '['}{low:g}, {high:g}{')' if below == high else ']'}"


def check_bool(name: str, value: object) -> bool:
    """Return `value` as a bool if it is True or False.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    is_array_of_one = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == bool
    if not (isinstance(value, (bool, np.bool_)) or is_array_of_one):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_path(name: str, value: Any) -> Path:
    """Return `value` as a path.

    Raises
    ------
    TypeError
        If it is neither text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path (str or os.PathLike), got {value!r:.100}")
    return Path(value)


def check_callables(name: str, value: object) -> tuple[Callable[..., Any], ...]:
    """Return `value` as a tuple if it is a sequence of callables, and none of them a class.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(value, Iterable) or not all(map(callable, given := tuple(value))):
        raise TypeError(f"{name}: expected a sequence of callables, got {value!r}")
    for each in given:
        if isinstance(each, type):
            raise TypeError(f"{name}: expected objects and functions, got the class {each.__name__}; call it first")
    return given


def refuse_masked(value: object, name: str) -> None:
    """Refuse an array with masked entries, or a list that holds one: NumPy would use the values behind the mask.

    Raises
    ------
    ValueError
        If there are masked entries; the message names the argument.
    """
    if type(value) is np.ndarray:
        return
    parts = value if isinstance(value, (list, tuple)) else (value,)
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(
            f"{name}: expected numbers, got an array with masked entries; fill them ({name}.filled(0.0), say) or leave "
            "their rows out"
        )


def check_dropout(dropout: object, hidden_layers: int) -> tuple[float, ...]:
    """The dropout probability of each hidden layer, from one number for all or one for each.

    Raises
    ------
    ValueError, TypeError
        If one is outside [0, 1), or there are not as many as hidden layers.
    """
    if isinstance(dropout, Real):
        dropout = (dropout,) * hidden_layers
    if not isinstance(dropout, Sequence) or isinstance(dropout, str):
        raise TypeError(f"dropout: expected a number, or one for each hidden layer, got {dropout!r}")
    if len(dropout) != hidden_layers:
        raise ValueError(f"dropout: expected one number, or {hidden_layers}, one a hidden layer, got {list(dropout)}")
    for p in dropout:
        if isinstance(p, bool) or not isinstance(p, Real) or not 0.0 <= float(p) < 1.0:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {p!r}")
    return tuple(float(p) for p in dropout)
