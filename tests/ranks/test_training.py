"""Several ranks train as one does: the same numbers to rounding, and the same bits on all of them."""

import re
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from threads import ThreadRanks, run_threads

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs.shares import even_shares, warn_of_idle
from deltaprop.epochs.trainer import Trainer
from deltaprop.ranks.base import ALONE
from deltaprop.reports.progress import Silent

RNG = np.random.default_rng(7)
M = 101
X = RNG.normal(size=(M, 9))
LABELS = RNG.integers(0, 3, M)
Y = np.eye(3)[LABELS]
WEIGHTS = np.where(np.arange(M) < 40, 0.0, RNG.uniform(0.5, 2.0, M))


class Lion(dp.Optimizer):
    """A rule of the user's own, which trains step by step."""

    def init(self, network):
        return {"mean": network.backend.zeros(network.parameters.shape, network.dtype)}

    def apply(self, network, gradient, state, rate, decay):
        theta, mean, g = network.parameters, state["mean"], gradient.flat
        theta -= rate * np.tanh(0.9 * mean + 0.1 * g)
        mean += 0.1 * (g - mean)


def squared(h, y):
    return 0.5 * (h - y) ** 2


def its_gradient(h, y):
    return h - y


CASES: dict[str, tuple[dp.Optimizer, dict[str, Any]]] = {
    "descent": (dp.SGD(0.3), {}),
    "momentum, l2": (dp.SGD(0.1, momentum=0.9), {"l2": 0.2}),
    "nesterov, absolute l2": (dp.SGD(0.1, momentum=0.9, nesterov=True), {"l2": 0.01, "l2_scaling": "absolute"}),
    "adam": (dp.Adam(0.02), {}),
    "adamw, l2": (dp.AdamW(0.02, weight_decay=0.1), {"l2": 0.1}),
    "weights of 0": (dp.SGD(0.2), {"sample_weight": WEIGHTS}),
    "dropout": (dp.Adam(0.02), {"dropout": [0.4, 0.2]}),
    "sum": (dp.SGD(0.003), {"reduction": "sum"}),
    "in order": (dp.SGD(0.3), {"shuffle": False}),
    "full batch": (dp.SGD(0.5), {"batch_size": None}),
    "one by one": (dp.SGD(0.02), {"batch_size": 1}),
    "more ranks than rows at the end": (dp.Adam(0.02), {"batch_size": 25}),
    "schedule": (dp.Adam(dp.StepDecay(0.05, 0.5, every=1)), {}),
    "a rule of one's own": (Lion(0.05), {}),
}


def trained(ranks, optimizer, *, layers=(9, 14, 8, 3), backend="numpy", dtype="float64", data=X, **options):
    net = dp.Network(layers, loss="categorical_cross_entropy", backend=backend, dtype=dtype, seed=4)
    defaults: dict[str, Any] = {
        "batch_size": 32,
        "validation": (X[:31], Y[:31]),
        "metrics": ["accuracy", "r2", nearest],
    }
    history = net.fit(data, Y, optimizer=optimizer, epochs=3, ranks=ranks, **defaults | options)
    return net, history


def nearest(h, y):
    """A metric of one's own, which needs all predictions: the middle of their errors."""
    return float(np.median(abs(h - y).max(axis=1)))


def numbers(history):
    return [history.cost, history.validation_cost, *history.metrics.values(), history.learning_rate]


def assert_same(found, expected, places=1e-12):
    net, history = found
    alone, of_alone = expected
    np.testing.assert_allclose(net.parameters, alone.parameters, rtol=0, atol=places)
    for own, expected_numbers in zip(numbers(history), numbers(of_alone), strict=True):
        np.testing.assert_allclose(own, expected_numbers, rtol=places, atol=places)
    assert history.message == of_alone.message


def assert_same_bits(found):
    (first, of_first), *others = found
    for net, history in others:
        assert net.parameters.tobytes() == first.parameters.tobytes()
        assert history == of_first
        assert net.epochs_trained == first.epochs_trained


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_as_one_rank(name, size):
    optimizer, options = CASES[name]
    found = run_threads(size, lambda ranks: trained(ranks, optimizer, **options))
    assert_same_bits(found)
    assert_same(found[0], trained(None, optimizer, **options))


@pytest.mark.parametrize("layers", [(9, 3), (9, 40, 3), (9, 64, 3), (9, 200, 120, 3)], ids=str)
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_every_form_of_a_step(backend, layers):
    """No hidden layer, units shared out over threads, layers that are products by panels."""
    for optimizer in (dp.SGD(0.1), dp.Adam(0.01)):
        options: dict[str, Any] = {"layers": layers, "backend": backend, "l2": 0.1}
        found = run_threads(3, lambda ranks: trained(ranks, optimizer, **options))  # noqa: B023  (it has run)
        assert_same_bits(found)
        assert_same(found[0], trained(None, optimizer, **options))


def test_a_loss_of_ones_own():
    def run(ranks):
        net = dp.Network([9, 6, 3], loss=(squared, its_gradient), backend="numpy", seed=1)
        return net, net.fit(X, Y, optimizer=dp.Adam(0.02), epochs=2, dropout=0.3, ranks=ranks)

    found = run_threads(3, run)
    assert_same_bits(found)
    assert_same(found[0], run(None))


@pytest.mark.parametrize("rule", [dp.SGD(0.3), dp.SGD(0.1, momentum=0.9), dp.Adam(0.02)], ids=repr)
@pytest.mark.parametrize("layers", [(9, 14, 3), (9, 40, 3), (9, 40, 20, 3)], ids=str)
def test_sparse_inputs(layers, rule):
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(np.where(abs(X) > 1.0, X, 0.0))

    def run(ranks, data):
        net = dp.Network(layers, loss="categorical_cross_entropy", backend="numpy", seed=4)
        trainer = Trainer(net, data, Y, rule, Objective(l2=0.1), 32, shuffled=True, ranks=ranks)
        for epoch in range(2):
            trainer.epoch(0.1, np.random.default_rng(epoch).permutation(M), Silent())
        return net, trainer.whole_epoch, trainer.total()

    (net, way, cost), *_ = run_threads(3, lambda ranks: run(ranks, sparse))
    dense, _, of_dense = run(ALONE, sparse.toarray())
    assert type(way).__name__ == "CompiledSharedEpoch"
    np.testing.assert_allclose(net.parameters, dense.parameters, rtol=0, atol=1e-12)
    assert abs(cost - of_dense) < 1e-12


def test_float32_has_the_same_bits_on_all_ranks():
    found = run_threads(4, lambda ranks: trained(ranks, dp.Adam(0.02), dtype="float32"))
    assert_same_bits(found)
    assert_same(found[0], trained(None, dp.Adam(0.02), dtype="float32"), places=1e-4)


def test_against_a_loop_over_samples():
    """Momentum over global minibatches, written out sample by sample."""
    net = run_threads(3, lambda ranks: trained(ranks, dp.SGD(0.1, momentum=0.9), layers=(9, 5, 3), l2=0.2))[0][0]
    theta = dp.Network([9, 5, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
    W1, W2 = (W.copy() for W in theta.weights)
    b1, b2 = (b.copy() for b in theta.biases)
    velocity = [np.zeros_like(array) for array in (W1, b1, W2, b2)]
    for epoch in range(3):
        order = np.random.default_rng((4, 1, epoch)).permutation(M)
        for start in range(0, M, 32):
            batch = order[start : start + 32]
            gradient = [0.2 / M * W1, np.zeros_like(b1), 0.2 / M * W2, np.zeros_like(b2)]
            for i in batch:
                a = 1.0 / (1.0 + np.exp(-(W1 @ X[i] + b1)))
                e = np.exp(W2 @ a + b2)
                delta = (e / e.sum() - Y[i]) / len(batch)
                back = (W2.T @ delta) * a * (1 - a)
                for own, more in zip(gradient, (np.outer(back, X[i]), back, np.outer(delta, a), delta), strict=True):
                    own += more
            for v, g, array in zip(velocity, gradient, (W1, b1, W2, b2), strict=True):
                v *= 0.9
                v -= 0.1 * g
                array += v
    for own, expected in zip((*net.weights, *net.biases), (W1, W2, b1, b2), strict=True):
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)


def test_early_stopping():
    options: dict[str, Any] = {"early_stopping": dp.EarlyStopping(patience=1), "validation": 0.25}

    def run(ranks):
        net = dp.Network([9, 20, 3], loss="categorical_cross_entropy", backend="numpy", seed=3)
        return net, net.fit(X, Y, optimizer=dp.SGD(2.0), epochs=60, metrics=["accuracy"], ranks=ranks, **options)

    found, alone = run_threads(3, run), run(None)
    assert_same_bits(found)
    assert found[0][1].epochs < 60
    assert found[0][1].best_epoch == alone[1].best_epoch
    assert_same(found[0], alone, places=1e-9)  # some 40 epochs of steep descent


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_even_and_whole(size):
    sizes, rows = (10, 10, 10, 4), []
    for rank in range(size):
        shares = even_shares(sizes, ThreadRanks(rank, [None] * size, threading.Barrier(size)))
        counts = np.diff(shares.starts)
        assert all(abs(count - m / size) < 1 for count, m in zip(counts, sizes, strict=True))
        part = shares.of_part(1, 3)
        assert part.sizes == sizes[1:3]
        np.testing.assert_array_equal(part.rows + 10, shares.rows[shares.starts[1] : shares.starts[3]])
        rows.append(shares.rows)
    assert sorted(np.concatenate(rows)) == list(range(34))


def test_ranks_without_rows_are_warned_of():
    first, second = (ThreadRanks(rank, [None] * 3, threading.Barrier(3)) for rank in (0, 1))
    with pytest.warns(RuntimeWarning, match="ranks: 2 of 3 ranks have no rows to train on, as a minibatch has 1"):
        warn_of_idle(first, 1, "a minibatch has 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_idle(second, 1, "rank 0 has warned")
        warn_of_idle(first, 3, "all have some")


def test_one_sum_a_step_and_nothing_for_one_rank():
    sums = run_threads(2, lambda ranks: (trained(ranks, dp.Adam(0.02)), ranks.summed)[1])
    steps = 3 * 4
    size = Parameters(dp.get_backend("numpy"), (9, 14, 8, 3), np.float64).size
    assert sums == [[size + 2] * steps] * 2  # the gradient, and two numbers of news
    alone, one = trained(None, dp.Adam(0.02)), trained(ALONE, dp.Adam(0.02))
    assert alone[0].parameters.tobytes() == one[0].parameters.tobytes()


def test_the_log_names_the_way(caplog):
    with caplog.at_level("INFO", "deltaprop"):
        run_threads(2, lambda ranks: trained(ranks, dp.Adam(0.02)))
    assert re.search(r"compiled steps, summed over ranks \(2 ranks, \d+ threads? each\)", caplog.text)
