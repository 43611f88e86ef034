"""What this processor can do. On x86-64 a small library tells, which every such processor can run."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from deltaprop.backends.native.compiler import compile_library, find_compiler
from deltaprop.backends.native.prebuilt_libraries import load_prebuilt
from deltaprop.backends.native.variants import Variant, features_in
from deltaprop.errors import BackendError

#: The library, its file under ``kernels/``, the options of the compiler, and its function.
NAME, UNIT, OPTIONS, FUNCTION = (
    "processor",
    "cpu/processor.cpp",
    ("-std=c++17", "-O2", "-march=x86-64", "-shared", "-fPIC"),
    "processor_features",
)


def supports(variant: Variant) -> bool:
    """Whether this processor, under this operating system, can run a library.

    Raises
    ------
    BackendError, OSError
        If that cannot be found out.
    """
    return not variant.needs or variant.needs <= processor_features()


@cache
def processor_features() -> frozenset[str]:
    """The names, of `variants.FEATURES`, of what an x86-64 processor and its operating system support.

    Raises
    ------
    BackendError, OSError
        If the library that tells came not with the package and cannot be compiled.
    """
    try:
        return load_prebuilt(NAME, OPTIONS, _features)
    except BackendError as error:
        if find_compiler() is None:
            raise
        problem = error
    try:
        return compile_library(NAME, UNIT, OPTIONS, (FUNCTION,), _features)
    except BackendError as error:
        raise BackendError(f"{problem}; {error}") from error


def _features(path: Path) -> frozenset[str]:
    words = (ctypes.c_uint32 * 4)()
    function = getattr(ctypes.CDLL(str(path)), FUNCTION)
    function.argtypes, function.restype = [ctypes.POINTER(ctypes.c_uint32)], None
    function(words)
    return features_in(list(words))
