"""Scripts that are run by several processes under mpiexec."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

#: Any number of ranks on any number of cores, and root in a container.
OF_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def find_mpiexec() -> str | None:
    """Return the mpiexec of this environment, or the one on the path; None without mpi4py or without any."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    package = importlib.util.find_spec("mpi4py").origin  # type: ignore[union-attr]
    scripts = [Path(sys.executable).parent, *(Path(package or "").parents[i] / "bin" for i in (4,) if package)]
    for folder in scripts:
        if (folder / "mpiexec").exists():
            return str(folder / "mpiexec")
    return shutil.which("mpiexec")


MPIEXEC = find_mpiexec()
#: Where DELTAPROP_REQUIRED names mpi, tests fail rather than be skipped.
REQUIRED = "mpi" in os.environ.get("DELTAPROP_REQUIRED", "").split(",")
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None and not REQUIRED, reason="needs mpi4py and an mpiexec: pip install 'deltaprop[mpi]'"
)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a rank; NumPy's BLAS has one thread there, as ranks share the cores."""
    return os.environ | OF_OPEN_MPI | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | more


def command(size: int, *arguments: object) -> list[str]:
    """Return the command that starts so many processes of this Python."""
    assert MPIEXEC is not None
    return [MPIEXEC, "-n", str(size), sys.executable, *map(str, arguments)]


def run_ranks(size: int, *arguments: object, timeout: float = 120.0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or ``-m`` and a module, by so many ranks; all of them are gone when it returns."""
    process = start_ranks(size, *arguments, **more)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_ranks(size: int, *arguments: object, **more: str) -> subprocess.Popen[str]:
    """Start so many ranks, in a process group of their own."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(
        command(size, *arguments), env=environment(**more), text=True, start_new_session=True, **pipes
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a run."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(path: Path, seconds: float = 60.0) -> str:
    """Return the text of a file as soon as there is some."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path.name}: nobody wrote it")
