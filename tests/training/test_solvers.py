"""Full-batch training finds known minima, says why it ends, and always leaves the network in order."""

from typing import Any

import numpy as np
import pytest
from cases import relative
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression

import deltaprop as dp

METHODS = ("gd", "cg", "l-bfgs", "newton-cg")


def ridge(X, Y, l2):
    """Return Θ = [b, W] of least squares with penalty λ Σ W²/2, by the normal equations; b is not penalised."""
    A = np.column_stack([np.ones(len(X)), X])
    penalty = l2 * np.diag([0.0] + [1.0] * X.shape[1])
    return np.linalg.solve(A.T @ A + penalty, A.T @ Y).T


@pytest.fixture
def plane(rng):
    X = rng.standard_normal((40, 3))
    return X, X @ rng.standard_normal((3, 2)) + 0.1 * rng.standard_normal((40, 2)) + 2.0


@pytest.mark.parametrize("method", METHODS)
def test_the_minimum_of_a_quadratic(backend, plane, method):
    X, Y = plane
    net = dp.Network([3, 2], loss="squared_error", backend=backend)
    history = net.fit_full_batch(X, Y, method=method, max_iter=500, tol=1e-8, l2=1.5)
    assert history.converged
    assert "converged after" in history.message
    assert relative(net.backend.to_numpy(net.thetas[0]), ridge(X, Y, 1.5)) < 1e-7
    assert history.cost == sorted(history.cost, reverse=True)
    assert history.cost[-1] == pytest.approx(net.cost(X, Y, l2=1.5), rel=1e-14)
    assert len(history.seconds) == history.epochs
    assert history.learning_rate == []


@pytest.mark.parametrize("method", METHODS)
def test_logistic_regression_as_scikit_learn_solves_it(quick_backend, method):
    """A network without hidden layer, C = 1/λ."""
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    theirs = LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000).fit(X, y)
    net = dp.Network([4, 3], loss="categorical_cross_entropy", backend=quick_backend)
    assert net.fit_full_batch(X, y, method=method, max_iter=3000, tol=1e-7, l2=2.0).converged
    assert relative(net.backend.to_numpy(net.weights[0]), theirs.coef_) < 1e-4
    assert np.allclose(net.predict(X), theirs.predict_proba(X), atol=1e-5)


def test_newtons_method_converges_faster_than_linearly(rng):
    """With the true Hessian the gradient shrinks faster and faster; with a wrong one, by a constant factor at best."""
    X = rng.standard_normal((60, 3))
    y = (X @ [1.0, -2.0, 0.5] + 0.5 * rng.standard_normal(60) > 0).astype(int)
    net = dp.Network([3, 4, 1], backend="numpy", seed=1)
    steepest: list[float] = []
    history = net.fit_full_batch(
        X, y, method="newton-cg", tol=1e-7, l2=2.0,
        callbacks=[lambda end: steepest.append(np.abs(np.asarray(net.cost_and_gradient(X, y, l2=2.0)[1].flat)).max())],
    )  # fmt: skip
    assert history.converged
    last = np.array(steepest[-3:])
    assert (last[1:] / last[:-1] < 0.05).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_is_kept_and_told(plane, method):
    X, Y = plane
    net = dp.Network([3, 6, 2], loss="squared_error", backend="numpy")
    history = net.fit_full_batch(X, Y, method=method, max_iter=2, tol=0.0)
    assert history.epochs == 2
    assert history.converged is False
    assert history.message.startswith("stopped at the limit of 2 iterations")
    largest = np.abs(np.asarray(net.cost_and_gradient(X, Y)[1].flat)).max()
    assert f"{largest:.3g}" in history.message


@pytest.mark.parametrize("method", METHODS)
def test_it_stops_where_no_lower_cost_can_be_found(plane, method):
    """With tol = 0 the gradient is never small enough; rounding ends the search, which is no convergence."""
    X, Y = plane
    net = dp.Network([3, 2], loss="squared_error", backend="numpy")
    history = net.fit_full_batch(X, Y, method=method, max_iter=5000, tol=0.0)
    assert history.epochs < 5000
    if not history.converged:  # the gradient may come out as exactly 0
        assert "no lower cost could be found" in history.message
    assert relative(net.thetas[0], ridge(X, Y, 0.0)) < 1e-6


def test_nothing_to_do(plane):
    X, Y = plane
    net = dp.Network([3, 2], loss="squared_error", backend="numpy")
    net.thetas = [ridge(X, Y, 0.0)]
    before = net.parameters.copy()
    history = net.fit_full_batch(X, Y, tol=1e-8)
    assert (history.converged, history.epochs) == (True, 0)
    assert "converged after 0 iterations" in history.message
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_sees_every_iteration_and_changes_nothing(plane, method, capsys):
    X, Y = plane
    options = {"method": method, "max_iter": 7, "tol": 1e-12}
    quiet, watched = (dp.Network([3, 4, 2], loss="squared_error", backend="numpy", seed=2) for _ in range(2))
    seen = []

    def callback(end):
        assert end.epochs == 7
        assert end.network is watched
        assert end.history.cost[-1] == pytest.approx(watched.cost(X, Y), rel=1e-13)
        seen.append(end.epoch)

    history = watched.fit_full_batch(X, Y, callbacks=[callback], progress=True, validation=(X, Y), **options)
    assert seen == list(range(1, history.epochs + 1)) == list(range(1, 8))
    assert history.validation_cost == pytest.approx(history.cost, rel=1e-13)
    assert "iteration 7/7" in capsys.readouterr().err
    quiet.fit_full_batch(X, Y, **options)
    assert np.array_equal(quiet.parameters, watched.parameters)


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_ends_training(plane, method):
    X, Y = plane
    net = dp.Network([3, 4, 2], loss="squared_error", backend="numpy")
    history = net.fit_full_batch(X, Y, method=method, callbacks=[lambda end: end.epoch == 3])
    assert history.epochs == 3
    assert history.message == "stopped by a callback after iteration 3"
    assert history.cost[-1] == pytest.approx(net.cost(X, Y), rel=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_an_interruption_leaves_the_last_iteration(plane, method):
    X, Y = plane
    net = dp.Network([3, 4, 2], loss="squared_error", backend="numpy")
    costs = []

    def interrupt(end):
        costs.append(end.history.cost[-1])
        if end.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.fit_full_batch(X, Y, method=method, callbacks=[interrupt])
    assert net.cost(X, Y) == pytest.approx(costs[-1], rel=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_a_cost_that_is_not_finite_is_refused_and_loses_nothing(method):
    net = dp.Network([1, 1], loss="poisson", backend="numpy", init="zeros")
    net.weights = [[[1.0]]]
    with pytest.raises(dp.DivergenceError, match="the cost is inf or the gradient not finite at the start") as raised:
        net.fit_full_batch([[1000.0]], [[1.0]], method=method)
    assert raised.value.history.epochs == 0
    assert net.parameters.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("method", METHODS)
def test_trial_steps_that_overflow_are_shortened(rng, method):
    """exp makes J infinite a little further along almost every direction."""
    X = rng.uniform(0, 30, (50, 2))
    y = rng.poisson(np.exp(0.05 * X[:, 0] - 0.02 * X[:, 1]))
    net = dp.Network([2, 1], loss="poisson", backend="numpy", init="zeros")
    history = net.fit_full_batch(X, y, method=method, max_iter=20_000 if method == "gd" else 500, tol=1e-4)
    assert history.converged
    mean = net.predict(X)[:, 0]  # at the minimum the residual is orthogonal to every input and to 1
    assert abs(X.T @ (mean - y)).max() / 50 < 2e-4


@pytest.mark.parametrize("method", ["cg", "l-bfgs", "newton-cg"])
def test_float32(quick_backend, method):
    X, y = load_digits(return_X_y=True)
    net = dp.Network([64, 10, 10], dtype="float32", backend=quick_backend)
    history = net.fit_full_batch(X / 16, y, method=method, max_iter=40, l2=0.1)
    assert net.parameters.dtype == np.float32
    assert history.cost[-1] < 0.5 * history.cost[0]
    assert history.cost[-1] == pytest.approx(net.cost(X / 16, y, l2=0.1), rel=1e-5)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"method": "adam"}, ValueError, "method: expected one of 'gd', 'cg', 'l-bfgs', 'newton-cg', got 'adam'"),
    ({"max_iter": 0}, ValueError, "max_iter: expected a whole number of at least 1, got 0"),
    ({"max_iter": 1.5}, TypeError, "max_iter: expected a whole number, got 1.5"),
    ({"tol": -1.0}, ValueError, "tol: expected a finite number of at least 0, got -1.0"),
    ({"tol": float("nan")}, ValueError, "tol: expected a finite number of at least 0, got nan"),
    ({"l2": -1.0}, ValueError, "l2: expected"),
    ({"validation": "3"}, TypeError, "validation: expected a pair"),
    ({"metrics": ["r2"]}, ValueError, "metrics: expected validation data with them"),
])  # fmt: skip
def test_bad_arguments_are_named(plane, options, error, message):
    net = dp.Network([3, 2], loss="squared_error", backend="numpy")
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        net.fit_full_batch(*plane, **options)
    assert np.array_equal(net.parameters, before)


def test_the_simplified_output_error_has_no_cost_to_descend(plane):
    X, Y = plane
    options: dict[str, Any] = {"loss": "squared_error", "output_activation": "sigmoid", "output_error": "simplified"}
    net = dp.Network([3, 2], backend="numpy", **options)
    for call in (lambda: net.fit_full_batch(X, Y), lambda: net.hvp(X, Y, net.parameters)):
        with pytest.raises(ValueError, match=r"output_error: .* needs the gradient of the cost"):
            call()
    assert net.fit(X, Y / 10 % 1, epochs=2).epochs == 2


@pytest.mark.parametrize("how", ["cg", "l-bfgs", "newton-cg", "minibatches"])
def test_the_courses_network_on_digits(quick_backend, how):
    """A 64-25-10 network of sigmoids, λ = 1, reaches 95 % on its three quarters, and nearly that on the rest."""
    X, y = load_digits(return_X_y=True)
    X, held_out = X / 16, np.arange(len(X)) % 4 == 0
    net = dp.Network([64, 25, 10], backend=quick_backend, seed=1)
    train = X[~held_out], y[~held_out]
    if how == "minibatches":
        net.fit(*train, optimizer=dp.SGD(0.5, momentum=0.9), batch_size=32, epochs=30, l2=1.0)
    else:
        net.fit_full_batch(*train, method=how, max_iter=50, l2=1.0)
    assert np.mean(net.predict(train[0]).argmax(axis=1) == train[1]) >= 0.95
    assert np.mean(net.predict(X[held_out]).argmax(axis=1) == y[held_out]) >= 0.93
