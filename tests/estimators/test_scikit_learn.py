"""scikit-learn's checks and tests run on our estimators, and its tools take them."""

import numpy as np
import pytest
import sklearn
from cases import relative
from scikit_learn_suites import run_suite
from scikit_learn_versions import needs_1_9, needs_their_weights
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.filterwarnings("ignore")  # the checks handle warnings themselves
@parametrize_with_checks([dp.MLPClassifier(), dp.MLPRegressor()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


#: The modules of its tests, and the tests that are left out, each with the reason.
ITS_TESTS = {
    "sklearn.neural_network.tests.test_mlp": ["test_gradient"],  # calls the private _loss_grad_lbfgs of theirs
    "sklearn.ensemble.tests.test_stacking": [],
    "sklearn.model_selection.tests.test_validation::test_learning_curve_partial_fit_regressors": [],
    "sklearn.utils._repr_html.tests.test_estimator": [],
}


@needs_1_9
@pytest.mark.parametrize("module", ITS_TESTS)
def test_its_own_tests_pass_on_ours(module):
    left_out = [f"not {name}" for name in ITS_TESTS[module]]
    counts, text = run_suite(module, "-k", " and ".join(left_out), plugin="scikit_learn_names")
    assert counts.keys() <= {"passed", "skipped", "xfailed", "xpassed"}, text
    assert counts["passed"] >= {"sklearn.neural_network.tests.test_mlp": 53}.get(module, 1), text


# -- its tools ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def both(**options):
    options = {"hidden_layer_sizes": 8, "max_iter": 25, "random_state": 0} | options
    return dp.MLPClassifier(**options, backend="numpy"), Theirs(**options)


def test_searches_find_what_they_find_with_theirs(iris):
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__learning_rate_init": [1e-3, 1e-2]}
    for search, options in ((GridSearchCV, {"cv": 3}), (HalvingGridSearchCV, {"cv": 3, "random_state": 0})):
        ours, theirs = (
            search(make_pipeline(StandardScaler(), mlp), grid, **options).fit(*iris)
            for mlp in both()
        )  # fmt: skip
        assert ours.best_params_ == theirs.best_params_
        assert np.allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
        assert relative(ours.predict_proba(iris[0]), theirs.predict_proba(iris[0])) < 1e-8


def test_two_processes_fit_what_one_fits(iris):
    ours, _ = both()
    one, two = (cross_validate(ours, *iris, cv=4, n_jobs=n, return_estimator=True) for n in (1, 2))
    for a, b in zip(one["estimator"], two["estimator"], strict=True):
        assert relative(a.coefs_, b.coefs_) < 1e-12


def test_stacking_and_importance(iris):
    X, y = iris
    results = []
    for mlp in both():
        stacked = StackingClassifier([("mlp", mlp)], final_estimator=LogisticRegression()).fit(X, y)
        importance = permutation_importance(mlp.fit(X, y), X, y, n_repeats=3, random_state=0)
        results.append((stacked.predict_proba(X), importance.importances))
    for ours, theirs in zip(*results, strict=True):
        assert np.allclose(ours, theirs, atol=1e-8)


@needs_their_weights
def test_sample_weight_is_routed(iris):
    X, y = iris
    weight = np.linspace(0, 2, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        results = []
        for mlp in both():
            requesting = mlp.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            results.append(cross_validate(requesting, X, y, params={"sample_weight": weight}, cv=3)["test_score"])
        assert np.allclose(*results)
        plain = cross_validate(both()[0].set_fit_request(sample_weight=False), X, y, cv=3)["test_score"]
        assert not np.array_equal(results[0], plain)
        routed = dp.MLPClassifier(max_iter=3).set_fit_request(validation_data=True)
        pipeline = make_pipeline(StandardScaler(), routed).fit(X, y, validation_data=(X[:9], y[:9]))
        assert len(pipeline[-1].validation_scores_) == 3


# -- from theirs to ours and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early", [False, True])
def test_from_theirs_to_ours_and_back(iris, solver, early):
    X, y = iris
    X = (X - X.mean(0)) / X.std(0)
    options = {"activation": "logistic", "solver": solver, "early_stopping": early, "learning_rate": "adaptive"}
    ours, theirs = both(**options)
    theirs.fit(X, y)
    taken = dp.MLPClassifier.from_sklearn(theirs, backend="numpy", dropout=0.0)
    assert np.allclose(taken.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    given = ours.fit(X, y).to_sklearn()
    assert type(given) is Theirs
    assert np.allclose(given.predict_proba(X), ours.predict_proba(X), rtol=1e-12)
    assert given.get_params() == theirs.get_params()
    back = taken.to_sklearn()
    assert all(np.array_equal(a, b) for a, b in zip(back.coefs_, theirs.coefs_, strict=True))
    if solver != "lbfgs":
        # Training goes on in each as it does in the one that never moved.
        for mlp in (theirs, taken, given, back, ours):
            mlp.set_params(early_stopping=False)
            mlp.best_loss_ = np.inf
            for _ in range(3):
                mlp.partial_fit(X[::2], y[::2])
        for mlp in (taken, given, back, ours):
            assert relative(mlp.coefs_, theirs.coefs_) < 1e-8


def test_a_fit_with_early_stopping_goes_on_from_theirs(iris):
    X, y = iris
    options = {"early_stopping": True, "warm_start": True, "max_iter": 4}
    _, theirs = both(**options)
    taken = dp.MLPClassifier.from_sklearn(theirs.fit(X, y), backend="numpy").fit(X, y)
    theirs.fit(X, y)
    assert relative(taken.coefs_, theirs.coefs_) < 1e-8
    assert taken.validation_scores_ == pytest.approx(theirs.validation_scores_)
    assert np.isnan(taken.validation_loss_curve_[:4]).all()  # scikit-learn keeps no such losses
    assert np.isfinite(taken.validation_loss_curve_[4:]).all()


def test_what_cannot_be_exchanged(iris):
    ours, theirs = both()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        ours.to_sklearn()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        dp.MLPClassifier.from_sklearn(theirs)
    with pytest.raises(TypeError, match="expected scikit-learn's MLPRegressor, got MLPClassifier"):
        dp.MLPRegressor.from_sklearn(theirs)
    for options, message in (
        ({"activation": "gelu"}, "activation: scikit-learn knows .*, got \\['gelu'\\]"),
        ({"loss": "squared_error"}, "loss: scikit-learn's MLPClassifier knows"),
        ({"output_activation": "softmax"}, "output_activation: "),
    ):
        with pytest.raises(ValueError, match=message):
            ours.set_params(**({"activation": "relu", "loss": "log_loss"} | options)).fit(*iris).to_sklearn()
    fitted = dp.MLPRegressor(max_iter=5, backend="numpy").fit(*iris)
    assert fitted.to_sklearn().score(*iris) == pytest.approx(fitted.score(*iris))
