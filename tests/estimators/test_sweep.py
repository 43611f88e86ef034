"""SweepCV finds what scikit-learn's searches find with scikit-learn's estimators and with ours."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from conftest import backend_or_skip
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import deltaprop as dp
from deltaprop.estimators import search

IRIS = load_iris(return_X_y=True)
DIGITS = [array[:240] for array in load_digits(return_X_y=True)]
DIABETES = load_diabetes(return_X_y=True)
TIMES = ("fit_time", "score_time")


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


def assert_same_results(ours, theirs, tolerance=1e-12):
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for name, expected in theirs.cv_results_.items():
        got = ours.cv_results_[name]
        if name == "params":
            assert got == expected
        elif name.startswith("param_"):
            assert list(got) == list(expected)
        elif not any(time in name for time in TIMES):
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=1e-13, err_msg=name)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=tolerance)
    assert ours.n_splits_ == theirs.n_splits_


GRIDS = [
    {"alpha": [1e-4, 0.1], "learning_rate_init": [0.003, 0.03]},
    {"hidden_layer_sizes": [(8,), (8, 5), ()], "batch_size": [32, "auto"]},
    {"solver": ["sgd"], "learning_rate": ["constant", "invscaling", "adaptive"], "nesterovs_momentum": [True, False]},
    {"solver": ["sgd"], "momentum": [0.0, 0.5], "learning_rate": ["adaptive"], "tol": [0.05], "n_iter_no_change": [1]},
    {"random_state": [1, 2], "shuffle": [True, False], "activation": ["tanh", "logistic"]},
    {"early_stopping": [True, False], "validation_fraction": [0.2, 0.3], "n_iter_no_change": [2]},
    {"max_iter": [3, 9], "beta_1": [0.8, 0.9], "epsilon": [1e-8, 1e-3]},
    {"tol": [0.1, 0.5], "n_iter_no_change": [1, 2], "max_iter": [30]},
    {"solver": ["adam", "sgd", "lbfgs"]},
]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: " ".join(grid))
def test_the_scores_of_scikit_learn(grid, parts):
    X, y = DIGITS
    base: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 8, "random_state": 0}
    theirs = GridSearchCV(MLPClassifier(**base), grid, cv=3, return_train_score=True).fit(X / 16, y)
    ours = dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), grid, cv=3, return_train_score=True).fit(X / 16, y)
    assert_same_results(ours, theirs)
    assert sum(parts) == 3 * sum(p.get("solver") != "lbfgs" for p in ours.cv_results_["params"])
    assert np.array_equal(ours.predict(X / 16), theirs.predict(X / 16))


@pytest.mark.parametrize("grid", [GRIDS[0], {"early_stopping": [True], "alpha": [0.1, 1.0]}])
def test_of_regressors(grid, parts):
    X, y = DIABETES
    X, Y = X[:150], np.column_stack([y, y[::-1]])[:150] / 100
    base: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 12, "random_state": 3}
    for target in (Y[:, 0], Y):
        theirs = GridSearchCV(MLPRegressor(**base), grid, cv=4).fit(X, target)
        ours = dp.SweepCV(dp.MLPRegressor(**base, backend="numpy"), grid, cv=4).fit(X, target)
        assert_same_results(ours, theirs, 1e-10)
    assert parts


def test_two_classes_and_several_labels(parts):
    X, y = IRIS
    multi_X, multi_y = make_multilabel_classification(120, 6, n_classes=3, random_state=0)
    for samples, labels in ((X[:100], np.array(["no", "yes"])[y[:100]]), (multi_X, multi_y)):
        base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 10, "random_state": 0}
        theirs = GridSearchCV(MLPClassifier(**base), GRIDS[0], cv=3).fit(samples, labels)
        ours = dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), GRIDS[0], cv=3).fit(samples, labels)
        assert_same_results(ours, theirs)
    assert parts == [12, 12]


@pytest.mark.parametrize("kind", ["numpy", "reference", "cuda-on-host"])
def test_on_every_backend(kind):
    X, y = IRIS
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0, "batch_size": 32}
    grid = {"alpha": [0.1, 1.0], "solver": ["sgd", "adam"]}
    backend = backend_or_skip(kind) if kind == "cuda-on-host" else kind
    theirs = GridSearchCV(MLPClassifier(**base), grid, cv=3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = dp.SweepCV(dp.MLPClassifier(**base, backend=backend), grid, cv=3, refit=False).fit(X, y)
    assert np.allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-12)


def test_other_scorings(parts):
    X, y = IRIS
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0}
    several = {"accuracy": "accuracy", "log": "neg_log_loss"}
    for scoring, refit in (("neg_log_loss", True), (several, "log"), (lambda e, X, y: float(e.predict(X).sum()), True)):
        theirs = GridSearchCV(MLPClassifier(**base), GRIDS[0], scoring=scoring, refit=refit, cv=3).fit(X, y)
        ours = dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), GRIDS[0], scoring=scoring, refit=refit, cv=3)
        assert_same_results(ours.fit(X, y), theirs, 1e-10)
        assert ours.multimetric_ == theirs.multimetric_
    assert parts == [12, 12, 12]


def test_a_random_search():
    X, y = IRIS
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0}
    space = {"alpha": stats.loguniform(1e-5, 1.0), "batch_size": [16, 32]}
    theirs = RandomizedSearchCV(MLPClassifier(**base), space, n_iter=6, random_state=4, cv=3).fit(X, y)
    ours = dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), space, n_iter=6, random_state=4, cv=3).fit(X, y)
    assert_same_results(ours, theirs)


def test_splitters_weights_and_groups(parts):
    X, y = IRIS
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0, "batch_size": 40}
    weight, groups = np.random.default_rng(0).uniform(0, 2, len(y)), np.arange(len(y)) % 7
    for cv, how in (
        (ShuffleSplit(4, random_state=0), {"sample_weight": weight}),
        (GroupKFold(3), {"groups": groups}),
        ([(np.arange(100), np.arange(100, 150)), (np.arange(50, 150), np.arange(50))], {}),
    ):
        for class_weight in (None, "balanced"):
            options: dict[str, Any] = {"class_weight": class_weight}
            search = GridSearchCV(dp.MLPClassifier(**base, **options, backend="reference"), GRIDS[0], cv=cv)
            ours = dp.SweepCV(dp.MLPClassifier(**base, **options, backend="numpy"), GRIDS[0], cv=cv)
            assert_same_results(ours.fit(X, y, **how), search.fit(X, y, **how))
    assert parts[:4] == [16, 16, 12, 12]
    # The second split of the last splitter lacks a class of the first, so it is fitted alone.
    assert parts[4:] == []


def test_rows_chosen_from_the_end_and_by_a_mask(parts):
    X, y = IRIS
    first = np.arange(150) % 3 != 0
    cv = [(first, ~first), (np.arange(-150, 0, 2), np.arange(-149, 0, 2))]
    base: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0}
    how: dict[str, Any] = {"cv": cv, "scoring": "neg_log_loss"}
    theirs = GridSearchCV(MLPClassifier(**base), GRIDS[0], **how).fit(X, y)
    assert_same_results(dp.SweepCV(dp.MLPClassifier(**base, backend="numpy"), GRIDS[0], **how).fit(X, y), theirs, 1e-10)
    assert parts == [8]
    with pytest.raises(IndexError):
        dp.SweepCV(dp.MLPClassifier(**base), GRIDS[0], cv=[(np.arange(150, 160), np.arange(9))]).fit(X, y)


def test_a_fit_that_fails_scores_nan_and_the_others_go_on():
    X, y = DIABETES
    base: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 10, "random_state": 0, "solver": "sgd"}
    grid = {"learning_rate_init": [1e-4, 1e100, -1.0]}
    with (
        pytest.warns(FitFailedWarning, match="6 fits failed out of a total of 9"),
        pytest.warns(UserWarning, match="test scores are non-finite"),
    ):
        ours = dp.SweepCV(dp.MLPRegressor(**base, backend="numpy"), grid, cv=3).fit(X, y)
    scores = ours.cv_results_["mean_test_score"]
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1:]).all()
    assert ours.best_index_ == 0
    expected = GridSearchCV(MLPRegressor(**base), {"learning_rate_init": [1e-4]}, cv=3).fit(X, y)
    assert scores[0] == pytest.approx(expected.best_score_, rel=1e-9)
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        dp.SweepCV(dp.MLPRegressor(**base, backend="numpy"), {"learning_rate_init": [1e100]}, cv=3).fit(X, y)
    raising = dp.SweepCV(dp.MLPRegressor(**base, backend="numpy"), grid, cv=3, error_score="raise")
    with pytest.raises(ValueError, match=r"learning_rate_init|non-finite"):
        raising.fit(X, y)


@pytest.mark.parametrize("options", [{"memory_limit": 10_000}, {"progress": True}], ids=str)
def test_a_search_in_parts_is_the_same_search(options, parts):
    """Candidates on one split draw the same orders, whichever are trained at once."""
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=30, batch_size=16, random_state=0, backend="numpy")
    how: dict[str, Any] = {"cv": 3, "scoring": "neg_log_loss", "refit": False}
    grid = {"alpha": [1e-4, 0.1], "learning_rate_init": [0.003, 0.03]}
    theirs = GridSearchCV(MLPClassifier((5,), max_iter=30, batch_size=16, random_state=0), grid, **how).fit(X, y)
    ours = dp.SweepCV(base, grid, **how, **options).fit(X, y)
    assert len(parts) > 2
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-10)


def test_a_stack_holds_no_more_than_the_memory_allows(parts):
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=5, random_state=0, backend="numpy")
    whole = dp.SweepCV(base, GRIDS[0], cv=3).fit(X, y)
    bytes_a_member = 5 * 8 * (4 * 5 + 5 + 5 * 3 + 3)
    small = dp.SweepCV(base, GRIDS[0], cv=3, memory_limit=5 * bytes_a_member).fit(X, y)
    assert parts == [12, 4, 4, 4]
    assert_same_results(small, whole)


def test_processes_find_the_same():
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=5, random_state=0, backend="numpy")
    one, two = (dp.SweepCV(base, GRIDS[0], cv=3, n_jobs=n).fit(X, y) for n in (1, 2))
    assert_same_results(two, one)


def test_other_estimators_are_searched_as_ever(parts):
    X, y = IRIS
    pipeline, grid = make_pipeline(StandardScaler(), GaussianNB()), {"gaussiannb__var_smoothing": [1e-9, 0.1]}
    assert_same_results(dp.SweepCV(pipeline, grid, cv=3).fit(X, y), GridSearchCV(pipeline, grid, cv=3).fit(X, y))
    assert parts == []


def test_what_cannot_be_trained_together_is_fitted_alone(parts):
    X, y = IRIS
    for options in ({"dropout": 0.3}, {"callbacks": [lambda event: event.epoch == 2]}):
        base = dp.MLPClassifier((5,), max_iter=5, random_state=0, backend="numpy", **options)
        ours = dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=3).fit(X, y)
        assert_same_results(ours, GridSearchCV(base, {"alpha": [0.1, 1.0]}, cv=3).fit(X, y))
    assert parts == []


def test_without_a_seed_every_fit_draws_its_own():
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=3, backend="numpy")
    ours = dp.SweepCV(base, {"alpha": [0.1] * 4}, cv=3, scoring="neg_log_loss").fit(X, y)
    assert len(set(ours.cv_results_["mean_test_score"])) == 4


def test_the_estimator_is_left_as_it_was():
    X, y = IRIS
    state = np.random.RandomState(3)
    base = dp.MLPClassifier((5,), max_iter=3, random_state=state, backend="numpy")
    before = clone(base)
    ours = dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=3).fit(X, y)
    theirs = GridSearchCV(before, {"alpha": [0.1, 1.0]}, cv=3).fit(X, y)
    assert_same_results(ours, theirs)
    assert not hasattr(base, "coefs_")
    assert base.random_state is state
    assert state.randint(1000) == np.random.RandomState(3).randint(1000)


def test_it_says_how_many_ran_out_of_epochs():
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=3, random_state=0, backend="numpy")
    with pytest.warns(ConvergenceWarning, match="reached by 6 of 6 fits"):
        dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=3, refit=False).fit(X, y)


def test_a_progress_bar_over_candidates(capsys):
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=3, random_state=0, backend="numpy")
    dp.SweepCV(base, {"alpha": [0.1, 1.0], "solver": ["adam", "lbfgs"]}, cv=3, progress=True).fit(X, y)
    shown = capsys.readouterr()
    assert "candidate 4/4" in shown.err
    assert "best 0." in shown.err
    assert shown.out == ""


def test_a_picture_of_scores_by_parameters(tmp_path):
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=5, random_state=0, backend="numpy")
    grid = {"alpha": [1e-4, 1e-2, 1.0], "activation": ["relu", "tanh"], "hidden_layer_sizes": [(5,), (8, 8)]}
    ours = dp.SweepCV(base, grid, cv=3).fit(X, y)
    figure = ours.plot()
    panels = {axis.get_xlabel(): axis for axis in figure.axes if axis.get_xlabel()}
    assert set(panels) == set(grid)
    assert panels["alpha"].get_xscale() == "log"
    assert [tick.get_text() for tick in panels["activation"].get_xticklabels()] == ["relu", "tanh"]
    star = panels["alpha"].lines[-1]
    assert star.get_xdata()[0] == ours.best_params_["alpha"]
    assert star.get_ydata()[0] == ours.best_score_
    figure.savefig(tmp_path / "sweep.png")
    with pytest.raises(ValueError, match="score: expected one of 'score'"):
        ours.plot("f1")


def test_a_picture_marks_the_candidate_that_was_chosen():
    """Not the one with the highest score, where a function chooses another; and names with dollars are no formulas."""
    X, y = IRIS
    base = Pipeline([("$a$", StandardScaler()), ("mlp", dp.MLPClassifier((5,), max_iter=5, random_state=0))])
    grid = {"mlp__alpha": [1e-4, 1e-2, 1.0], "$a$": ["passthrough", StandardScaler()]}
    search = dp.SweepCV(base, grid, cv=3, refit=lambda results: 3).fit(X, y)
    figure = search.plot()
    for axis in figure.axes[:2]:
        assert axis.lines[-1].get_ydata()[0] == search.cv_results_["mean_test_score"][3]
    figure.canvas.draw()  # a formula that is none would raise an error
    assert [axis.get_xlabel() for axis in figure.axes[:2]] == [r"\$a\$", "mlp__alpha"]


def test_the_log_tells_how_fits_are_trained(caplog):
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=2, random_state=0, backend="reference")
    with caplog.at_level("INFO", "deltaprop"):
        dp.SweepCV(base, {"alpha": [0.1, 0.2], "hidden_layer_sizes": [(5,), (6, 2)]}, cv=3, refit=False).fit(X, y)
    told = [record.message for record in caplog.records]
    assert [line.split(" on ")[0] for line in told] == [
        "training 6 members 4-5-3",
        "training 6 members 4-6-2-3",
    ]


def test_bad_arguments_are_named():
    X, y = IRIS
    base = dp.MLPClassifier((5,), max_iter=3, backend="numpy")
    for change, message in (
        ({"n_iter": 0}, "n_iter"),
        ({"memory_limit": -1}, "memory_limit"),
        ({"param_grid": {"no_such": [1]}}, "no_such"),
        ({"param_grid": {"alpha": 1}}, "alpha"),
        ({"param_grid": [{"alpha": stats.uniform()}]}, "got a distribution for 'alpha'; n_iter says how many"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            dp.SweepCV(**{"estimator": base, "param_grid": {"alpha": [1.0]}, "error_score": "raise"} | change).fit(X, y)


def test_a_backend_is_shared_by_copies_and_named_to_other_processes():
    for name in ("numpy", "reference"):
        backend = dp.get_backend(name)
        assert copy.deepcopy(backend) is backend
        assert pickle.loads(pickle.dumps(backend)) is backend


@parametrize_with_checks(
    [
        dp.SweepCV(kind(hidden_layer_sizes=(8,), random_state=0, learning_rate_init=0.03), {"alpha": [0.01, 0.1]}, cv=2)
        for kind in (dp.MLPClassifier, dp.MLPRegressor)
    ]
)
def test_scikit_learns_checks_of_estimators(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
