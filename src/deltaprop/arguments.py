"""Checks that arguments of many functions share: the error names the argument, what was expected and what was seen."""

from __future__ import annotations

import operator
from typing import Any, get_args


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """`value`, if it is one of `choices`, a Literal.

    Raises
    ------
    ValueError
        If it is not.
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def check_whole_number(name: str, value: int, *, least: int) -> int:
    """`value` as an int of at least `least`.

    Raises
    ------
    TypeError
        If it is no whole number.
    ValueError
        If it is smaller.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {number}")
    return number
