"""imbalanced-learn: samplers before our classifiers, in pipelines, ensembles and searches."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own
OPTIONS: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 20, "random_state": 0}


@pytest.fixture
def few_positive():
    """A table in which one row of five is of class 0."""
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.r_[np.flatnonzero(y == 0)[:80], np.flatnonzero(y == 1)[:320]]
    return X[rows], y[rows]


def test_a_sampler_in_a_pipeline_gives_the_rows_that_the_network_is_trained_on(few_positive):
    pipeline = pytest.importorskip("imblearn.pipeline")
    sampling = pytest.importorskip("imblearn.over_sampling")
    X, y = few_positive
    whole = pipeline.make_pipeline(
        StandardScaler(), sampling.RandomOverSampler(random_state=3), dp.MLPClassifier(**OPTIONS)
    ).fit(X, y)
    scaled = StandardScaler().fit(X)
    rows, labels = sampling.RandomOverSampler(random_state=3).fit_resample(scaled.transform(X), y)
    assert np.bincount(labels).tolist() == [320, 320]
    by_hand = dp.MLPClassifier(**OPTIONS).fit(rows, labels)
    np.testing.assert_array_equal(whole.predict_proba(X), by_hand.predict_proba(scaled.transform(X)))


def test_a_search_resamples_each_fold_as_grid_search_does(few_positive):
    pipeline = pytest.importorskip("imblearn.pipeline")
    sampling = pytest.importorskip("imblearn.over_sampling")
    X, y = few_positive
    steps = pipeline.make_pipeline(
        StandardScaler(), sampling.RandomOverSampler(random_state=3), dp.MLPClassifier(**OPTIONS)
    )
    grid = {"mlpclassifier__alpha": [1e-4, 1.0, 30.0]}
    sweep = dp.SweepCV(steps, grid, cv=3).fit(X, y)
    search = GridSearchCV(steps, grid, cv=3).fit(X, y)
    np.testing.assert_allclose(
        sweep.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"], rtol=0, atol=1e-12
    )


def test_balanced_bagging_takes_our_classifier(few_positive):
    ensemble = pytest.importorskip("imblearn.ensemble")
    X, y = few_positive
    X = StandardScaler().fit_transform(X)
    bagging = ensemble.BalancedBaggingClassifier(
        dp.MLPClassifier(**OPTIONS | {"max_iter": 60}), n_estimators=3, random_state=0
    ).fit(X, y)
    mean = np.mean([each.predict_proba(X) for each in bagging.estimators_], axis=0)
    np.testing.assert_allclose(bagging.predict_proba(X), mean, rtol=0, atol=1e-12)
    assert bagging.score(X, y) > 0.9
