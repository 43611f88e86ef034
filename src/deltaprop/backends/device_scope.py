"""With several devices, a method runs while the device of its arrays is the current one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import isfunction
from typing import Concatenate, ParamSpec, Protocol, TypeVar

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")


class HasDevice(Protocol):
    """An object whose arrays are on a device."""

    def _device_scope(self) -> AbstractContextManager[object]: ...


S = TypeVar("S", bound=HasDevice)


def on_its_device(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Run a method inside its object's ``_device_scope()``, in which the device of its arrays is the current one."""

    @wraps(method)
    def inside(self: S, /, *arguments: P.args, **options: P.kwargs) -> R:
        with self._device_scope():
            return method(self, *arguments, **options)

    return inside


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
