"""Imports CuPy, or says why it cannot be used here and what to install."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.installed import is_installed
from deltaprop.errors import BackendError

INSTALL = "pip install 'deltaprop[cuda13]' (CUDA 13 drivers) or pip install 'deltaprop[cuda12]' (CUDA 12 drivers)"


def import_cupy() -> Any:
    """Import CuPy, and check that a device answers.

    Raises
    ------
    BackendError
        If it is not installed, is broken, or finds no device.
    """
    if not is_installed("cupy"):
        raise BackendError(f"backend 'cupy': CuPy is not installed; {INSTALL}")
    try:
        import cupy
    except ImportError as error:
        raise BackendError(f"backend 'cupy': CuPy is installed but does not import ({error}); {INSTALL}") from error
    if not hasattr(cupy, "cuda"):
        raise BackendError(f"backend 'cupy': what is imported as cupy is not CuPy, but {cupy.__file__}; {INSTALL}")
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
        if devices == 0:
            raise BackendError("backend 'cupy': CuPy is installed, but this machine has no CUDA device")
        # Memory and both ways of copying: what needs no kernel, which CuPy would have to compile first.
        if cupy.asarray(np.ones(1)).get()[0] != 1.0:
            raise BackendError("backend 'cupy': the CUDA device does not give back what was copied to it")
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            f"backend 'cupy': CuPy is installed, but no CUDA device answers ({error}); it needs an NVIDIA GPU and its "
            f"driver, and the CuPy built for that driver: {INSTALL}"
        ) from error
    return cupy
