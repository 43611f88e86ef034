"""An ensemble is the mean of its members, each of which is the estimator with its seed fitted alone."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from cases import relative
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import deltaprop as dp

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 10, "backend": "numpy"}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize(
    "options", [{}, {"bootstrap": True}, {"max_samples": 0.7}, {"bootstrap": True, "max_samples": 0.5}]
)
def test_members_are_estimators_fitted_alone(options):
    ensemble = dp.EnsembleClassifier(dp.MLPClassifier(**SMALL), 4, random_state=3, **options).fit(X_IRIS, Y_IRIS)
    probabilities = []
    for seed, rows, member in zip(ensemble.seeds_, ensemble.estimators_samples_, ensemble.estimators_, strict=True):
        alone = dp.MLPClassifier(**SMALL, random_state=seed).fit(X_IRIS[rows], Y_IRIS[rows])
        assert relative(member.coefs_, alone.coefs_) < 1e-12
        assert member.loss_curve_ == pytest.approx(alone.loss_curve_, rel=1e-12)
        probabilities.append(alone.predict_proba(X_IRIS))
        assert len(rows) == round(150 * options.get("max_samples", 1.0))
        assert (len(set(rows)) < len(rows)) is options.get("bootstrap", False)
    mean = np.mean(probabilities, axis=0)
    assert np.allclose(ensemble.predict_proba(X_IRIS), mean, rtol=1e-11)
    assert np.array_equal(ensemble.predict(X_IRIS), mean.argmax(axis=1))
    assert len(set(ensemble.seeds_)) == 4


def test_the_mean_and_spread_of_regressors():
    Y = np.column_stack([Y_DIABETES, Y_DIABETES[::-1]]) / 100
    for target in (Y[:, 0], Y):
        ensemble = dp.EnsembleRegressor(dp.MLPRegressor(**SMALL), 3, random_state=1).fit(X_DIABETES, target)
        each = [dp.MLPRegressor(**SMALL, random_state=s).fit(X_DIABETES, target) for s in ensemble.seeds_]
        predicted = np.array([alone.predict(X_DIABETES) for alone in each])
        mean, spread = ensemble.predict(X_DIABETES, return_std=True)
        assert np.allclose(mean, predicted.mean(axis=0), rtol=1e-10)
        assert np.allclose(spread, predicted.std(axis=0), rtol=1e-8)
        assert np.array_equal(ensemble.predict(X_DIABETES), mean)


def test_what_cannot_be_trained_together_is_fitted_alone():
    for options in ({"solver": "lbfgs"}, {"dropout": 0.3}):
        base = dp.MLPClassifier(**SMALL, **options)
        ensemble = dp.EnsembleClassifier(base, 2, random_state=0).fit(X_IRIS, Y_IRIS)
        for seed, member in zip(ensemble.seeds_, ensemble.estimators_, strict=True):
            alone = dp.MLPClassifier(**SMALL, **options, random_state=seed).fit(X_IRIS, Y_IRIS)
            assert relative(member.coefs_, alone.coefs_) < 1e-12
        bagged = dp.EnsembleClassifier(base, 2, bootstrap=True, random_state=0).fit(X_IRIS, Y_IRIS)
        times = np.bincount(bagged.estimators_samples_[1], minlength=150)
        alone = dp.MLPClassifier(**SMALL, **options, random_state=bagged.seeds_[1])
        alone.fit(X_IRIS, Y_IRIS, sample_weight=times)
        assert relative(bagged.estimators_[1].coefs_, alone.coefs_) < 1e-12


def test_two_classes_several_labels_and_weights():
    names = np.array(["no", "yes"])[Y_IRIS[:100]]
    weight = np.random.default_rng(0).uniform(0.5, 2, 100)
    ensemble = dp.EnsembleClassifier(dp.MLPClassifier(**SMALL), 3, random_state=0).fit(X_IRIS[:100], names, weight)
    each = [
        dp.MLPClassifier(**SMALL, random_state=s).fit(X_IRIS[:100], names, sample_weight=weight)
        for s in ensemble.seeds_
    ]
    mean = np.mean([alone.predict_proba(X_IRIS[:100]) for alone in each], axis=0)
    assert np.allclose(ensemble.predict_proba(X_IRIS[:100]), mean, rtol=1e-11)
    assert set(ensemble.predict(X_IRIS[:100])) <= {"no", "yes"}
    X, Y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    ensemble = dp.EnsembleClassifier(dp.MLPClassifier(**SMALL), 3, random_state=0).fit(X, Y)
    assert np.array_equal(ensemble.predict(X), ensemble.predict_proba(X) > 0.5)


def test_copies_and_pickles_share_nothing_and_say_the_same():
    ensemble = dp.EnsembleRegressor(dp.MLPRegressor(**SMALL), 3, random_state=1).fit(X_DIABETES, Y_DIABETES / 100)
    expected = ensemble.predict(X_DIABETES)
    for other in (copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):
        assert np.array_equal(other.predict(X_DIABETES), expected)
        other.stack_.parameters = np.zeros_like(other.stack_.parameters)
        assert np.array_equal(other.stack_[1].weights[0], np.zeros((6, 10)))
        assert np.array_equal(ensemble.predict(X_DIABETES), expected)


def test_networks_and_stacks_are_copied_with_their_views():
    net = dp.Network([3, 4, 2], backend="numpy", seed=1)
    stack = dp.NetworkStack(2, [3, 4, 2], backend="numpy")
    stack[1].epochs_trained = 5
    for original in (net, stack):
        for other in (copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert np.array_equal(other.parameters, original.parameters)
            other.weights[0][...] = 7.0
            assert (other.parameters[..., :12] == 7.0).all()
            assert not (original.parameters[..., :12] == 7.0).any()
            assert other.configuration == original.configuration
    assert [member.epochs_trained for member in pickle.loads(pickle.dumps(stack))] == [0, 5]


def test_bad_arguments_are_named():
    for ensemble, message in (
        (dp.EnsembleClassifier(dp.MLPRegressor()), "estimator: expected MLPClassifier, got MLPRegressor"),
        (dp.EnsembleRegressor(n_estimators=0), "n_estimators"),
        (dp.EnsembleRegressor(max_samples=1.5), "max_samples"),
        (dp.EnsembleRegressor(dp.MLPRegressor(alpha=-1)), "alpha"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ensemble.fit(X_DIABETES, Y_DIABETES)
    wild = dp.MLPRegressor(solver="sgd", learning_rate_init=1e100, hidden_layer_sizes=(4,), backend="numpy")
    with pytest.raises(ValueError, match="non-finite parameter weights in 3 of 3 members"):
        dp.EnsembleRegressor(wild, 3).fit(X_DIABETES, Y_DIABETES)


@parametrize_with_checks(
    [
        ensemble(kind(hidden_layer_sizes=(8,), learning_rate_init=0.03, max_iter=100), n_estimators=3, random_state=0)
        for ensemble, kind in (
            (dp.EnsembleClassifier, dp.MLPClassifier),
            (dp.EnsembleRegressor, dp.MLPRegressor),
        )
    ]
)
def test_scikit_learns_checks_of_estimators(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
