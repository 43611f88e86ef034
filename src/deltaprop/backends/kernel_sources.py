"""The files under ``kernels/``, whatever there are."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def kernel_sources() -> tuple[str, ...]:
    """Name and text of each file, one after the other: anything that is compiled may include any of them."""
    found = sorted(files("deltaprop.kernels").iterdir(), key=lambda file: file.name)
    sources = [file for file in found if file.is_file() and not file.name.endswith((".py", ".pyc"))]
    return tuple(part for file in sources for part in (file.name, file.read_bytes().decode(errors="replace")))
