"""scikit-learn's callbacks, where it has them: a task an epoch, with the estimator as it is then."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

import deltaprop as dp

sklearn_callback = pytest.importorskip("sklearn.callback")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OPTIONS: dict[str, Any] = {"max_iter": 4, "random_state": 0, "backend": "numpy"}


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


class Told:
    """A callback of scikit-learn's protocol."""

    def __init__(self, stop_after=None):
        self.told, self.outputs, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append((context.task_name, context.task_id, "begins"))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.told.append((context.task_name, context.task_id, "ends"))
        self.outputs.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_scores_of_every_epoch(iris, solver, kind):
    """As refits with max_iter = 1, 2, 3 and 4 give them."""
    X, y = iris
    cls, scoring = getattr(dp, kind), "neg_log_loss" if kind == "MLPClassifier" else "r2"
    from sklearn.metrics import get_scorer

    monitor = sklearn_callback.ScoringMonitor(scoring=scoring)
    mlp = cls(hidden_layer_sizes=(6,), solver=solver, **OPTIONS).set_callbacks(monitor).fit(X, y)
    rows = {row["task_id_path"]: row[scoring] for row in monitor.get_logs().data}
    expected = [
        get_scorer(scoring)(cls(hidden_layer_sizes=(6,), solver=solver, **OPTIONS | {"max_iter": k}).fit(X, y), X, y)
        for k in range(1, 5)
    ]
    np.testing.assert_allclose([rows[0, k] for k in range(4)], expected, rtol=1e-12)
    assert rows[0,] == get_scorer(scoring)(mlp, X, y)


def test_tasks_in_order_and_their_estimators(iris):
    told = Told()
    dp.MLPClassifier((6,), **OPTIONS | {"max_iter": 2}).set_callbacks(told).fit(*iris)
    epochs = [("epoch", k, what) for k in range(2) for what in ("begins", "ends")]
    assert told.told == ["setup", ("fit", 0, "begins"), *epochs, ("fit", 0, "ends"), "teardown"]
    first, second, last = (fitted.predict_proba(iris[0]) for fitted in told.outputs)  # after training has ended
    assert np.abs(first - second).max() > 1e-6
    np.testing.assert_array_equal(second, last)


def test_a_callback_that_asks_to_stop(iris):
    told = Told(stop_after=2)
    assert dp.MLPClassifier((6,), **OPTIONS).set_callbacks(told).fit(*iris).n_iter_ == 2
    assert told.told[-1] == "teardown"


def test_teardown_follows_an_error(iris):
    told = Told()

    def fail(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dp.MLPClassifier((6,), **OPTIONS, callbacks=[fail]).set_callbacks(told).fit(*iris)
    assert told.told[-1] == "teardown"


def test_nothing_depends_on_callbacks(iris):
    alone = dp.MLPClassifier((6,), **OPTIONS).fit(*iris)
    heard = dp.MLPClassifier((6,), **OPTIONS).set_callbacks(Told()).fit(*iris)
    for one, other in zip(alone.coefs_, heard.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert clone(heard)._skl_callbacks == heard._skl_callbacks
    again = pickle.loads(pickle.dumps(alone.set_callbacks()))
    np.testing.assert_array_equal(again.predict(iris[0]), heard.predict(iris[0]))


def test_the_bar_of_a_search_reaches_our_fits(iris, capsys):
    from sklearn.model_selection import GridSearchCV

    mlp = dp.MLPClassifier((3,), **OPTIONS | {"max_iter": 2})
    GridSearchCV(mlp, {"alpha": [0.0, 1.0]}, cv=2).set_callbacks(sklearn_callback.ProgressBar()).fit(*iris)
    assert "MLPClassifier" in capsys.readouterr().out
