"""The compiled library's first layer over encoded rows equals a loop over samples in float64, input by input."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.epochs import compiled_answers, compiled_members
from deltaprop.inputs.encoded_rows import Binned, Copied, EncodedRows, InputEncoding, OneHot, Piece, Squashed

EDGES = np.array([-1.5, -1.0, 0.25, 0.5, 3.0])
FEW = np.array([-0.5, 0.75])
MANY = np.linspace(-2.0, 2.0, 101)  # more bins than are compared one by one
ENCODINGS: dict[str, list[Piece]] = {
    "all": [Squashed(0), Binned(0, EDGES), OneHot(2, 3), Copied(1), Binned(1, FEW), OneHot(3, 2), Binned(3, MANY)],
    "one column": [Binned(1, EDGES)],
    "copies": [Copied(3), Copied(0), Copied(1)],
    "squashed": [Squashed(1), Squashed(0)],
    "levels": [OneHot(2, 5), OneHot(3, 2)],
    "many bins": [Binned(0, MANY), Copied(1)],
}
NETWORK: dict[str, Any] = {
    "hidden_activation": "silu",
    "output_activation": "identity",
    "loss": "squared_error",
    "dtype": "float64",
    "backend": "numpy",
}
SAMPLES, BATCH = 37, 8
#: Relative to the largest entry.
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}


@pytest.fixture(autouse=True)
def _compiled(compiled_library, monkeypatch):
    """The inputs of more than a few rows are never formed here."""
    monkeypatch.setattr(EncodedRows, "__getitem__", lambda self, rows: pytest.fail("inputs were formed"))


def stored_rows(rng, dtype):
    """Rows with numbers on the edges, below the first and above the last; levels that are none of those known."""
    rows = np.round(rng.uniform(-2, 4, (SAMPLES, 4)), 2)
    rows[:, 2] = rng.integers(-1, 5, SAMPLES)
    rows[:, 3] = rng.uniform(-2.5, 2.5, SAMPLES)
    rows[:5, 0] = EDGES
    rows[5:10, 1] = EDGES
    rows[10:14, 0] = -1e15, 1e15, 0.0, -1.2500001
    rows[14:20, 3] = -1.0, 0.0, 1.0, 2.0, 0.5, 1e15
    rows[20:22, 2] = 1e15, 2.0
    return np.ascontiguousarray(rows.astype(dtype))


def inputs_of(row, pieces):
    """The inputs of one stored row by their formulas, in Python's floats."""
    values = []
    for piece in pieces:
        x = float(row[piece.source])
        if isinstance(piece, Copied):
            values.append(x)
        elif isinstance(piece, Squashed):
            values.append(x / math.sqrt(1 + (x / 12) ** 2))
        elif isinstance(piece, OneHot):
            values += [float(x == level) for level in range(piece.levels)]
        else:
            # In the dtype in which the edges are stored.
            edges = piece.edges.astype(row.dtype).tolist()
            values += [min(max((x - low) / (high - low), 0.0), 1.0) - 0.5 for low, high in itertools.pairwise(edges)]
    return np.array(values)


def silu(z):
    return z / (1 + np.exp(-z))


def silu_slope(z):
    s = 1 / (1 + np.exp(-z))
    return s + z * s * (1 - s)


def gradient_of(parameters, sizes, inputs, y):
    """½(h − y)² of one sample, and its gradient; silu between two layers, written out entry by entry."""
    n, h, o = sizes
    W, V = parameters[: n * h].reshape(h, n), parameters[n * h : n * h + h * o].reshape(o, h)
    b, c = parameters[n * h + h * o : n * h + h * o + h], parameters[n * h + h * o + h :]
    z = W @ inputs + b
    a = silu(z)
    delta = V @ a + c - y
    hidden = (V.T @ delta) * silu_slope(z)
    gradient = [np.outer(hidden, inputs).ravel(), np.outer(delta, a).ravel(), hidden, delta]
    return 0.5 * float(delta @ delta), np.concatenate(gradient)


def train(parameters, sizes, inputs, Y, batches, rule, penalty=0.0, weights=None):
    """Steps of SGD, momentum or Adam in float64 over given minibatches; the sum of the costs that each step sees.

    Each entry of W adds `penalty` times itself to its gradient.
    """
    theta, first, second = parameters.copy(), np.zeros_like(parameters), np.zeros_like(parameters)
    weights = np.ones(len(inputs)) if weights is None else weights
    is_weight = np.arange(len(theta)) < sizes[0] * sizes[1] + sizes[1] * sizes[2]
    total, eta = 0.0, rule.learning_rate
    for step, batch in enumerate(batches, start=1):
        gradient = penalty * np.where(is_weight, theta, 0.0)
        for i in batch:
            cost, own = gradient_of(theta, sizes, inputs[i], Y[i])
            gradient += weights[i] * own / weights[batch].sum()
            total += weights[i] * cost
        if isinstance(rule, dp.AdamW):
            theta -= eta * rule.weight_decay * np.where(is_weight, theta, 0.0)
        if isinstance(rule, dp.Adam):
            first = rule.beta_1 * first + (1 - rule.beta_1) * gradient
            second = rule.beta_2 * second + (1 - rule.beta_2) * gradient**2
            rate = eta * math.sqrt(1 - rule.beta_2**step) / (1 - rule.beta_1**step)
            theta -= rate * first / (np.sqrt(second) + rule.epsilon)
        else:
            first = rule.momentum * first - eta * gradient
            theta += first
    return theta, total


def minibatches(rows, epochs=1):
    return [rows[start : start + BATCH] for _ in range(epochs) for start in range(0, len(rows), BATCH)]


def close(actual, expected, dtype):
    assert np.abs(actual - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", [16, 67, 5])
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_step_of_plain_descent_is_the_gradient(rng, name, hidden, dtype):
    encoding = InputEncoding(4, ENCODINGS[name])
    stored = stored_rows(rng, dtype)
    if name in ("all", "copies"):
        stored[np.abs(stored) > 1e10] = 3.5  # a plain number as large hides the other gradients
    Y = np.round(rng.standard_normal((SAMPLES, 2)), 2).astype(dtype)
    stack = dp.NetworkStack(1, [encoding.width, hidden, 2], **NETWORK | {"dtype": dtype})
    before = stack.parameters[0].astype(np.float64)
    history = stack.fit(EncodedRows(stored, encoding), Y, optimizer=dp.SGD(1.0), batch_size=None, epochs=1)[0]
    inputs = np.array([inputs_of(row, encoding.pieces) for row in stored])
    expected, total = train(before, stack.layer_sizes, inputs, Y, [np.arange(SAMPLES)], dp.SGD(1.0))
    close(before - stack.parameters[0], before - expected, dtype)
    assert history.cost[0] == pytest.approx(total / SAMPLES, rel=TOLERANCE[dtype])


RULES = [
    dp.SGD(0.05),
    dp.SGD(0.05, momentum=0.9),
    dp.Adam(0.01, epsilon=1e-3),
    dp.AdamW(0.01, weight_decay=0.1, epsilon=1e-3),
]


@pytest.mark.parametrize(("l2", "weighted"), [(0.0, False), (0.5, False), (0.5, True)])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_steps_of_members_with_samples_of_their_own(rng, rule, l2, weighted):
    encoding = InputEncoding(4, ENCODINGS["all"])
    stored = stored_rows(rng, "float64")
    stored[np.abs(stored) > 1e10] = 3.5
    Y, weights = rng.standard_normal((SAMPLES, 1)), rng.uniform(0.5, 2.0, SAMPLES) if weighted else np.ones(SAMPLES)
    samples = [rng.permutation(SAMPLES)[:30], np.arange(3, 36), np.array([7, 7, 7, 2, 30, 2, 9, 11, 12])]
    sizes = [encoding.width, 20, 1]
    stack = dp.NetworkStack(3, sizes, **NETWORK)
    before = stack.parameters.copy()
    stack.fit(
        EncodedRows(stored, encoding),
        Y,
        optimizer=rule,
        batch_size=BATCH,
        epochs=3,
        l2=l2,
        samples=samples,
        shuffle=False,
        sample_weight=weights if weighted else None,
    )
    inputs = np.array([inputs_of(row, encoding.pieces) for row in stored])
    for k, rows in enumerate(samples):
        penalty = l2 / weights[rows].sum()
        expected, _ = train(before[k], sizes, inputs, Y, minibatches(rows, 3), rule, penalty, weights)
        close(stack.parameters[k], expected, "float64")


def test_a_network_without_a_hidden_layer(rng):
    """A step of logistic regression: W - eta mean((h - y) x^T)."""
    encoding, stored = InputEncoding(4, ENCODINGS["one column"] + ENCODINGS["levels"]), stored_rows(rng, "float64")
    Y = rng.integers(0, 2, (SAMPLES, 1))
    stack = dp.NetworkStack(
        1, [encoding.width, 1], output_activation="sigmoid", loss="binary_cross_entropy", backend="numpy"
    )
    W, b = stack.weights[0][0].copy(), stack.biases[0][0].copy()
    stack.fit(EncodedRows(stored, encoding), Y, optimizer=dp.SGD(0.5), batch_size=None, epochs=1)
    inputs = np.array([inputs_of(row, encoding.pieces) for row in stored])
    error = 1 / (1 + np.exp(-(inputs @ W.T + b))) - Y
    close(stack.weights[0][0], W - 0.5 * error.T @ inputs / SAMPLES, "float64")
    close(stack.biases[0][0], b - 0.5 * error.mean(0), "float64")


def test_shuffled_members_are_trained_by_the_library(rng, monkeypatch):
    """Each sample of an epoch is visited once: with a learning rate near 0, the gradients of an epoch add up."""
    used = []
    epochs = compiled_members.CompiledMembers.epochs
    monkeypatch.setattr(
        compiled_members.CompiledMembers, "epochs", lambda self, *a: (used.append(self), epochs(self, *a))[1]
    )
    encoding, stored = InputEncoding(4, ENCODINGS["levels"]), stored_rows(rng, "float64")
    Y = rng.standard_normal((SAMPLES, 1))
    sizes = [encoding.width, 7, 1]
    stack = dp.NetworkStack(2, sizes, **NETWORK)
    before = stack.parameters.copy()
    samples = [np.arange(32), np.arange(5, 37)]
    stack.fit(EncodedRows(stored, encoding), Y, optimizer=dp.SGD(1e-6), batch_size=BATCH, epochs=1, samples=samples)
    inputs = np.array([inputs_of(row, encoding.pieces) for row in stored])
    for k, rows in enumerate(samples):
        sums = sum(gradient_of(before[k], sizes, inputs[i], Y[i])[1] for i in rows) / BATCH
        moved = (before[k] - stack.parameters[k]) / 1e-6
        assert np.abs(moved - sums).max() <= 1e-4 * np.abs(sums).max()
    assert used


#: By loss: the activation of the output layer, how many outputs, h by its formula, and the cost of each.
LOSSES: dict[str, Any] = {
    "squared_error": ("identity", 2, lambda z: z, lambda h, y: (h - y) ** 2 / 2),
    "binary_cross_entropy": (
        "sigmoid",
        1,
        lambda z: 1 / (1 + np.exp(-z)),
        lambda h, y: -np.log(h * y + (1 - h) * (1 - y)),
    ),
    "categorical_cross_entropy": (
        "softmax",
        3,
        lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True),
        lambda h, y: -np.log((h * y).sum(1)),
    ),
    "poisson": ("exp", 2, np.exp, lambda h, y: h - y * np.log(h)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", LOSSES)
def test_costs_and_outputs(rng, dtype, loss, monkeypatch):
    """Over more rows than a thread takes at once, in several calls, member by member."""
    output, outputs, formula, cost_of = LOSSES[loss]
    monkeypatch.setattr(compiled_answers, "OPERATIONS_A_CALL", 1e4)
    encoding = InputEncoding(4, ENCODINGS["all"])
    stored = np.tile(stored_rows(rng, dtype), (20, 1))
    stored[np.abs(stored) > 1e10] = 3.5
    m = len(stored)
    Y = rng.integers(0, 2, (m, outputs)) if outputs < 3 else np.eye(3)[rng.integers(0, 3, m)]
    sizes = [encoding.width, 9, outputs]
    stack = dp.NetworkStack(2, sizes, **NETWORK | {"output_activation": output, "loss": loss, "dtype": dtype})
    X = EncodedRows(stored, encoding)
    answers = compiled_answers.CompiledAnswers.find(
        stack, [X, X.take(np.arange(300))], [Y.astype(dtype), Y[:300].astype(dtype)]
    )
    assert answers is not None
    assert answers.at_once == 256
    written = [np.full((300, outputs), np.nan, dtype), np.full((m, outputs), np.nan, dtype)]
    costs = answers(np.array([1, 0]), written)
    inputs = np.array([inputs_of(row, encoding.pieces) for row in stored])
    predicted = stack.predict(X)
    for place, (k, rows) in enumerate([(1, 300), (0, m)]):
        W, V = (w[k].astype(np.float64) for w in stack.weights)
        b, c = (bias[k].astype(np.float64) for bias in stack.biases)
        z = silu(inputs[:rows] @ W.T + b) @ V.T + c
        h = formula(z)
        cost = cost_of(h, Y[:rows]).sum()
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(written[place], h, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(predicted[k][:rows], h, rtol=tolerance, atol=tolerance)
        assert costs[place] == pytest.approx(cost, rel=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numbers_that_no_door_lets_in_reach_no_other_memory(dtype):
    """Whatever the rows hold once they have been checked, the library reads and writes its own tables only."""
    encoding = InputEncoding(4, ENCODINGS["all"])
    bad = [np.nan, np.inf, -np.inf, np.finfo(dtype).max, -np.finfo(dtype).max, 2**31, -(2.0**63), 2.0**64]
    stored = np.array([[x] * 4 for x in bad], dtype)
    X, Y = EncodedRows(np.zeros_like(stored), encoding), np.zeros((len(bad), 1))
    stack = dp.NetworkStack(1, [encoding.width, 33, 1], **NETWORK | {"dtype": dtype})

    def spoil(end):
        X.stored[...] = stored

    with pytest.raises(dp.DivergenceError):
        stack.fit(X, Y, optimizer=dp.SGD(1e-3), batch_size=3, epochs=4, callbacks=[spoil])
    assert np.isfinite(stack.parameters).all()
    answers = compiled_answers.CompiledAnswers(stack, [X])
    answers(np.array([0]), [np.empty((len(bad), 1), dtype)])
