"""Data that do not fit the device are streamed, with the results of data that fit."""

from typing import Any

import numpy as np
import pytest
from cases import assert_same_training, relative
from conftest import backend_or_skip

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.epochs.chunked import ChunkedEpoch
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.resident import ResidentEpoch
from deltaprop.training import evaluation


@pytest.fixture(params=["cuda-on-host", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """A device without room for the data, where a chunk is a few minibatches."""
    backend = backend_or_skip(request.param)
    monkeypatch.setattr(backend, "room", lambda: 100)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 8 * 7 * 9 * 3)
    return backend


@pytest.fixture
def chunks(monkeypatch):
    """The number of samples of each chunk."""
    seen = []
    trainer = ChunkedEpoch._trainer
    monkeypatch.setattr(
        ChunkedEpoch, "_trainer", lambda self, chunk: (seen.append(len(chunk.X)), trainer(self, chunk))[1]
    )
    return seen


@pytest.fixture(params=["resident", "graph", "steps"])
def way(request, monkeypatch):
    if request.param != "resident":
        monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    if request.param == "steps":
        monkeypatch.setattr(GraphEpoch, "find", lambda *_: None)


def fits(device, X, Y, **how):
    """Train streamed on the device, and by NumPy on all data. Lists are no device arrays."""
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "hidden_activation": "tanh", "seed": 3}
    nets = [dp.Network([6, 8, 3], backend=backend, **options) for backend in (device, "reference")]
    histories = [net.fit(data, Y, **how) for net, data in zip(nets, (X.tolist(), X), strict=True)]
    assert_same_training(nets[0], histories[0], nets[1], histories[1])
    return histories[0]


def test_a_share_of_streamed_data_is_held_out(device, chunks, rng):
    """Scores and classes of data that do not fit are those of data that do."""
    X, y = rng.standard_normal((71, 6)), rng.integers(0, 3, 71)
    weights = rng.uniform(1, 2, 71)
    history = fits(device, X, y, batch_size=7, epochs=3, validation=0.2, sample_weight=weights, metrics=["accuracy"])
    assert sum(chunks) == 3 * (71 - 14)
    assert len(history.metrics["accuracy"]) == 3
    nets = [dp.Network([6, 3], init="normal", backend=backend) for backend in (device, "reference")]
    scores, classes = zip(*((net.score(X.tolist(), y, weights), net.predict_classes(X)) for net in nets), strict=True)
    assert scores[0] == pytest.approx(scores[1])
    assert np.array_equal(*classes)
    nets = [dp.Network([6, 2], loss="squared_error", backend=backend) for backend in (device, "reference")]
    scores = tuple(net.score(X.tolist(), X[:, :2]) for net in nets)
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.AdamW(0.01)], ids=repr)
def test_streamed_training_is_training(device, way, chunks, optimizer, shuffle, weighted, rng):
    X, y = rng.standard_normal((71, 6)), rng.integers(0, 3, 71)
    how: dict[str, Any] = {"sample_weight": rng.integers(0, 3, 71).astype(float)} if weighted else {}
    how |= {"optimizer": optimizer, "batch_size": 7, "epochs": 3, "l2": 0.2, "shuffle": shuffle}
    history = fits(device, X, y, **how)
    assert history.epochs == 3
    assert chunks == 3 * [21, 21, 21, 8]


@pytest.mark.parametrize("samples", [1, 21, 22, 42])
@pytest.mark.parametrize("batch_size", [1, 21, None])
def test_sizes(device, chunks, samples, batch_size, rng):
    fits(device, rng.standard_normal((samples, 6)), rng.integers(0, 3, samples), batch_size=batch_size, epochs=2)
    assert sum(chunks) == 2 * samples


def test_dropout_goes_on_from_chunk_to_chunk(device, chunks, rng):
    X, y = rng.standard_normal((71, 6)), rng.integers(0, 3, 71)
    fits(device, X, y, optimizer=dp.SGD(0.1, momentum=0.9), batch_size=7, epochs=2, dropout=0.5)
    assert chunks


def test_with_validation_and_early_stopping(device, chunks, rng):
    X, y = rng.standard_normal((71, 6)), rng.integers(0, 3, 71)
    held_out = rng.standard_normal((5, 6)), rng.integers(0, 3, 5)
    history = fits(device, X, y, epochs=4, validation=held_out, early_stopping=dp.EarlyStopping(2))
    assert len(history.validation_cost) == history.epochs
    assert chunks


@pytest.fixture
def small_chunks(monkeypatch):
    """The number of samples of each chunk of a prediction, at most four."""
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 4 * (6 + 8) * 8)
    seen, chunks = [], evaluation._chunks

    def counted(network, X):
        for rows, inputs in chunks(network, X):
            seen.append(len(inputs))
            yield rows, inputs

    monkeypatch.setattr(evaluation, "_chunks", counted)
    return seen


def test_predictions_and_costs_of_data_that_do_not_fit(device, small_chunks, rng):
    X, y, weight = rng.standard_normal((71, 6)), rng.integers(0, 3, 71), rng.uniform(0, 2, 71)
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "seed": 3}
    net, reference = (dp.Network([6, 8, 3], backend=backend, **options) for backend in (device, "reference"))
    predicted = net.predict(X.tolist())
    assert small_chunks == [*[4] * 17, 3]
    assert type(predicted) is np.ndarray
    assert relative(predicted, reference.predict(X)) < 1e-13
    for how in ({"l2": 0.3}, {"sample_weight": weight, "reduction": "sum"}):
        assert net.cost(X.tolist(), y, **how) == pytest.approx(reference.cost(X, y, **how), rel=1e-13)
    assert sum(small_chunks) == 3 * 71
    with pytest.raises(ValueError, match="X: expected 6 features"):
        net.predict(np.zeros((30, 5)).tolist())


def test_validation_data_that_do_not_fit(device, chunks, small_chunks, rng):
    X, y = rng.standard_normal((71, 6)), rng.integers(0, 3, 71)
    held_out = rng.standard_normal((9, 6)), rng.integers(0, 3, 9)
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "seed": 3}
    histories = []
    backend: Any
    for backend, validation in ((device, (held_out[0].tolist(), held_out[1])), ("reference", held_out)):
        net = dp.Network([6, 8, 3], backend=backend, **options)
        histories.append(net.fit(X.tolist(), y, epochs=2, validation=validation, metrics=["accuracy", "r2"]))
    ours, reference = histories
    assert small_chunks == [4, 4, 1] * 2
    assert ours.validation_cost == pytest.approx(reference.validation_cost, rel=1e-12)
    for name, values in ours.metrics.items():
        assert values == pytest.approx(reference.metrics[name], rel=1e-12)


def test_wrong_data_are_refused_as_ever(device, rng):
    net = dp.Network([6, 8, 3], backend=device, loss="categorical_cross_entropy")
    X = rng.standard_normal((30, 6))
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"X: expected finite numbers.*X\[3, 2\]"):
        net.fit(X.tolist(), np.zeros(30, int))
    with pytest.raises(ValueError, match="X: expected 6 features"):
        net.fit(np.zeros((30, 5)).tolist(), np.zeros(30, int))
    with pytest.raises(ValueError, match=r"Y: expected shape \(30, 3\)"):
        net.fit(np.zeros((30, 6)).tolist(), np.zeros(29, int))


def test_data_that_fit_are_not_streamed(device, chunks, monkeypatch, rng):
    monkeypatch.setattr(device, "room", lambda: 10**9)
    fits(device, rng.standard_normal((71, 6)), rng.integers(0, 3, 71), batch_size=7)
    assert not chunks
