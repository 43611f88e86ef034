"""When a device refuses something, training takes the next way, learns the same, and warns once a process."""

import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import assert_equal_fits
from conftest import require_emulation
from fake_cublaslt import Algorithm, FakeLt, installed, of_backend
from host_cuda import CUDADriverError, CUDARuntimeError, Graph, HostCudaBackend, OutOfMemoryError

import deltaprop as dp
from deltaprop.backends.cuda import cublas
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.cublas import CupyProducts
from deltaprop.backends.cuda.shared_memory import Residence
from deltaprop.backends.cuda.small_layers import LIBRARY
from deltaprop.derivation import backprop
from deltaprop.epochs import chunked, graph
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.resident import ResidentEpoch

OPTIMIZERS = [dp.SGD(0.1), dp.AdamW(0.01, weight_decay=0.3)]


@pytest.fixture
def device():
    require_emulation()
    return HostCudaBackend()


@pytest.fixture
def layered(device, monkeypatch):
    """A device that trains networks layer by layer, three steps a graph."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    monkeypatch.setattr(graph, "STEPS_A_GRAPH", 3)
    return device


def fit(device, rng, optimizer=OPTIMIZERS[1], **how):
    """Fit a network on the device and on NumPy, which must learn the same."""
    X, Y = rng.standard_normal((61, 6)), rng.uniform(size=(61, 2))
    assert_equal_fits(device, [6, 9, 2], X, Y, {}, optimizer=optimizer, batch_size=7, epochs=3, l2=0.1, **how)


def said(function, *arguments, **options):
    """Return the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(warning.message) for warning in caught]


def once(pattern, device, rng, **how):
    """The first fit warns of it, and no later one does, in any precision."""
    (message,) = said(fit, device, rng, **how)
    assert pattern in message
    assert message.endswith("`deltaprop doctor` tells more")
    assert said(fit, device, rng, **how) == said(fit, device.variant("tf32", None), rng, **how) == []


def failing(function, error, after=0):
    """Return `function`, which raises from call number `after` on."""
    calls = []

    def called(*arguments, **options):
        calls.append(1)
        if len(calls) > after:
            raise error
        return function(*arguments, **options)

    return called


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("moment", ["begin", "middle", "end", "launch", "a later launch"])
def test_steps_that_cannot_be_captured(layered, monkeypatch, moment, optimizer, rng):
    """Wherever it fails, the remaining steps are launched one by one."""
    error = CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted")
    capture = layered.capture
    if moment == "begin":
        monkeypatch.setattr(layered, "capture", failing(capture, error))
    elif moment == "middle":
        backward = backprop.backward

        def broken(*arguments, **options):
            backward(*arguments, **options)  # here weight gradients run on the other stream
            if layered.recording.launches is not None:
                raise error

        monkeypatch.setattr(graph, "backward", broken)
    elif moment == "end":
        monkeypatch.setattr(layered, "capture", lambda stream, body: (capture(stream, body), raised(error)))
    else:
        monkeypatch.setattr(Graph, "launch", failing(Graph.launch, error, after=3 if moment == "a later launch" else 0))
    once("a CUDA graph failed on this device (CUDARuntimeError: cudaErrorStream", layered, rng, optimizer=optimizer)


def raised(error):
    raise error


def test_a_device_that_does_not_go_on_is_left_with_its_error(layered, monkeypatch, rng):
    error = CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
    monkeypatch.setattr(Graph, "launch", failing(Graph.launch, error))
    layered.recording.broken = CUDARuntimeError("cudaErrorIllegalAddress: again")
    with pytest.raises(CUDARuntimeError) as caught:
        fit(layered, rng)
    assert caught.value is error


@pytest.mark.parametrize("way", ["refused", "nothing found"])
def test_products_that_cublaslt_refuses(layered, monkeypatch, way, rng):
    lt = FakeLt([Algorithm(5.0, refused=True)] * 2 if way == "refused" else [])
    layered._found.products = of_backend(monkeypatch, lt, layered)
    (message,) = said(fit, layered, rng)
    assert message.startswith("cublasLt failed on this device (")
    assert message.endswith("CuPy multiplies, and steps are not captured as CUDA graphs; `deltaprop doctor` tells more")
    assert type(layered.products) is CupyProducts
    assert layered.variant("tf32", None).products is layered.products
    assert said(fit, layered, rng) == []


def test_narrow_products_that_cublaslt_refuses(layered, monkeypatch):
    """CuPy has no such products, so there is no other way."""
    layered._found.products = of_backend(monkeypatch, FakeLt([Algorithm(5.0, refused=True)]), layered)
    x = layered.asarray(np.ones((2, 2)), np.float32)
    with pytest.raises(Exception, match="CUBLAS_STATUS_NOT_SUPPORTED"):
        layered.variant("tf32", None).product(x, x, x.copy())


@pytest.mark.parametrize("error", [ImportError("cuda.core of another generation"), "cuBLASLtError"])
def test_bindings_that_are_broken(layered, monkeypatch, error, rng):
    """All precisions and devices share the bindings, so there is one decision and one warning."""
    lt: Any = FakeLt([])
    lt.create = failing(
        None, lt.cuBLASLtError("CUBLAS_STATUS_NOT_INITIALIZED (1)") if error == "cuBLASLtError" else error
    )
    installed(monkeypatch, lt)
    monkeypatch.setattr(cublas, "is_installed", lambda name: True)
    layered._found.products = None
    variants = [layered, layered.variant("tf32", None), layered.variant("fp32", 1)]
    once("cublasLt is not available through nvmath-python (", variants[2], rng)
    assert len({id(variant.products) for variant in variants}) == 1


REFUSED = CUDADriverError("CUDA_ERROR_INVALID_CLUSTER_SIZE: a kernel launch error due to cluster misconfiguration")


def refusing(device, monkeypatch, most):
    """Let launches of clusters with more blocks fail; return the sizes of the others.

    More blocks count as faster here.
    """
    ran, run, of = [], device.run_resident, Residence.of

    def run_resident(plan, dtype, residence, members):
        if residence.blocks > most:
            raise REFUSED
        ran.append(residence.blocks)
        run(plan, dtype, residence, members)

    monkeypatch.setattr(device, "run_resident", run_resident)
    faster = lambda residence: replace(residence, cycles=-residence.blocks)  # noqa: E731
    monkeypatch.setattr(Residence, "of", lambda *arguments: faster(of(*arguments)))
    device._limits[0] = (232448, 8, 132)
    return ran


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("undisturbed", [True, False])
@pytest.mark.parametrize(("most", "expected"), [(8, 8), (4, 4), (1, 1), (0, None)])
def test_clusters_that_are_refused(device, monkeypatch, most, expected, undisturbed, optimizer, rng):
    ran = refusing(device, monkeypatch, most)
    how = {"optimizer": optimizer} if undisturbed else {"optimizer": optimizer, "callbacks": [lambda event: None]}
    if most == 8:
        assert said(fit, device, rng, **how) == []
    else:
        once(
            "a launch with a network in shared memory failed on this device (CUDADriverError: CUDA_", device, rng, **how
        )
    assert set(ran) == ({expected} if expected else set())


def test_ways_that_cannot_be_timed(device, monkeypatch, rng):
    """The clock that chooses among the ways to form a small layer is the first to capture graphs."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    monkeypatch.setattr(HostCudaBackend, "fastest_way", CupyBackend.fastest_way)
    monkeypatch.setattr(device, "capture", failing(None, CUDARuntimeError("no")))
    once("capturing a step as a CUDA graph failed on this device (CUDARuntimeError: no)", device, rng)
    assert set(device._small_choices.values()) <= {LIBRARY, "8x128"}  # "8x128" if it adds up the costs too


def test_without_clusters_and_without_graphs(device, monkeypatch, rng):
    """Training goes down all the way, with two warnings for two refusals."""
    refusing(device, monkeypatch, 0)
    monkeypatch.setattr(device, "capture", failing(None, CUDARuntimeError("no")))
    first, second = said(fit, device, rng)
    assert "in shared memory failed" in first
    assert "as a CUDA graph failed" in second
    assert said(fit, device, rng) == []


def test_a_launch_after_which_the_device_does_not_go_on(device, monkeypatch, rng):
    refusing(device, monkeypatch, 0)
    device.recording.broken = CUDARuntimeError("cudaErrorLaunchFailure")
    with pytest.raises(CUDADriverError) as caught:
        fit(device, rng)
    assert caught.value is REFUSED


@pytest.mark.parametrize("most", [2, 0])
def test_stacks_on_clusters_that_are_refused(device, monkeypatch, most, rng):
    ran = refusing(device, monkeypatch, most)
    X, Y = rng.standard_normal((31, 6)), rng.uniform(size=(31, 2))

    def train():
        stacks = [dp.NetworkStack(3, [6, 9, 2], seeds=[1, 2, 3], backend=b) for b in (device, "reference")]
        for stack in stacks:
            stack.fit(X, Y, optimizer=dp.SGD(0.1, momentum=0.9), batch_size=8, epochs=3)
        assert np.allclose(device.to_numpy(stacks[0].parameters), stacks[1].parameters, rtol=1e-12)

    (message,) = said(train)
    assert "in shared memory failed" in message
    assert said(train) == []
    assert set(ran) == ({2} if most else set())


@pytest.mark.parametrize(
    "error", [CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), OutOfMemoryError("no")]
)
def test_memory_that_cannot_be_page_locked(layered, monkeypatch, error, rng):
    monkeypatch.setattr(layered, "room", lambda: 100)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 8 * 7 * 8 * 3)
    monkeypatch.setattr(layered.cp.cuda, "alloc_pinned_memory", failing(None, error))
    X, y = rng.standard_normal((61, 6)), rng.uniform(size=(61, 2))

    def stream():
        nets = [dp.Network([6, 9, 2], backend=b, seed=3) for b in (layered, "reference")]
        for net, data in zip(nets, (X.tolist(), X), strict=True):
            net.fit(data, y, batch_size=7, epochs=2)
        assert np.allclose(layered.to_numpy(nets[0].parameters), nets[1].parameters, rtol=1e-12)

    (message,) = said(stream)
    assert message.startswith(f"page-locked memory failed on this device ({type(error).__name__}: ")
    assert said(stream) == []


def test_a_capture_that_fails_is_ended(device):
    """Its end may fail as well: the first error is reported."""
    ended = []

    def end_capture():
        ended.append(1)
        raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")

    def broken():
        raise ZeroDivisionError

    stream = SimpleNamespace(begin_capture=lambda: None, end_capture=end_capture)
    with pytest.raises(ZeroDivisionError):
        CupyBackend.capture(device, stream, broken)
    assert ended == [1]
    assert device._here.captured is None


def test_the_tests_go_the_way_they_mean(layered, rng, monkeypatch):
    calls = []
    call = GraphEpoch.__call__
    monkeypatch.setattr(GraphEpoch, "__call__", lambda self, *a: (calls.append(1), call(self, *a))[1])
    fit(layered, rng)
    assert len(calls) == 3
