"""``kernels/epoch.cpp`` as a shared library for this processor, by whichever C++ compiler there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from deltaprop.backends.compiled_files import compiled_file
from deltaprop.errors import BackendError

SOURCES = ("epoch.cpp", "panels.h", "small_product.h", "thread_pool.h", "fast_math.h", "activation.cuh", "loss.cuh")
#: Nothing here asks for errno, traps or the order of operations of a textbook; NaN and infinity keep their meaning.
OPTIONS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-pthread",
)


@cache
def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler, ``$CXX``, one on the path, or that of the package ziglang; None without any."""
    named = os.environ.get("CXX", "").split()
    if named and shutil.which(named[0]):
        return tuple(named)
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return (name,)
    if find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++")
    return None


def native_library(real: str) -> Path:
    """Path of the library for arrays of `real`, compiling it where no earlier process on this kind of processor has.

    Parameters
    ----------
    real : {"float", "double"}

    Raises
    ------
    BackendError
        If there is no compiler, or it refuses; the message holds what it said.
    """
    compiler, options = find_compiler(), (*OPTIONS, f"-DDELTAPROP_REAL={real}")
    if compiler is None:
        raise BackendError("no C++ compiler is here (c++, g++ or clang++); pip install 'deltaprop[native]' brings one")
    # Which instructions "native" means here is what the compiler predefines.
    predefined = _run([*compiler, *options, "-dM", "-E", "-x", "c++", os.devnull]).decode(errors="replace")
    sources = [files("deltaprop.kernels").joinpath(name).read_text(encoding="utf-8") for name in SOURCES]
    identity = (*compiler, *options, predefined, *sources)
    return compiled_file(f"epoch-{real}", ".so", identity, lambda: _compile([*compiler, *options]))


def _compile(command: list[str]) -> bytes:
    with as_file(files("deltaprop.kernels")) as kernels, tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "epoch.so")
        _run([*command, str(kernels / "epoch.cpp"), "-o", str(output)])
        return output.read_bytes()


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise BackendError(f"{' '.join(command)} failed: {said}") from error
    except OSError as error:
        raise BackendError(f"{command[0]} does not start ({error})") from error
