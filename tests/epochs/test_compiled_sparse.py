"""A first layer over a sparse matrix: the compiled library learns from its rows what it learns from the dense array."""

import warnings
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, relative
from conftest import use_threads
from scipy import sparse

import deltaprop as dp
from deltaprop.backends.native.arrays import check_rows
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import compiled
from deltaprop.epochs.compiled_sparse import entries_of_a_batch
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

pytestmark = pytest.mark.usefixtures("compiled_library")


def rows(rng, m, features, density=0.2, dtype=np.float64):
    """A matrix some of whose rows and columns are empty."""
    X = rng.standard_normal((m, features)) * (rng.random((m, features)) < density)
    X[3], X[:, features // 2] = 0.0, 0.0
    return sparse.csr_array(X.astype(dtype))


def trainer(
    backend,
    sizes,
    X,
    Y,
    optimizer,
    batch_size,
    *,
    l2=0.0,
    weight=None,
    dropout=(),
    dtype="float64",
    shuffled=True,
    **options,
):
    net = dp.Network(sizes, backend=backend, seed=2, dtype=dtype, **options)
    how = {"shuffled": shuffled, "sample_weight": weight, "dropout": dropout}
    return Trainer(net, X, Y.astype(dtype), optimizer, Objective(l2=l2), batch_size, **how)


def learn(given, epochs, rng):
    """Train epochs in orders of their own, or as the samples stand; return what each cost."""
    costs = []
    for _ in range(epochs):
        given.epoch(0.05, rng.permutation(given.samples) if given.shuffled else None, Silent())
        given.network.epochs_trained += 1
        costs.append(given.total())
    return costs


def assert_as_from_the_dense_array(sizes, X, Y, *arguments, dense=None, tolerance=1e-12, epochs=3, **options):
    dense = X.toarray() if dense is None else dense
    ours, theirs = (
        trainer(backend, sizes, given, Y, *arguments, **options)
        for backend, given in (("numpy", X), ("reference", dense))
    )
    assert isinstance(ours.whole_epoch, compiled.CompiledEpoch)
    costs, expected = (learn(each, epochs, np.random.default_rng(8)) for each in (ours, theirs))
    assert costs == pytest.approx(expected, rel=tolerance)
    assert relative(ours.network.weights, theirs.network.weights) < tolerance
    assert relative(ours.network.biases, theirs.network.biases) < tolerance
    return ours


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize(
    "options", [{}, {"l2": 0.3, "shuffled": False}, {"weight": True}, {"dropout": (0.4,)}], ids=str
)
def test_every_optimizer(optimizer, options, threads, rng):
    """With a last minibatch that is shorter, and units that fill no vector."""
    if "weight" in options:
        options = {"weight": rng.integers(0, 3, 53).astype(float)}
    X, Y = rows(rng, 53, 30), np.eye(4)[rng.integers(0, 4, 53)]
    loss = {"loss": "categorical_cross_entropy", "output_activation": "softmax", "hidden_activation": "tanh"}
    assert_as_from_the_dense_array([30, 21, 4], X, Y, optimizer, 8, **loss, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("units", [1, 2, 7, 8, 16, 23, 64, 100, 129, 300])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_any_number_of_units(units, optimizer, dtype, threads, rng):
    X, Y = rows(rng, 31, 12, dtype=dtype), rng.standard_normal((31, 2))
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for sizes in ([12, units, 2], [12, units, 5, 2], [12, 2]):
        assert_as_from_the_dense_array(
            sizes, X, Y, optimizer, 9, loss="squared_error", dtype=dtype, tolerance=tolerance
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [[30, 16, 1], [64, 100, 10], [9, 255, 2], [400, 300, 3], [6, 24, 20]], ids=str)
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_the_same_numbers_with_any_number_of_threads(optimizer, sizes, dtype, monkeypatch, rng):
    X, Y = rows(rng, 70, sizes[0], dtype=dtype), rng.standard_normal((70, sizes[-1]))
    found = []
    for count in (1, 2, 3, 7, 20):
        use_threads(monkeypatch, count)
        given = trainer("numpy", sizes, X, Y, optimizer, 16, loss="squared_error", dtype=dtype, l2=0.1)
        learn(given, 3, np.random.default_rng(8))
        found.append(given.network.parameters.copy())
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_entries_in_any_order_twice_or_zero(index, optimizer, threads, rng):
    lengths = rng.integers(0, 9, 40)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(index)
    columns, values = rng.integers(0, 11, starts[-1]).astype(index), rng.standard_normal(starts[-1])
    values[::7] = 0.0
    X, dense = sparse.csr_array((values, columns, starts), shape=(40, 11)), np.zeros((40, 11))
    np.add.at(dense, (np.repeat(np.arange(40), lengths), columns), values)
    assert not X.has_sorted_indices
    Y = rng.standard_normal((40, 3))
    before = [part.copy() for part in (X.indptr, X.indices, X.data)]
    assert_as_from_the_dense_array([11, 10, 3], X, Y, optimizer, 6, dense=dense, loss="huber")
    assert all(np.array_equal(a, b) for a, b in zip(before, (X.indptr, X.indices, X.data), strict=True))


def test_more_columns_than_are_used_and_a_layer_shared_out_by_units(threads, rng):
    X = sparse.random_array((50, 5000), density=0.002, format="csr", rng=rng)
    Y = rng.standard_normal((50, 2))
    for optimizer in (dp.Adam(0.01), dp.SGD(0.1), dp.SGD(0.1, momentum=0.5)):
        for sizes in ([5000, 40, 2], [5000, 40, 3, 2]):
            assert_as_from_the_dense_array(sizes, X, Y, optimizer, 7, loss="squared_error", l2=0.1)


def test_more_entries_than_every_thread_would_read(threads, rng):
    """Threads share the units of smaller minibatches, and the rows of this one."""
    X, Y = rows(rng, 1400, 120, density=0.9), rng.standard_normal((1400, 2))
    assert X.nnz > 2**17
    for optimizer in (dp.Adam(0.01), dp.SGD(0.1)):
        assert_as_from_the_dense_array([120, 20, 2], X, Y, optimizer, 1400, loss="squared_error", epochs=2)


def test_no_entries_at_all(threads, rng):
    X, Y = sparse.csr_array((20, 6)), rng.standard_normal((20, 2))
    for optimizer in (dp.Adam(0.01), dp.SGD(0.1)):
        assert_as_from_the_dense_array([6, 5, 2], X, Y, optimizer, 8, loss="squared_error")


#: With 9 units threads share the rows of a minibatch, with 18 the units.
UNITS = pytest.mark.parametrize("units", [9, 18])


@UNITS
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_many_epochs_a_call_and_many_calls_an_epoch(optimizer, units, threads, monkeypatch, rng):
    X, Y = rows(rng, 45, 14), rng.standard_normal((45, 2))
    how = (optimizer, 6)
    once = trainer("numpy", [14, units, 2], X, Y, *how, loss="squared_error")
    orders = [rng.permutation(45) for _ in range(5)]
    assert once.epochs_at_once > 4
    costs, good = once.epochs(0.05, orders)
    assert good == 5
    monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1e-9)
    often = trainer("numpy", [14, units, 2], X, Y, *how, loss="squared_error")
    for order, cost in zip(orders, costs, strict=True):
        often.epoch(0.05, order, Silent())
        assert often.total() == pytest.approx(cost, rel=1e-14)
    assert np.array_equal(once.network.parameters, often.network.parameters)


@UNITS
def test_a_call_that_is_stopped_leaves_the_weights_as_they_were(units, rng):
    """They lie in other memory while the library runs, and come back only from a call that ends."""
    X, Y = rows(rng, 45, 14), rng.standard_normal((45, 2))
    given = trainer("numpy", [14, units, 2], X, Y, dp.Adam(0.01), 6, loss="squared_error", shuffled=False)
    before, whole = given.network.weights[0].copy(), given.whole_epoch
    assert isinstance(whole, compiled.CompiledEpoch)
    whole.table.stop.value = 1
    given.epoch(0.05, None, Silent())
    assert np.array_equal(given.network.weights[0], before)
    whole.table.stop.value = 0
    given.epoch(0.05, None, Silent())
    assert not np.array_equal(given.network.weights[0], before)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
@pytest.mark.parametrize("estimator", [dp.MLPClassifier, dp.MLPRegressor])
def test_estimators(kind, estimator, caplog, rng):
    X, y = rows(rng, 80, 25), rng.integers(0, 3, 80)
    how: dict[str, Any] = {"hidden_layer_sizes": (12,), "max_iter": 5, "random_state": 0, "batch_size": 16}
    with warnings.catch_warnings(), caplog.at_level("INFO", logger="deltaprop"):
        warnings.simplefilter("ignore")
        ours = estimator(**how, backend="numpy", early_stopping=True).fit(kind(X), y)
        theirs = estimator(**how, backend="reference", early_stopping=True).fit(X.toarray(), y)
    assert "compiled epochs" in caplog.text
    assert relative(ours.coefs_, theirs.coefs_) < 1e-12
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-12)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"indices": [0, 3, 1]}, "expected indices from 0 to 2, got 3"),
    ({"indices": [0, -1, 1]}, "expected indices from 0 to 2, got -1"),
    ({"indptr": [0, 2, 1]}, "expected an indptr that begins with 0 and never falls"),
    ({"indptr": [1, 2, 3]}, "expected an indptr that begins with 0 and never falls"),
    ({"indptr": [0, 2, 4]}, "its indptr ends at 4, expected at most the 3 indices and 3 values"),
    ({"data": [1.0]}, "its indptr ends at 3, expected at most the 3 indices and 1 values"),
]


@pytest.mark.parametrize(("changed", "message"), MALFORMED)
def test_malformed_matrices_are_refused(changed, message):
    parts = {"indptr": [0, 2, 3], "indices": [0, 2, 1], "data": [1.0, 2.0, 3.0]}
    X = sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=(2, 3))
    for name, value in changed.items():
        setattr(X, name, np.array(value, getattr(X, name).dtype))
    with pytest.raises(ValueError, match=f"X: {message}"):
        trainer("numpy", [3, 2], X, np.zeros((2, 2)), dp.SGD(), 2, loss="squared_error")


def test_an_indptr_of_no_entries():
    with pytest.raises(ValueError, match="X: expected an indptr"):
        check_rows("X", np.zeros(0, np.int32), np.zeros(0, np.int32), 0, 3)
    check_rows("X", np.zeros(1, np.int32), np.zeros(0, np.int32), 0, 3)


@pytest.mark.parametrize(("batch", "most"), [(1, 5), (2, 9), (3, 10), (4, 10), (9, 10)])
def test_the_entries_of_the_fullest_minibatch(batch, most):
    assert entries_of_a_batch(np.array([0, 1, 6, 6, 10]), batch) == most
