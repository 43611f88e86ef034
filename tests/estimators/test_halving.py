"""HalvingSweepCV finds what scikit-learn's halving searches find, and trains on where they train anew."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_diabetes, load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV, ParameterGrid
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.estimators import search
from deltaprop.estimators.member_training import MemberTraining

IRIS = load_iris(return_X_y=True)
DIABETES = [array[:150] / scale for array, scale in zip(load_diabetes(return_X_y=True), (1, 100), strict=True)]
BASE: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0, "batch_size": 40}
GRID = {"alpha": [1e-4, 1e-2, 1.0], "learning_rate_init": [0.001, 0.01, 0.03]}
GRID_LIST = [{**each, "max_iter": 0} for each in ParameterGrid(GRID)]
BY_EPOCHS: dict[str, Any] = {"resource": "max_iter", "max_resources": 18, "cv": 3}

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Got `batch_size`:UserWarning"
)


@pytest.fixture
def parts(monkeypatch):
    """The number of members of each stack."""
    counted = []
    original: Any = search.fit_part

    def counting(scoring, group, jobs, **options):
        counted.append(len(jobs))
        return original(scoring, group, jobs, **options)

    monkeypatch.setattr(search, "fit_part", counting)
    return counted


@pytest.fixture
def epochs(monkeypatch):
    """Count, for each call that trains members on, how many there are and how many epochs they get."""
    counted = []
    original = MemberTraining.train_on

    def counting(training, estimators):
        before = training.records.n_iter.copy()
        original(training, estimators)
        grown = training.records.n_iter - before
        counted.append((len(estimators), int((grown > 0).sum()), int(grown.max())))

    monkeypatch.setattr(MemberTraining, "train_on", counting)
    return counted


def assert_same(ours, theirs, tolerance=1e-10):
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        if name == "params":
            assert ours.cv_results_[name] == expected
        elif "time" not in name and not name.startswith("param_"):
            np.testing.assert_allclose(ours.cv_results_[name], expected, rtol=tolerance, atol=1e-12, err_msg=name)
    for name in (
        "n_resources_",
        "n_candidates_",
        "n_remaining_candidates_",
        "max_resources_",
        "min_resources_",
        "n_iterations_",
        "n_possible_iterations_",
        "n_required_iterations_",
        "best_index_",
        "best_params_",
        "n_splits_",
        "multimetric_",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=tolerance)


SAMPLES: list[dict[str, Any]] = [
    {},
    {"factor": 2, "min_resources": 30, "scoring": "neg_log_loss"},
    {"min_resources": 60, "aggressive_elimination": True, "return_train_score": False},
    {"max_resources": 90, "cv": 3, "scoring": "neg_log_loss"},
]


@pytest.mark.parametrize("how", SAMPLES, ids=str)
def test_more_and_more_samples(how, parts):
    X, y = IRIS
    theirs = HalvingGridSearchCV(MLPClassifier(**BASE), GRID, random_state=3, **how).fit(X, y)
    ours = dp.HalvingSweepCV(dp.MLPClassifier(**BASE, backend="numpy"), GRID, random_state=3, **how).fit(X, y)
    assert_same(ours, theirs)
    assert sum(parts) == sum(theirs.n_candidates_) * theirs.n_splits_
    assert np.array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("n_candidates", [7, "exhaust"])
def test_candidates_drawn_at_random(n_candidates):
    X, y = DIABETES
    space = {"alpha": stats.loguniform(1e-5, 1.0), "learning_rate_init": [0.001, 0.01]}
    how: dict[str, Any] = {"n_candidates": n_candidates, "random_state": 3, "cv": 3, "min_resources": 50}
    theirs = HalvingRandomSearchCV(MLPRegressor(**BASE), space, **how).fit(X, y)
    assert_same(dp.HalvingSweepCV(dp.MLPRegressor(**BASE, backend="numpy"), space, **how).fit(X, y), theirs, 1e-8)


EPOCHS: list[dict[str, Any]] = [
    {},
    {"early_stopping": True, "n_iter_no_change": 3},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 1},
    {"solver": "sgd", "learning_rate": "invscaling", "shuffle": False},
    {"tol": 0.05, "n_iter_no_change": 1, "batch_size": 200},
]


@pytest.mark.parametrize("base", EPOCHS, ids=str)
def test_more_and_more_epochs_go_on_and_score_as_from_the_beginning(base, parts, epochs):
    X, y = IRIS
    for scoring in (None, "neg_log_loss"):
        parts.clear(), epochs.clear()
        how = BY_EPOCHS | {"scoring": scoring}
        theirs = HalvingGridSearchCV(MLPClassifier(**BASE | base), GRID, **how).fit(X, y)
        ours = dp.HalvingSweepCV(dp.MLPClassifier(**BASE | base, backend="numpy"), GRID, **how).fit(X, y)
        assert_same(ours, theirs)
        assert ours.n_resources_ == [2, 6, 18]
        assert parts == [27]  # nothing is trained anew
        assert [fits for fits, _, _ in epochs] == [9, 3]
        assert all(trained <= fits for fits, trained, _ in epochs)
        assert next(most for _, _, most in epochs) <= 4


def test_a_scorer_sees_what_a_fit_from_the_beginning_leaves():
    X, y = IRIS
    seen: list[Any] = []

    def keeping(estimator, X, y):
        seen.append(estimator)
        return estimator.score(X, y)

    how: dict[str, Any] = BY_EPOCHS | {"scoring": keeping, "return_train_score": False, "refit": False}
    grid = {"alpha": [1e-4, 1e-2, 1.0], "early_stopping": [True, False], "random_state": [0, 1]}
    for kind in (HalvingGridSearchCV, dp.HalvingSweepCV):
        kind(dp.MLPClassifier(**BASE | {"n_iter_no_change": 20}, backend="numpy"), grid, **how).fit(X, y)
    theirs, ours = seen[: len(seen) // 2], seen[len(seen) // 2 :]

    def order(estimator):
        parameters = estimator.max_iter, estimator.alpha, estimator.early_stopping, estimator.random_state
        return *parameters, float(estimator.coefs_[0][0, 0])

    for one, other in zip(sorted(ours, key=order), sorted(theirs, key=order), strict=True):
        assert set(vars(one)) == set(vars(other))
        for name in ("t_", "n_iter_", "loss_curve_", "best_loss_", "validation_scores_", "max_iter"):
            expected = getattr(other, name)
            assert getattr(one, name) == (expected if expected is None else pytest.approx(expected, rel=1e-10))
        for estimator in (one, other):
            estimator.set_params(early_stopping=False).partial_fit(X, y)
        np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-8)


def test_pipelines(parts, epochs):
    X, y = IRIS
    grid = {"mlp__alpha": [1e-4, 1e-2, 1.0], "scale__with_mean": [True, False], "mlp__solver": ["adam", "sgd"]}
    for how in ({"resource": "mlp__max_iter", "max_resources": 18, "cv": 3}, {"cv": 3, "random_state": 0}):
        pipelines = [
            Pipeline([("scale", StandardScaler()), ("mlp", network)])
            for network in (MLPClassifier(**BASE), dp.MLPClassifier(**BASE, backend="numpy"))
        ]
        options: dict[str, Any] = {"scoring": "neg_log_loss", **how}
        theirs = HalvingGridSearchCV(pipelines[0], grid, **options).fit(X, y)
        parts.clear()
        assert_same(dp.HalvingSweepCV(pipelines[1], grid, **options).fit(X, y), theirs)
        assert parts == ([36] if "resource" in how else [3 * count for count in theirs.n_candidates_])
    assert [fits for fits, _, _ in epochs] == [12, 6]


@pytest.mark.parametrize(
    "how", [{"memory_limit": 20_000}, {"aggressive_elimination": True, "min_resources": 9}], ids=str
)
def test_what_is_not_kept_or_needs_no_more_epochs(how):
    X, y = IRIS
    theirs_how = {name: value for name, value in how.items() if name != "memory_limit"}
    options = BY_EPOCHS | {"scoring": "neg_log_loss"}
    theirs = HalvingGridSearchCV(MLPClassifier(**BASE), GRID, **options, **theirs_how).fit(X, y)
    ours = dp.HalvingSweepCV(dp.MLPClassifier(**BASE, backend="numpy"), GRID, **options, **how)
    assert_same(ours.fit(X, y), theirs)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:.*non-finite:UserWarning")
def test_fits_that_fail_and_fits_by_themselves():
    X, y = DIABETES
    grid = {"learning_rate_init": [1e-3, 1e-4, 1e100], "solver": ["sgd", "lbfgs"]}
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "random_state": 0}
    theirs = HalvingGridSearchCV(MLPRegressor(**base), grid, **BY_EPOCHS).fit(X, y)
    assert_same(dp.HalvingSweepCV(dp.MLPRegressor(**base, backend="numpy"), grid, **BY_EPOCHS).fit(X, y), theirs, 1e-5)


def test_other_estimators_and_other_resources():
    X, y = IRIS
    grid = {"var_smoothing": [1e-9, 0.1, 1.0]}
    options: dict[str, Any] = {"cv": 3, "random_state": 0}
    theirs = HalvingGridSearchCV(GaussianNB(), grid, **options).fit(X, y)
    assert_same(dp.HalvingSweepCV(GaussianNB(), grid, **options).fit(X, y), theirs)
    options = {"cv": 3, "resource": "hidden_layer_sizes", "max_resources": 9}
    theirs = HalvingGridSearchCV(MLPClassifier(**BASE), {"alpha": [0.1, 1.0, 3.0]}, **options).fit(X, y)
    base = dp.MLPClassifier(**BASE, backend="numpy")
    assert_same(dp.HalvingSweepCV(base, {"alpha": [0.1, 1.0, 3.0]}, **options).fit(X, y), theirs)


def test_verbose_lines_of_scikit_learn(capsys):
    X, y = IRIS
    grid, options = {"alpha": [1e-2, 1.0, 3.0]}, BY_EPOCHS | {"verbose": 1}
    HalvingGridSearchCV(MLPClassifier(**BASE), grid, **options).fit(X, y)
    expected = capsys.readouterr().out
    dp.HalvingSweepCV(dp.MLPClassifier(**BASE, backend="numpy"), grid, **options).fit(X, y)
    assert capsys.readouterr().out == expected


def test_without_a_seed_candidates_keep_their_random_numbers(epochs):
    X, y = IRIS
    base = dp.MLPClassifier((5,), backend="numpy")
    dp.HalvingSweepCV(base, {"alpha": [0.1] * 9}, **BY_EPOCHS).fit(X, y)
    assert sum(fits for fits, _, _ in epochs) <= 12


def test_a_picture_of_scores_over_the_resource():
    X, y = IRIS
    sweep = dp.HalvingSweepCV(dp.MLPClassifier(**BASE), GRID, **BY_EPOCHS).fit(X, y)
    figure = sweep.plot()
    first, *others = [axis for axis in figure.axes if axis.get_xlabel()]
    assert [axis.get_xlabel().split(" [")[0] for axis in (first, *others)] == ["max_iter", *sorted(GRID)]
    results, lines = sweep.cv_results_, first.lines
    means = results["mean_test_score"].tolist()
    for k in range(9):  # a line for each candidate, as far as it came
        own = [n for n, each in enumerate(results["params"]) if {**each, "max_iter": 0} == GRID_LIST[k]]
        assert lines[k].get_xdata().tolist() == [results["n_resources"][n] for n in own]
        assert lines[k].get_ydata().tolist() == [means[n] for n in own]
    for axis in (first, *others):
        assert axis.lines[-1].get_ydata()[0] == sweep.best_score_
        _, labels = axis.get_legend_handles_labels()
        assert labels[-3:] == ["max_iter 2", "max_iter 6", "max_iter 18"]
    assert first.lines[-1].get_xdata()[0] == 18
    figure.canvas.draw()
    for minor, ticks in ((False, ["2", "6", "18"]), (True, [])):  # labels of powers of ten would overlap
        assert [label.get_text() for label in first.get_xticklabels(minor=minor)] == ticks


def test_a_picture_of_another_score_marks_the_best_of_the_last_iteration():
    X, y = IRIS
    sweep = dp.HalvingSweepCV(dp.MLPClassifier(**BASE), GRID, **BY_EPOCHS, refit=False).fit(X, y)
    del sweep.best_index_
    last = sweep.cv_results_["mean_test_score"][sweep.cv_results_["iter"] == 2]
    assert sweep.plot().axes[0].lines[-1].get_ydata()[0] == max(last)


def test_bad_arguments_are_named():
    X, y = IRIS
    base = dp.MLPClassifier(**BASE, backend="numpy")
    for change, message in (
        ({"n_candidates": "exhaust"}, "n_candidates, min_resources"),
        ({"n_candidates": 0}, "n_candidates"),
        ({"factor": 1}, "factor"),
        ({"param_grid": {"alpha": stats.uniform()}}, "got a distribution for 'alpha'; n_candidates says how many"),
        ({"max_resources": 151}, "max_resources: expected at most 150 samples, got 151"),
        ({"resource": "max_iter"}, "max_resources='auto'"),
        ({"resource": "no_such", "max_resources": 9}, "no_such"),
        ({"resource": "alpha", "max_resources": 9}, "alpha"),
        ({"memory_limit": 0}, "memory_limit"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            dp.HalvingSweepCV(**{"estimator": base, "param_grid": GRID} | change).fit(X, y)
