"""``deltaprop info``: what is installed, which backends work and why others do not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from deltaprop import __version__
from deltaprop.backends import BACKENDS, available_backends, backend_problem
from deltaprop.backends.native.scipy_threads import own_cores
from deltaprop.backends.native.selection import describe
from deltaprop.ranks.launchers import launched

#: Prints the name and the version of the MPI library, and does not initialize it.
MPI_LIBRARY = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"
SECONDS_TO_LOAD = 30.0
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
    return [*lines, *_blas(), *_gpus(), f"CPUs         {_cores()}", *_mpi()]


def _epochs() -> str:
    """Say how the NumPy backend trains."""
    library = describe()
    absent = library.partition("none: ")[2]
    return f"on NumPy step by step: {absent}" if absent else f"on NumPy by a library that is {library}"


def _cores() -> str:
    every, own = os.cpu_count() or 1, own_cores()
    return str(every) if own == every else f"{every}; this process may use {own}"


def _mpi() -> list[str]:
    """Say whether several processes could train one network, and what has started this one as one of several."""
    try:
        lines = [f"MPI          {_mpi_library()}, by mpi4py {version('mpi4py')}"]
    except PackageNotFoundError:
        lines = ["MPI          mpi4py is not installed"]
    found = launched()
    if found is not None:
        lines.append(f"started by   {found.launcher}, as one of {found.size} processes ({found.variable}={found.size})")
    return lines


def _mpi_library() -> str:
    """Return the MPI library that mpi4py loads. A process of its own does so: it might crash."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", MPI_LIBRARY], capture_output=True, text=True, timeout=SECONDS_TO_LOAD, check=False
        )
    except subprocess.TimeoutExpired:
        return f"a library that is not loaded within {SECONDS_TO_LOAD:g} s"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode == 0 and said:
        return " ".join(said[0].split(",")[0].replace(" Version:", "").split())
    return f"no library that can be loaded ({said[-1] if said else f'exit status {done.returncode}'})"


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
