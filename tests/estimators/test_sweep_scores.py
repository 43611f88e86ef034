"""Undefined scores and failed fits of a sweep are treated as in scikit-learn's search."""

import warnings
from typing import Any

import numpy as np
import pytest
from scikit_learn_versions import TAKES_WEIGHTS
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neural_network import MLPClassifier, MLPRegressor

import deltaprop as dp

IRIS = load_iris(return_X_y=True)


DIABETES = load_diabetes(return_X_y=True)


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def searched(search, *data, **how):
    """Return the fitted search, or its exception, and the categories of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = search.fit(*data, **how)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is compared)
            result = error
    return result, {warning.category for warning in caught} - {ConvergenceWarning}


def raises_for_the_second(estimator, X, y):
    if estimator.alpha == 1.0:
        raise RuntimeError("no score for this one")
    return float(estimator.predict(X).sum())


def raises_on_what_it_has_seen(estimator, X, y):
    if len(X) > 40:
        raise RuntimeError("no score for this one")
    return estimator.score(X, y)


def raises_always(estimator, X, y):
    raise KeyError("no score at all")


NOTHING_IN_THE_FIRST_FOLD = {"sample_weight": np.r_[np.zeros(20), np.ones(40)]}


TRAINED_ON_THE_FIRST_FOLD = [(np.arange(20), np.arange(20, 60)), (np.arange(20, 60), np.arange(20))]


UNDEFINED = {
    "one row": ({"cv": LeaveOneOut(), "scoring": "r2"}, {}),
    "one row by default": ({"cv": LeaveOneOut()}, {}),
    "one row of several": ({"cv": LeaveOneOut(), "scoring": ["r2", "max_error"], "refit": "max_error"}, {}),
    "one row trained on": ({"cv": [([3], [4, 5]), (np.arange(9), np.arange(9, 40))], "return_train_score": True}, {}),
    "an empty fold": ({"cv": [(np.arange(9), []), (np.arange(9), np.arange(9, 40))]}, {}),
    "nothing to train on": ({"cv": [(np.arange(0), [1, 2]), (np.arange(9), np.arange(9, 40))]}, {}),
    "a fold of no weight": ({}, NOTHING_IN_THE_FIRST_FOLD),
    "a fold of no weight, trained on": ({"cv": TRAINED_ON_THE_FIRST_FOLD}, NOTHING_IN_THE_FIRST_FOLD),
    "all folds but one of no weight": ({}, {"sample_weight": np.r_[np.ones(20), np.zeros(40)]}),
    "weights of nothing": ({}, {"sample_weight": np.zeros(60)}),
    "a scorer that raises for one": ({"scoring": raises_for_the_second}, {}),
    "a scorer that raises for training scores": ({"scoring": raises_on_what_it_has_seen}, {}),
    "a scorer that always raises": ({"scoring": raises_always}, {}),
    "one of several that raises": ({"scoring": {"a": raises_for_the_second, "b": "r2"}, "refit": "b"}, {}),
    "no number": ({"scoring": lambda estimator, X, y: "good"}, {}),
    "a metric that cannot be": ({"scoring": "roc_auc"}, {}),
}


@pytest.mark.parametrize("error_score", [np.nan, -7.5, "raise"])
@pytest.mark.parametrize("case", UNDEFINED)
def test_scores_and_warnings_of_scikit_learn_where_scores_are_undefined(case, error_score):
    """So it is for candidates that are fitted alone, by solver "lbfgs"."""
    X, y = DIABETES
    X, y = X[:60], y[:60] / 100
    asked, how = UNDEFINED[case]
    if how and not TAKES_WEIGHTS:
        pytest.skip("this scikit-learn has no sample weights here")
    if isinstance(asked.get("cv"), LeaveOneOut):
        X, y = X[:7], y[:7]
    grid = {"alpha": [0.1, 1.0, 3.0], "solver": ["sgd", "lbfgs"]}
    base: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 6, "random_state": 0}
    options: dict[str, Any] = {"cv": 3, "error_score": error_score, "return_train_score": True, **asked}
    theirs, their_warnings = searched(GridSearchCV(MLPRegressor(**base), grid, **options), X, y, **how)
    ours, our_warnings = searched(dp.SweepCV(dp.MLPRegressor(**base, backend="numpy"), grid, **options), X, y, **how)
    assert our_warnings == their_warnings
    assert type(ours).__name__.replace("SweepCV", "GridSearchCV") == type(theirs).__name__
    if isinstance(theirs, Exception):
        assert ("fits failed" in str(ours)) is ("fits failed" in str(theirs))
        return
    for name, expected in theirs.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(ours.cv_results_[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-6)


@pytest.mark.parametrize("error_score", [np.nan, 0.0, "raise"])
def test_classifiers_whose_folds_cannot_be_scored_or_fitted(error_score):
    X, y = IRIS
    X, y = X[:100:2], y[:100:2]
    weight = np.ones(50)
    weight[:10] = 0.0  # the test rows of the first split below, and the training rows of the second
    base: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 6, "random_state": 0}
    for grid, asked, weights in (
        (
            {"alpha": [0.1, 1.0]},
            {"cv": [(np.arange(10, 50), np.arange(10)), (np.arange(10), np.arange(20, 40))]},
            weight,
        ),
        ({"alpha": [0.1, 1.0]}, {"cv": LeaveOneOut(), "scoring": "roc_auc"}, None),
        ({"early_stopping": [False, True], "validation_fraction": [0.02, 0.2]}, {"cv": 2}, None),
        ({"early_stopping": [True], "validation_fraction": [0.02]}, {"cv": 2}, None),
        ({"alpha": [0.1, -1.0]}, {"cv": 2}, None),
        ({"alpha": [0.1]}, {"cv": []}, None),
        ({"alpha": [0.1]}, {"cv": [(np.arange(50), []), (np.arange(50), np.arange(9))]}, None),
    ):
        if weights is not None and not TAKES_WEIGHTS:
            continue
        how: dict[str, Any] = {} if weights is None else {"sample_weight": weights}
        options: dict[str, Any] = {"error_score": error_score, **asked}
        theirs, their_warnings = searched(GridSearchCV(MLPClassifier(**base), grid, **options), X, y, **how)
        ours, our_warnings = searched(
            dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), grid, **options), X, y, **how
        )
        assert our_warnings == their_warnings, grid
        if isinstance(theirs, Exception):
            assert isinstance(ours, ValueError)
            continue
        for name in ("mean_test_score", "rank_test_score", "split0_test_score", "split1_test_score"):
            np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-10, err_msg=name)


def test_a_scorer_of_several_names_that_raises_for_one_candidate():
    """GridSearchCV ends with a TypeError there."""
    X, y = DIABETES

    def scoring(estimator, X, y):
        return {"a": raises_for_the_second(estimator, X, y), "b": estimator.score(X, y)}

    base = dp.MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0, backend="numpy")
    ours = dp.SweepCV(base, {"alpha": [1.0, 0.1]}, cv=3, scoring=scoring, refit="b", error_score=-7.5)
    with pytest.warns(UserWarning, match="Scoring failed"):
        ours.fit(X, y)
    alone = GridSearchCV(MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0), {"alpha": [0.1]}, cv=3)
    alone.fit(X, y)
    assert list(ours.cv_results_["mean_test_a"] == -7.5) == [True, False]
    assert ours.cv_results_["mean_test_b"] == pytest.approx([-7.5, alone.best_score_])


def order_of(estimator):
    return estimator.solver, estimator.loss_


def test_a_scorer_is_given_what_a_fit_alone_makes():
    """The estimator has the same attributes and values as in scikit-learn's search."""
    X, y = IRIS
    seen = []

    def state(estimator, X, y):
        seen.append(estimator)
        return 1.0

    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 25, "random_state": 0, "batch_size": 32}
    grid = [{"solver": ["sgd"], "learning_rate": ["adaptive"]}, {"early_stopping": [True], "n_iter_no_change": [2]}]
    dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), grid, cv=3, scoring=state, refit=False).fit(X, y)
    ours, seen = seen, []
    GridSearchCV(dp.MLPClassifier(**base, backend="numpy"), grid, cv=3, scoring=state, refit=False).fit(X, y)
    assert len(ours) == len(seen) == 6
    for one, other in zip(sorted(ours, key=order_of), sorted(seen, key=order_of), strict=True):
        assert set(vars(one)) == set(vars(other))
        for name in ("t_", "n_iter_", "loss_curve_", "best_loss_", "validation_scores_", "validation_loss_curve_"):
            expected = getattr(other, name)
            assert getattr(one, name) == (expected if expected is None else pytest.approx(expected, rel=1e-12))
        for estimator in (one, other):
            estimator.set_params(early_stopping=False).partial_fit(X, y)
        np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-10)
