"""Files under ``kernels/cpu/`` as shared libraries for this processor, by whichever C++ compiler there is."""

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
from deltaprop.reports.notice import notice

T = TypeVar("T")

#: The file under ``kernels/`` that includes the others, and how the names of libraries made of it begin.
UNIT, NAME = "cpu/library.cpp", "epoch"
#: For this very processor.
NATIVE = ("-march=native",)
#: Nothing here asks for errno, traps or the order of operations of a textbook; NaN and infinity keep their meaning.
#: The parameter is GCC's: for some processors it would round a product before it is added, in narrow vectors only, and
#: a sum would depend on how units are shared out.
WITHOUT_PROCESSOR = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "--param=avoid-fma-max-bits=0",
    "-shared",
    "-fPIC",
    "-pthread",
)
OPTIONS = (*WITHOUT_PROCESSOR, *NATIVE)
#: What is told before some seconds of silence.
COMPILING = "deltaprop: compiling once for this processor and {real} (about 10 s) …"
NO_COMPILER = "no C++ compiler is here (c++, g++ or clang++); pip install 'deltaprop[native]' brings one"
#: After how many seconds a compiler is stopped that is asked what it is, and one that compiles.
SECONDS_TO_ANSWER, SECONDS_TO_COMPILE = 30.0, 180.0
#: Functions that the library has to offer.
FUNCTIONS = (
    *("run", "apply", "run_members", "scratch_entries", "evaluate", "evaluate_members"),
    *("gradient", "gradient_scratch_entries", "hessian_product", "hessian_product_scratch_entries"),
    *("all_finite", "shuffle"),
)
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


def library_options(real: str, processor: Sequence[str]) -> tuple[str, ...]:
    """The compiler's options for arrays of "float" or "double" and the options that name a processor."""
    return (*WITHOUT_PROCESSOR, *processor, f"-DDELTAPROP_REAL={real}")


def native_library(real: str, load: Callable[[Path], T], processor: Sequence[str] = NATIVE) -> T:
    """What `load` makes of the library for arrays of `real`, compiled where it was not yet on this kind of processor.

    Parameters
    ----------
    real : {"float", "double"}
    load : callable
        Given the library's path.
    processor : sequence of str
        The compiler's options that name a processor.

    Raises
    ------
    BackendError
        If there is no compiler, or it refuses; the message holds what it said.
    OSError
        If the library cannot be loaded from any folder.
    """
    options = library_options(real, processor)
    return compile_library(f"{NAME}-{real}", UNIT, options, FUNCTIONS, load, COMPILING.format(real=real))


def compile_library(
    name: str,
    unit: str,
    options: Sequence[str],
    functions: Sequence[str],
    load: Callable[[Path], T],
    told: str | None = None,
) -> T:
    """What `load` makes of a library, compiled where it was not yet on this kind of processor.

    Parameters
    ----------
    name, unit : str
        How the library's file name begins, and what it is compiled from, such as "cpu/library.cpp".
    options, functions : sequence of str
        The compiler's options, and the functions that the library has to offer.
    load : callable
        Given the library's path.
    told : str, optional
        What the user is told before it is compiled.

    Raises
    ------
    BackendError, OSError
        As `native_library`.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BackendError(NO_COMPILER)
    command = (*compiler, *options)
    # Which instructions "native" means here is what the compiler predefines.
    questions = ([*command, "-dM", "-E", "-x", "c++", os.devnull], [*compiler, "--version"])
    answers = (run_compiler(question, SECONDS_TO_ANSWER).decode(errors="replace") for question in questions)
    where = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    identity = (*command, where, *answers, _processor(), *kernel_sources())

    def compile_it(folder: Path) -> bytes:
        if told is not None:
            notice(told)
        return compile_unit(command, unit, folder)

    return load_compiled(name, ".so", identity, compile_it, load, lambda path: try_out(path, functions))


def compile_unit(command: Sequence[str], unit: str, folder: Path) -> bytes:
    """The library that a compiler makes of a file under ``kernels/``, with a folder for what it writes.

    Raises
    ------
    BackendError
        If it fails, or says that it did not and has written nothing.
    """
    output = folder / Path(unit).with_suffix(".so").name
    with as_file(files("deltaprop.kernels")) as kernels:
        source = str(kernels / unit)
        run_compiler([*command, f"-I{kernels}", source, "-o", str(output)], SECONDS_TO_COMPILE, scratch=folder)
    try:
        return output.read_bytes()
    except OSError as error:
        raise BackendError(f"{' '.join(command)} reported success, but wrote no file ({error})") from error


def try_out(library: Path, functions: Sequence[str]) -> None:
    """Load it in another process, which comes to an end in place of this one where it is no library.

    Raises
    ------
    OSError
        If it does not load, or lacks one of these functions.
    """
    # What an application that brings its own interpreter calls its executable is the application.
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.startswith(("python", "pypy")):
        return
    command = [sys.executable, "-P", "-S", "-c", TRIAL, str(library), *functions]
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
