"""Two stages: what the device and its libraries are, and whether every kernel compiles for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deltaprop.backends import backend_problem
from deltaprop.backends.cache_folder import cache_folder
from deltaprop.backends.compiled_files import compiled_here
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.compiler import compile_all, compile_kernels
from deltaprop.backends.cuda.installation import INSTALL
from deltaprop.backends.installed import is_installed
from deltaprop.doctor.record import NoDeviceError, NotTriedError, Record
from deltaprop.doctor.residents import clusters_of, compile_residents
from deltaprop.errors import BackendError

#: The file that names the loaded driver, on Linux.
DRIVER = Path("/proc/driver/nvidia/version")
#: cudaComputeModeExclusiveProcess
EXCLUSIVE_PROCESS = 3
CAPTURE = "which training steps need to be captured as CUDA graphs, and products to be in a lower precision"


def require_cuda() -> None:
    """Find out whether there is a device.

    Raises
    ------
    NoDeviceError
        If there is none, or CuPy is missing or broken.
    """
    problem = backend_problem("cupy")
    if problem is not None:
        raise NoDeviceError(problem)


def is_exclusive() -> bool:
    """Whether the device is set to serve one process at a time, so that others find it busy."""
    from cupy.cuda import runtime

    mode = runtime.deviceGetAttribute(runtime.cudaDevAttrComputeMode, runtime.getDevice())
    return bool(mode == EXCLUSIVE_PROCESS)


def device(backend: CupyBackend, record: Record) -> None:
    """Record the device's name and memory, the versions, whether NVRTC compiles, and what multiplies matrices."""
    cp, runtime = backend.cp, backend.cp.cuda.runtime
    number = backend.cp.cuda.Device().id
    properties = runtime.getDeviceProperties(number)
    free, total = runtime.memGetInfo()
    record.fact("device", f"{number}: {properties['name'].decode()}, compute capability {capability(backend)}")
    record.fact("memory", f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free")
    record.fact("CUDA", f"driver {_cuda(runtime.driverGetVersion())}, runtime {_cuda(runtime.runtimeGetVersion())}")
    record.fact("driver", _driver())
    record.fact("CuPy", cp.__version__)
    record.fact("nvmath-python", _version("nvmath-python"))
    record.trying("NVRTC")
    record.fact("NVRTC", ".".join(map(str, cp.cuda.nvrtc.getVersion())))
    compile_kernels("optimizer", "float32", architecture(backend))
    record.trying("matrix products")
    products: Any = backend.products
    record.fact("matrix products", "by cublasLt" if products.capturable else "by CuPy")
    if products.capturable:
        record.fact("cuBLASLt", products.lt.get_version())
    else:
        record.slow(f"matrix products are CuPy's and not cublasLt's, {CAPTURE}; nvmath-python brings it")


def kernel_files(backend: CupyBackend, record: Record) -> None:
    """Load every kernel file for the device, or compile it; also the kernels of networks in shared memory."""
    compile_all(architecture(backend), report=lambda name, seconds: record.progress(compiled(name, seconds)))
    compile_residents(backend, clusters_of(backend))


def compile_for(architecture: str, tell: Callable[[str], None]) -> str:
    """Fill the cache with every kernel file for `architecture`, which needs no device; return a sentence about it.

    Raises
    ------
    BackendError
        If CuPy or NVRTC is missing, the compiler refuses, or there is no folder to keep the files in.
    """
    if not is_installed("cupy"):
        raise BackendError(f"kernels are compiled by CuPy, which is not installed; {INSTALL}")
    folder = cache_folder()
    if folder is None:
        raise BackendError("there is no folder to keep compiled kernels in; $DELTAPROP_CACHE_DIR names one")
    before, count = len(compiled_here), 0

    def report(name: str, seconds: float) -> None:
        nonlocal count
        count += 1
        tell(compiled(name, seconds))

    try:
        compile_all(architecture, report=report)
    except (ImportError, RuntimeError) as error:  # no NVRTC, or one that does not know the architecture
        raise BackendError(f"kernels for {architecture}: {error}") from error
    anew = len(compiled_here) - before
    return f"{count} kernel files for {architecture} are in {folder}, {anew} of them compiled anew"


def compiled(name: str, seconds: float) -> str:
    """Return a line about a kernel file."""
    return f"{name:<32} {seconds:6.1f} s"


def require_cublaslt(backend: CupyBackend) -> None:
    """Find out whether products can be captured.

    Raises
    ------
    NotTriedError
        If they cannot.
    """
    if not backend.products.capturable:
        raise NotTriedError("it needs cublasLt through nvmath-python")


def capability(backend: CupyBackend) -> str:
    """Return the compute capability, such as ``"9.0"``."""
    number = str(backend.cp.cuda.Device().compute_capability)
    return f"{number[:-1]}.{number[-1]}"


def architecture(backend: CupyBackend) -> str:
    """Return the architecture, such as ``"sm_90"``."""
    return f"sm_{backend.cp.cuda.Device().compute_capability}"


def _cuda(number: int) -> str:
    """Return the version that CUDA writes as a number: 13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str:
    try:
        return DRIVER.read_text().splitlines()[0].removeprefix("NVRM version:").strip()
    except (OSError, IndexError):
        return "its version is not in /proc/driver"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
