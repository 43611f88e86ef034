"""Dask: searches and predictions over its workers."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own
GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [0.003, 0.03]}


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_search_on_workers_finds_what_it_finds_here(client):
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    search = GridSearchCV(dp.MLPClassifier((6,), max_iter=20, random_state=0), GRID, cv=3)
    with joblib.parallel_backend("dask"):
        there = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(there, search.fit(X, y).cv_results_["mean_test_score"])


def test_blocks_of_a_dask_array_are_predicted_one_by_one(client):
    array = pytest.importorskip("dask.array")
    X, y = load_iris(return_X_y=True)
    mlp = dp.MLPClassifier((6,), max_iter=20, random_state=0).fit(X, y)
    blocks = array.from_array(X, chunks=(40, 4))
    there = blocks.map_blocks(mlp.predict_proba, dtype=float, chunks=(blocks.chunks[0], (3,))).compute()
    np.testing.assert_allclose(there, mlp.predict_proba(X), rtol=0, atol=1e-15)
