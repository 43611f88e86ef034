"""Fixtures: every backend that exists, the GPU ones skipping with the reason where none answers."""

import os
import signal
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from host_cuda import HostCudaBackend, compiler_problem, in_place_of_cupy

from deltaprop.backends import backend_problem, get_backend

#: "torch" is a backend of PyTorch's tensors, `torch_backend.py`, composed of primitives.
#: "cuda-on-host" is the CUDA backend with its kernels compiled as C++: what can be tested of it without a GPU.
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


def backend_or_skip(name):
    if name == "cuda-on-host":
        problem = compiler_problem()
        return missing("g++", problem) if problem else IN_PLACE.enter_context(in_place_of_cupy(cuda_on_host()))
    if name == "torch":
        return torch_on_cpu()
    problem = backend_problem(name)
    if problem:
        pytest.skip(problem)
    return get_backend(name)


def real_device_or_skip(needed):
    """The CUDA backend on a device, for what the emulated one has not."""
    backend = backend_or_skip("cupy")
    if isinstance(backend, HostCudaBackend):
        pytest.skip(f"the emulated device has no {needed}")
    return backend


@pytest.fixture(autouse=True)
def emulated_gpu(request):
    """Where it is asked for, the emulated device is CuPy's in tests marked gpu; after any test it is not any more."""
    if request.config.getoption("emulated_gpu") and request.node.get_closest_marker("gpu"):
        backend_or_skip("cuda-on-host")
    yield
    IN_PLACE.close()


# A shell lets what it runs in the background ignore Ctrl-C, and so would what is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--emulated-gpu", action="store_true", help="run the tests marked gpu on the emulated device, in CuPy's place"
    )


def pytest_configure(config):
    """Where the environment names a file, the tests skipped in this run are listed there, for one that has more."""
    listed = os.environ.get("DELTAPROP_LIST_SKIPPED")
    if listed and not hasattr(config, "workerinput"):  # processes beside this one report to it
        config.pluginmanager.register(ListOfSkipped(Path(listed)))


class ListOfSkipped:
    def __init__(self, path):
        self.path, self.skipped = path, []

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self):
        self.path.write_text("".join(f"{node}\n" for node in self.skipped))


@pytest.fixture(params=BACKEND_PARAMETERS)
def backend(request):
    return backend_or_skip(request.param)


@pytest.fixture(params=[name for name in BACKEND_PARAMETERS if name not in ("cuda-on-host", "torch")])
def quick_backend(request):
    """Those that are found by their arrays; without the emulated one, which would take minutes."""
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
        pytest.skip("a CUDA graph holds matrix products only by nvmath-python, which is not installed")
    return backend


@pytest.fixture(params=["numpy", "reference", "cuda-on-host"])
def trained_on(request):
    """A backend, or its name, for each way of training epochs without a GPU: compiled, recorded, emulated."""
    return backend_or_skip(request.param) if request.param == "cuda-on-host" else request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


def missing(module, reason):
    """Skip for want of `module`, unless the environment says that it has to be there."""
    if module in os.environ.get("DELTAPROP_REQUIRED", "").split(","):
        pytest.fail(f"{module} is required here, but: {reason}")
    pytest.skip(f"{module}: {reason}")


def require(module):
    """`module`, imported."""
    try:
        return __import__(module)
    except ImportError as error:
        return missing(module, str(error))


@pytest.fixture(scope="module")
def iris():
    """Scaled, with its labels: a table for classifiers."""
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
