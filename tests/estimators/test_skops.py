"""skops keeps networks, stacks, estimators and ensembles: their state is plain values and arrays."""

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import require_emulation
from host_cuda import HostCudaBackend
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp

skops_io = pytest.importorskip("skops.io")

RNG = np.random.default_rng(5)
X, LABELS, VALUES = RNG.normal(size=(40, 3)), np.array(["b", "a", "c", "a"] * 10), RNG.normal(size=40)
QUICK: dict[str, Any] = {"max_iter": 200, "tol": 0.5, "n_iter_no_change": 2, "random_state": 0}
BOTH = np.column_stack([LABELS == "a", LABELS == "b"]).astype(int)


def kept(made, others=()):
    """Return what skops reads from what it wrote; every type that it has to trust is a class of ours, or of others."""
    content = skops_io.dumps(made)
    types = skops_io.get_untrusted_types(data=content)
    assert all(name.startswith("deltaprop.") for name in set(types) - set(others))
    return skops_io.loads(content, trusted=types)


def test_networks_and_stacks():
    net = dp.Network([3, 4, 2], hidden_activation=["tanh"], dtype="float32", backend="reference", seed=3)
    stack = dp.NetworkStack(2, [3, 4, 1], loss="squared_error", backend="numpy")
    net.fit(X, BOTH, epochs=2)
    stack.fit(X, VALUES, epochs=3)
    for made in (net, stack):
        again = kept(made)
        np.testing.assert_array_equal(again.parameters, made.parameters)
        assert again.configuration == made.configuration
        assert (again.backend, again.dtype, again.epochs_trained) == (made.backend, made.dtype, made.epochs_trained)
        np.testing.assert_array_equal(again.predict(X), made.predict(X))
    again, there = kept(net), net.copy()
    assert again.fit(X, BOTH, epochs=1).cost == there.fit(X, BOTH, epochs=1).cost  # it shuffles the third epoch alike
    assert [network.epochs_trained for network in kept(stack)] == [3, 3]


@pytest.mark.parametrize(
    ("made", "y"),
    [
        (dp.MLPClassifier((4,), **QUICK), LABELS),
        (dp.MLPRegressor(hidden_layer_sizes=(4,), **QUICK), VALUES),
        (dp.EnsembleClassifier(dp.MLPClassifier((4,), **QUICK), 2, random_state=0), LABELS),
        (dp.EnsembleClassifier(dp.MLPClassifier((4,), **QUICK), 2, random_state=0), BOTH),
        (dp.EnsembleRegressor(dp.MLPRegressor(hidden_layer_sizes=(4,), **QUICK), 2, random_state=0), VALUES),
    ],
)
def test_estimators_and_ensembles(made, y):
    made.fit(X, y)
    again = kept(made)
    np.testing.assert_array_equal(again.predict(X), made.predict(X))
    assert again.score(X, y) == made.score(X, y)


def test_pipelines():
    model = make_pipeline(StandardScaler(), dp.MLPClassifier((4,), **QUICK)).fit(X, LABELS)
    again = kept(model)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    grid = {"mlpclassifier__alpha": [1e-3, 1.0]}
    theirs = GridSearchCV(model, grid, cv=2).fit(X, LABELS)
    search = dp.SweepCV(model, grid, cv=2).fit(X, LABELS)
    again = kept(search, skops_io.get_untrusted_types(data=skops_io.dumps(theirs)))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    assert again.best_params_ == search.best_params_


def test_a_saved_ensemble_holds_no_training_data():
    large = np.tile(X, (2000, 1))
    ensemble = dp.EnsembleRegressor(
        dp.MLPRegressor(hidden_layer_sizes=(4,), **QUICK | {"max_iter": 1, "tol": 1e9}), 2, random_state=0
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        ensemble.fit(large, np.tile(VALUES, 2000))
    rows = sum(samples.nbytes for samples in ensemble.estimators_samples_)
    assert len(pickle.dumps(ensemble)) < rows + large.nbytes / 4


def test_members_share_memory_with_the_stack_when_they_are_read():
    again = kept(
        dp.EnsembleRegressor(dp.MLPRegressor(hidden_layer_sizes=(4,), **QUICK), 2, random_state=0).fit(X, VALUES)
    )
    before = again.estimators_[1].predict(X)
    again.stack_.biases[-1][1] += 1.0
    np.testing.assert_allclose(again.estimators_[1].predict(X), before + 1.0)


def test_a_backend_that_has_no_name_is_pickled_as_itself():
    require_emulation()
    backend = HostCudaBackend()
    net = dp.Network([3, 2], backend=backend)
    assert net.__getstate__()["backend"] is backend
    assert dp.Network([3, 2], backend="numpy").__getstate__()["backend"]["name"] == "numpy"
