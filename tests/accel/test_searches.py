"""Searches of scikit-learn's over its perceptrons: candidates trained together where the results are the same."""

import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from accelerating import accelerated, both_ways, differences
from scikit_learn_versions import TAKES_WEIGHTS
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, y = load_iris(return_X_y=True)
X_diabetes, y_diabetes = load_diabetes(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}
GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}
TOGETHER = "deltaprop, candidates together"


def classifier(**options):
    return MLPClassifier(**SMALL | options)


def results_of(search, X, y, **options):
    """Return what a fitted search shows, without the times."""
    search.fit(X, y, **options)
    found = {name: values for name, values in search.cv_results_.items() if "time" not in name}
    found["params"] = list(map(repr, found["params"]))
    found |= {name: list(map(repr, values)) for name, values in found.items() if name.startswith("param_")}
    best = [getattr(search, name, None) for name in ("best_score_", "best_index_", "multimetric_")]
    best.append(repr(getattr(search, "best_params_", None)))
    refit = getattr(search, "best_estimator_", None)
    return list(search.cv_results_), list(found.values()), best, refit, search.n_splits_


def is_together(profile):
    return any(who == TOGETHER for _, _, who in profile.calls)


def in_threads(search):
    with joblib.parallel_config("threading"):  # starting processes takes long
        return results_of(search, X, y)


SEARCHES = {
    "grid": lambda: results_of(GridSearchCV(classifier(), GRID, cv=3, return_train_score=True), X, y),
    "all processors": lambda: in_threads(GridSearchCV(classifier(solver="sgd"), GRID, cv=2, n_jobs=-1)),
    "widths": lambda: results_of(
        GridSearchCV(classifier(), [{"hidden_layer_sizes": [(4,), (5, 3)]}, {"activation": ["tanh", "logistic"]}]), X, y
    ),
    "random": lambda: results_of(
        RandomizedSearchCV(classifier(), {"alpha": scipy.stats.loguniform(1e-5, 1)}, n_iter=3, random_state=0), X, y
    ),
    "several scores": lambda: results_of(
        GridSearchCV(classifier(), GRID, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss", cv=2), X, y
    ),
    "regressor": lambda: results_of(
        GridSearchCV(MLPRegressor(**SMALL), GRID, scoring=make_scorer(mean_absolute_error, greater_is_better=False)),
        X_diabetes,
        y_diabetes,
    ),
    "pipeline": lambda: results_of(
        GridSearchCV(
            make_pipeline(StandardScaler(), classifier()), {f"mlpclassifier__{k}": v for k, v in GRID.items()}, cv=2
        ),
        X,
        y,
    ),
    "halving": lambda: results_of(HalvingGridSearchCV(classifier(), GRID, cv=2, random_state=0), X, y),
}
if TAKES_WEIGHTS:
    SEARCHES["weights"] = lambda: results_of(
        GridSearchCV(classifier(), GRID, cv=2), X, y, sample_weight=np.linspace(0.5, 2, len(y))
    )


@pytest.mark.parametrize("name", SEARCHES)
def test_candidates_are_trained_together_with_the_same_results(name):
    theirs, ours, profile = both_ways(SEARCHES[name])
    assert list(differences(theirs, ours, 1e-7)) == []
    assert is_together(profile)
    assert not profile.reasons


def looking(estimator, X, y):
    assert type(estimator) is MLPClassifier
    return estimator.score(X, y)


ONE_BY_ONE = {
    "callable": (lambda: GridSearchCV(classifier(), GRID, cv=2, scoring=looking), "may look at the estimator"),
    "no seed": (lambda: GridSearchCV(classifier(random_state=None), GRID, cv=2), "draws would differ"),
    "generator": (
        lambda: GridSearchCV(classifier(random_state=np.random.RandomState(0)), GRID, cv=2),
        "draws would differ",
    ),
    "lbfgs": (lambda: GridSearchCV(classifier(), {"solver": ["adam", "lbfgs"]}, cv=2), "solver='lbfgs'"),
    "raise": (lambda: GridSearchCV(classifier(), GRID, cv=2, error_score="raise"), "error_score='raise'"),
    "verbose": (lambda: GridSearchCV(classifier(), GRID, cv=2, verbose=1), "verbose"),
    "another estimator": (
        lambda: GridSearchCV(
            make_pipeline(StandardScaler(), classifier()),
            {"mlpclassifier": [classifier(), MLPRegressor(**SMALL)]},
            cv=2,
        ),
        "another estimator",
    ),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_candidates_are_trained_one_by_one(name):
    search, reason = ONE_BY_ONE[name]
    if name in ("no seed", "generator"):

        def run():
            np.random.seed(0)
            return results_of(search(), X, y)
    else:

        def run():
            return results_of(search(), X, y)

    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-6)) == []
    assert not is_together(profile)
    assert any(reason in why for _, _, why in profile.reasons)


def test_sparse_inputs_are_fitted_one_by_one():
    run = lambda: results_of(GridSearchCV(classifier(), GRID, cv=2), scipy.sparse.csr_array(X), y)  # noqa: E731
    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-7)) == []
    assert {why for _, _, why in profile.reasons} == {"X is sparse, or there are no targets"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more of the test scores")
def test_a_candidate_that_only_ours_accepts_fails_as_theirs():
    theirs, ours, _ = both_ways(
        lambda: results_of(GridSearchCV(classifier(), {"activation": ["relu", "gelu"]}, cv=2), X, y)
    )
    assert list(differences(theirs, ours, 1e-7)) == []
    assert np.isnan(ours[1][-2][1])


def test_other_estimators_are_left_alone():
    from sklearn.linear_model import LogisticRegression

    theirs, ours, profile = both_ways(
        lambda: results_of(
            GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2), X_diabetes > 0, y_diabetes > 140
        )
    )
    assert list(differences(theirs, ours, 0.0)) == []
    assert not profile.calls
    assert not profile.reasons


class InWorkers:
    """A scorer that looks at the process it runs in."""

    def __call__(self, estimator, X, y):
        from deltaprop import accel
        from deltaprop.accel.profiling import PROFILE

        ours = accel.enabled() and any(who.startswith("deltaprop") for _, _, who in PROFILE.calls)
        return {"score": estimator.score(X, y), "enabled": float(accel.enabled()), "ours": float(ours)}


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_run_ours(backend):
    search = GridSearchCV(classifier(), GRID, cv=2, n_jobs=2, scoring=InWorkers(), refit="score")
    with joblib.parallel_config(backend):
        theirs = results_of(clone(search), X, y)
        with accelerated() as profile:
            ours = results_of(search, X, y)
            assert search.cv_results_["mean_test_enabled"].min() == 1.0
            assert search.cv_results_["mean_test_ours"].min() == 1.0
            assert profile.sent == (8 if backend == "loky" else 0)
        # The same processes, which go on, run scikit-learn's own code again.
        assert list(differences(theirs, results_of(clone(search), X, y), 0.0)) == []
    names = search.cv_results_.keys() & {"mean_test_score", "split0_test_score", "rank_test_score"}
    assert len(names) == 3
    assert list(differences(theirs[2][1:], ours[2][1:], 0.0)) == []
    assert ours[2][0] == pytest.approx(theirs[2][0])


@pytest.mark.parametrize("case", ["runs out", "nan", "diverges", "fails", "large minibatches"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_search_warns_of_what_each_fit_warns_of(kind, case):
    grid = {
        "runs out": {"max_iter": [2, 3], "alpha": [0.1, 1.0]},
        "nan": {"alpha": [0.1, 1.0]},
        "diverges": {"alpha": [0.1, 1e300], "solver": ["sgd"], "learning_rate_init": [1e10]},
        "fails": {"alpha": [0.1, 1.0], "early_stopping": [True], "validation_fraction": [0.01]},
        "large minibatches": {"batch_size": [20, 1000], "max_iter": [2]},
    }[case]

    def run():
        data = X.copy()
        if case == "nan":
            data[0, 0] = np.nan
        search = GridSearchCV(kind(hidden_layer_sizes=(4,), max_iter=2, random_state=0), grid, cv=3)
        with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                results = results_of(search, data, y)[:3]
            except ValueError as error:
                results = type(error).__name__
        told = [
            (each.category, each.filename, each.lineno, str(each.message).partition("Traceback")[0]) for each in caught
        ]
        return results, told

    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-7)) == []
    assert bool(profile.reasons) == (case != "runs out")
