"""Backends: one engine, several array libraries. Nothing here imports CuPy until somebody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.base import Array, Backend
from deltaprop.errors import BackendError

__all__ = [
    "Array",
    "Backend",
    "available_backends",
    "backend_of",
    "backend_problem",
    "describe_backend",
    "described_backend",
    "get_backend",
    "split_name",
]


@cache
def _numpy() -> Backend:
    from deltaprop.backends.numpy.backend import NumpyBackend

    return NumpyBackend()


@cache
def _reference() -> Backend:
    from deltaprop.backends.numpy.backend import NumpyBackend

    return NumpyBackend(compiles=False)


@cache
def _cupy() -> Backend:
    from deltaprop.backends.cuda.backend import CupyBackend

    return CupyBackend()


#: In the order in which ``"auto"`` tries them. Each raises BackendError where it cannot be had.
BACKENDS: dict[str, Callable[[], Backend]] = {"cupy": _cupy, "numpy": _numpy}
#: Backends that have to be asked for by name.
BY_NAME_ONLY: dict[str, Callable[[], Backend]] = {"reference": _reference}


def get_backend(name: str | Backend = "auto") -> Backend:
    """Return the backend called `name`.

    Parameters
    ----------
    name : {"auto", "numpy", "cupy", "cupy:N", "reference"} or Backend
        "auto" is CuPy where a CUDA device answers, else NumPy. "cupy:1" is CuPy on the second of several devices; of
        "cupy" by itself, a network stays on the device that is current when it is made. "numpy" leaves epochs of
        training to a library compiled for this processor, where there is a C++ compiler; "reference" takes every step
        by NumPy itself. A Backend is returned as it is.

    Returns
    -------
    Backend
        It can be used here.

    Raises
    ------
    ValueError
        If no backend has that name.
    BackendError
        If it cannot be had here; the message says why and what to install.

    See Also
    --------
    available_backends : The names of those that work here.
    check_backend : Tries out everything that a backend does.

    Examples
    --------
    >>> import deltaprop as dp
    >>> backend = dp.get_backend("numpy")
    >>> backend.name, backend.on_host
    ('numpy', True)
    >>> dp.Network([2, 3, 1], backend=backend).backend is backend
    True
    """
    if isinstance(name, Backend):
        return name
    if name == "auto":
        return get_backend(next(name for name in BACKENDS if backend_problem(name) is None))
    kind, number = split_name(name)
    backend = (BACKENDS.get(kind) or BY_NAME_ONLY[kind])()
    return backend if number is None else backend.on_device(number)


def describe_backend(backend: Backend) -> dict[str, Any] | Backend:
    """Describe a backend by a name and plain values, so that a pickle holds no backend; `described_backend` finds it.

    A backend that this process does not find by name, such as one of the user's own, is returned as it is.
    """
    for name in (backend.name, *BY_NAME_ONLY):
        description = {"name": name, "precision": backend.precision, "device": backend.device}
        try:
            if described_backend(description) is backend:
                return description
        except (ValueError, BackendError):
            continue  # another backend has the name, or none
    return backend


def described_backend(description: dict[str, Any] | Backend) -> Backend:
    """Find the backend that `describe_backend` described.

    Raises
    ------
    BackendError
        If it cannot be had here.
    """
    if isinstance(description, Backend):
        return description
    backend = get_backend(description["name"]).on_device(description["device"])
    return backend.in_precision(description["precision"])


def split_name(name: str) -> tuple[str, int | None]:
    """Split a name such as "cupy:1" into the kind of backend and the number of the device; "auto" is no such name.

    Raises
    ------
    ValueError
        If no backend has that name.
    """
    kind, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if (kind not in BACKENDS and kind not in BY_NAME_ONLY) or (number and not number.isdecimal()) or name.endswith(":"):
        raise ValueError(f"backend: expected one of 'auto', 'numpy', 'cupy', 'cupy:N', 'reference', got {name!r}")
    return kind, int(number) if number else None


@cache
def backend_problem(name: str) -> str | None:
    """Say why the backend called `name` cannot be used here; None if it can. Each process finds out once."""
    try:
        get_backend(name)
    except BackendError as error:
        return str(error)
    return None


def available_backends() -> list[str]:
    """List the backends that work here by name; the first is the one that "auto" takes.

    Returns
    -------
    list of str
        ``["numpy"]`` or ``["cupy", "numpy"]``.

    See Also
    --------
    get_backend : Returns one of them, or says why it cannot be had.

    Examples
    --------
    >>> import deltaprop as dp
    >>> "numpy" in dp.available_backends()
    True
    """
    return [name for name in BACKENDS if backend_problem(name) is None]


def backend_of(array: object) -> Backend | None:
    """Find the backend that owns `array`; None if there is none. No array library is imported to find out."""
    if type(array) is np.ndarray and "numpy" in BACKENDS:
        return get_backend("numpy")
    for name in BACKENDS:
        if name in sys.modules and backend_problem(name) is None and get_backend(name).owns(array):
            return get_backend(name)
    return None
