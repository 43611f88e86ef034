"""Compiled steps of networks with one hidden layer, whose units are shared out among threads."""

import numpy as np
import pytest
from cases import assert_same_training
from conftest import use_threads

import deltaprop as dp
from deltaprop.epochs.compiled_plan import PlanTable

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}

#: Widths around those at which blocks of units begin. One has more outputs than may be shared out; the last has more
#: weights than a small layer.
SIZES = [
    [5, 16, 1],
    [64, 30, 10],
    [64, 63, 3],
    [30, 64, 2],
    [64, 100, 10],
    [9, 255, 2],
    [130, 256, 10],
    [3, 1030, 5],
    [6, 24, 20],
    [640, 45, 3],
]


pytestmark = pytest.mark.usefixtures("compiled_library")
numbers_of_threads = pytest.mark.parametrize("threads", [1, 2, 3, 5], indirect=True)


def data(sizes, m, rng):
    return rng.standard_normal((m, sizes[0])), np.eye(sizes[-1])[rng.integers(0, sizes[-1], m)]


def assert_as_step_by_step(sizes, X, Y, *, how, **options):
    ours, reference = (dp.Network(sizes, backend=backend, seed=3, **options) for backend in ("numpy", "reference"))
    tolerance = TOLERANCE[ours.dtype.name]
    assert_same_training(ours, ours.fit(X, Y, **how), reference, reference.fit(X, Y, **how), tolerance)


@numbers_of_threads
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_step_by_step(sizes, dtype, threads, rng):
    X, Y = data(sizes, 75, rng)
    how = {"optimizer": dp.Adam(1e-3), "batch_size": 20, "epochs": 3, "l2": 0.1}
    options = {"loss": "squared_error", "output_activation": "identity", "dtype": dtype}
    assert_as_step_by_step(sizes, X, Y, how=how, hidden_activation="tanh", **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", [(), (40,), (5, 4)], ids=str)
def test_columns_of_any_number(hidden, dtype, rng):
    """Vectors are whole, halves or parts of these, and tiles have up to six rows."""
    how = {"optimizer": dp.SGD(1e-2), "batch_size": 17, "epochs": 2}
    for width in range(1, 36):
        sizes = [width, *hidden, width]
        assert_as_step_by_step(sizes, *data(sizes, 40, rng), how=how, loss="squared_error", dtype=dtype)


@numbers_of_threads
@pytest.mark.parametrize("batch_size", [1, 7, 33, None])
@pytest.mark.parametrize(
    "optimizer", [dp.SGD(0.005), dp.SGD(0.005, momentum=0.9), dp.Adam(1e-3)], ids=["sgd", "momentum", "adam"]
)
def test_minibatches_of_any_size(batch_size, optimizer, threads, rng):
    """Products of few rows and of many are formed in different ways; 640 × 40 weights are more than a small layer has."""
    X, Y = data([640, 40, 3], 70, rng)
    options = {"hidden_activation": "relu", "loss": "categorical_cross_entropy", "output_activation": "softmax"}
    weights = rng.uniform(0.5, 1.5, len(X))
    how = {"optimizer": optimizer, "batch_size": batch_size, "epochs": 2, "l2": 0.3, "sample_weight": weights}
    assert_as_step_by_step([640, 40, 3], X, Y, how=how, **options)


@pytest.mark.parametrize("optimizer", [dp.SGD(1e-3, momentum=0.0), dp.Adam(1e-2)], ids=["sgd", "adam"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [*SIZES, [400, 100, 3], [400, 900, 1], [70, 200, 10]], ids=str)
def test_the_same_numbers_with_any_number_of_threads(sizes, dtype, optimizer, rng, monkeypatch):
    """Those of the weights, whichever part of a vector holds the column of a unit."""
    X, Y = data(sizes, 90, rng)
    found = []
    for count in (1, 2, 3, 7, 20):
        use_threads(monkeypatch, count)
        net = dp.Network(sizes, loss="squared_error", backend="numpy", seed=2, dtype=dtype)
        for batch_size in (16, 37):
            net.fit(X, Y, optimizer=optimizer, batch_size=batch_size, epochs=3, l2=0.1)
        found.append(net.parameters.copy())
    assert all(np.array_equal(found[0], other) for other in found[1:])


def scratch_of(sizes, batches):
    """Entries of scratch for members with minibatches of these sizes, each trained by one thread."""
    stack = dp.NetworkStack(len(batches), sizes, backend="numpy", loss="squared_error")
    X, Y = np.zeros((400, sizes[0])), np.zeros((400, sizes[-1]))
    table = PlanTable(stack, X, Y, [dp.SGD()] * len(batches), [], [400] * len(batches), batches)
    return table.share_scratch(1, 1)


def test_scratch_has_room_for_what_a_step_holds_and_no_more():
    """A row more: its inputs; z, a and delta of the hidden layer; the sums of 4 blocks, and z, a, delta of the outputs."""
    assert (scratch_of([64, 100, 10], [64]) - scratch_of([64, 100, 10], [32])) / 32 <= 64 + 3 * 100 + (4 + 3) * 10


def test_scratch_suffices_for_every_member():
    """With minibatches of up to 2^17 inputs the units are shared out, which takes other memory than larger ones do."""
    alone = [scratch_of([1024, 600, 2], [batch]) for batch in (128, 129)]
    assert scratch_of([1024, 600, 2], [128, 129]) == max(alone)
