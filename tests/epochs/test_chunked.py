"""Data that would take much memory once converted are converted chunk by chunk, with the same numbers."""

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.cli import run
from deltaprop.epochs import chunked
from deltaprop.inputs import arrays
from deltaprop.training import data_door, evaluation
from deltaprop.training.metrics import METRICS

SIZES = [6, 9, 4]
SMALL = ["uint8", "int8", "int16", "float16", "bool", "float32"]


@pytest.fixture
def chunks(monkeypatch):
    """All data count as large; a chunk has some 1000 samples, in a forward pass a block of 2048."""
    monkeypatch.setattr(arrays, "CONVERTED_LIMIT", 0)
    for module, rows in ((chunked, 1000), (data_door, 1000), (evaluation, 2100)):
        monkeypatch.setattr(module, "CHUNK_BYTES", rows * (6 + 9) * 8)


def network(**options):
    plain: dict[str, Any] = {"loss": "categorical_cross_entropy", "backend": "numpy", "seed": 3}
    return dp.Network(SIZES, **plain | options)


def samples(rng, dtype, m=2000):
    X = rng.integers(0, 2 if dtype == "bool" else 100, (m, 6)).astype(dtype)
    return X, rng.integers(0, 4, m)


HOW = {"epochs": 2, "batch_size": 30, "l2": 0.1, "metrics": ["accuracy", "r2", "mean_squared_error"]}


@pytest.mark.parametrize("how", [{}, {"shuffle": False}, {"dropout": 0.2}, {"weighted": True}], ids=str)
@pytest.mark.parametrize("backend", ["numpy", "reference"])
@pytest.mark.parametrize("dtype", SMALL)
def test_training_is_that_on_converted_arrays(dtype, backend, how, rng, request):
    X, y = samples(rng, dtype, 5000)
    if "weighted" in how:
        how = {"sample_weight": rng.uniform(0.5, 2, len(X))}
    alone, net = network(backend=backend), network(backend=backend)
    expected = alone.fit(X.astype(float), np.eye(4)[y], **HOW | how, validation=(X.astype(float), y))
    request.getfixturevalue("chunks")
    history = net.fit(X, y, **HOW | how, validation=(X, y))
    assert np.array_equal(net.parameters, alone.parameters)
    assert history.cost == pytest.approx(expected.cost, rel=1e-14)  # costs are summed call by call
    assert history.validation_cost == expected.validation_cost
    for name, values in expected.metrics.items():
        assert history.metrics[name] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("dtype", SMALL)
def test_predictions_and_costs_are_those_of_converted_arrays(dtype, rng, request):
    net = network()
    X, y = samples(rng, dtype, 5000)
    weights = rng.uniform(0.5, 2, len(X))
    outputs, cost = net.predict(X.astype(float)), net.cost(X.astype(float), np.eye(4)[y], 0.1, sample_weight=weights)
    request.getfixturevalue("chunks")
    assert np.array_equal(net.predict(X), outputs)
    assert net.cost(X, y, 0.1, sample_weight=weights) == cost


def test_what_is_wrong_is_named_by_its_row_before_training(chunks, rng):
    X, y = samples(rng, "float32")
    holed, beyond, wide = X.copy(), y.copy(), X.astype(float)
    holed[1999, 4], beyond[1500], wide[1700, 1] = np.nan, 4, 1e300
    for arguments, options, message in (
        ((holed, y), {}, r"X: expected finite numbers in float64, got nan at X\[1999, 4\]"),
        ((wide, y), {"dtype": "float32"}, r"X: expected finite numbers in float32, got 1e\+300 at X\[1700, 1\]"),
        ((X, beyond), {}, r"Y: expected class labels 0 … 3 .* got 4 at Y\[1500\]"),
        ((X, y[:-1]), {}, r"Y: expected shape \(2000, 4\) or \(2000,\) of class labels"),
        ((X[:, :5], y), {}, r"X: expected 6 features"),
        ((X, list("abcd") * 500), {}, "Y: expected numbers"),
        ((X, np.full((2000, 4), 0.5, np.float32)), {}, "got a sum of 2 in row 0"),
    ):
        net = network(**options)
        before = net.parameters.copy()
        for method in (net.fit, net.cost):
            with pytest.raises((ValueError, TypeError), match=message):
                method(*arguments)
        assert np.array_equal(net.parameters, before)
    with pytest.raises(ValueError, match=r"got nan at X\[1999, 4\]"):
        network().predict(holed)


@pytest.mark.parametrize("form", ["vector", "list", "column", "wide"])
def test_targets_of_a_regression(form, rng, request):
    X, Y = rng.integers(0, 9, (3000, 6)).astype(np.int8), rng.standard_normal((3000, 2)).astype(np.float32)
    net, alone = (
        dp.Network([6, 5, 2 if form == "wide" else 1], loss="squared_error", backend="numpy") for _ in range(2)
    )
    targets = {"vector": Y[:, 0], "list": Y[:, 0].tolist(), "column": Y[:, :1], "wide": Y}[form]
    cost = alone.fit(X.astype(float), Y if form == "wide" else Y[:, :1], epochs=2).cost
    request.getfixturevalue("chunks")
    assert net.fit(X, targets, epochs=2).cost == pytest.approx(cost, rel=1e-14)
    assert np.array_equal(net.parameters, alone.parameters)
    net.fit(X.astype(float), targets, epochs=2)  # only its targets have another dtype


def test_steps_too_large_for_a_chunk_are_taken_in_memory(rng, request):
    X, y = samples(rng, "uint8")
    for batch_size in (None, 2000):
        alone, net = network(), network()
        alone.fit(X.astype(float), y, batch_size=batch_size, epochs=2)
        request.getfixturevalue("chunks")
        net.fit(X, y, batch_size=batch_size, epochs=2)
        assert np.array_equal(net.parameters, alone.parameters)


@pytest.mark.parametrize("named", [False, True])
def test_metrics_of_our_own_and_others(named, chunks, rng, monkeypatch):
    """They equal their definitions over all targets, though a chunk holds only some; a new name alone makes no mean."""
    X = rng.integers(0, 200, (3000, 6)).astype(np.uint8)
    Y = rng.normal(1e4, 1, (3000, 4)).astype(np.float32)
    net = network(loss="squared_error")

    def largest(prediction, targets):
        assert prediction.shape == targets.shape == Y.shape
        return float(abs(prediction - targets).max())

    if named:
        monkeypatch.setitem(METRICS, "largest", largest)
    asked = ["r2", "mean_absolute_error", "largest" if named else largest]
    history = net.fit(X, Y, epochs=1, optimizer=dp.Adam(0.1), validation=(X, Y), metrics=asked)
    difference, spread = net.predict(X) - Y, Y.astype(float) - Y.astype(float).mean(axis=0)
    assert history.metrics["r2"] == pytest.approx([1 - (difference**2).sum() / (spread**2).sum()])
    assert history.metrics["mean_absolute_error"] == pytest.approx([abs(difference).mean()])
    assert history.metrics["largest"] == pytest.approx([abs(difference).max()])


def peak_of(function):
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_is_that_of_chunks(rng, monkeypatch):
    """20 MB of bytes would be 160 MB of float64, and so would 2000 one-hot labels of 10 000 classes."""
    monkeypatch.setattr(arrays, "CONVERTED_LIMIT", 2**24)
    for module in (chunked, evaluation, data_door):
        monkeypatch.setattr(module, "CHUNK_BYTES", 2**20)
    X, y = rng.integers(0, 256, (100_000, 200)).astype(np.uint8), rng.integers(0, 3, 100_000)
    net = dp.Network([200, 8, 3], loss="categorical_cross_entropy", backend="numpy")
    net.fit(X[:100], y[:100], epochs=1)
    for job in (lambda: net.fit(X, y, epochs=2, validation=(X, y)), lambda: net.predict(X), lambda: net.cost(X, y)):
        assert peak_of(job) < 24 * 2**20
    X, y = rng.standard_normal((2000, 3)), np.repeat(np.arange(1000) * 10, 2)
    net = dp.Network([3, 4, 10_000], loss="categorical_cross_entropy", backend="numpy")
    net.fit(X[:8], y[:8], epochs=1, batch_size=8)
    monkeypatch.setattr(evaluation, "LEAST_ROWS", 16)
    for job in (lambda: net.fit(X, y, epochs=1, batch_size=8, validation=(X, y)), lambda: net.cost(X, y)):
        assert peak_of(job) < 24 * 2**20


ESTIMATORS = {"classifier": dp.MLPClassifier, "regressor": dp.MLPRegressor}
FITTED = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": 9, "batch_size": 40, "backend": "numpy"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", [d for d in SMALL if d != "float16"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_estimators_learn_and_predict_as_from_converted_arrays(kind, dtype, early_stopping, rng, request):
    X, y = samples(rng, dtype, 3000)
    y = np.array(list("abcd"))[y] if kind == "classifier" else y.astype(float)
    alone, mlp = (ESTIMATORS[kind](**FITTED, early_stopping=early_stopping, dtype="float64") for _ in range(2))
    alone.fit(X.astype(float), y)
    request.getfixturevalue("chunks")
    mlp.fit(X, y)
    assert all(map(np.array_equal, mlp.coefs_, alone.coefs_))
    assert mlp.loss_curve_ == pytest.approx(alone.loss_curve_, rel=1e-14)
    assert np.array_equal(mlp.predict(X), alone.predict(X.astype(float)))
    if early_stopping:
        assert mlp.validation_scores_ == pytest.approx(alone.validation_scores_)
        assert mlp.validation_loss_curve_ == pytest.approx(alone.validation_loss_curve_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_of_very_many_classes(rng, monkeypatch):
    """1500 classes would be 72 MB one-hot in int64; training equals that on arrays."""
    X, y = rng.standard_normal((6000, 4)), np.tile(np.repeat(np.arange(1500) * 3, 2), 2)
    options: dict[str, Any] = {
        "random_state": 0,
        "max_iter": 2,
        "hidden_layer_sizes": 3,
        "batch_size": 100,
        "backend": "numpy",
    }
    alone, mlp = (dp.MLPClassifier(**options) for _ in range(2))
    alone.fit(X, y)
    monkeypatch.setattr(arrays, "CONVERTED_LIMIT", 2**22)
    for module in (chunked, evaluation, data_door):
        monkeypatch.setattr(module, "CHUNK_BYTES", 2**21)
    assert peak_of(lambda: mlp.fit(X, y)) < 36 * 2**20
    assert all(map(np.array_equal, mlp.coefs_, alone.coefs_))
    assert mlp.score(X, y) == alone.score(X, y)
    mlp.partial_fit(X[:3000], y[:3000])
    alone.partial_fit(X[:3000], y[:3000])
    assert all(map(np.array_equal, mlp.coefs_, alone.coefs_))
    scored = dp.MLPClassifier(**options).fit(X, y, validation_data=(X, y))
    assert scored.validation_scores_[-1] == scored.score(X, y) == np.mean(scored.predict(X) == y)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_command_line_on_large_data_says_the_same(task, tmp_path, capsys, monkeypatch, rng):
    """Data are scaled and trained on chunk by chunk, resumed and evaluated, with the same printed digits."""
    X = rng.integers(0, 200, (1500, 6)).astype(np.uint8)
    np.savez(
        tmp_path / "d.npz", X=X, y=(X[:, 0] > 100) + (X[:, 1] > 50) if task == "classification" else X @ np.arange(6.0)
    )
    options = ["--task", task, "--hidden", "9", "--no-progress", "--backend", "numpy", "--dtype", "float64"]
    said = []
    for limit in (arrays.CONVERTED_LIMIT, 0):
        monkeypatch.setattr(arrays, "CONVERTED_LIMIT", limit)
        monkeypatch.setattr(chunked, "CHUNK_BYTES", 300 * (6 + 3) * 8)
        model, run_file = (str(tmp_path / f"{name}{limit}") for name in ("model", "run"))
        for epochs in ("2", "4"):
            command = ["train", str(tmp_path / "d.npz"), *options, "--epochs", epochs, "--out", model]
            assert run([*command, "--checkpoint", run_file, "--resume"]) == 0
        assert run(["evaluate", model, str(tmp_path / "d.npz")]) == 0
        out = re.sub(r"in [\d.]+ s, +[\d,]+ samples/s|\S*(model|run)\d+", "", capsys.readouterr().out)
        said.append(out.splitlines())
        parameters = dp.load(model, "numpy").network.parameters
        said[-1].append(parameters.tobytes())
    assert said[0] == said[1]
    assert len(said[0]) > 9
