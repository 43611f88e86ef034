"""From the files under ``kernels/`` to machine code by NVRTC. Needs CuPy to be installed, but no GPU and no driver.

CuPy's own compiler adds ``-ftz=true``, which flushes subnormal results to zero; `dp.sigmoid` promises them, so the
files are compiled here without it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from deltaprop.backends import kernel_sources
from deltaprop.backends.compiled_files import load_compiled
from deltaprop.backends.cuda.shared_memory_plan import Layer, ResidentPlan, Shape
from deltaprop.backends.kernel_names import NAMES, check_names, loss_number, table

#: Type names of CUDA C++ by NumPy dtype name, and the options that choose them (see ``kernels/cuda/real.cuh``).
TYPE_OPTIONS: dict[str, tuple[str, ...]] = {
    "float64": ("-DDELTAPROP_REAL=double", "-DDELTAPROP_DOUBLE"),
    "float32": ("-DDELTAPROP_REAL=float",),
    "float16": ("-DDELTAPROP_REAL=float", "-DDELTAPROP_HALF"),
    "bfloat16": ("-DDELTAPROP_REAL=float", "-DDELTAPROP_BFLOAT16"),
}
#: Options of all.
OPTIONS = ("-std=c++17", "-default-device")
#: Seconds of compiling after which whoever waits is told.
PATIENCE = 1.0
#: Files that are compiled for 16-bit arrays as well.
NARROW = {
    "activation": ("float16",),
    "bias_activation": ("bfloat16",),
    "hidden_delta": ("bfloat16",),
    "minibatch": ("bfloat16",),
    "small_delta": ("bfloat16",),
    "small_forward": ("bfloat16",),
    "small_gradient": ("bfloat16",),
    "small_output": ("bfloat16",),
}
#: Structures that Python fills in for the kernels of a file.
STRUCTURES = {"resident": (ResidentPlan, Shape, Layer)}


def kernel_files() -> list[str]:
    """Names of the kernel files, without ``.cu``."""
    found = kernel_sources.kernel_files("cuda")
    return [name.removeprefix("cuda/").removesuffix(".cu") for name in found if name.endswith(".cu")]


def dtypes_of(name: str) -> tuple[str, ...]:
    """For which arrays ``kernels/cuda/<name>.cu`` is compiled."""
    return ("float32", "float64", *NARROW.get(name, ()))


@cache
def of_loss(loss: str) -> tuple[str, ...]:
    """With which ``output_delta.cu`` is compiled for one loss: nobody waits for the kernels of the others."""
    row = table("losses")[loss_number(loss)]
    return (f"-DDELTAPROP_LOSS={row.replace(':', ',')}",)


def variants_of(name: str) -> tuple[tuple[str, ...], ...]:
    """With which definitions ``kernels/cuda/<name>.cu`` is compiled: none, but for a file that is split by them."""
    if name != "output_delta":
        return ((),)
    return tuple(of_loss(row.partition(":")[0]) for row in table("losses") if not row.endswith(":softmax"))


def _headers() -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = tuple(name for name in kernel_sources.kernel_files() if name.endswith(".cuh"))
    return tuple(kernel_sources.read(name) for name in names), names


def compile_kernels(
    name: str, dtype: str, architecture: str, definitions: tuple[str, ...] = (), *, to_ptx: bool = False
) -> bytes:
    """Machine code (a cubin) of ``kernels/cuda/<name>.cu`` for arrays of `dtype`.

    Parameters
    ----------
    name : str
        File name without ``.cu``.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        Element type of the arrays.
    architecture : str
        Such as ``"sm_90"``.
    definitions : tuple of str
        Further options ``-DNAME=VALUE``.
    to_ptx : bool
        Return PTX, which people can read, in place of machine code.

    Raises
    ------
    RuntimeError
        If the compiler refuses the file; the message holds its log.
    """
    import cupy  # noqa: F401  (cupy_backends is importable only once cupy is)
    from cupy.cuda import nvrtc

    sources, names = _headers()
    target = f"-arch={architecture.replace('sm_', 'compute_') if to_ptx else architecture}"
    options = (target, *OPTIONS, *TYPE_OPTIONS[dtype], *definitions)
    encoded = ([text.encode() for text in group] for group in (sources, names))
    program = nvrtc.createProgram(kernel_sources.read(f"cuda/{name}.cu"), f"cuda/{name}.cu", *encoded)
    try:
        nvrtc.compileProgram(program, options)
        code: bytes | str = nvrtc.getPTX(program) if to_ptx else nvrtc.getCUBIN(program)
        return code.encode() if isinstance(code, str) else code
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise RuntimeError(f"kernels/cuda/{name}.cu does not compile for {architecture} and {dtype}: {log}") from error
    finally:
        nvrtc.destroyProgram(program)


def cached_cubin(name: str, dtype: str, architecture: str, definitions: tuple[str, ...] = ()) -> Path:
    """Path of the compiled file, compiling it where no earlier process has.

    Raises
    ------
    BackendError
        If the file knows something by number, and by another number than Python.
    RuntimeError
        If the compiler refuses it.
    """
    from cupy.cuda import nvrtc

    options = (*OPTIONS, *TYPE_OPTIONS[dtype], *definitions)
    identity = (name, architecture, *options, str(nvrtc.getVersion()), *kernel_sources.kernel_sources())
    return load_compiled(
        f"{name}-{dtype}-{architecture}",
        ".cubin",
        identity,
        lambda folder: compile_kernels(name, dtype, architecture, definitions),
        lambda path: _checked(path, name),
    )


def _checked(path: Path, name: str) -> Path:
    if NAMES in kernel_sources.included(f"cuda/{name}.cu"):
        check_names(path.read_bytes(), f"cuda/{name}.cu", STRUCTURES.get(name, ()))
    return path


@contextmanager
def waiting_for_compiler(architecture: str) -> Iterator[None]:
    """Inside, kernels may be compiled; where that takes more than a moment, a log line says so, once a process."""
    notice = threading.Timer(PATIENCE, _say, (architecture,))
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


@cache
def _say(architecture: str) -> None:
    logging.getLogger("deltaprop").warning(
        "compiling CUDA kernels for %s; they are kept for later (`deltaprop doctor --compile %s` makes all beforehand)",
        architecture,
        architecture,
    )


def compile_all(architecture: str, *, report: Callable[[str, float], None] = lambda name, seconds: None) -> None:
    """Compile every kernel file for every dtype into the cache, several at a time: no later process waits for that.

    Parameters
    ----------
    architecture : str
        Such as ``"sm_90"``. No device of this kind need be there.
    report : callable
        Told after each file what it is called, such as ``"resident-float32"`` or
        ``"output_delta-float32 huber,any"``, and how many seconds it took.

    Raises
    ------
    RuntimeError
        If the compiler refuses a file.
    """
    every = [
        (name, dtype, definitions)
        for name in kernel_files()
        for dtype in dtypes_of(name)
        for definitions in variants_of(name)
    ]
    compile_files(every, architecture, report=report)


def _called(name: str, dtype: str, definitions: tuple[str, ...]) -> str:
    return " ".join((f"{name}-{dtype}", *(each.partition("=")[2] for each in definitions)))


def compile_files(
    wanted: Collection[tuple[str, str, tuple[str, ...]]],
    architecture: str,
    *,
    report: Callable[[str, float], None] = lambda name, seconds: None,
) -> None:
    """`compile_all` of these: a file, a dtype and definitions each."""

    def compiled(name: str, dtype: str, definitions: tuple[str, ...]) -> float:
        began = time.perf_counter()
        cached_cubin(name, dtype, architecture, definitions)
        return time.perf_counter() - began

    # NVRTC holds neither Python's lock nor one of its own. A long file that came last would be waited for alone.
    longest_first = sorted(wanted, key=lambda each: len(kernel_sources.read(f"cuda/{each[0]}.cu")), reverse=True)
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        running = {pool.submit(compiled, *each): _called(*each) for each in longest_first}
        for done in as_completed(running):
            report(running[done], done.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what has begun is not waited for here
