"""SweepCV over a pipeline finds what GridSearchCV finds, with the steps before the network fitted once a split."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.kernel_approximation import RBFSampler
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

import deltaprop as dp
from deltaprop.estimators import search

IRIS = load_iris(return_X_y=True)
DIABETES = [array[:150] for array in load_diabetes(return_X_y=True)]
BASE: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0, "batch_size": 40}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Counting(StandardScaler):
    """A scaler that counts its fits, with the numbers of their samples."""

    fits: list[int] = []  # noqa: RUF012  (clones share it on purpose)

    def fit(self, X, y=None, sample_weight=None):
        self.fits.append(len(X))
        return super().fit(X, y, sample_weight)


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


def ours(*steps, kind=dp.MLPClassifier, **options):
    """A pipeline before a network of ours, named "mlp"."""
    return Pipeline([*steps, ("mlp", kind(**BASE, backend="numpy", **options))])


def theirs(*steps, kind=MLPClassifier):
    """A pipeline before scikit-learn's network, named "mlp"."""
    return Pipeline([*steps, ("mlp", kind(**BASE))])


def assert_same(sweep, grid, tolerance=1e-10):
    assert set(sweep.cv_results_) == set(grid.cv_results_)
    for name, expected in grid.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(sweep.cv_results_[name], expected, rtol=tolerance, atol=1e-12, err_msg=name)
    assert sweep.best_index_ == grid.best_index_
    assert sweep.best_score_ == pytest.approx(grid.best_score_, rel=tolerance, nan_ok=True)


def searched(search, *data, **how):
    """Return the fitted search or its exception, and the categories of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = search.fit(*data, **how)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is compared)
            result = error
    return result, {warning.category for warning in caught} - {ConvergenceWarning}


CASES = {
    "a scaler": ([("scale", StandardScaler())], {"mlp__alpha": [1e-4, 0.1], "mlp__learning_rate_init": [0.003, 0.03]}),
    "settings of steps": (
        [("scale", StandardScaler()), ("pca", PCA(random_state=0))],
        {"scale__with_mean": [True, False], "pca__n_components": [2, 3, 0.9], "mlp__alpha": [1e-4, 0.1]},
    ),
    "whole steps": (
        [("scale", StandardScaler())],
        [
            {"scale": [MinMaxScaler(), "passthrough", None], "mlp__alpha": [1e-4, 0.1]},
            {"scale": [StandardScaler()], "scale__with_std": [True, False]},
        ],
    ),
    "other widths": (
        [("scale", StandardScaler())],
        {"mlp__hidden_layer_sizes": [(4,), (6, 3)], "mlp__solver": ["sgd"]},
    ),
    "a step that uses y": ([("best", SelectKBest(k=2))], {"best__k": [1, 3], "mlp__alpha": [1e-4, 0.1]}),
    "early stopping": (
        [("scale", StandardScaler())],
        {"mlp__early_stopping": [True], "mlp__alpha": [1e-4, 0.1], "mlp__n_iter_no_change": [2]},
    ),
    "nothing before": ([], {"mlp__alpha": [1e-4, 0.1]}),
    "random numbers": (
        [("rbf", RBFSampler(n_components=7, random_state=3))],
        {"rbf__gamma": [0.1, 0.5], "mlp__alpha": [1e-4, 0.1]},
    ),
    "an instance of random numbers": (
        [("rbf", RBFSampler(n_components=7, random_state=np.random.RandomState(3)))],
        {"mlp__alpha": [1e-4, 0.1]},
    ),
    "a pipeline within": ([("all", make_pipeline(StandardScaler(), PCA(2)))], {"all__pca__n_components": [1, 2]}),
    "fits by themselves": ([("scale", StandardScaler())], {"mlp__solver": ["adam", "lbfgs"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_scores_of_scikit_learn(case, parts):
    X, y = IRIS
    steps, grid = CASES[case]
    how: dict[str, Any] = {"cv": 3, "return_train_score": True}
    expected = GridSearchCV(theirs(*steps), grid, **how).fit(X, y)
    sweep = dp.SweepCV(ours(*steps), grid, **how).fit(X, y)
    assert_same(sweep, expected)
    lbfgs = sum(each.get("mlp__solver") == "lbfgs" for each in sweep.cv_results_["params"])
    assert sum(parts) == 3 * (len(sweep.cv_results_["params"]) - lbfgs)
    assert np.array_equal(sweep.predict(X), expected.predict(X))
    assert isinstance(sweep.best_estimator_, Pipeline)
    assert sweep.n_features_in_ == 4


def test_steps_are_fitted_once_a_split_and_candidates_make_one_stack(parts):
    X, y = IRIS
    Counting.fits.clear()
    grid = {"mlp__alpha": [0.0, 1e-4, 0.1, 1.0], "scale__with_mean": [True, False]}
    dp.SweepCV(ours(("scale", Counting())), grid, cv=3, refit=False).fit(X, y)
    assert Counting.fits == [100] * 6
    assert parts == [24]


def test_the_memory_bounds_what_is_transformed_at_once(parts):
    X, y = IRIS
    grid = {"mlp__alpha": [1e-4, 0.1]}
    how: dict[str, Any] = {"cv": 3}
    whole = dp.SweepCV(ours(("scale", StandardScaler())), grid, **how).fit(X, y)
    small = dp.SweepCV(ours(("scale", StandardScaler())), grid, memory_limit=2 * X.nbytes, **how).fit(X, y)
    assert parts == [6, 2, 2, 2]
    assert_same(small, whole)


def test_regressors_and_several_outputs(parts):
    X, y = DIABETES
    for target in (y / 100, np.column_stack([y, y[::-1]]) / 100):
        grid = {"mlp__alpha": [1e-4, 1.0]}
        steps = [("scale", StandardScaler()), ("pca", PCA(4, random_state=0))]
        expected = GridSearchCV(theirs(*steps, kind=MLPRegressor), grid, cv=3).fit(X, target)
        assert_same(dp.SweepCV(ours(*steps, kind=dp.MLPRegressor), grid, cv=3).fit(X, target), expected, 1e-8)
    assert parts == [6, 6]


def predicts_from_raw_samples(estimator, X, y):
    """A score that looks into the fitted pipeline."""
    assert X.min() >= 0.1
    assert isinstance(estimator, Pipeline)
    assert estimator.named_steps["scale"].n_samples_seen_ in (100, 90)
    return float((estimator.predict(X) == y).mean()) + estimator.named_steps["mlp"].alpha


@pytest.mark.parametrize(
    "scoring",
    [
        "neg_log_loss",
        ["accuracy", "neg_log_loss"],
        predicts_from_raw_samples,
        make_scorer(lambda y, predicted: float(np.mean(y == predicted))),
        lambda estimator, X, y: {"a": estimator.score(X, y), "b": predicts_from_raw_samples(estimator, X, y)},
    ],
)
def test_other_scorings(scoring, parts):
    X, y = IRIS
    refit = "neg_log_loss" if isinstance(scoring, list) else False
    how: dict[str, Any] = {"cv": ShuffleSplit(3, random_state=0, test_size=60), "scoring": scoring, "refit": refit}
    grid = {"mlp__alpha": [1e-4, 0.1]}
    how["cv"] = 3
    expected = GridSearchCV(theirs(("scale", StandardScaler())), grid, **how, return_train_score=True).fit(X, y)
    sweep = dp.SweepCV(ours(("scale", StandardScaler())), grid, **how, return_train_score=True).fit(X, y)
    for name, values in expected.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(sweep.cv_results_[name], values, rtol=1e-10, err_msg=name)
    assert parts == [6]


class OtherwiseWhenFitted(TransformerMixin, BaseEstimator):
    """A step that transforms the samples that it is fitted to in another way than new ones, as `TargetEncoder` does."""

    def fit(self, X, y=None):
        return self

    def fit_transform(self, X, y=None):
        return X + 0.5

    def transform(self, X):
        return X


def test_training_scores_are_of_samples_that_were_transformed_after_the_fit(parts):
    X, y = IRIS
    step, grid = ("shift", OtherwiseWhenFitted()), {"mlp__alpha": [1e-4, 0.1]}
    for scoring in ("neg_log_loss", None):
        how: dict[str, Any] = {"cv": 3, "scoring": scoring, "return_train_score": True}
        expected = GridSearchCV(theirs(step), grid, **how).fit(X, y)
        assert_same(dp.SweepCV(ours(step), grid, **how).fit(X, y), expected)
    assert parts == [6, 6]


class InPlace(TransformerMixin, BaseEstimator):
    """A step that works in place, and adds more with each call."""

    def fit(self, X, y=None):
        self.calls_ = 0
        return self

    def transform(self, X):
        self.calls_ += 1
        X += self.calls_ / 4
        return X


@pytest.mark.parametrize("step", [StandardScaler(copy=False), InPlace()])
def test_steps_that_work_in_place(step, parts):
    """The training samples are transformed again for their score, after the test samples; training comes before."""
    X, y = IRIS
    how: dict[str, Any] = {"cv": 3, "scoring": "neg_log_loss", "return_train_score": True, "refit": False}
    grid = {"mlp__alpha": [1e-4, 0.1]}
    expected = GridSearchCV(theirs(("in_place", step)), grid, **how).fit(X.copy(), y)
    assert_same(dp.SweepCV(ours(("in_place", step)), grid, **how).fit(X.copy(), y), expected)
    assert parts == [6]


def test_a_step_before_that_keeps_other_columns_on_every_split(parts):
    X, y = IRIS
    X = X.copy()
    X[50:, 0] = 1.0  # constant on the last of these splits only
    cv = [(np.arange(0, 150, 2), np.arange(1, 150, 2)), (np.r_[0:150:3], np.r_[1:150:3]), (np.r_[49:150], np.r_[0:49])]
    steps = [("varies", VarianceThreshold(0.3))]
    expected = GridSearchCV(theirs(*steps), {"mlp__alpha": [1e-4, 0.1]}, cv=cv).fit(X, y)
    assert_same(dp.SweepCV(ours(*steps), {"mlp__alpha": [1e-4, 0.1]}, cv=cv).fit(X, y), expected)
    assert sum(parts) >= 4


def test_tables_of_pandas_and_sparse_ones(parts):
    pandas = pytest.importorskip("pandas")
    X, y = IRIS
    frame = pandas.DataFrame(X, columns=list("abcd"))
    grid = {"mlp__alpha": [1e-4, 0.1]}
    named = StandardScaler().set_output(transform="pandas")
    sweep = dp.SweepCV(ours(("scale", named)), grid, cv=3, scoring="neg_log_loss").fit(frame, y)
    expected = GridSearchCV(theirs(("scale", named)), grid, cv=3, scoring="neg_log_loss").fit(frame, y)
    assert_same(sweep, expected)
    assert list(sweep.feature_names_in_) == list("abcd")
    assert parts == [6]
    sparse = OneHotEncoder(handle_unknown="ignore")
    assert_same(
        dp.SweepCV(ours(("encode", sparse)), grid, cv=3).fit(frame, y),
        GridSearchCV(theirs(("encode", sparse)), grid, cv=3).fit(frame, y),
    )
    assert_same(
        dp.SweepCV(ours(("scale", StandardScaler(with_mean=False))), grid, cv=3).fit(csr_array(X), y),
        GridSearchCV(theirs(("scale", StandardScaler(with_mean=False))), grid, cv=3).fit(csr_array(X), y),
    )
    assert parts == [6]


class Refusing(TransformerMixin, BaseEstimator):
    """A step that refuses samples whose first entry is large."""

    def __init__(self, limit=5.5):
        self.limit = limit

    def fit(self, X, y=None):
        if X[0, 0] > self.limit:
            raise RuntimeError("refused for good")
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize("error_score", [np.nan, 0.5, "raise"])
@pytest.mark.parametrize("limit", [5.5, 0.0])
def test_a_step_that_raises_an_exception(error_score, limit, parts):
    X, y = IRIS
    cv = [(np.arange(0, 150, 2), np.arange(1, 150, 2)), (np.r_[149:-1:-3], np.r_[1:150:3])]
    how: dict[str, Any] = {"cv": cv, "error_score": error_score}
    grid = {"mlp__alpha": [1e-4, 0.1]}
    expected, their_warnings = searched(GridSearchCV(theirs(("step", Refusing(limit))), grid, **how), X, y)
    sweep, our_warnings = searched(dp.SweepCV(ours(("step", Refusing(limit))), grid, **how), X, y)
    assert our_warnings == their_warnings
    if isinstance(expected, Exception):
        assert type(sweep) is type(expected)
        assert "refused for good" in str(sweep)
    else:
        assert our_warnings >= {FitFailedWarning}
        assert_same(sweep, expected)
        assert parts == [2]


def test_samples_of_a_split_that_are_not_finite_after_a_step(parts):
    X, y = IRIS
    logarithm = FunctionTransformer(lambda X: np.log(np.maximum(X - 0.15, 0.0)))
    how: dict[str, Any] = {"cv": [(np.r_[50:150], np.r_[40:60]), (np.r_[0:150:2], np.r_[1:150:2])], "error_score": 0.5}
    with np.errstate(divide="ignore"):
        for samples in (X, X[::-1]):
            expected, their = searched(
                GridSearchCV(theirs(("log", logarithm)), {"mlp__alpha": [0.1]}, **how), samples, y
            )
            sweep, our = searched(dp.SweepCV(ours(("log", logarithm)), {"mlp__alpha": [0.1]}, **how), samples, y)
            assert our == their
            assert type(sweep).__name__.replace("SweepCV", "GridSearchCV") == type(expected).__name__
            if not isinstance(expected, Exception):
                assert_same(sweep, expected)


@pytest.mark.parametrize("kinds", [(dp.MLPClassifier, MLPClassifier), (dp.MLPRegressor, MLPRegressor)])
def test_splits_without_samples(kinds, parts):
    X, y = IRIS
    mine, others = kinds
    without: list[Any] = [([], np.arange(9)), (np.arange(150), [])]
    for empty in without:
        how: dict[str, Any] = {"cv": [empty, (np.arange(0, 150, 2), np.arange(1, 150, 2))], "error_score": 0.5}
        grid = {"mlp__alpha": [1e-4, 0.1]}
        expected, their = searched(GridSearchCV(theirs(("s", StandardScaler()), kind=others), grid, **how), X, y)
        sweep, our = searched(dp.SweepCV(ours(("s", StandardScaler()), kind=mine), grid, **how), X, y)
        assert our == their
        if isinstance(expected, Exception):
            assert type(sweep) is type(expected)
        else:
            assert_same(sweep, expected)
    assert 2 in parts


def test_sample_weights_and_groups(parts):
    X, y = IRIS
    weight = np.random.default_rng(0).uniform(0, 2, len(y))
    grid, groups = {"mlp__alpha": [1e-4, 0.1]}, np.arange(150) % 7
    for steps, how in (
        ([("scale", StandardScaler())], {"mlp__sample_weight": weight}),
        (
            [("scale", StandardScaler())],
            {"mlp__sample_weight": weight, "scale__sample_weight": weight, "groups": groups},
        ),
    ):
        for class_weight in (None, "balanced"):
            pipeline = ours(*steps, class_weight=class_weight)
            cv = GroupKFold(3) if "groups" in how else 3
            expected = GridSearchCV(pipeline, grid, cv=cv).fit(X, y, **how)
            parts.clear()
            assert_same(dp.SweepCV(pipeline, grid, cv=cv).fit(X, y, **how), expected)
            assert parts == [6]
    refused: list[dict[str, Any]] = [{"sample_weight": weight}, {"mlp__validation_data": (X, y)}]
    for how in refused:
        expected, _ = searched(GridSearchCV(ours(("scale", StandardScaler())), grid, cv=3), X, y, **how)
        sweep, _ = searched(dp.SweepCV(ours(("scale", StandardScaler())), grid, cv=3), X, y, **how)
        assert type(sweep).__name__.replace("SweepCV", "GridSearchCV") == type(expected).__name__
        assert isinstance(expected, Exception) or np.allclose(
            sweep.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-10
        )


def test_metadata_routing(parts):
    X, y = IRIS
    weight, groups = np.random.default_rng(0).uniform(0.1, 2, len(y)), np.arange(150) % 7
    grid = {"alpha": [1e-4, 0.1]}
    of_steps = {f"mlp__{name}": values for name, values in grid.items()}
    with config_context(enable_metadata_routing=True):
        for of_fit, of_score, of_scaler in ((True, True, True), (True, False, False), (False, True, True)):
            network = dp.MLPClassifier(**BASE, backend="numpy")
            network.set_fit_request(sample_weight=of_fit).set_score_request(sample_weight=of_score)
            scaler = StandardScaler().set_fit_request(sample_weight=of_scaler)
            how: dict[str, Any] = {"sample_weight": weight, "groups": groups}
            scoring = None if of_score else get_scorer("neg_log_loss").set_score_request(sample_weight=of_fit)
            asked: dict[str, Any] = {"cv": GroupKFold(3), "scoring": scoring}
            for estimator, parameters in ((network, grid), (Pipeline([("scale", scaler), ("mlp", network)]), of_steps)):
                expected, _ = searched(GridSearchCV(estimator, parameters, **asked), X, y, **how)
                parts.clear()
                sweep, _ = searched(dp.SweepCV(estimator, parameters, **asked), X, y, **how)
                if isinstance(expected, Exception):  # older versions ask for requests of the pipeline as well
                    assert estimator is not network
                    assert type(sweep) is type(expected)
                    continue
                assert_same(sweep, expected)
                assert parts == [6]
                np.testing.assert_allclose(sweep.predict_proba(X), expected.predict_proba(X), rtol=1e-10)
        with pytest.raises(Exception, match="sample_weight"):
            dp.SweepCV(dp.MLPClassifier(**BASE), grid).fit(X, y, sample_weight=weight)


def test_what_goes_one_by_one(parts, tmp_path):
    X, y = DIABETES
    target = TransformedTargetRegressor(dp.MLPRegressor(**BASE, backend="numpy"), transformer=StandardScaler())
    nested = Pipeline([("scale", StandardScaler()), ("within", ours(kind=dp.MLPRegressor))])
    for pipeline, grid in (
        (Pipeline([("scale", StandardScaler()), ("mlp", target)]), {"mlp__regressor__alpha": [0.1, 1.0]}),
        (nested, {"within__mlp__alpha": [0.1, 1.0]}),
        (ours(("scale", StandardScaler()), kind=dp.MLPRegressor).set_params(verbose=True), {"mlp__alpha": [0.1, 1.0]}),
    ):
        assert_same(dp.SweepCV(pipeline, grid, cv=2).fit(X, y), GridSearchCV(pipeline, grid, cv=2).fit(X, y))
    assert parts == []
    remembering = ours(("scale", StandardScaler()), kind=dp.MLPRegressor).set_params(memory=str(tmp_path))
    grid = {"mlp__alpha": [0.1, 1.0]}
    assert_same(dp.SweepCV(remembering, grid, cv=2).fit(X, y), GridSearchCV(remembering, grid, cv=2).fit(X, y))


def test_another_last_step(parts):
    X, y = IRIS
    pipeline = ours(("scale", StandardScaler()))
    small = dp.MLPClassifier((3,), max_iter=4, random_state=1, backend="numpy")
    grid = [{"mlp": [small, GaussianNB()], "scale__with_mean": [True, False]}, {"mlp__alpha": [0.1, 1.0]}]
    assert_same(dp.SweepCV(pipeline, grid, cv=3).fit(X, y), GridSearchCV(pipeline, grid, cv=3).fit(X, y))
    assert sum(parts) == 12
    both = {"mlp": [small], "mlp__alpha": [0.1, 1.0]}
    assert_same(dp.SweepCV(pipeline, both, cv=3).fit(X, y), GridSearchCV(pipeline, both, cv=3).fit(X, y))


def test_a_random_search():
    X, y = IRIS
    space = {"mlp__alpha": [1e-4, 1e-2, 0.1, 1.0], "scale__with_std": [True, False]}
    how: dict[str, Any] = {"n_iter": 5, "random_state": 2, "cv": 3, "scoring": "neg_log_loss"}
    expected = RandomizedSearchCV(theirs(("scale", StandardScaler())), space, **how).fit(X, y)
    assert_same(dp.SweepCV(ours(("scale", StandardScaler())), space, **how).fit(X, y), expected)


def test_samples_of_less_precision_are_only_for_those_who_want_them(parts):
    X, y = IRIS
    grid = {"dtype": ["float32", "float64"]}
    how: dict[str, Any] = {"cv": 3, "scoring": "neg_log_loss"}
    network = dp.MLPClassifier(**BASE, backend="numpy", dtype="float32")
    assert_same(dp.SweepCV(network, grid, **how).fit(X, y), GridSearchCV(network, grid, **how).fit(X, y), 1e-6)
    assert parts == [3]
    alone = GridSearchCV(network, {"dtype": ["float64"]}, **how).fit(X, y)
    sweep = dp.SweepCV(network, grid, **how).fit(X, y)
    assert sweep.cv_results_["mean_test_score"][1] == pytest.approx(alone.best_score_, rel=1e-12)
