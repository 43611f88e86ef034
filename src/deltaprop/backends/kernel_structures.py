"""Structures that Python fills in for compiled code; their fields are read from the C++ that declares them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deltaprop.backends.kernel_names import table
from deltaprop.backends.kernel_sources import read
from deltaprop.errors import BackendError

#: The types of fields; every pointer is an address.
TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "integer": ctypes.c_longlong,
    "double": ctypes.c_double,
}
#: A declaration: its type, and the names behind it, such as ``*first, *second`` or ``layer[8]``.
DECLARATION = re.compile(r"(?:const |volatile )*([\w:<>]+)([\s*].*)", re.DOTALL)
NAME = re.compile(r"(\**)\s*(\w+)(?:\[(\d+)\])?")


class Constants(ctypes.Structure):
    """The constants of update rules; the table in ``kernels/shared/optimizer.cuh`` names them."""

    _fields_ = [(name, ctypes.c_double) for name in table("constants")]


def fields_of(
    file: str, name: str, others: Mapping[str, type[ctypes.Structure]] | None = None
) -> list[tuple[str, Any]]:
    """Read the fields of ``struct <name>``, in order, with their ctypes.

    Parameters
    ----------
    file : str
        Its path under ``kernels/``, such as "cpu/library.cpp".
    name : str
    others : dict of str to structure, optional
        Structures that it may hold, besides `Constants`.

    Returns
    -------
    list of (str, type)
        What ``_fields_`` of a `ctypes.Structure` takes.

    Raises
    ------
    BackendError
        If the file declares no such structure, or a field of a type that Python does not know.
    """
    text = re.sub(r"//.*", "", read(file))
    found = re.search(rf"\bstruct {name} \{{(.*?)\n\}};", text, re.DOTALL)
    if found is None:
        raise BackendError(f"kernels/{file}: expected struct {name}, found none")
    known = TYPES | {"optimizer::Constants<double>": Constants} | dict(others or {})
    return [field for line in found[1].split(";") if line.strip() for field in _declared(line.strip(), file, known)]


def _declared(line: str, file: str, known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    declaration = DECLARATION.fullmatch(line)
    names = [NAME.fullmatch(each.strip()) for each in declaration[2].split(",")] if declaration else [None]
    for each in names:
        kind = ctypes.c_void_p if each and each[1] else known.get(declaration[1]) if declaration else None
        if each is None or kind is None:
            raise BackendError(f"kernels/{file}: cannot read the field {' '.join(line.split())!r}")
        yield each[2], kind * int(each[3]) if each[3] else kind
