"""Any value in JSON types, so that two processes can compare theirs.

Numbers and text stay as they are. Data classes and other objects are described by their fields, functions by their
names and code.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray

#: Values nested deeper than this are not looked at.
DEEPEST = 12
#: Where an object lies in memory says nothing of what it is.
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


def plain(value: object) -> Any:
    """Describe `value` in JSON types; every process gives the same description, and every value has one."""
    return _plain(value, ())


def _plain(value: object, inside: tuple[int, ...]) -> Any:
    """Describe a value that is inside other values, whose ids are given."""
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))  # nan is not equal to nan
    if isinstance(value, (int, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _digest(bytes(value))
    if id(value) in inside or len(inside) == DEEPEST:
        return "…"
    inside = (*inside, id(value))
    if isinstance(value, (np.generic, np.ndarray)):
        return _array(value, inside)
    if isinstance(value, Mapping):
        return {_key(key, inside): _plain(own, inside) for key, own in value.items()}
    if isinstance(value, Set):
        return sorted((_plain(own, inside) for own in value), key=_text)
    if isinstance(value, (list, tuple)):
        return [_plain(own, inside) for own in value]
    if isinstance(value, (type, ModuleType)):
        return _name(value)
    return _function(value, inside) if _is_function(value) else _object(value, inside)


def _array(value: AnyArray, inside: tuple[int, ...]) -> Any:
    """Describe a NumPy scalar as Python's number, and an array by its shape and a digest."""
    if value.dtype.hasobject or value.dtype.names:
        return _plain(value.tolist(), inside)
    if value.ndim == 0 and value.dtype.kind in "biufUS" and not isinstance(value.item(), np.generic):
        return _plain(value.item(), inside)
    return f"{value.dtype} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"


def _is_function(value: object) -> bool:
    return isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, partial, np.ufunc))


def _function(value: object, inside: tuple[int, ...]) -> Any:
    """Describe a function by its name and, if it is neither ours nor compiled, by its code."""
    if isinstance(value, partial):
        arguments = {"args": list(value.args), "keywords": value.keywords}
        return {"partial": _plain(value.func, inside)} | {name: _plain(own, inside) for name, own in arguments.items()}
    if isinstance(value, MethodType):
        return {"method": _plain(value.__func__, inside), "of": _plain(value.__self__, inside)}
    if not isinstance(value, FunctionType):
        owner = getattr(value, "__self__", None)
        of = {} if owner is None or isinstance(owner, (type, ModuleType)) else {"of": _plain(owner, inside)}
        return {"function": _name(value)} | of if of else _name(value)
    if _is_ours(value):
        return value.__qualname__  # whichever file it stands in
    cells = [_content(cell, inside) for cell in value.__closure__ or ()]
    what = [_code(value.__code__, inside)]
    what += [_plain(own, inside) for own in (value.__defaults__, value.__kwdefaults__, cells)]
    return {"function": _name(value), "code": _digest(_text(what).encode())}


def _content(cell: CellType, inside: tuple[int, ...]) -> Any:
    try:
        return _plain(cell.cell_contents, inside)
    except ValueError:  # empty
        return None


def _code(code: CodeType, inside: tuple[int, ...]) -> Any:
    """Describe what code does, but not where it is."""
    constants = [[type(own).__name__, _constant(own, inside)] for own in code.co_consts]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    return [_digest(code.co_code), constants, counts, list(code.co_names), list(code.co_freevars)]


def _constant(value: object, inside: tuple[int, ...]) -> Any:
    return _code(value, inside) if isinstance(value, CodeType) else _plain(value, inside)


def _object(value: Any, inside: tuple[int, ...]) -> Any:
    """Describe an object by its type and fields and, if it can be called and is not ours, by its code."""
    kind = type(value)
    if _is_ours(kind):
        own = {"configuration": value.configuration, **value.by_layer()} if hasattr(value, "by_layer") else {}
        state = _fields(value) if is_dataclass(value) else own
        return {"kind": kind.__name__} | {name: _plain(entry, inside) for name, entry in state.items()}
    result: dict[str, Any] = {"kind": _name(kind)}
    state = {}
    with suppress(Exception):  # a class from elsewhere may raise anything when it is inspected
        state = _state(value)
    if state:
        result["fields"] = _plain(state, inside)
    elif _has_own_repr(kind):
        with suppress(Exception):
            result["value"] = ADDRESS.sub("", repr(value))
    call = getattr(kind, "__call__", None)  # noqa: B004
    if isinstance(call, FunctionType):
        result["call"] = _plain(call, inside)
    return result


def _has_own_repr(kind: type) -> bool:
    return any("__repr__" in each.__dict__ for each in kind.__mro__ if each is not object)


def _fields(value: Any) -> dict[str, Any]:
    """List the fields of a data class that count when two are compared."""
    return {field.name: getattr(value, field.name, None) for field in fields(value) if field.compare}


def _state(value: object) -> dict[str, Any]:
    """List what an object keeps, without fields of a data class that do not count."""
    slots = [name for kind in type(value).__mro__ for name in _listed(kind.__dict__.get("__slots__", ()))]
    state = {name: getattr(value, name) for name in slots if not name.startswith("__") and hasattr(value, name)}
    state |= dict(getattr(value, "__dict__", {}))
    left_out = {field.name for field in fields(value) if not field.compare} if is_dataclass(value) else ()
    return {name: own for name, own in state.items() if name not in left_out}


def _listed(slots: str | Iterable[str]) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)


def _is_ours(value: object) -> bool:
    """Whether it belongs to this package, whose release says what it does."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]


def _name(value: object) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__qualname__)
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else str(name)


def _key(key: object, inside: tuple[int, ...]) -> str:
    return key if type(key) is str else f"{type(key).__name__} {_text(_plain(key, inside))}"


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
