"""An ensemble is the mean of its members, and each member equals the estimator with its seed, fitted alone."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from cases import relative
from conftest import backend_or_skip
from scikit_learn_versions import needs_their_weights
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

import deltaprop as dp
from deltaprop.epochs import resident_members

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
SMALL: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 10, "backend": "numpy"}


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


@pytest.mark.parametrize("reason", ["weights", "of classes", "no room"])
def test_what_a_device_does_not_train_at_once_is_trained_in_turn(monkeypatch, reason, rng):
    """So are weighted samples, and networks beyond shared memory, in a search too."""
    device = backend_or_skip("cuda-on-host")
    if reason == "no room":
        monkeypatch.setattr(resident_members, "residence_of", lambda *_: None)
    options: dict[str, Any] = {**SMALL, "max_iter": 3, "class_weight": "balanced" if reason == "of classes" else None}
    weights: dict[str, Any] = {"sample_weight": rng.uniform(0.5, 2, 60)} if reason == "weights" else {}
    X, y = X_IRIS[::2][:60], Y_IRIS[::2][:60]
    base = dp.MLPClassifier(**options | {"backend": "cupy"})
    ensemble = dp.EnsembleClassifier(base, 2, random_state=3).fit(X, y, **weights)
    assert ensemble.stack_.backend is device
    for seed, member, network in zip(ensemble.seeds_, ensemble.estimators_, ensemble.stack_, strict=True):
        alone = dp.MLPClassifier(**options, random_state=seed).fit(X, y, **weights)
        assert relative(member.coefs_, alone.coefs_) < 1e-12
        assert relative(device.to_numpy(network.parameters), alone.network_.parameters) < 1e-12
    grid = {"alpha": [0.01, 10.0]}
    searches = [
        dp.SweepCV(estimator.set_params(random_state=1), grid, cv=2).fit(X, y, **weights)
        for estimator in (base, dp.MLPClassifier(**options))
    ]
    losses = [search.best_estimator_.loss_ for search in searches]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert np.array_equal(*(search.cv_results_["mean_test_score"] for search in searches))


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


#: Attributes that do not depend on the way of fitting, and attributes with an array a layer.
SAME = (
    "n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "best_validation_score_", "validation_scores_",
    "validation_loss_curve_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "_no_improvement_count",
)  # fmt: skip


def assert_same_state(one, other, theirs=None):
    """Two estimators have the same state, and scikit-learn's too, if given."""
    assert set(vars(one)) == set(vars(other))
    assert relative([*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_]) < 1e-11
    for name in SAME:
        got, expected = getattr(one, name), getattr(other, name)
        assert got == (
            expected if isinstance(expected, str) or expected is None else pytest.approx(expected, rel=1e-11)
        )
        if theirs is not None and name != "validation_loss_curve_":
            assert got == (expected if isinstance(got, str) or got is None else pytest.approx(getattr(theirs, name)))
    assert one._random_state.randint(2**31 - 1) == other._random_state.randint(2**31 - 1)
    assert one._best_watched == pytest.approx(other._best_watched)
    assert one._optimizer.learning_rate == pytest.approx(other._optimizer.learning_rate, rel=1e-14)
    assert set(one._optimizer.state) == set(other._optimizer.state)
    for name, expected in other._optimizer.state.items():
        assert relative(one._optimizer.state[name], expected) < 1e-10
    if one.early_stopping:
        assert relative(one._best_parameters, other._best_parameters) < 1e-11
    assert one.network_.epochs_trained == other.network_.epochs_trained


GOING_ON = [
    {},
    {"solver": "sgd"},
    {"solver": "sgd", "momentum": 0.0, "shuffle": False},
    {"solver": "sgd", "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "learning_rate_init": 0.05},
    {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.03},
    {"tol": 0.05, "n_iter_no_change": 2},
    {"batch_size": "auto"},
]


@pytest.mark.parametrize("options", GOING_ON, ids=str)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_members_go_on_as_estimators_fitted_alone(kind, options):
    """So it is by `partial_fit`, by `fit` under `warm_start`, and after `to_sklearn`, as scikit-learn's do."""
    ours, theirs, of_many, X, y = {
        "classifier": (dp.MLPClassifier, MLPClassifier, dp.EnsembleClassifier, X_IRIS, Y_IRIS),
        "regressor": (dp.MLPRegressor, MLPRegressor, dp.EnsembleRegressor, X_DIABETES[:150], Y_DIABETES[:150] / 100),
    }[kind]
    options = {"hidden_layer_sizes": (6,), "max_iter": 20, "batch_size": 32, **options}
    ensemble = of_many(ours(**options, backend="numpy"), 3, random_state=5).fit(X, y)
    for seed, member in zip(ensemble.seeds_, ensemble.estimators_, strict=True):
        alone = ours(**options, backend="numpy", random_state=seed).fit(X, y)
        reference = theirs(**options, random_state=seed).fit(X, y)
        assert_same_state(member, alone, reference)
        assert member.to_sklearn().n_iter_ == reference.n_iter_
        exchanged = member.to_sklearn()
        for estimator in (member, alone, reference, exchanged):
            if not estimator.early_stopping:
                for _ in range(3):
                    estimator.partial_fit(X, y)
        assert relative(exchanged.coefs_, reference.coefs_) < 1e-9
        assert_same_state(member, alone, reference)
        exchanged = member.to_sklearn()
        for estimator in (member, alone, reference, exchanged):
            estimator.set_params(warm_start=True, max_iter=4).fit(X, y)
        # With early stopping, scikit-learn trains on in the arrays that hold its best parameters, and loses these.
        assert relative(exchanged.coefs_, (alone if alone.early_stopping else reference).coefs_) < 1e-9
        assert_same_state(member, alone, reference)
    assert np.array_equal(ensemble.estimators_[1].coefs_[0].T, ensemble.stack_[1].weights[0])


@pytest.mark.parametrize("options", [{"solver": "lbfgs"}, {"dropout": 0.3}], ids=str)
def test_members_trained_one_by_one_go_on_too(options):
    ensemble = dp.EnsembleClassifier(dp.MLPClassifier(**SMALL, **options), 2, random_state=0).fit(X_IRIS, Y_IRIS)
    for seed, member in zip(ensemble.seeds_, ensemble.estimators_, strict=True):
        alone = dp.MLPClassifier(**SMALL, **options, random_state=seed).fit(X_IRIS, Y_IRIS)
        assert set(vars(member)) == set(vars(alone))
        assert hasattr(member, "partial_fit") is ("dropout" in options)
        for estimator in (member, alone):
            estimator.set_params(warm_start=True).fit(X_IRIS, Y_IRIS)
            if "dropout" in options:
                estimator.partial_fit(X_IRIS, Y_IRIS)
        assert relative(member.coefs_, alone.coefs_) < 1e-12
        assert member.t_ == alone.t_ if "dropout" in options else member.n_iter_ == alone.n_iter_


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda ensemble: pickle.loads(pickle.dumps(ensemble))])
def test_members_share_the_memory_of_the_stack_and_go_on_after_a_journey(travel):
    ensemble = dp.EnsembleClassifier(dp.MLPClassifier(**SMALL), 3, random_state=1).fit(X_IRIS, Y_IRIS)
    alone = dp.MLPClassifier(**SMALL, random_state=ensemble.seeds_[1]).fit(X_IRIS, Y_IRIS)
    before = ensemble.predict_proba(X_IRIS)
    for estimator in (alone, ensemble.estimators_[1]):
        estimator.partial_fit(X_IRIS, Y_IRIS)
    assert relative(ensemble.predict_proba(X_IRIS), before) > 1e-5  # the ensemble has learnt as well
    ensemble.estimators_[2].fit(X_IRIS, Y_IRIS[::-1])  # from now on it is another network
    kept = ensemble.predict_proba(X_IRIS)
    other = travel(ensemble)
    for estimator in (alone, other.estimators_[1]):
        estimator.partial_fit(X_IRIS, Y_IRIS)
    assert_same_state(other.estimators_[1], alone)
    assert np.array_equal(other.estimators_[1].network_.parameters, other.stack_[1].parameters)
    assert np.array_equal(other.estimators_[2].coefs_[0], ensemble.estimators_[2].coefs_[0])
    assert np.array_equal(ensemble.predict_proba(X_IRIS), kept)
    other.estimators_[0].coefs_[0][...] = 3.0
    assert (other.stack_[0].weights[0] == 3.0).all()


def test_a_fit_that_fails_leaves_the_ensemble_as_it_was():
    ensemble = dp.EnsembleRegressor(dp.MLPRegressor(**SMALL), 2, random_state=1).fit(X_DIABETES, Y_DIABETES / 100)
    before = ensemble.predict(X_DIABETES)
    ensemble.set_params(estimator=dp.MLPRegressor(**SMALL | {"hidden_layer_sizes": (3,)}, solver="sgd", momentum=1.0))
    ensemble.estimator.set_params(learning_rate_init=1e100)
    with pytest.raises(ValueError, match="non-finite"):
        ensemble.fit(X_DIABETES, Y_DIABETES)
    assert np.array_equal(ensemble.predict(X_DIABETES), before)
    assert ensemble.estimators_[0].partial_fit(X_DIABETES, Y_DIABETES / 100).t_ == 11 * 442


@needs_their_weights
@pytest.mark.parametrize("options", [{"batch_size": 50}, {"early_stopping": True, "n_iter_no_change": 2}], ids=str)
def test_weighted_samples_of_a_loss_with_a_constant(options):
    """The training loss and the loss of held-out data are weighted Poisson deviances."""
    y = Y_DIABETES[:200] / 50
    weight = np.random.default_rng(0).uniform(0, 3, 200)
    base = dp.MLPRegressor(loss="poisson", **SMALL | {"max_iter": 30}, **options)
    ensemble = dp.EnsembleRegressor(base, 2, random_state=0).fit(X_DIABETES[:200], y, weight)
    for seed, member in zip(ensemble.seeds_, ensemble.estimators_, strict=True):
        theirs = {"hidden_layer_sizes": (6,), "max_iter": 30, "loss": "poisson", "random_state": seed, **options}
        alone = MLPRegressor(**theirs).fit(X_DIABETES[:200], y, weight)
        assert member.loss_curve_ == pytest.approx(alone.loss_curve_, rel=1e-10)
        assert relative(member.coefs_, alone.coefs_) < 1e-9
        single = dp.MLPRegressor(loss="poisson", **SMALL | {"max_iter": 30}, **options, random_state=seed)
        assert_same_state(member, single.fit(X_DIABETES[:200], y, weight))


def test_members_whose_validation_score_is_always_nan_keep_their_last_parameters():
    """The held-out rows of the second member weigh nothing; a single estimator does the same."""
    X, y = X_DIABETES[:100], Y_DIABETES[:100] / 100
    base = dp.MLPRegressor(early_stopping=True, n_iter_no_change=4, **SMALL | {"max_iter": 30})
    plain = dp.EnsembleRegressor(base, 3, random_state=0).fit(X, y)
    rng = np.random.RandomState(plain.seeds_[1])
    rng.uniform(size=10 * 6 + 6 + 6 + 1)  # the parameters are drawn before the rows
    _, held = train_test_split(np.arange(100), random_state=rng, test_size=0.1)
    weight = (~np.isin(np.arange(100), held)).astype(float)
    with pytest.warns(UserWarning, match=r"early_stopping: the validation score was nan .* \(in 1 of 3 members\)"):
        ensemble = dp.EnsembleRegressor(base, 3, random_state=0).fit(X, y, weight)
    for k, seed in enumerate(ensemble.seeds_):
        alone = dp.MLPRegressor(early_stopping=True, n_iter_no_change=4, **SMALL | {"max_iter": 30}, random_state=seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            alone.fit(X, y, weight)
        assert any("the validation score was nan" in str(each.message) for each in caught) is (k == 1)
        if k == 1:
            assert np.isnan(alone.best_validation_score_)
            assert np.isnan(ensemble.estimators_[k].validation_loss_curve_).all()
            assert alone.n_iter_ == ensemble.estimators_[k].n_iter_ == 5
            assert relative(ensemble.estimators_[k].coefs_, alone.coefs_) < 1e-12
        else:
            assert_same_state(ensemble.estimators_[k], alone)


def test_a_member_that_diverges_after_its_best_epoch_is_restored():
    X, y = X_DIABETES[:100], Y_DIABETES[:100] / 100
    options: dict[str, Any] = (
        {"early_stopping": True, "solver": "sgd", "learning_rate_init": 1.5} | SMALL | {"max_iter": 60}
    )
    ensemble = dp.EnsembleRegressor(dp.MLPRegressor(**options), 8, random_state=0).fit(X * 20, y)
    diverged = 0
    for seed, member in zip(ensemble.seeds_, ensemble.estimators_, strict=True):
        alone = dp.MLPRegressor(**options, random_state=seed).fit(X * 20, y)
        diverged += bool(np.isnan(alone.validation_scores_).any())
        assert member.validation_scores_ == pytest.approx(alone.validation_scores_, rel=1e-6, nan_ok=True)
        assert relative(member.coefs_, alone.coefs_) < 1e-6
    assert diverged


def test_members_of_which_no_sample_counts_are_refused():
    base = dp.MLPRegressor(**SMALL)
    weight = np.zeros(442)
    weight[5] = 1.0
    with pytest.raises(ValueError, match="sample_weight: expected a weight other than 0 among the samples trained on"):
        dp.EnsembleRegressor(base, 3, max_samples=0.01, random_state=0).fit(X_DIABETES, Y_DIABETES, weight)


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
