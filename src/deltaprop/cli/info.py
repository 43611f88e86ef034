"""``deltaprop info``: what is installed, which backends work and why others do not."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from deltaprop import __version__
from deltaprop.backends import BACKENDS, available_backends, backend_problem
from deltaprop.backends.native.selection import describe

PACKAGES = ("numpy", "scipy", "scikit-learn", "safetensors", "pyarrow", "cupy-cuda12x", "cupy-cuda13x")


def info() -> list[str]:
    """Return the lines to print."""
    lines = [f"deltaprop    {__version__}", f"Python       {platform.python_version()} on {platform.platform()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package:<12} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package:<12} not installed")
    lines += [f"backend      {backend_problem(name) or f'{name}: works'}" for name in BACKENDS]
    lines.append(f"auto         takes {available_backends()[0]}")
    lines.append(f"epochs       {_epochs()}")
    return [*lines, *_blas(), *_gpus(), f"CPUs         {os.cpu_count()}"]


def _epochs() -> str:
    """Say how the NumPy backend trains."""
    library = describe()
    absent = library.partition("none: ")[2]
    return f"on NumPy step by step: {absent}" if absent else f"on NumPy by a library that is {library}"


def _blas() -> list[str]:
    import numpy  # noqa: F401  (its BLAS has to be loaded to be seen)
    from threadpoolctl import threadpool_info

    return [
        f"BLAS         {pool['internal_api']} {pool['version']}, {pool.get('architecture', '?')}, "
        f"{pool['num_threads']} threads"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def _gpus() -> list[str]:
    if backend_problem("cupy") is not None:
        return ["GPU          none that CuPy can use"]
    import cupy

    runtime = cupy.cuda.runtime
    lines = []
    for device in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(device)
        memory = properties["totalGlobalMem"] / 2**30
        capability = f"{properties['major']}.{properties['minor']}"
        lines.append(f"GPU {device}        {properties['name'].decode()}, {memory:.0f} GiB, compute {capability}")
    return [*lines, f"CUDA         driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}"]
