"""The suite of ``deltaprop bench``: forward pass, backward pass, step and epoch, sigmoid and its derivative.

    python -m pytest benches/suite.py --benchmark-only [-k "step and numpy"]

It runs on every backend here, in both dtypes. Each benchmark also times the least possible work: the matrix products
alone, by the backend's own library; or, for elementwise functions, a copy of as many bytes.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends.choices import LossName
from deltaprop.derivation.backprop import Objective, Workspace, backward, forward
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

if TYPE_CHECKING:
    from deltaprop.network import Network

NETWORKS = [(64, 32, 1), (784, 30, 10), (784, 100, 10), (784, 512, 512, 10), (784, 1024, 1024, 10)]
BATCHES = [1, 10, 32, 128, 512, 2048]
SIZES = [2**power for power in range(10, 27, 4)]
DTYPES = ["float32", "float64"]
BACKENDS = dp.available_backends()


def wait_for(backend):
    """Wait until all launches are done."""
    if not backend.on_host:
        backend.cp.cuda.get_current_stream().synchronize()


def least_seconds(call, backend, repeats=7):
    """Return the seconds of the shortest of a few calls."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        wait_for(backend)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


@pytest.fixture(params=["-".join(map(str, sizes)) for sizes in NETWORKS])
def sizes(request):
    return tuple(map(int, request.param.split("-")))


@pytest.fixture(params=BATCHES, ids="minibatch{}".format)
def batch(request):
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=BACKENDS)
def backend(request):
    return dp.get_backend(request.param)


class Work:
    """A network with a minibatch and its buffers."""

    def __init__(self, sizes, batch, dtype, backend, samples=None):
        rng, m, last = np.random.default_rng(0), samples or batch, sizes[-1]
        loss: LossName = "binary_cross_entropy" if last == 1 else "categorical_cross_entropy"
        self.backend, self.batch, self.sizes = backend, batch, sizes
        self.net: Network = dp.Network(sizes, loss=loss, dtype=dtype, backend=backend)
        self.X = backend.asarray(rng.standard_normal((m, sizes[0])), dtype)
        labels = rng.integers(0, max(2, last), m)
        self.Y = backend.asarray(labels[:, None] if last == 1 else np.eye(last)[labels], dtype)
        self.work: Workspace = Workspace(self.net, batch)
        self.gradient: Parameters = Parameters(backend, sizes, dtype)
        self.cost = backend.zeros((), np.float64)
        buffers = [backend.zeros((batch, s), dtype) for s in sizes]
        self.products: dict[str, list[tuple[Any, Any, Any]]] = {"forward": [], "backward": []}
        for l, (W, of_W) in enumerate(zip(self.net.weights, self.gradient.weights, strict=True)):
            self.products["forward"].append((buffers[l], W.swapaxes(0, 1), buffers[l + 1]))
            self.products["backward"].append((buffers[l + 1].swapaxes(0, 1), buffers[l], of_W))
            if l:
                self.products["backward"].append((buffers[l + 1], W, buffers[l]))

    def forward(self):
        forward(self.net, self.X, self.work)

    def backward(self):
        backward(self.net, self.Y, self.work, self.gradient, self.cost, scale=1.0 / self.batch, penalty=None)

    def floor(self, *passes):
        """Return the seconds of the matrix products of these passes."""
        calls = [call for name in passes for call in self.products[name]]
        matmul = np.matmul if self.backend.on_host else self.backend.cp.matmul

        def multiply():
            for left, right, out in calls:
                matmul(left, right, out=out)

        multiply()
        return least_seconds(multiply, self.backend)


def measure(benchmark, backend, call, **facts):
    """Let pytest-benchmark time `call`, the device's work included."""

    def waited():
        call()
        wait_for(backend)

    waited()
    benchmark.extra_info.update(facts, backend=backend.name)
    benchmark(waited)


def facts(work, operation, dtype, samples, floor):
    """Store the facts about a network that the table shows."""
    network = "-".join(map(str, work.sizes))
    return {
        "operation": operation,
        "network": network,
        "minibatch": work.batch,
        "dtype": dtype,
        "samples": samples,
        "floor_seconds": floor,
    }


def test_forward(benchmark, sizes, batch, dtype, backend):
    work = Work(sizes, batch, dtype, backend)
    known = facts(work, "forward", dtype, batch, work.floor("forward"))
    measure(benchmark, backend, work.forward, **known)


def test_backward(benchmark, sizes, batch, dtype, backend):
    work = Work(sizes, batch, dtype, backend)
    work.forward()
    known = facts(work, "backward", dtype, batch, work.floor("backward"))
    measure(benchmark, backend, work.backward, **known)


def test_step(benchmark, sizes, batch, dtype, backend):
    """Forward, backward and update, with a call of the backend for each operation."""
    work = Work(sizes, batch, dtype, backend)
    if backend.on_host:  # whole epochs may go another way
        work.net.backend = dp.get_backend("reference")
    trainer = Trainer(work.net, work.X, work.Y, dp.SGD(1e-3), Objective(), batch, shuffled=False)
    trainer.steps.need_buffers(shuffled=False)
    known = facts(work, "step", dtype, batch, work.floor("forward", "backward"))
    measure(benchmark, backend, lambda: trainer.steps.step(work.X, work.Y, 1.0 / batch, 0.0, 1e-3, None), **known)


def test_epoch(benchmark, sizes, batch, dtype, backend):
    """A shuffled epoch, in the fastest way."""
    steps = max(2, min(256, 2048 // batch))
    work = Work(sizes, batch, dtype, backend, samples=steps * batch)
    trainer = Trainer(work.net, work.X, work.Y, dp.SGD(1e-3), Objective(), batch, shuffled=True)
    order = np.random.default_rng(1).permutation(steps * batch)
    known = facts(work, "epoch", dtype, steps * batch, steps * work.floor("forward", "backward"))
    measure(benchmark, backend, lambda: trainer.epoch(1e-3, order, Silent()), **known)


@pytest.mark.parametrize("function", ["sigmoid", "sigmoid_grad"])
@pytest.mark.parametrize("size", SIZES, ids="{} elements".format)
def test_elementwise(benchmark, function, size, dtype, backend):
    x = backend.asarray(np.random.default_rng(0).standard_normal(size), dtype)
    out = backend.empty(x.shape, dtype)

    def copy():
        out[...] = x

    copy()
    floor = least_seconds(copy, backend)
    known = {"operation": function, "elements": size, "dtype": dtype, "bytes": 2 * x.nbytes, "floor_seconds": floor}
    measure(benchmark, backend, lambda: getattr(dp, function)(x, out=out), **known)
