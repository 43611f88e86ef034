"""Steps that a CUDA graph replays learn what NumPy learns step by step."""

import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, PAIRS, assert_equal_fits, relative, targets_for
from conftest import real_device_or_skip, require_emulation
from fake_cublaslt import Algorithm, FakeLt, of_backend
from host_cuda import HostCudaBackend, HostProducts, kernel

import deltaprop as dp
from deltaprop.backends.cuda import launching
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.epochs.graph import STEPS_A_GRAPH, GraphEpoch, Replay
from deltaprop.epochs.resident import ResidentEpoch


@pytest.fixture
def device(capturing_device, monkeypatch):
    """A device on which even the smallest network is trained layer by layer."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    return capturing_device


@pytest.fixture
def captured(monkeypatch):
    """The numbers of steps in the captured graphs."""
    steps = []
    graph = Replay._graph
    monkeypatch.setattr(Replay, "_graph", lambda self, n: (n in self.graphs or steps.append(n), graph(self, n))[1])
    return steps


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(device, captured, loss, output, dtype, rng):
    X, Y = rng.standard_normal((21, 5)), targets_for(loss, rng, 21, 3)
    options = {"loss": loss, "output_activation": output, "dtype": dtype}
    how = {"optimizer": dp.SGD(0.05), "batch_size": 8, "epochs": 3, "l2": 0.2}
    assert_equal_fits(device, [5, 7, 3], X, Y, options, **how)
    assert captured == [1, 1]  # for the full minibatches and for the short one


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, dp.SGD(dp.ExponentialDecay(0.1, 0.5))], ids=repr)
def test_every_optimizer(device, captured, optimizer, l2, weighted, rng):
    """Rates change from epoch to epoch and, in Adam, from step to step; a graph holds many steps."""
    samples = 3 * (STEPS_A_GRAPH + 5) + 2
    X, y = rng.standard_normal((samples, 6)), rng.integers(0, 4, samples)
    options = {"loss": "categorical_cross_entropy", "hidden_activation": ["relu", "tanh"]}
    how = {"sample_weight": rng.integers(0, 3, samples).astype(float)} if weighted else {}
    for shuffle in (True, False):
        how |= {"optimizer": optimizer, "batch_size": 3, "epochs": 3, "l2": l2, "shuffle": shuffle}
        assert_equal_fits(device, [6, 11, 5, 4], X, y, options, **how)
    assert captured.count(STEPS_A_GRAPH) == 2


@pytest.mark.parametrize("columns", [8, 7])
@pytest.mark.parametrize("batch_size", [1, 33, None, 100])
def test_sizes_of_minibatches(device, batch_size, columns, rng):
    X, Y = rng.standard_normal((66, columns)), rng.uniform(size=(66, 1))
    assert_equal_fits(device, [columns, 33, 1], X, Y, {}, batch_size=batch_size, epochs=3)


def test_the_estimators_go_this_way(device, captured, rng):
    X, y = rng.standard_normal((70, 6)), rng.integers(0, 3, 70)
    options: dict[str, Any] = {
        "hidden_layer_sizes": (9,),
        "max_iter": 3,
        "random_state": 0,
        "batch_size": 16,
        "alpha": 0.1,
    }
    weight = rng.uniform(0.5, 2, 70)
    ours, reference = (
        dp.MLPClassifier(backend=backend, **options).set_params(tol=0.0) for backend in (device, "reference")
    )
    for estimator in (ours, reference):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            estimator.fit(X, y, sample_weight=weight)
    assert captured
    assert ours.loss_curve_ == pytest.approx(reference.loss_curve_, rel=1e-12)
    assert relative(ours.coefs_, reference.coefs_) < 1e-12


def test_the_same_numbers_as_step_by_step(device, monkeypatch, rng):
    """The bits are equal if the gradient is stored: the same kernels run in the same order."""
    X, Y = rng.standard_normal((50, 6)), rng.uniform(size=(50, 2))
    nets = [dp.Network([6, 9, 2], backend=device, seed=1) for _ in range(2)]
    how: dict[str, Any] = {"optimizer": dp.Adam(0.01), "batch_size": 8, "epochs": 3}
    nets[0].fit(X, Y, **how)
    monkeypatch.setattr(GraphEpoch, "find", lambda *_: None)
    nets[1].fit(X, Y, **how)
    assert relative(*(device.to_numpy(net.parameters) for net in nets)) < 1e-15


def test_what_cannot_be_captured_is_trained_step_by_step(device, captured, rng):
    X, Y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    pair = (lambda a, y: 0.5 * (a - y) ** 2, lambda a, y: a - y)
    assert_equal_fits(device, [3, 4, 2], X, Y, {"loss": pair}, batch_size=5, epochs=3)
    options = {"loss": "squared_error"}
    assert_equal_fits(device, [3, 4, 2], X, Y, options, batch_size=5, epochs=3, dropout=0.5)
    assert not captured
    options |= {"output_error": "simplified", "output_activation": "sigmoid"}
    assert_equal_fits(device, [3, 4, 2], X, abs(Y), options, batch_size=5, epochs=3)
    assert captured


@pytest.fixture
def with_lt(monkeypatch):
    """Return the emulated backend with products by `LtProducts`, and the fake of cublasLt below."""
    require_emulation()
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    backend, lt = HostCudaBackend(), FakeLt([Algorithm(9.0), Algorithm(5.0), Algorithm(7.0)])
    backend._found.products = of_backend(monkeypatch, lt, backend)
    return backend, lt


def test_streams_and_workspaces_are_those_of_the_first_fit(with_lt, captured, rng):
    """Successive fits share two streams, for data of any size; another thread has its own."""
    backend, lt = with_lt
    made = []

    def fit(samples):
        X, Y = rng.standard_normal((samples, 6)), rng.uniform(size=(samples, 2))
        assert_equal_fits(backend, [6, 9, 2], X, Y, {}, optimizer=dp.SGD(0.1), batch_size=8, epochs=2)
        made.append((backend.streams.made, len(lt.workspaces)))

    for fits in range(40):
        fit(20 + fits)
    assert made[0][1] == 2
    assert made == 40 * made[:1]
    assert len(captured) >= 40
    for threads in range(3):
        thread = threading.Thread(target=fit, args=(30,))
        thread.start()
        thread.join()
        # streams belong to a thread; a new thread may reuse the number of an ended one
        assert made[-1] == ((3, 1, 1)[threads], 4)
    assert set(lt.multiplied[-10:]) == {1}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_step_needs_is_compiled_at_once(with_lt, monkeypatch, precision, rng):
    """CuPy's own code loads the kernels, and the host's compiler makes them."""
    backend, _ = with_lt
    together, alone = [], []

    def module(path):
        file, kind = path.split("|")
        alone.append((file, kind))

        def function(name):
            launch = kernel(file, name, kind)
            return lambda *arguments, **options: backend.run(lambda: launch(*arguments, **options))

        return SimpleNamespace(get_function=function)

    backend.cp.RawModule = module
    backend._found.products = HostProducts(backend.run)
    for name in ("_kernel", "compile_for"):
        monkeypatch.setattr(HostCudaBackend, name, getattr(CupyBackend, name))
    monkeypatch.setattr(launching, "cached_cubin", lambda file, kind, architecture, definitions=(): f"{file}|{kind}")
    monkeypatch.setattr(
        launching,
        "compile_files",
        lambda wanted, architecture: together.append(({each[:2] for each in wanted}, set(alone))),
    )
    X, y = rng.standard_normal((20, 6)), rng.integers(0, 3, 20)
    for _ in range(2):
        options = {"loss": "categorical_cross_entropy", "dtype": "float32", "precision": precision}
        net = dp.Network([6, 40, 40, 3], backend=backend, **options)
        net.fit(X, y, optimizer=dp.Adam(), batch_size=8, epochs=1, l2=0.1)
    (wanted, before), *later = together
    assert not before
    assert set(alone) == wanted | set().union(*(more for more, _ in later))
    usual = {"minibatch", "bias_activation", "hidden_delta", "output_delta_softmax", "optimizer", "l2_gradient"}
    assert usual <= {file for file, _ in wanted}
    assert ("narrow" in {file for file, _ in wanted}) == (precision == "bf16")
    assert len(together) <= 2  # the short minibatch may need one more


def test_fits_inside_fits(with_lt, captured, rng):
    """Between two epochs of a network, a callback trains a larger one on the same streams."""
    backend, _ = with_lt
    X, Y = rng.standard_normal((40, 6)), rng.uniform(size=(40, 2))
    wide = rng.standard_normal((300, 6)), rng.uniform(size=(300, 40))

    def train_another(event):
        assert_equal_fits(backend, [6, 50, 40], *wide, {}, batch_size=300, epochs=2)
        gc.collect()

    nets = [dp.Network([6, 9, 2], backend=b, seed=3) for b in (backend, "reference")]
    for net, callbacks in zip(nets, ([train_another], []), strict=True):
        net.fit(X, Y, batch_size=8, epochs=4, callbacks=callbacks)
    assert relative(backend.to_numpy(nets[0].parameters), nets[1].parameters) < 1e-12
    assert captured.count(1) > 4


@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam()], ids=repr)
def test_what_is_on_the_device_is_let_go_of_with_the_fit(device, captured, monkeypatch, optimizer, rng):
    """Memory is freed without Python's search for cycles."""
    seen, call = [], GraphEpoch.__call__
    monkeypatch.setattr(GraphEpoch, "__call__", lambda self, *a: (seen.append(weakref.ref(self)), call(self, *a))[1])
    net = dp.Network([6, 9, 2], backend=device)
    gc.disable()
    try:
        net.fit(rng.standard_normal((20, 6)), rng.uniform(size=(20, 2)), optimizer=optimizer, batch_size=8, epochs=2)
        assert [epoch() for epoch in seen] == [None, None]
    finally:
        gc.enable()


def test_a_graph_keeps_the_scratch_it_writes_to(with_lt):
    """When larger scratch replaces scratch, the old one lives as long as the graphs that hold its address."""
    backend, _ = with_lt
    scratch = lambda size: backend._scratch("row_cost", size, np.dtype(np.float64))  # noqa: E731
    small = scratch(10)
    graph = CupyBackend.capture(backend, RecordedStream(), lambda: scratch(8))
    assert scratch(20) is not small
    assert any(buffer is small for buffer in graph.scratch)
    graph.launch("a stream")
    assert graph.graph.launched == ["a stream"]
    assert backend._here.captured is None


class RecordedStream:
    """Stands for CuPy's stream in a capture; its graph notes the stream of each launch."""

    def __init__(self):
        self.launched = []

    def begin_capture(self):
        self.launched.clear()

    def end_capture(self):
        return self

    def launch(self, stream):
        self.launched.append(stream)


@pytest.mark.gpu
def test_fits_in_turn_take_no_more_memory(monkeypatch, rng):
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    device = real_device_or_skip("memory pool")
    X, y = rng.standard_normal((500, 60)), rng.integers(0, 10, 500)
    pool, taken = device.cp.get_default_memory_pool(), []
    for _ in range(8):
        net = dp.Network([60, 50, 10], loss="categorical_cross_entropy", dtype="float32", backend=device)
        net.fit(device.cp.asarray(X), device.cp.asarray(y), batch_size=32, epochs=2)
        taken.append(pool.total_bytes())
    assert len(set(taken[2:])) == 1


@pytest.mark.gpu
def test_no_memory_is_allocated_from_the_second_epoch_on(monkeypatch, rng):
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    device = real_device_or_skip("memory pool")
    cupy = device.cp
    X, y = rng.standard_normal((500, 60)), rng.integers(0, 10, 500)
    net = dp.Network([60, 50, 40, 10], loss="categorical_cross_entropy", dtype="float32", backend=device)
    pool, taken = cupy.get_default_memory_pool(), []
    callback = lambda event: taken.append(pool.total_bytes())  # noqa: E731
    net.fit(cupy.asarray(X), cupy.asarray(y), optimizer=dp.Adam(), batch_size=32, epochs=6, callbacks=[callback])
    assert len(set(taken[2:])) == 1
