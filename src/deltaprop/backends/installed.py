"""Whether an optional package is installed, and importing one."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def is_installed(package: str) -> bool:
    """Whether `package` can be imported and is more than a folder that happens to have its name.

    A folder without ``__init__.py`` on the path, such as the current one, can be imported too: it holds nothing.
    """
    try:
        spec = find_spec(package)
    except ValueError:  # a module that somebody made by hand
        return package in sys.modules
    return spec is not None and spec.origin is not None


def import_installed(package: str) -> Any:
    """`package`, imported.

    Raises
    ------
    ImportError
        If it is not installed, or does not import.
    """
    if not is_installed(package):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return import_module(package)
