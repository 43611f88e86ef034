"""Our estimators give scikit-learn's numbers, computed in the same test, for every solver, activation and task."""

import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest
import sklearn
import sklearn.neural_network as theirs
from cases import relative
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

import deltaprop as ours

pytestmark = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="the rules are those of scikit-learn 1.9"
)

SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"learning_rate_init": 0.01},
    "adam-unusual": {"solver": "adam", "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3, "alpha": 0.3},
    "sgd": {"momentum": 0.0, "learning_rate_init": 0.05},
    "sgd-momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False, "learning_rate_init": 0.02},
    "sgd-nesterov-adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.05, "tol": 1e-2},
    "sgd-invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.03, "power_t": 0.2},
    "lbfgs": {"alpha": 0.05},
}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
TASKS = ("binary", "multiclass", "multilabel", "regression", "multi-output", "poisson")
#: Attributes that must be equal too; the most telling ones come first.
RECORDED = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def data(task, rng, m=230):
    """Return X (m, 6) and y."""
    X = rng.standard_normal((m, 6))
    z = np.tanh(X @ rng.standard_normal((6, 4))) + 0.3 * rng.standard_normal((m, 4))
    y = {
        "binary": np.where(z[:, 0] > 0, "yes", "no"),
        "multiclass": z.argmax(axis=1) * 2 + 1,
        "multilabel": (z[:, :3] > 0).astype(int),
        "regression": z[:, 0],
        "multi-output": z[:, :3],
        "poisson": rng.poisson(np.exp(z[:, 0])),
    }[task]
    return X, y


def both(task: str, **options: Any) -> tuple[Any, Any]:
    """Return scikit-learn's estimator and ours, with the same parameters."""
    name = "MLPClassifier" if task in ("binary", "multiclass", "multilabel") else "MLPRegressor"
    if task == "poisson":
        options["loss"] = "poisson"
    return getattr(theirs, name)(**options), getattr(ours, name)(**options, backend="numpy")


def fit_both(estimators: tuple[Any, Any], *arguments: Any, method: str = "fit", **options: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for estimator in estimators:
            getattr(estimator, method)(*arguments, **options)
    return estimators


def losses(estimator):
    """Return ``loss_`` and ``loss_curve_`` in one list."""
    return [estimator.loss_, *getattr(estimator, "loss_curve_", [])]


def compare(them, us, X, *, tolerance=1e-8):
    for coef, other in zip([*us.coefs_, *us.intercepts_], [*them.coefs_, *them.intercepts_], strict=True):
        assert coef.shape == other.shape
        assert coef.dtype == other.dtype
        assert relative(coef, other) < tolerance
    for name in RECORDED:
        assert getattr(us, name) == getattr(them, name), name
    if not (us.out_activation_ == "identity" and us.n_outputs_ > 1):  # the one known difference
        assert relative(losses(us), losses(them)) < tolerance
        if them.solver != "lbfgs" and them.best_loss_ is not None:
            assert us.best_loss_ == pytest.approx(them.best_loss_, rel=tolerance)
    if them.solver != "lbfgs":
        assert us._no_improvement_count == them._no_improvement_count
        assert us._optimizer.learning_rate == pytest.approx(
            them._optimizer.learning_rate if them.solver == "sgd" else us.learning_rate_init
        )
    if hasattr(us, "classes_"):
        assert np.array_equal(us.classes_, them.classes_)
        assert relative(us.predict_proba(X), them.predict_proba(X)) < tolerance
        assert np.array_equal(us.predict(X), them.predict(X))
    else:
        assert relative(us.predict(X), them.predict(X)) < tolerance


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("task", TASKS)
def test_the_same_coefficients_after_20_epochs(task, activation, solver, rng):
    X, y = data(task, rng)
    options = {"solver": solver.partition("-")[0], **SOLVERS[solver]}
    estimators = both(
        task, activation=activation, hidden_layer_sizes=(9, 7), batch_size=32, max_iter=20, random_state=3, **options
    )
    compare(*fit_both(estimators, X, y), X)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_same_with_early_stopping_and_weights(task, weighted, rng):
    X, y = data(task, rng)
    weight = rng.uniform(0.2, 3.0, len(X)) if weighted else None
    for solver, shuffle in product(("adam", "sgd", "lbfgs"), (True, False)):
        options = {"solver": solver, "shuffle": shuffle, "max_iter": 60, "batch_size": 64, "learning_rate_init": 0.02}
        estimators = both(
            task, hidden_layer_sizes=8, early_stopping=True, n_iter_no_change=3, tol=1e-3, random_state=5, **options
        )
        them, us = fit_both(estimators, X, y, sample_weight=weight)
        compare(them, us, X)
        if solver != "lbfgs":
            assert us.validation_scores_ == pytest.approx(them.validation_scores_, rel=1e-8)
            assert us.best_validation_score_ == pytest.approx(them.best_validation_score_)
            assert us.best_loss_ is None
            assert len(us.validation_loss_curve_) == us.n_iter_


@pytest.mark.parametrize("task", TASKS)
def test_the_same_loss_of_weighted_minibatches(task, rng):
    X, y = data(task, rng)
    weight = rng.integers(0, 4, len(X)).astype(float)
    estimators = both(task, hidden_layer_sizes=5, batch_size=20, max_iter=10, random_state=0, alpha=0.5)
    compare(*fit_both(estimators, X, y, sample_weight=weight), X)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_same_by_partial_fit_and_warm_start(task, solver, rng):
    X, y = data(task, rng)
    options = {"hidden_layer_sizes": 6, "solver": solver, "random_state": 1, "max_iter": 5}
    estimators = both(task, **options)
    classes = np.arange(3) if task == "multilabel" else np.unique(y)
    first = {"classes": classes} if hasattr(estimators[0], "predict_proba") else {}
    for part in (slice(0, 100), slice(100, 230), slice(0, 50)):
        fit_both(estimators, X[part], y[part], method="partial_fit", **first)
        first = {}
    compare(*estimators, X)
    estimators = both(task, **options, warm_start=True)
    fit_both(estimators, X, y)
    fit_both(estimators, X, y)
    compare(*estimators, X)
    assert len(estimators[1].loss_curve_) == 10


@pytest.mark.filterwarnings("ignore:hidden_layer_sizes. training goes on")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(("before", "after"), [(8, (6,)), ((5, 4), (4, 7)), ((5, 4), [4, 5])])
def test_widths_changed_between_fits(before, after, solver, method, rng):
    """scikit-learn goes on with the widths it has; so does ours, and says so."""
    X, y = data("multiclass", rng)
    options = {"hidden_layer_sizes": before, "solver": solver, "random_state": 1, "max_iter": 5, "warm_start": True}
    estimators = fit_both(both("multiclass", **options), X, y)
    them, us = (each.set_params(hidden_layer_sizes=after) for each in estimators)
    fit_both((them, us), X, y, method=method)
    compare(them, us, X)
    assert [coef.shape for coef in us.coefs_] == [coef.shape for coef in them.coefs_]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        us.fit(X, y)
    (told,) = (each for each in caught if each.category is UserWarning)
    assert f"the widths fitted before, {np.atleast_1d(before).tolist()}, as scikit-learn" in str(told.message)
    assert told.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        us.set_params(warm_start=False).fit(X, y)  # the new widths
    assert [coef.shape[1] for coef in us.coefs_] == [*after, us.n_outputs_]


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize(("before", "after"), [((8,), (8, 4)), ((8, 4), (8,)), ((8,), ()), ((), (8,))])
def test_layers_added_or_removed_between_fits(before, after, solver, rng):
    """scikit-learn fails with some error; ours says what is wrong, and keeps what was fitted."""
    X, y = data("multiclass", rng)
    options = {"hidden_layer_sizes": before, "solver": solver, "random_state": 1, "max_iter": 5, "warm_start": True}
    them, us = fit_both(both("multiclass", **options), X, y)
    kept = [coef.copy() for coef in us.coefs_]
    with pytest.raises((AttributeError, IndexError, ValueError)):
        them.set_params(hidden_layer_sizes=after).fit(X, y)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes: expected the widths fitted before, .* got"):
        us.set_params(hidden_layer_sizes=after).fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(us.coefs_, kept, strict=True))


def test_widths_changed_under_lbfgs_are_refused(rng):
    """scikit-learn cuts the vector of the old parameters up by the new widths, and takes no step."""
    X, y = data("multiclass", rng)
    us = ours.MLPClassifier(8, solver="lbfgs", max_iter=500, tol=0.1, warm_start=True, backend="numpy").fit(X, y)
    with pytest.raises(ValueError, match=r"expected the widths fitted before, .*\[6, 8, 4\], got \[6, 6, 4\]"):
        us.set_params(hidden_layer_sizes=6).fit(X, y)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_from_sparse_input(task, rng):
    X, y = data(task, rng)
    X = X * (rng.random(X.shape) < 0.3)
    for kind, solver in product((sparse.csr_array, sparse.csc_matrix), ("adam", "lbfgs")):
        estimators = both(task, hidden_layer_sizes=6, solver=solver, max_iter=10, random_state=1)
        them, us = fit_both(estimators, kind(X), y)
        compare(them, us, kind(X))
        if hasattr(us, "classes_"):
            assert np.array_equal(us.predict(X), us.predict(kind(X)))
        else:
            assert relative(us.predict(X), us.predict(kind(X))) < 1e-12


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_loss_of_several_outputs_is_the_sum_where_theirs_is_the_mean(solver, rng):
    """The only known difference. Stopping uses their number, as the equal `n_iter_` above shows."""
    X, y = data("multi-output", rng)
    options = {"hidden_layer_sizes": 6, "max_iter": 7, "random_state": 1, "alpha": 0.2}
    options |= {"batch_size": len(X), "shuffle": False, "solver": solver}
    them, us = fit_both(both("multi-output", **options), X, y)
    once_more = them if solver == "lbfgs" else fit_both(both("multi-output", **(options | {"max_iter": 6})), X, y)[0]
    decay = 0.1 * sum(np.sum(W**2) for W in once_more.coefs_) / len(X)
    costs = 0.5 * np.mean((once_more.predict(X) - y) ** 2, axis=0)  # the parameters of the last loss
    assert them.loss_ == pytest.approx(costs.mean() + decay, rel=1e-12)
    assert us.loss_ == pytest.approx(costs.sum() + decay, rel=1e-9)


@pytest.mark.parametrize("hidden", [(), (1,), (4, 3, 2, 5)])
def test_any_number_of_hidden_layers(hidden, rng):
    for task in TASKS:
        X, y = data(task, rng)
        compare(*fit_both(both(task, hidden_layer_sizes=hidden, max_iter=8, random_state=2), X, y), X)


def test_float32_stays_float32(rng):
    """It equals scikit-learn's float32 up to rounding, which 20 epochs have enlarged."""
    for task in TASKS:
        X, y = data(task, rng)
        X = X.astype(np.float32)
        compare(*fit_both(both(task, hidden_layer_sizes=6, max_iter=20, random_state=2), X, y), X, tolerance=2e-4)
