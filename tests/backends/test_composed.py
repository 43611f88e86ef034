"""A backend of a few primitives, over PyTorch's tensors, computes what NumPy's does, up to rounding."""

import pickle
from typing import Any

import numpy as np
import pytest
from cases import PAIRS, relative, targets_for
from conftest import backend_or_skip
from sklearn.datasets import load_digits

import deltaprop as dp
from deltaprop import backends
from deltaprop.backends.ufunc_array import UfuncArray


@pytest.fixture
def torch_backend():
    return backend_or_skip("torch")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


def twins(backend, sizes, **options):
    return [dp.Network(sizes, backend=b, seed=3, **options) for b in (backend, "reference")]


def assert_same(backend, ours, theirs, tolerance=1e-10):
    assert relative(backend.to_numpy(ours.parameters), theirs.parameters) < tolerance


def test_digits_are_learned_as_numpy_learns_them(torch_backend, digits):
    """Training has callbacks, early stopping, validation, metrics and dropout."""
    X, y = digits
    told = []
    how = {
        "optimizer": dp.Adam(0.01),
        "batch_size": 100,
        "epochs": 12,
        "l2": 0.1,
        "dropout": 0.1,
        "validation": (X[1200:], y[1200:]),
        "metrics": ["accuracy"],
        "early_stopping": dp.EarlyStopping(patience=3),
        "callbacks": [lambda event: told.append(event.epoch)],
    }
    nets = twins(torch_backend, [64, 30, 10], loss="categorical_cross_entropy", hidden_activation="relu")
    ours, reference = (net.fit(X[:1200], y[:1200], **how) for net in nets)
    assert ours.cost == pytest.approx(reference.cost, rel=1e-9)
    assert ours.validation_cost == pytest.approx(reference.validation_cost, rel=1e-9)
    assert ours.metrics == reference.metrics
    assert ours.best_epoch == reference.best_epoch
    assert told == 2 * list(range(1, len(ours.cost) + 1))
    assert_same(torch_backend, *nets)
    predicted = nets[0].predict(X[1200:])
    right = np.argmax(torch_backend.to_numpy(torch_backend.asarray(predicted, np.float64)), axis=1) == y[1200:]
    assert right.mean() > 0.9
    assert relative(np.asarray(predicted), nets[1].predict(X[1200:])) < 1e-9


@pytest.mark.parametrize(
    "optimizer",
    [dp.SGD(0.1), dp.SGD(0.1, momentum=0.9), dp.SGD(0.1, momentum=0.9, nesterov=True), dp.AdamW(0.01)],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_optimizer(torch_backend, optimizer, dtype, rng):
    X, Y, weight = rng.standard_normal((50, 6)), rng.uniform(size=(50, 2)), rng.uniform(0.5, 2.0, 50)
    nets = twins(torch_backend, [6, 9, 2], dtype=dtype)
    ours, reference = (
        net.fit(X, Y, optimizer=optimizer, batch_size=8, epochs=3, l2=0.01, sample_weight=weight) for net in nets
    )
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert_same(torch_backend, nets[0], nets[1], tolerance)
    assert ours.cost == pytest.approx(reference.cost, rel=tolerance)


@pytest.mark.parametrize(("loss", "activation"), [pair for pair in PAIRS if not pair[0].startswith("clipped")])
def test_every_loss(torch_backend, loss, activation, rng):
    X, Y = rng.standard_normal((20, 4)), targets_for(loss, rng, 20, 3)
    nets = twins(torch_backend, [4, 5, 3], loss=loss, output_activation=activation, hidden_activation="silu")
    (cost, gradient), (expected, reference) = (net.cost_and_gradient(X, Y, l2=0.5) for net in nets)
    assert cost == pytest.approx(expected, rel=1e-12)
    assert relative(np.asarray(gradient.flat), reference.flat) < 1e-12
    products = [np.asarray(net.hvp(X, Y, np.arange(net.parameters.shape[0]) / 10.0)) for net in nets]
    assert relative(*products) < 1e-11


def test_a_loss_of_two_functions(torch_backend, rng):
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    loss = (lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3)
    nets = twins(torch_backend, [4, 5, 2], loss=loss, output_activation="identity")
    costs = [net.fit(X, Y, batch_size=5, epochs=2).cost for net in nets]
    assert costs[0] == pytest.approx(costs[1], rel=1e-12)
    assert_same(torch_backend, *nets)


def test_the_other_ways_to_train_and_to_ask(torch_backend, tmp_path, rng):
    X, Y = rng.standard_normal((30, 4)), rng.uniform(size=(30, 2))
    nets = twins(torch_backend, [4, 5, 2])
    for net in nets:
        net.fit_full_batch(X, Y, method="l-bfgs", max_iter=5, l2=0.1)
    assert_same(torch_backend, nets[0], nets[1], 1e-7)
    assert dp.check_gradient(nets[0], X, Y, l2=1.0).passed
    assert relative(np.asarray(nets[0].jacobian(X)), nets[1].jacobian(X)) < 1e-7
    pairs = zip(nets[0].thetas, nets[1].thetas, strict=True)
    assert all(relative(np.asarray(ours), theirs) < 1e-7 for ours, theirs in pairs)
    nets[0].save(tmp_path / "net.safetensors")
    loaded = dp.Network.load(tmp_path / "net.safetensors", backend="numpy")
    assert_same(torch_backend, nets[0], loaded, 1e-15)
    again = pickle.loads(pickle.dumps(nets[0]))
    assert torch_backend.owns(again.parameters)
    assert_same(torch_backend, again, loaded, 1e-15)


def test_training_goes_on_from_a_checkpoint(torch_backend, tmp_path, rng):
    X, Y, file = rng.standard_normal((30, 4)), rng.uniform(size=(30, 2)), tmp_path / "run.safetensors"
    how: dict[str, Any] = {
        "optimizer": dp.Adam(),
        "batch_size": 8,
        "early_stopping": dp.EarlyStopping(patience=5, monitor="cost"),
    }
    net, whole = (dp.Network([4, 5, 2], backend=torch_backend, seed=1) for _ in range(2))
    whole.fit(X, Y, epochs=6, **how)
    net.fit(X, Y, epochs=2, checkpoint=file, **how)
    resumed = dp.Network([4, 5, 2], backend=torch_backend, seed=1)
    resumed.fit(X, Y, epochs=6, checkpoint=file, resume=True, **how)
    assert np.array_equal(torch_backend.to_numpy(resumed.parameters), torch_backend.to_numpy(whole.parameters))


def test_divergence_leaves_the_last_good_parameters(torch_backend, rng):
    X, Y = 100 * rng.standard_normal((30, 4)), 1e200 * rng.standard_normal((30, 2))
    net = dp.Network([4, 5, 2], backend=torch_backend, loss="squared_error", output_activation="identity")
    before = torch_backend.to_numpy(net.parameters)
    with pytest.raises(dp.DivergenceError, match="layer"):
        net.fit(X, Y, optimizer=dp.SGD(10.0), epochs=3)
    assert np.array_equal(torch_backend.to_numpy(net.parameters), before)


def test_many_networks_at_once(torch_backend, rng):
    X, Y = rng.standard_normal((40, 4)), rng.uniform(size=(40, 2))
    stacks = [dp.NetworkStack(3, [4, 5, 2], backend=b) for b in (torch_backend, "reference")]
    for stack in stacks:
        stack.fit(X, Y, optimizer=dp.Adam(0.01), batch_size=8, epochs=3, l2=[0.0, 0.1, 0.2])
    assert_same(torch_backend, *stacks)


def test_arrays_of_the_library_go_in_and_come_out(torch_backend, rng):
    X, labels, weight = rng.standard_normal((30, 4)), rng.integers(0, 3, 30), rng.uniform(0.5, 2.0, 30)
    nets = twins(torch_backend, [4, 5, 3], loss="categorical_cross_entropy")
    theirs = nets[1].fit(X, labels, sample_weight=weight, batch_size=8, epochs=2)
    arrays = [torch_backend.asarray(array, array.dtype) for array in (X, labels, weight)]
    ours = nets[0].fit(*arrays[:2], sample_weight=arrays[2], batch_size=8, epochs=2)
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-12)
    predicted = nets[0].predict(arrays[0])
    assert torch_backend.owns(predicted)
    assert relative(torch_backend.to_numpy(predicted), nets[1].predict(X)) < 1e-12
    assert isinstance(nets[0].predict(X), np.ndarray)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_comes_in_is_checked(torch_backend, kind, rng):
    net = dp.Network([4, 5, 3], backend=torch_backend, loss="categorical_cross_entropy")
    X, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    X[7, 2] = np.nan

    def given(array):
        return array if kind == "numpy" else torch_backend.asarray(array, array.dtype)

    with pytest.raises(ValueError, match=r"X: expected finite numbers in float64, got nan at X\[7, 2\]"):
        net.fit(given(X), given(labels))
    X[7, 2], labels[4] = 0.0, 3
    with pytest.raises(ValueError, match=r"Y: expected class labels 0 … 2 .*, got 3 at Y\[4\]"):
        net.fit(given(X), given(labels))
    with pytest.raises(ValueError, match=r"Y: expected shape .* of whole-number class labels, got 0.5 at Y\[0\]"):
        net.fit(given(X), given(np.full(30, 0.5)))
    with pytest.raises(ValueError, match="sample_weight: expected weights of at least 0, got -1"):
        net.fit(given(X), given(labels % 3), sample_weight=given(np.array([1.0] * 29 + [-1.0])))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("how", [{}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_scikit_learns_classifier(torch_backend, digits, how):
    X, y = digits
    fits = [
        dp.MLPClassifier((20,), max_iter=4, random_state=0, backend=backend, **how).fit(X[:500], y[:500])
        for backend in (torch_backend, "reference")
    ]
    assert relative(*(fit.coefs_ for fit in fits)) < 1e-9
    assert fits[0].score(X, y) == pytest.approx(fits[1].score(X, y), abs=0.002)


@pytest.fixture
def registered(torch_backend, monkeypatch):
    """Register the backend: a new backend needs this line besides its file."""
    monkeypatch.setitem(backends.BACKENDS, "torch", lambda: torch_backend)
    backends.backend_problem.cache_clear()
    yield torch_backend
    backends.backend_problem.cache_clear()


def test_a_registered_backend_has_a_name_and_is_found_by_its_arrays(registered, rng):
    assert dp.available_backends()[-1] == "torch"
    assert dp.get_backend("torch") is registered
    net = dp.Network([4, 3, 2], backend=dp.get_backend("torch"))
    assert registered.owns(net.parameters)
    x = rng.standard_normal((5, 3))
    tensor = registered.asarray(x, np.float64)
    assert backends.backend_of(tensor) is registered
    for function in (dp.sigmoid, dp.sigmoid_grad):
        got = function(tensor)
        assert registered.owns(got)
        assert relative(registered.to_numpy(got), function(x)) < 1e-15
    expected, sigmas = dp.sigmoid(x), dp.sigmoid(tensor, out=tensor)
    assert sigmas is tensor
    assert relative(registered.to_numpy(tensor), expected) < 1e-15
    with pytest.raises(TypeError, match="x: expected dtype float16, float32, float64, got int64"):
        dp.sigmoid(registered.asarray([1, 2], np.int64))
    with pytest.raises(TypeError, match=r"X: got a torch array, but the network lives on the numpy backend"):
        dp.Network([3, 2], backend="numpy").predict(tensor)


def test_a_function_without_an_answer_is_refused(torch_backend):
    array: Any = UfuncArray(torch_backend.zeros((3,), np.float64), torch_backend)
    with pytest.raises(TypeError):
        np.cumsum(array)
    with pytest.raises(TypeError):
        np.add.accumulate(array)
