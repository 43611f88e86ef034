"""The files under ``kernels/``, whatever there are. Each is named by its path there, as ``#include`` names it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable


def kernel_files(folder: str = "") -> dict[str, Traversable]:
    """The files in one folder under ``kernels/``, or in all, by their names, in order.

    Parameters
    ----------
    folder : {"", "shared", "cuda", "cpu"}
        "" stands for all.

    Returns
    -------
    dict
        Such as ``{"cuda/gather.cu": …}``.
    """
    root = files("deltaprop.kernels")
    found = dict(_walk(root.joinpath(folder) if folder else root, f"{folder}/" if folder else ""))
    return dict(sorted(found.items()))


def read(name: str) -> str:
    """The text of the file called `name`, such as "cuda/gather.cu"."""
    return files("deltaprop.kernels").joinpath(name).read_text(encoding="utf-8")


@cache
def included(name: str) -> frozenset[str]:
    """The names of the files under ``kernels/`` that one of them includes, directly or through another."""
    own = re.findall(r'^#include "(.+)"', read(name), re.MULTILINE)
    return frozenset(own).union(*map(included, own))


@cache
def kernel_sources() -> tuple[str, ...]:
    """Name and text of each file, one after the other: anything that is compiled may include any of them."""
    return tuple(
        part for name, file in kernel_files().items() for part in (name, file.read_bytes().decode(errors="replace"))
    )


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith((".py", ".pyc")):
            yield prefix + entry.name, entry
