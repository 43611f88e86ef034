"""Fixtures: every backend, data, and reasons to skip where a backend or a package is not here."""

import os
import signal
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from host_cuda import HostCudaBackend, compiler_problem, in_place_of_cupy

from deltaprop.backends import backend_problem, get_backend
from deltaprop.backends.native.compiler import find_compiler
from deltaprop.backends.native.library import library_problem
from deltaprop.epochs import compiled, compiled_answers, compiled_evaluation, compiled_gradient, compiled_members

#: "torch" is a backend of PyTorch's tensors, `torch_backend.py`, composed of primitives.
#: "cuda-on-host" is the CUDA backend with its kernels compiled as C++, which needs no GPU.
BACKEND_PARAMETERS = ["numpy", "torch", "cuda-on-host", pytest.param("cupy", marks=pytest.mark.gpu)]
#: The emulated device in CuPy's place, until the end of a test.
IN_PLACE = ExitStack()


@cache
def cuda_on_host():
    return HostCudaBackend()


@cache
def torch_on_cpu():
    require("torch")
    from torch_backend import TorchBackend

    return TorchBackend()


def require_emulation():
    """Skip if there is no g++, which compiles the kernels of the emulated device."""
    if problem := compiler_problem():
        missing("g++", problem)


def require_library():
    """Skip if there is neither a prebuilt library of the CPU nor a compiler."""
    if problem := library_problem(np.dtype(np.float64)):
        missing("g++", problem)


def require_compiler():
    """Return the command of the C++ compiler, or skip."""
    return find_compiler() or missing("g++", "no C++ compiler")


def use_threads(monkeypatch, count):
    """Let the compiled library use so many threads, on whatever machine and however little there is to do."""
    for module in (compiled, compiled_answers, compiled_gradient, compiled_members):
        monkeypatch.setattr(module, "own_threads", lambda: count)
    for module in (compiled, compiled_gradient):
        monkeypatch.setattr(module, "OPERATIONS_A_THREAD", 1e-9)
    monkeypatch.setattr(compiled_evaluation, "threads_of_numpy", lambda: count)
    monkeypatch.setattr(compiled_evaluation, "OPERATIONS_OF_ONE_THREAD", 0.0)


def backend_or_skip(name):
    if name == "cuda-on-host":
        require_emulation()
        return IN_PLACE.enter_context(in_place_of_cupy(cuda_on_host()))
    if name == "torch":
        return torch_on_cpu()
    problem = backend_problem(name)
    if problem:
        pytest.skip(problem)
    return get_backend(name)


def real_device_or_skip(needed):
    """Return the CUDA backend on a real device, for a test of what the emulated one lacks."""
    backend = backend_or_skip("cupy")
    if isinstance(backend, HostCudaBackend):
        pytest.skip(f"the emulated device has no {needed}")
    return backend


@pytest.fixture(autouse=True)
def emulated_gpu(request):
    """With --emulated-gpu, put the emulated device in CuPy's place for tests marked gpu, until the end of the test."""
    if request.config.getoption("emulated_gpu") and request.node.get_closest_marker("gpu"):
        backend_or_skip("cuda-on-host")
    yield
    IN_PLACE.close()


# A process that a shell starts in the background ignores Ctrl-C, and so would the tested processes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--emulated-gpu", action="store_true", help="run the tests marked gpu on the emulated device, in CuPy's place"
    )


def pytest_configure(config):
    """If DELTAPROP_LIST_SKIPPED names a file, list the tests there that this run skips."""
    listed = os.environ.get("DELTAPROP_LIST_SKIPPED")
    if listed and not hasattr(config, "workerinput"):  # processes beside this one report to it
        config.pluginmanager.register(ListOfSkipped(Path(listed)))


class ListOfSkipped:
    def __init__(self, path):
        self.path, self.skipped = path, []

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report):  # of whole files
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self):
        self.path.write_text("".join(f"{node}\n" for node in self.skipped))


@pytest.fixture(params=BACKEND_PARAMETERS)
def backend(request):
    return backend_or_skip(request.param)


@pytest.fixture(params=[name for name in BACKEND_PARAMETERS if name not in ("cuda-on-host", "torch")])
def quick_backend(request):
    """The backends that are found by their arrays, without the emulated one, which would take minutes."""
    return backend_or_skip(request.param)


@pytest.fixture(params=["cuda-on-host", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    """The emulated device, and a real one if it answers."""
    return backend_or_skip(request.param)


@pytest.fixture(params=["cuda-on-host", pytest.param("cupy", marks=pytest.mark.gpu)])
def capturing_device(request):
    """A device that captures matrix products in CUDA graphs."""
    backend = backend_or_skip(request.param)
    if not backend.products.capturable:
        pytest.skip("nvmath-python is not installed, which CUDA graphs need for matrix products")
    return backend


@pytest.fixture(params=["numpy", "reference", "cuda-on-host"])
def trained_on(request):
    """A backend, or its name, for each way of training epochs without a GPU: compiled, recorded, emulated."""
    return backend_or_skip(request.param) if request.param == "cuda-on-host" else request.param


@pytest.fixture
def compiled_library():
    """Skip a test where the library of the CPU cannot be had."""
    require_library()


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request, monkeypatch):
    """How many threads the compiled library uses; a module may name other numbers (indirectly)."""
    use_threads(monkeypatch, request.param)
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


def missing(module, reason):
    """Skip as `module` is missing, or fail if DELTAPROP_REQUIRED names it."""
    if module in os.environ.get("DELTAPROP_REQUIRED", "").split(","):
        pytest.fail(f"{module} is required here, but: {reason}")
    pytest.skip(f"{module}: {reason}")


def require(module):
    """Import `module` and return it, or skip."""
    try:
        return __import__(module)
    except ImportError as error:
        return missing(module, str(error))


@pytest.fixture(scope="module")
def iris():
    """Iris, scaled, with its labels: a table for classifiers."""
    from sklearn.datasets import load_iris
    from sklearn.preprocessing import scale

    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def table():
    """A table for regressors."""
    from sklearn.datasets import make_regression
    from sklearn.preprocessing import scale

    X, y = make_regression(120, 5, noise=5.0, random_state=0)
    return X, scale(y)
