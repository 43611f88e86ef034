"""From the files under ``kernels/`` to machine code by NVRTC. Needs CuPy to be installed, but no GPU and no driver.

CuPy's own compiler adds ``-ftz=true``, which flushes subnormal results to zero; `dp.sigmoid` promises them, so the
files are compiled here without it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from deltaprop.backends.compiled_files import load_compiled
from deltaprop.backends.kernel_sources import kernel_sources

#: Type names of CUDA C++ by NumPy dtype name, and the options that choose them (see ``kernels/real.cuh``).
TYPE_OPTIONS = {
    "float64": ("-DDELTAPROP_REAL=double",),
    "float32": ("-DDELTAPROP_REAL=float",),
    "float16": ("-DDELTAPROP_REAL=float", "-DDELTAPROP_HALF"),
    "bfloat16": ("-DDELTAPROP_REAL=float", "-DDELTAPROP_BFLOAT16"),
}
#: Options of all.
OPTIONS = ("-std=c++17", "-default-device")


def kernel_files() -> list[str]:
    """Names of the kernel files, without ``.cu``."""
    return sorted(f.name.removesuffix(".cu") for f in files("deltaprop.kernels").iterdir() if f.name.endswith(".cu"))


def read(name: str) -> str:
    """Text of a file under ``kernels/``."""
    return files("deltaprop.kernels").joinpath(name).read_text(encoding="utf-8")


def _headers() -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = tuple(sorted(f.name for f in files("deltaprop.kernels").iterdir() if f.name.endswith(".cuh")))
    return tuple(read(name) for name in names), names


def compile_kernels(
    name: str, dtype: str, architecture: str, definitions: tuple[str, ...] = (), *, to_ptx: bool = False
) -> bytes:
    """Machine code (a cubin) of ``kernels/<name>.cu`` for arrays of `dtype`.

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
    program = nvrtc.createProgram(read(f"{name}.cu"), f"{name}.cu", *encoded)
    try:
        nvrtc.compileProgram(program, options)
        code: bytes | str = nvrtc.getPTX(program) if to_ptx else nvrtc.getCUBIN(program)
        return code.encode() if isinstance(code, str) else code
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise RuntimeError(f"kernels/{name}.cu does not compile for {architecture} and {dtype}: {log}") from error
    finally:
        nvrtc.destroyProgram(program)


def cached_cubin(name: str, dtype: str, architecture: str, definitions: tuple[str, ...] = ()) -> Path:
    """Path of the compiled file, compiling it where no earlier process has."""
    from cupy.cuda import nvrtc

    options = (*OPTIONS, *TYPE_OPTIONS[dtype], *definitions)
    identity = (name, architecture, *options, str(nvrtc.getVersion()), *kernel_sources())
    return load_compiled(
        f"{name}-{dtype}-{architecture}",
        ".cubin",
        identity,
        lambda folder: compile_kernels(name, dtype, architecture, definitions),
        lambda path: path,
    )
