"""Ray: searches by its joblib backend, and networks trained in its tasks."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("default")  # those of another library are its own


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_a_search_on_workers_finds_what_it_finds_here(ray):
    from ray.util.joblib import register_ray

    X, y = load_iris(return_X_y=True)
    X = scale(X)
    search = GridSearchCV(dp.MLPClassifier((6,), max_iter=20, random_state=0), {"alpha": [1e-4, 1.0]}, cv=3)
    register_ray()
    with joblib.parallel_backend("ray"):
        there = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(there, search.fit(X, y).cv_results_["mean_test_score"])


def test_a_network_trains_in_a_task_and_comes_back(ray):
    X, y = load_iris(return_X_y=True)
    X = scale(X)

    def train(seed):
        network = dp.Network([4, 6, 3], seed=seed)
        network.fit(X, y, epochs=5, batch_size=16)
        return network

    there = ray.get([ray.remote(train).remote(seed) for seed in (0, 1)])
    for seed in (0, 1):
        np.testing.assert_array_equal(there[seed].parameters, train(seed).parameters)
