"""Decorators without types: they return a method of the type that they are given, and type checkers do not know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class KeepsType(Protocol):
    """A decorator of functions that return what they returned before, from the same arguments."""

    def __call__(self, function: F, /) -> F:
        """Decorate a function."""


def keeps_type(decorator: Callable[[Any], Any]) -> KeepsType:
    """Tell type checkers that what `decorator` returns has the type of what it is given; at run time, do nothing.

    scikit-learn's decorators have no types. Under them, `fit` of a class would return Any rather than the class.

    Parameters
    ----------
    decorator : callable
        It changes neither the arguments of a function nor what it returns.

    Returns
    -------
    KeepsType
        The same decorator.
    """
    return cast("KeepsType", decorator)
