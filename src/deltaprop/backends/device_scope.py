"""With several devices, a method runs while the device of its arrays is the current one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def on_its_device(method: F) -> F:
    """Run a method inside its object's ``_device_scope()``, in which the device of its arrays is the current one."""

    @wraps(method)
    def inside(self: Any, *arguments: Any, **options: Any) -> Any:
        with self._device_scope():
            return method(self, *arguments, **options)

    return cast("F", inside)


def methods_on_its_device(cls: C) -> C:
    """Run all public methods of a class so, and the setters of its properties, but not their getters."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isfunction(member):
            setattr(cls, name, on_its_device(member))
        elif isinstance(member, property) and member.fset is not None:
            setattr(cls, name, member.setter(on_its_device(member.fset)))
    return cls
