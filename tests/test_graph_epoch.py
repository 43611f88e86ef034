"""Steps that a CUDA graph replays learn what NumPy learns step by step."""

import pytest
from cases import PAIRS, assert_equal_fits, relative, targets_for
from conftest import backend_or_skip

import deltaprop as dp
from deltaprop.graph_epoch import STEPS_A_GRAPH, GraphEpoch, Replay
from deltaprop.resident_epoch import ResidentEpoch

OPTIMIZERS = [
    dp.SGD(0.1),
    dp.SGD(dp.ExponentialDecay(0.1, 0.5)),
    dp.SGD(0.05, momentum=0.9),
    dp.SGD(0.05, momentum=0.8, nesterov=True),
    dp.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
    dp.AdamW(0.01, weight_decay=0.3),
]


@pytest.fixture(params=["cuda-on-host", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where even the smallest network is trained layer by layer."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    backend = backend_or_skip(request.param)
    if not backend.products.capturable:
        pytest.skip("nvmath-python is not installed, without which no graph can hold a matrix product")
    return backend


@pytest.fixture
def captured(monkeypatch):
    """How many steps the graphs hold that have been captured."""
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
    assert captured == [1, 1]  # of the full minibatches and of the short one


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer(device, captured, optimizer, l2, weighted, rng):
    """Rates that change from epoch to epoch and, by Adam's correction, from step to step; many steps a graph."""
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
    options = {"hidden_layer_sizes": (9,), "max_iter": 3, "random_state": 0, "batch_size": 16, "alpha": 0.1}
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
    """To the bit where a gradient is stored: the same kernels in the same order."""
    X, Y = rng.standard_normal((50, 6)), rng.uniform(size=(50, 2))
    nets = [dp.Network([6, 9, 2], backend=device, seed=1) for _ in range(2)]
    how = {"optimizer": dp.Adam(0.01), "batch_size": 8, "epochs": 3}
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


@pytest.mark.gpu
def test_no_memory_is_allocated_from_the_second_epoch_on(monkeypatch, rng):
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    device = backend_or_skip("cupy")
    cupy = device.cp
    X, y = rng.standard_normal((500, 60)), rng.integers(0, 10, 500)
    net = dp.Network([60, 50, 40, 10], loss="categorical_cross_entropy", dtype="float32", backend=device)
    pool, taken = cupy.get_default_memory_pool(), []
    callback = lambda event: taken.append(pool.total_bytes())  # noqa: E731
    net.fit(cupy.asarray(X), cupy.asarray(y), optimizer=dp.Adam(), batch_size=32, epochs=6, callbacks=[callback])
    assert len(set(taken[2:])) == 1
