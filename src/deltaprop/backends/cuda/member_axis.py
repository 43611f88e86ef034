"""Calls an operation once for each member, where its kernel takes no member axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from deltaprop.backends.kernel_names import Rule

Operation = TypeVar("Operation", bound=Callable[..., None])


def member_by_member(axes: int, *, if_scattered: bool = False) -> Callable[[Operation], Operation]:
    """Call a method of a backend for one member after another where its first array has one axis more than `axes`.

    Every array and number that has that axis is passed without it, those in tuples and in a `Rule` as well.

    Parameters
    ----------
    axes : int
        Of the first array of one network.
    if_scattered : bool
        Only where an array is not contiguous: members of a flat vector of all parameters lie apart.
    """

    def decorate(operation: Operation) -> Operation:
        @wraps(operation)
        def of_each(self: Any, *arguments: Any, **named: Any) -> None:
            values = [*arguments, *named.values()]
            arrays = [value for value in values if self.owns(value)]
            together = if_scattered and all(array.flags.c_contiguous for array in arrays)
            if arrays[0].ndim == axes or together:
                operation(self, *arguments, **named)
                return
            members = arrays[0].shape[0]
            for k in range(members):
                own = {name: _of_member(value, k, members) for name, value in named.items()}
                operation(self, *(_of_member(value, k, members) for value in arguments), **own)

        return of_each  # type: ignore[return-value]

    return decorate


def _of_member(value: Any, k: int, members: int) -> Any:
    """What of an argument belongs to member k: its part of what has the member axis, else all of it."""
    if isinstance(value, list):
        return value[k]
    if isinstance(value, tuple):
        return tuple(_of_member(own, k, members) for own in value)
    if isinstance(value, Rule):
        return value.of_member(k)
    if getattr(value, "ndim", 0) == 0 or value.shape[0] != members:
        return value
    return value[k] if value.ndim > 1 else value[k : k + 1].reshape(())
