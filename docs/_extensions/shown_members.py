"""Which members of a class the reference shows, and in which list. It needs no Sphinx: tests read it as well."""

from __future__ import annotations

import inspect
from functools import cached_property
from importlib import import_module
from typing import Any

#: Names of the methods that training and files call, and users need only to write classes of their own.
CALLED_BY_TRAINING = {"apply", "follow", "init", "lead", "over", "own", "rates", "rates_vary", "rule", "watch"}
CALLED_BY_FILES = ("file_", "from_file_")
#: Classes that have more members than users need, and the members that users need.
ONLY = {"deltaprop.backends.base.Backend": {"asarray", "label", "to_numpy", "zeros"}}


def members_of(path: str) -> dict[str, list[str]]:
    """Return the names of what this package defines on a class: properties, methods, and methods it calls itself."""
    cls = _object(path)
    found: dict[str, list[str]] = {"methods": [], "properties": [], "own_methods": [], "own_properties": []}
    for name, member in inspect.getmembers_static(cls):
        module = getattr(function_of(member), "__module__", None) or ""
        if (name != "__call__" and name.startswith("_")) or not module.startswith("deltaprop."):
            continue
        if name not in ONLY.get(path, {name}):
            continue
        # Not `callable`: a method that scikit-learn's available_if has wrapped is a descriptor.
        kind = "properties" if isinstance(member, property | cached_property) else "methods"
        if name in CALLED_BY_TRAINING or name.startswith(CALLED_BY_FILES):
            kind = f"own_{kind}"
        found[kind].append(name)
    return found


def function_of(member: Any) -> Any:
    """Return the function inside a property, a class method or a decorated method."""
    inside = (getattr(member, each, None) for each in ("fget", "fn", "func", "__func__"))
    return next(filter(None, inside), member)


def inherits_from_sklearn(path: str) -> bool:
    """Return whether a class has methods of scikit-learn's besides ours."""
    cls = _object(path)
    return any(base.__module__.startswith("sklearn.") for base in cls.__mro__)


def _object(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
