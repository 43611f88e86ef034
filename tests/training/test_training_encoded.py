"""Networks and stacks answer and learn from encoded rows as from the array of their inputs."""

from typing import Any

import numpy as np
import pytest
from conftest import backend_or_skip
from members_alone import host

import deltaprop as dp
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding, OneHot, Squashed

TOLERANCE = {"float64": 1e-9, "float32": 2e-4}


def encoding_of(stored):
    """An encoding of five columns: two of bins, one of levels, two of plain numbers."""
    edges = [
        np.unique(np.quantile(stored[:, column], np.linspace(0, 1, bins + 1))) for column, bins in ((0, 12), (1, 5))
    ]
    return InputEncoding(5, [Binned(0, edges[0]), OneHot(2, 4), Squashed(0), Binned(1, edges[1]), Copied(3), Copied(4)])


def problem(rng, dtype, m=150):
    stored = rng.standard_normal((m, 5)) * [1, 30, 1, 1, 1]
    stored[:, 2] = rng.integers(-1, 5, m)
    stored[:, 4] = rng.integers(0, 2, m)
    encoding = encoding_of(stored)
    stored[: m // 10] *= 3  # beyond the first and the last edge
    Y = (np.abs(stored[:, 0]) + (stored[:, 2] == 1) > 1).astype(np.int64) + (stored[:, 1] > 20)
    return EncodedRows(np.ascontiguousarray(stored, dtype), encoding), Y


def stack_of(X, dtype, backend, members=3):
    return dp.NetworkStack(
        members,
        [X.shape[1], 16, 7, 3],
        hidden_activation="silu",
        output_activation="softmax",
        loss="categorical_cross_entropy",
        init="he",
        dtype=dtype,
        backend=backend,
    )


@pytest.fixture(params=["numpy", "reference", "torch", "cuda-on-host"])
def name(request):
    return request.param if request.param in ("numpy", "reference") else backend_or_skip(request.param)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_answers(rng, name, dtype):
    X, Y = problem(rng, dtype)
    stack, inputs = stack_of(X, dtype, name), X[:]
    tolerance: Any = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(stack.predict(X), stack.predict(inputs), **tolerance)
    np.testing.assert_allclose(stack[1].predict(X), stack[1].predict(inputs), **tolerance)
    np.testing.assert_allclose(stack.cost(X, Y, l2=0.1), stack.cost(inputs, Y, l2=0.1), **tolerance)
    weights = rng.uniform(0, 2, len(Y))
    expected = stack[2].cost(inputs, Y, sample_weight=weights)
    np.testing.assert_allclose(stack[2].cost(X, Y, sample_weight=weights), expected, **tolerance)


def both(rng, name, dtype, **options):
    """Stacks trained on encoded rows and on the array of their inputs, and their histories."""
    X, Y = problem(rng, dtype)
    trained = []
    for data in (X, X[:]):
        stack = stack_of(X, dtype, name)
        trained.append((stack, stack.fit(data, Y, optimizer=dp.Adam(0.01), batch_size=16, **options)))
    return trained


def assert_alike(trained, dtype):
    (encoded, histories), (dense, expected) = trained
    tolerance: Any = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    np.testing.assert_allclose(host(encoded.parameters), host(dense.parameters), **tolerance)
    for own, others in zip(histories, expected, strict=True):
        np.testing.assert_allclose(own.cost, others.cost, **tolerance)
        np.testing.assert_allclose(own.validation_cost, others.validation_cost, **tolerance)
        assert own.best_epoch == others.best_epoch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_with_folds_weights_and_early_stopping(rng, name, dtype):
    folds = np.arange(150) % 3
    trained = both(
        rng,
        name,
        dtype,
        epochs=6,
        l2=[0.0, 0.1, 1.0],
        samples=[np.flatnonzero(folds != k) for k in range(3)],
        validation_samples=[np.flatnonzero(folds == k) for k in range(3)],
        sample_weight=rng.uniform(0, 2, 150),
        early_stopping=dp.EarlyStopping(monitor="validation_cost", patience=3),
        metrics=["accuracy"],
    )
    assert_alike(trained, dtype)
    assert trained[0][1][0].metrics["accuracy"] == trained[1][1][0].metrics["accuracy"]


@pytest.mark.parametrize("options", [{"shuffle": False}, {"dropout": 0.3}, {"validation": True}])
def test_other_ways_of_training(rng, name, options):
    X, Y = problem(np.random.default_rng(5), "float64", 40)
    if "validation" in options:
        trained = [
            both(np.random.default_rng(1), name, "float64", epochs=2, validation=(data, Y))[0] for data in (X, X[:])
        ]
    else:
        trained = both(rng, name, "float64", epochs=2, **options)
    assert_alike(trained, "float64")


def test_one_network(rng, name):
    X, Y = problem(rng, "float64")
    trained = []
    for data in (X, X[:]):
        network = dp.Network(
            [X.shape[1], 5, 3], output_activation="softmax", loss="categorical_cross_entropy", backend=name, seed=3
        )
        network.fit(data, Y, epochs=2)
        trained.append(network.backend.to_numpy(network.parameters))
    np.testing.assert_array_equal(trained[0], trained[1])
