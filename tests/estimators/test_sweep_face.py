"""SweepCV shows what scikit-learn's search shows: its lines, its tables, its errors, its callbacks."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import deltaprop as dp
from deltaprop.estimators import search

IRIS = load_iris(return_X_y=True)
BASE: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "backend": "numpy"}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pipeline():
    return Pipeline([("scale", StandardScaler()), ("mlp", dp.MLPClassifier(**BASE))])


BAD: dict[str, Any] = {
    "alpha": [1e-4, -1.0],
    "solver": ["adam", "adma"],
    "learning_rate_init": [1e-3, "fast"],
    "batch_size": [20, 0],
    "hidden_layer_sizes": [(5,), "wide"],
    "momentum": [0.9, None],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_bad_candidate_is_named_as_in_their_search(name, in_pipeline):
    """The error names the network's class, the parameter and the value; without it, the others go on."""
    theirs = MLPClassifier(**{key: value for key, value in BASE.items() if key != "backend"})
    ours: Any = dp.MLPClassifier(**BASE)
    if in_pipeline:
        theirs, ours = (Pipeline([("scale", StandardScaler()), ("mlp", each)]) for each in (theirs, ours))
    grid = {f"mlp__{name}" if in_pipeline else name: BAD[name]}

    def text_of(search, category):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                search.fit(*IRIS)
            except category as error:
                return re.sub(r"\{.*\}", "", str(error))  # a set of names has no order
        (failed,) = (str(each.message) for each in caught if each.category is FitFailedWarning)
        return re.sub(r"\{.*\}", "", failed.rstrip().rpartition("\n")[2])

    expected = text_of(GridSearchCV(theirs, grid, cv=2, error_score="raise"), InvalidParameterError)
    assert f"The '{name}' parameter of MLPClassifier must be" in expected
    assert f"Got {BAD[name][1]!r} instead." in expected
    halving: dict[str, Any] = {"cv": 2, "resource": "mlp__max_iter" if in_pipeline else "max_iter", "max_resources": 4}
    for each in (dp.SweepCV(ours, grid, cv=2), dp.HalvingSweepCV(ours, grid, **halving)):
        assert text_of(each, ()).endswith(expected)
        assert text_of(each.set_params(error_score="raise"), InvalidParameterError) == expected


def without_times(printed):
    """Return the lines, sorted, without the seconds and the dots before them, whose number depends on the seconds."""
    return sorted(re.sub(r"total time=.*", "total time", re.sub(r"\.{2,}", " ", line)) for line in printed.splitlines())


@pytest.mark.parametrize(
    ("verbose", "train", "scoring"),
    [
        (1, False, None),
        (2, True, None),
        (3, True, None),
        (3, False, ["accuracy", "r2"]),
        (10, True, ["accuracy", "r2"]),
    ],
)
def test_the_lines_of_verbose(verbose, train, scoring, capsys):
    X, y = IRIS
    how: dict[str, Any] = {"cv": 2, "verbose": verbose, "return_train_score": train, "scoring": scoring, "refit": False}
    for estimator, grid in (
        (dp.MLPClassifier(**BASE), {"alpha": [0.1, 1.0], "solver": ["adam", "lbfgs"]}),
        (pipeline(), {"mlp__alpha": [0.1, 1.0]}),
    ):
        GridSearchCV(estimator, grid, **how).fit(X, y)
        expected = capsys.readouterr().out
        dp.SweepCV(estimator, grid, **how).fit(X, y)
        printed = capsys.readouterr().out
        assert without_times(printed) == without_times(expected)
        assert printed.splitlines()[0] == expected.splitlines()[0]
        assert {len(line) for line in printed.splitlines() if "END" in line} <= {80, *map(len, expected.splitlines())}


def test_a_line_is_as_wide_as_scikit_learns(capsys):
    X, y = IRIS
    for kind in (GridSearchCV, dp.SweepCV):
        kind(dp.MLPClassifier(**BASE), {"alpha": [0.1]}, cv=2, verbose=3, refit=False).fit(X, y)
        lines = capsys.readouterr().out.splitlines()[1:]
        assert [len(line) for line in lines] == [80, 80]
        assert lines[0].startswith("[CV 1/2] END ....")


def test_tables_that_transform_returns():
    pandas = pytest.importorskip("pandas")
    X, y = IRIS
    for estimator, grid in ((dp.MLPClassifier(**BASE), {"alpha": [0.1]}), (pipeline(), {"mlp__alpha": [0.1]})):
        sweep = dp.SweepCV(estimator, grid, cv=2)
        assert sweep.set_output(transform="pandas") is sweep
        features = sweep.fit(X, y).transform(X)
        assert isinstance(features, pandas.DataFrame)
        assert features.shape == (150, 5)
        if not isinstance(estimator, Pipeline):  # there, the network has seen names and would miss them
            again = sweep.set_output(transform="default").transform(X)
            assert isinstance(again, np.ndarray)
            np.testing.assert_array_equal(again, features.to_numpy())
    assert not hasattr(dp.SweepCV(GaussianNB(), {}), "set_output")


def test_a_candidate_with_a_bad_value_is_named_as_the_estimator_that_has_it():
    X, y = IRIS
    for estimator, prefix in ((dp.MLPClassifier(**BASE), ""), (pipeline(), "mlp__")):
        for name, bad, good in (("solver", "adma", "adam"), ("alpha", -1.0, 0.1)):
            message = f"The '{name}' parameter of MLPClassifier must be"
            grid = {f"{prefix}{name}": [bad, good]}
            with pytest.warns(FitFailedWarning, match=message), pytest.warns(UserWarning, match="non-finite"):
                sweep = dp.SweepCV(estimator, grid, cv=2).fit(X, y)
            assert list(np.isnan(sweep.cv_results_["mean_test_score"])) == [True, False]
            with pytest.raises(ValueError, match=message):
                dp.SweepCV(estimator, grid, cv=2, error_score="raise").fit(X, y)
            with pytest.raises(ValueError, match=message):
                dp.SweepCV(estimator, {f"{prefix}{name}": [bad]}, cv=2).fit(X, y)
        with pytest.raises(ValueError, match="no_such"):
            dp.SweepCV(estimator, {f"{prefix}no_such": [1]}, cv=2).fit(X, y)


def test_a_bad_value_that_every_candidate_replaces_is_no_error():
    X, y = IRIS
    base = dp.MLPClassifier(**BASE, alpha=-1.0)
    expected = GridSearchCV(base, {"alpha": [0.1, 1.0]}, cv=2).fit(X, y)
    sweep = dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=2).fit(X, y)
    np.testing.assert_allclose(sweep.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


def test_callbacks_of_scikit_learn_see_every_fit(monkeypatch):
    """They are called fit by fit, so that nothing is trained together."""
    pytest.importorskip("sklearn.callback")
    X, y = IRIS
    seen: list[Any] = []

    class Seeing:
        def setup(self, estimator, context):
            seen.append("setup")

        def on_fit_task_begin(self, estimator, context, **data):
            seen.append((type(estimator).__name__, context.task_name))

        def on_fit_task_end(self, estimator, context, **data):
            seen.append(("end", context.task_name))
            return False

        def teardown(self, estimator, context):
            seen.append("teardown")

    for kind in (GridSearchCV, dp.SweepCV):
        kind(dp.MLPClassifier(**BASE), {"alpha": [0.1, 1.0]}, cv=2).set_callbacks(Seeing()).fit(X, y)
        seen.append(None)
    middle = seen.index(None)
    theirs = [each if isinstance(each, str | None) else each[1] for each in seen[:middle]]
    ours = [each if isinstance(each, str | None) else each[1] for each in seen[middle + 1 : -1]]
    assert ours == theirs
    assert "candidate-split-evaluation" in ours
    parts: list[int] = []
    monkeypatch.setattr(search, "fit_part", lambda *arguments, **options: parts.append(1))
    dp.SweepCV(dp.MLPClassifier(**BASE), {"alpha": [0.1, 1.0]}, cv=2).set_callbacks(Seeing()).fit(X, y)
    assert parts == []
