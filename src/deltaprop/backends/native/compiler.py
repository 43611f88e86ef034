"""``kernels/cpu/library.cpp`` as a shared library for this processor, by whichever C++ compiler there is."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from deltaprop.backends.compiled_files import load_compiled
from deltaprop.backends.installed import is_installed
from deltaprop.backends.kernel_sources import kernel_sources
from deltaprop.backends.native.compiler_process import run_compiler
from deltaprop.errors import BackendError

T = TypeVar("T")

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
#: After how many seconds a compiler is stopped that is asked what it is, and one that compiles.
SECONDS_TO_ANSWER, SECONDS_TO_COMPILE = 30.0, 180.0
#: Functions that the library has to offer.
FUNCTIONS = ("run", "run_members", "evaluate_members", "evaluate", "scratch_entries")
TRIAL = "import ctypes, sys\nlibrary = ctypes.CDLL(sys.argv[1])\nfor name in sys.argv[2:]: getattr(library, name)"
#: What of Linux's description of a processor says which kind it is, on whichever architecture.
KIND_OF_PROCESSOR = (
    *("vendor_id", "cpu family", "model", "model name", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features", "cpu", "isa", "uarch"),
)


@cache
def find_compiler() -> tuple[str, ...] | None:
    """Find a C++ compiler: ``$CXX``, one on the path, or the package ziglang; None if there is none."""
    named = os.environ.get("CXX", "").split()
    if named and shutil.which(named[0]):
        return tuple(named)
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return (name,)
    if is_installed("ziglang"):
        return (sys.executable, "-P", "-m", "ziglang", "c++")  # -P: no module of the current folder
    return None


def native_library(real: str, load: Callable[[Path], T]) -> T:
    """What `load` makes of the library for arrays of `real`, compiled where it was not yet on this kind of processor.

    Parameters
    ----------
    real : {"float", "double"}
    load : callable
        Given the library's path.

    Raises
    ------
    BackendError
        If there is no compiler, or it refuses; the message holds what it said.
    OSError
        If the library cannot be loaded from any folder.
    """
    compiler, options = find_compiler(), (*OPTIONS, f"-DDELTAPROP_REAL={real}")
    if compiler is None:
        raise BackendError("no C++ compiler is here (c++, g++ or clang++); pip install 'deltaprop[native]' brings one")
    command = (*compiler, *options)
    # Which instructions "native" means here is what the compiler predefines.
    questions = ([*command, "-dM", "-E", "-x", "c++", os.devnull], [*compiler, "--version"])
    answers = (run_compiler(question, SECONDS_TO_ANSWER).decode(errors="replace") for question in questions)
    where = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    identity = (*command, where, *answers, _processor(), *kernel_sources())
    return load_compiled(f"epoch-{real}", ".so", identity, lambda folder: _compile(command, folder), load, _try_out)


def _compile(command: Sequence[str], folder: Path) -> bytes:
    output = folder / "epoch.so"
    with as_file(files("deltaprop.kernels")) as kernels:
        source = str(kernels / "cpu" / "library.cpp")
        run_compiler([*command, f"-I{kernels}", source, "-o", str(output)], SECONDS_TO_COMPILE, scratch=folder)
    try:
        return output.read_bytes()
    except OSError as error:
        raise BackendError(f"{' '.join(command)} reported success, but wrote no file ({error})") from error


def _try_out(library: Path) -> None:
    """Load it in another process, which comes to an end in place of this one where it is no library."""
    # What an application that brings its own interpreter calls its executable is the application.
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.startswith(("python", "pypy")):
        return
    command = [sys.executable, "-P", "-S", "-c", TRIAL, str(library), *FUNCTIONS]
    try:
        run_compiler(command, SECONDS_TO_ANSWER, shown="a trial")
    except BackendError as error:
        raise OSError(str(error)) from error


def _processor() -> str:
    """Its kind: one home may be shared by machines of several."""
    try:
        with Path("/proc/cpuinfo").open(errors="replace") as file:
            lines = file.read(2**14).partition("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(line for line in lines if line.partition(":")[0].strip() in KIND_OF_PROCESSOR)
