"""Loads the emulated device from the tests of a checkout: the CUDA backend, its kernels compiled as C++ for the CPU."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import deltaprop
from deltaprop.backends import Backend
from deltaprop.errors import BackendError

#: Where the emulation lies in a checkout.
HOST_CUDA = Path(deltaprop.__file__).parents[2] / "tests" / "host_cuda.py"


def require_emulation() -> None:
    """Find out whether there is an emulated device.

    Raises
    ------
    BackendError
        If the package does not lie in a checkout of the repository.
    """
    if not HOST_CUDA.is_file():
        raise BackendError(
            f"--emulated: the emulated device is part of the tests, and there is no {HOST_CUDA}; it needs a checkout "
            "of the repository, installed by: pip install -e ."
        )


def emulated_backend() -> Backend:
    """Return the backend of the emulated device.

    Raises
    ------
    BackendError
        If the emulated device is not here, or there is no g++ to compile the kernels.
    """
    require_emulation()
    spec = spec_from_file_location("deltaprop_host_cuda", HOST_CUDA)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    folder = str(HOST_CUDA.parent)
    sys.path.insert(0, folder)  # for the modules that it imports
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    problem = module.compiler_problem()
    if problem is not None:
        raise BackendError(f"--emulated: {problem}")
    backend: Backend = module.HostCudaBackend()
    return backend
