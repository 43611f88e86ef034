"""Libraries that some callbacks need, imported when the callback is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def needed(callback: str, module: str, package: str) -> Any:
    """Import a module that `callback` needs.

    Raises
    ------
    ImportError
        If it cannot be imported; the message names the package to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{callback} needs {package}: pip install {package} ({error})", name=module) from error
