"""Describes the machine of a measurement: processor, BLAS and its kernels, threads, versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  (its BLAS has to be loaded to be seen)
from threadpoolctl import threadpool_info


def machine(*packages: str) -> dict[str, Any]:
    """Return facts for a file of results, with the versions of `packages`, numpy and deltaprop."""
    cpuinfo = Path("/proc/cpuinfo")
    names = {line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name")}
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("deltaprop", "numpy", *packages)},
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")} for pool in blas
        ],
        "pinned": {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
