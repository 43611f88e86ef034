"""The compiled J, ∂J/∂θ and H v equal the per-sample loop, the backend's matrices, and differences."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reference
from cases import HIDDEN, PAIRS, relative, targets_for
from conftest import use_threads
from scipy import sparse

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import MatrixDerivatives
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs import compiled_gradient
from deltaprop.epochs.compiled_gradient import CompiledDerivatives, cost_derivatives

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture(autouse=True)
def _compiled(compiled_library, monkeypatch):
    """Small evaluations are compiled too."""
    monkeypatch.setattr(compiled_gradient, "SMALL_EVALUATION", -1.0)


def network(sizes: list[int], **options: Any) -> Any:
    return dp.Network(sizes, **options)


def compiled(*arguments: Any) -> Any:
    return CompiledDerivatives(*arguments)


def arrays(net: Any) -> list[Any]:
    """Return weights and biases in float64, for the loop."""
    return [[each.astype(np.float64) for each in layers] for layers in (net.weights, net.biases)]


def moved(net: Any, rng: Any) -> Any:

    direction: Any = Parameters(net.backend, net.layer_sizes, net.dtype)
    direction.flat[...] = rng.standard_normal(direction.size)
    return direction


def both(net: Any, X: Any, Y: Any, objective: Objective, weights: Any = None) -> list[Any]:
    X, Y = X.astype(net.dtype), Y.astype(net.dtype)
    weights = None if weights is None else weights.astype(net.dtype)
    return [kind(net, X, Y, objective, weights) for kind in (CompiledDerivatives, MatrixDerivatives)]


def assert_equal(net, X, Y, objective, weights, rng):
    ours, expected = both(net, X, Y, objective, weights)
    tolerance = TOLERANCE[net.dtype.name]
    direction = moved(net, rng)
    (cost, gradient), (their_cost, their_gradient) = ours.cost_and_gradient(), expected.cost_and_gradient()
    assert cost == pytest.approx(their_cost, rel=tolerance)
    assert relative(gradient.flat, their_gradient.flat) < tolerance
    product, their_product = ours.hessian_product(direction), expected.hessian_product(direction)
    assert relative(product.flat, their_product.flat) < tolerance
    assert float(ours.cost) == pytest.approx(float(expected.cost), rel=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradient_equals_the_loop(rng, hidden, loss, output, dtype):
    net = network([4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, dtype=dtype, seed=2)
    X, Y = (each.astype(dtype).astype(float) for each in (rng.standard_normal((7, 4)), targets_for(loss, rng, 7, 3)))
    W, b = arrays(net)
    J, weights, biases, _ = reference.cost_and_gradient(W, b, net.activations, loss, X, Y, l2=0.8)
    cost, gradient = net.cost_and_gradient(X, Y, l2=0.8)
    assert cost == pytest.approx(J, rel=TOLERANCE[dtype])
    assert relative(gradient.weights, weights) < TOLERANCE[dtype]
    assert relative(gradient.biases, biases) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_hessian_product_equals_the_complex_step_through_the_loop(rng, hidden, loss, output, dtype):
    net = network([4, 6, 5, 3], hidden_activation=hidden, output_activation=output, loss=loss, dtype=dtype, seed=2)
    X, Y = (each.astype(dtype).astype(float) for each in (rng.standard_normal((7, 4)), targets_for(loss, rng, 7, 3)))
    direction = moved(net, rng)
    (W, b), (V_W, V_b) = arrays(net), arrays(direction)
    expected = reference.hessian_vector_product(W, b, net.activations, loss, X, Y, V_W, V_b, l2=0.8, reduction="sum")
    got = moved(net, rng)
    got.flat[...] = net.hvp(X, Y, direction.flat, 0.8, reduction="sum")
    assert relative([*got.weights, *got.biases], [*expected[0], *expected[1]]) < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("l2_scaling", ["per_sample", "absolute"])
@pytest.mark.parametrize("l2", [0.0, 1.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_convention(threads, rng, weighted, l2, l2_scaling, reduction):
    net = network([5, 7, 3], loss="categorical_cross_entropy", hidden_activation="tanh")
    X, Y = rng.standard_normal((300, 5)), targets_for(net.loss, rng, 300, 3)
    weights = rng.uniform(0.0, 2.0, 300) if weighted else None
    assert_equal(net, X, Y, Objective(l2, l2_scaling, reduction), weights, rng)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("m", [1, 2, 100, 3000])
@pytest.mark.parametrize("sizes", [[5, 3], [64, 100, 10], [1, 1, 1], [20, 33, 17, 2]], ids=str)
def test_any_number_of_rows(threads, rng, sizes, m, dtype):
    net = network(sizes, loss="squared_error", hidden_activation="sigmoid", dtype=dtype, seed=4)
    X, Y, weights = rng.standard_normal((m, sizes[0])), rng.standard_normal((m, sizes[-1])), rng.uniform(0.5, 2.0, m)
    assert_equal(net, X, Y, Objective(0.4), weights, rng)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_large_layers(threads, rng, dtype):
    """Their products are by panels or by the BLAS, and each thread has a gradient of its own."""
    net = network([200, 300, 710, 7], loss="squared_error", hidden_activation="tanh", dtype=dtype, seed=4)
    for m in (20, 700):
        X, Y = rng.standard_normal((m, 200)), rng.standard_normal((m, 7))
        assert_equal(net, X, Y, Objective(0.4), None, rng)


def test_whole_weights_count_as_repeated_rows(threads, rng):
    net = network([4, 6, 3], loss="categorical_cross_entropy")
    X, y, times = rng.standard_normal((400, 4)), rng.integers(0, 3, 400), rng.integers(0, 4, 400)
    v = rng.standard_normal(net.parameters.size)
    more, labels = np.repeat(X, times, axis=0), np.repeat(y, times)
    cost, gradient = net.cost_and_gradient(X, y, 0.5, sample_weight=times.astype(float))
    expected, expected_gradient = net.cost_and_gradient(more, labels, 0.5)
    assert cost == pytest.approx(expected, rel=1e-12)
    assert relative(gradient.flat, expected_gradient.flat) < 1e-12
    product = net.hvp(X, y, v, 0.5, sample_weight=times.astype(float))
    assert relative(product, net.hvp(more, labels, v, 0.5)) < 1e-12


def test_no_rows_leave_the_penalty(rng):
    net = network([4, 6, 3], loss="squared_error")
    at = compiled(net, np.empty((0, 4)), np.empty((0, 3)), Objective(0.5, "absolute", "sum"))
    cost, gradient = at.cost_and_gradient()
    assert cost == pytest.approx(0.25 * (net.flat_weights**2).sum(), rel=1e-14)
    assert np.array_equal(gradient.flat_weights, 0.5 * net.flat_weights)
    assert not np.concatenate(gradient.biases).any()
    direction = moved(net, rng)
    product = at.hessian_product(direction)
    assert np.array_equal(product.flat_weights, 0.5 * direction.flat_weights)
    assert not np.concatenate(product.biases).any()


@pytest.mark.parametrize(("loss", "output"), [("poisson", "exp"), ("categorical_cross_entropy", "softmax")])
def test_hessian_product_is_the_slope_of_the_gradient(threads, rng, loss, output):
    net = network([6, 9, 4], loss=loss, output_activation=output, hidden_activation="softplus", seed=1)
    X, Y = rng.standard_normal((500, 6)), targets_for(loss, rng, 500, 4)
    v, theta, h = rng.standard_normal(net.parameters.size), net.parameters.copy(), 1e-5
    product, gradients = net.hvp(X, Y, v, 0.3), []
    for step in (h, -h):
        net.parameters = theta + step * v
        gradients.append(net.cost_and_gradient(X, Y, 0.3)[1].flat)
    assert relative(product, (gradients[0] - gradients[1]) / (2 * h)) < 1e-8


@pytest.mark.parametrize("sizes", [[8, 30, 3], [300, 450, 3]], ids=str)
def test_the_same_bits_again_and_again(monkeypatch, rng, sizes):
    """A gradient that takes little memory has the same bits with any number of threads."""
    net = network(sizes, loss="squared_error", hidden_activation="tanh")
    X, Y, v = rng.standard_normal((1500, sizes[0])), rng.standard_normal((1500, 3)), moved(net, rng)
    seen: dict[int, set[Any]] = {}
    for count in (1, 2, 3):
        use_threads(monkeypatch, count)
        at = compiled(net, X, Y, Objective(0.1))
        for _ in range(8):
            cost, gradient = at.cost_and_gradient()
            seen.setdefault(count, set()).add((cost, gradient.flat.tobytes(), at.hessian_product(v).flat.tobytes()))
    assert [len(bits) for bits in seen.values()] == [1, 1, 1]
    if net.parameters.nbytes < 2**20:
        assert seen[1] == seen[2] == seen[3]


@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu"])
def test_nan_stays_nan(rng, hidden):
    net = network([4, 6, 3], loss="categorical_cross_entropy", hidden_activation=hidden)
    X, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    net.biases[0][2] = np.nan
    cost, gradient = net.cost_and_gradient(X, y)
    assert np.isnan(cost)
    assert np.isnan(gradient.weights[1][:, 2]).all()
    assert np.isnan(net.hvp(X, y, np.ones(net.parameters.size))).any()


def test_read_only_parameters_and_data(rng):
    net = network([4, 6, 3], loss="squared_error")
    X, Y = rng.standard_normal((60, 4)), rng.standard_normal((60, 3))
    cost, gradient = net.cost_and_gradient(X, Y)
    for array in (net.parameters, X, Y):
        array.flags.writeable = False
    again, same = net.cost_and_gradient(X, Y)
    assert again == cost
    assert np.array_equal(same.flat, gradient.flat)


def test_rows_that_do_not_adjoin(rng):
    net = network([4, 6, 3], loss="squared_error")
    wide, tall = rng.standard_normal((60, 8)), rng.standard_normal((120, 3))
    X, Y, weights = wide[:, ::2], tall[::2], rng.uniform(1.0, 2.0, 120)[::2]
    at = compiled(net, X, Y, Objective(), weights)
    expected = compiled(net, X.copy(), Y.copy(), Objective(), weights.copy())
    assert not X.flags.contiguous
    assert at.cost_and_gradient()[0] == expected.cost_and_gradient()[0]
    assert np.array_equal(at.gradient.flat, expected.gradient.flat)
    assert np.array_equal(
        net.cost_and_gradient(np.asfortranarray(X), Y, sample_weight=weights)[1].flat, at.gradient.flat
    )


def test_python_threads_share_a_network(rng):
    net = network([20, 40, 3], loss="categorical_cross_entropy", hidden_activation="tanh")
    X, y = rng.standard_normal((900, 20)), rng.integers(0, 3, 900)
    v = rng.standard_normal(net.parameters.size)

    def evaluate(_=None):
        return [net.cost_and_gradient(X, y)[1].flat, net.hvp(X, y, v)]

    expected = evaluate()
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(evaluate, range(24)):
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_long_evaluation_hears_signals(monkeypatch, rng):
    net = network([4, 6, 3], loss="squared_error")
    X, Y, v = rng.standard_normal((60, 4)), rng.standard_normal((60, 3)), moved(net, rng)
    at = compiled(net, X, Y, Objective(0.2))
    cost, gradient = at.cost_and_gradient()
    expected, product = gradient.flat.copy(), at.hessian_product(v).flat.copy()
    monkeypatch.setattr(compiled_gradient, "LONG_STEP", 0.0)
    assert at.cost_and_gradient()[0] == cost
    assert np.array_equal(at.gradient.flat, expected)
    assert np.array_equal(at.hessian_product(v).flat, product)


def test_a_call_that_is_stopped_leaves_the_rest_undone(rng):
    net = network([4, 6, 3], loss="squared_error")
    at = compiled(net, rng.standard_normal((60, 4)), rng.standard_normal((60, 3)), Objective())
    at.gradient.flat[...] = 7.0
    at.table.stop.value = 1
    at.cost_and_gradient()
    assert (at.gradient.flat == 7.0).all()


def test_what_the_library_does_not_know_goes_by_matrices(rng):
    X, Y = rng.standard_normal((9, 4)), rng.random((9, 3))
    loss = (lambda h, y: (h - y) ** 2, lambda h, y: 2 * (h - y))
    net = network([4, 6, 3])
    assert isinstance(cost_derivatives(net, X, Y, Objective()), CompiledDerivatives)
    assert isinstance(cost_derivatives(net, sparse.csr_matrix(X), Y, Objective()), MatrixDerivatives)
    for net in (network([4, 6, 3], backend="reference"), network([4, 6, 3], loss=loss)):
        assert isinstance(cost_derivatives(net, X, Y, Objective()), MatrixDerivatives)


def test_one_small_evaluation_goes_by_matrices(monkeypatch, rng):
    monkeypatch.undo()
    net, X, Y = network([4, 6, 3]), rng.standard_normal((9, 4)), rng.random((9, 3))
    assert isinstance(cost_derivatives(net, X, Y, Objective(), once=True), MatrixDerivatives)
    assert isinstance(cost_derivatives(net, X, Y, Objective()), CompiledDerivatives)
    large = rng.standard_normal((9000, 4)), rng.random((9000, 3))
    assert isinstance(cost_derivatives(net, *large, Objective(), once=True), CompiledDerivatives)


@pytest.mark.parametrize("method", ["gd", "cg", "l-bfgs", "newton-cg"])
def test_solvers_take_the_same_way(rng, method):
    X, y = rng.standard_normal((400, 6)), rng.integers(0, 3, 400)
    weights = rng.uniform(0.5, 1.5, 400)
    costs = []
    for backend in ("numpy", "reference"):
        net = network([6, 8, 3], loss="categorical_cross_entropy", hidden_activation="tanh", backend=backend)
        history = net.fit_full_batch(X, y, method=method, max_iter=6, l2=0.1, sample_weight=weights)
        costs.append(history.cost)
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)
    assert costs[0][-1] < costs[0][0]
