"""The estimators' inputs and outputs, and their abilities beyond scikit-learn's."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from cases import relative
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neural_network import MLPClassifier
from small_fits import classifier, regressor

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# -- inputs and outputs --------------------------------------------------------------------------------


def test_every_kind_of_table_gives_the_same_network(iris):
    pandas, polars, torch = (pytest.importorskip(name) for name in ("pandas", "polars", "torch"))
    X, y = iris
    expected = classifier().fit(X, y)
    names = ["a", "b", "c", "d"]
    tables = {
        "list": X.tolist(),
        "Fortran order": np.asfortranarray(X),
        "DataFrame": pandas.DataFrame(X, columns=names),
        "polars": polars.DataFrame(X, schema=names),
        "tensor": torch.from_numpy(X),
        "CSR": sparse.csr_array(X),
        "CSC": sparse.csc_matrix(X),
    }
    for kind, given in tables.items():
        fitted = classifier().fit(given, y)
        assert relative(fitted.coefs_, expected.coefs_) < 1e-12, kind
        assert relative(fitted.predict_proba(given), expected.predict_proba(X)) < 1e-12, kind
        assert hasattr(fitted, "feature_names_in_") is (kind in ("DataFrame", "polars"))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        classifier().fit(tables["DataFrame"], y).predict(X)


def test_labels_of_any_kind_come_back(iris):
    X, y = iris
    for labels in (np.array(["setosa", "virginica", "versicolor"]), np.array([2.0, -1.0, 7.0]), np.array([3, 1, 2])):
        fitted = classifier(solver="lbfgs").fit(X, labels[y])
        assert np.array_equal(fitted.classes_, np.unique(labels))
        assert np.mean(fitted.predict(X) == labels[y]) > 0.9
        assert fitted.score(X, labels[y]) == np.mean(fitted.predict(X) == labels[y])


@pytest.mark.parametrize(("given", "asked", "expected"), [
    ("float32", None, "float32"), ("float64", None, "float64"), ("int64", None, "float64"),
    ("float64", "float32", "float32"), ("float32", np.float64, "float64"), ("float16", None, "float64"),
])  # fmt: skip
def test_dtype(iris, given, asked, expected):
    X, y = iris
    X = np.round(10 * X).astype(given)
    for solver in ("adam", "lbfgs"):
        fitted = classifier(dtype=asked, solver=solver).fit(X, y)
        assert {array.dtype.name for array in (*fitted.coefs_, *fitted.intercepts_)} == {expected}
        assert fitted.predict_proba(X).dtype == expected
        assert regressor(dtype=asked, solver=solver).fit(X, y).predict(X).dtype == expected


# -- its state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy, "joblib"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_it_goes_on_after_a_journey(iris, travel, solver, tmp_path):
    X, y = iris
    stayed = classifier(solver=solver).fit(X, y)
    if travel == "joblib":
        joblib.dump(stayed, tmp_path / "model.joblib")
        gone = joblib.load(tmp_path / "model.joblib")
    else:
        gone = travel(stayed)
    assert np.array_equal(gone.predict_proba(X), stayed.predict_proba(X))
    for fitted in (stayed, gone):
        fitted.partial_fit(X[:50], y[:50])
    assert np.array_equal(gone.coefs_[0], stayed.coefs_[0])
    assert gone.loss_curve_ == stayed.loss_curve_


def test_coefs_are_the_network(iris):
    X, y = iris
    fitted = classifier().fit(X, y)
    before = fitted.predict_proba(X)
    fitted.coefs_[0][:] *= 0.5  # in place
    changed = fitted.predict_proba(X)
    assert relative(changed, before) > 1e-2
    fitted.coefs_[0] = 2 * fitted.coefs_[0]  # one of the list
    assert relative(fitted.predict_proba(X), before) < 1e-14
    fitted.network_.weights[0][:] = 0.0  # through the network
    assert not fitted.coefs_[0].any()
    h = np.maximum(fitted.intercepts_[0], 0) @ fitted.coefs_[1] + fitted.intercepts_[1]
    assert relative(fitted.predict_log_proba(X[:1])[0], h - np.log(np.exp(h).sum())) < 1e-12


def test_the_network_names_the_initialisation_it_had(iris, tmp_path):
    """It was drawn in scikit-learn's range: √2/√(s_in + s_out) for logistic units, √6/√(s_in + s_out) for others."""
    X, y = iris
    options = {"hidden_layer_sizes": (200,), "solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
    for activation, factor in (("logistic", 2), ("tanh", 6)):
        fitted = classifier(activation=activation, **options).fit(X, y)
        theirs = MLPClassifier(activation=activation, random_state=0, **options).fit(X, y)
        drawn = dp.Network([4, 200, 3], hidden_activation=fitted.network_.hidden_activation, init=fitted.network_.init)
        for coef, own, W in zip(theirs.coefs_, fitted.coefs_, drawn.weights, strict=True):
            assert abs(own - coef).max() < 1e-15
            bound = np.sqrt(factor / sum(coef.shape))
            for parameters in (coef, drawn.backend.to_numpy(W)):
                assert 0.97 < abs(parameters).max() / bound <= 1
        fitted.network_.save(tmp_path / "n.safetensors")
        assert dp.Network.load(tmp_path / "n.safetensors").init == "scikit_learn"
        for other in (pickle.loads(pickle.dumps(fitted)), dp.MLPClassifier.from_sklearn(theirs)):
            assert other.network_.init == "scikit_learn"
            assert "init='scikit_learn'" in repr(other.network_)
    ensemble = dp.EnsembleRegressor(regressor(max_iter=1), 2).fit(X, y)
    assert {ensemble.stack_.init, *(each.network_.init for each in ensemble.estimators_)} == {"scikit_learn"}
    sweep = dp.SweepCV(classifier(max_iter=1), {"alpha": [0.1, 1.0]}, cv=2).fit(X, y)
    assert sweep.best_estimator_.network_.init == "scikit_learn"


def test_clone_and_parameters(iris):
    for build in (classifier, regressor):
        estimator = build(activation=["tanh"], dropout=[0.2], callbacks=[print], dtype="float32", scoring="r2")
        assert clone(estimator).get_params() == estimator.get_params()
    assert not hasattr(clone(classifier().fit(*iris)), "coefs_")
    text = repr(classifier(dropout=0.5))
    assert "dropout=0.5" in text
    assert "alpha" not in text
    assert "MLPClassifier" in classifier()._repr_html_()


def test_parameters_that_failed_to_stay_finite_leave_the_fitted_ones(iris):
    X, y = iris
    fitted = regressor(solver="sgd", learning_rate_init=0.01).fit(X, y)
    before = [coef.copy() for coef in fitted.coefs_]
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        fitted.partial_fit(1e200 * X, y)
    assert all(np.array_equal(a, b) for a, b in zip(fitted.coefs_, before, strict=True))
    assert np.isfinite(fitted.predict(X)).all()


# -- parameters that scikit-learn's lack -------------------------------------------------------------------------------


def test_callbacks_end_training_with_every_solver(table):
    for solver in ("adam", "sgd", "lbfgs"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = regressor(solver=solver, callbacks=[lambda event: event.epoch == 3], max_iter=50).fit(*table)
        assert fitted.n_iter_ == 3


def test_progress_and_verbosity(table, capsys):
    expected = regressor().fit(*table)
    assert capsys.readouterr() == ("", "")
    for solver in ("adam", "lbfgs"):
        shown = regressor(progress=True, solver=solver, max_iter=3).fit(*table)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "3/3" in captured.err
        regressor(verbose=True, solver=solver, max_iter=3).fit(*table)
        assert "Iteration 3, loss = " in capsys.readouterr().out
    assert shown.n_iter_ == 3
    both = regressor(progress=True, verbose=1, callbacks=[lambda event: None]).fit(*table)
    assert np.array_equal(both.coefs_[0], expected.coefs_[0])


# -- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    ({"activation": "swish"}, "'activation' parameter of MLPClassifier must be"),
    ({"activation": ["relu", "relu"]}, "activation: expected one name, or 1, one a hidden layer"),
    ({"activation": ["swish"]}, "activation\\[0\\]: expected one of .*, got 'swish'"),
    ({"dropout": 1.0}, "'dropout' parameter"),
    ({"dropout": [0.1, 0.1]}, "dropout: expected one number, or 1"),
    ({"loss": "huber"}, "'loss' parameter"),
    ({"backend": "cuda"}, "'backend' parameter"),
    ({"dtype": "float16"}, "'dtype' parameter"),
    ({"scoring": "goodness"}, "'scoring' parameter"),
    ({"output_activation": "softmax", "loss": "squared_error"}, None),
    ({"output_activation": "identity"}, "output_activation: loss .* goes with 'softmax', got 'identity'"),
    ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be > 0, got \\[4, 0\\]"),
])  # fmt: skip
def test_bad_parameters(iris, options, message):
    fitted = classifier().fit(*iris)
    before = fitted.predict_proba(iris[0])
    fitted.set_params(**options)
    with pytest.raises(ValueError, match=message):
        fitted.fit(*iris)
    if message is not None and "goes with" not in message:
        assert np.array_equal(fitted.predict_proba(iris[0]), before)


def test_bad_data(iris):
    X, y = iris
    with pytest.raises(NotFittedError):
        classifier().predict(X)
    with pytest.raises(NotFittedError):
        _ = classifier().network_
    with pytest.raises(TypeError, match="validation_data: expected a pair \\(X, y\\), got int"):
        classifier().fit(X, y, validation_data=3)
    with pytest.raises(ValueError, match="`y` has classes not in"):
        classifier().fit(X, y, validation_data=(X, y + 1))
    with pytest.raises(ValueError, match="out of the valid range of the loss 'poisson'"):
        regressor(loss="poisson").fit(X, y - 1)
    fitted = classifier(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="hidden_layer_sizes: expected the widths fitted before"):
        fitted.set_params(hidden_layer_sizes=(5, 5, 5)).fit(X, y)
    with pytest.raises(TypeError, match=r"hidden_layer_sizes: expected whole numbers, got \(2.5,\)"):
        classifier(hidden_layer_sizes=(2.5,)).fit(X, y)
    with pytest.raises(ValueError, match="'loss' parameter of MLPRegressor"):
        regressor(loss="log_loss").fit(X, y)
    with pytest.raises(ValueError, match="loss: unknown loss"):
        regressor(loss=("a", "b")).fit(X, y)
    with pytest.raises(ValueError, match=r"loss: .* got \(8,\); hidden_layer_sizes comes after loss"):
        regressor(loss=(8,)).fit(X, y)


def test_more_samples_than_a_block_of_evaluation(rng):
    X, y = make_classification(5000, 6, random_state=0)
    fitted = classifier(max_iter=2).fit(X, y)
    h = np.maximum(X @ fitted.coefs_[0] + fitted.intercepts_[0], 0) @ fitted.coefs_[1] + fitted.intercepts_[1]
    assert relative(fitted.predict_proba(X)[:, 1:], 1 / (1 + np.exp(-h))) < 1e-13


def test_an_interrupted_fit_is_a_fit(table):
    def interrupt(event):
        if event.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        fitted = regressor(callbacks=[interrupt]).fit(*table)
    assert fitted.n_iter_ == 4
    assert np.isfinite(fitted.predict(table[0])).all()


def test_the_limit_of_epochs_is_warned_of_where_the_caller_stands(table):
    for solver in ("adam", "lbfgs"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            regressor(solver=solver, max_iter=2).fit(*table)
        assert [warning.category for warning in caught] == [ConvergenceWarning]
        assert caught[0].filename == __file__


def test_a_callback_may_change_when_training_ends(table):
    def change(event):
        if event.epoch == 3:
            mlp.set_params(tol=10.0, n_iter_no_change=1)

    mlp = regressor(max_iter=30, tol=0.0, n_iter_no_change=30, callbacks=[change])
    assert mlp.fit(*table).n_iter_ == 5  # two epochs without an improvement of 10


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warning_that_is_an_error_leaves_what_was_fitted(table, solver):
    X, y = table
    mlp = regressor(solver=solver, max_iter=5, warm_start=True).fit(X, y)
    assert mlp.n_iter_ == 5
    mlp.set_params(batch_size=10**6, max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="clipped" if solver == "adam" else "lbfgs failed to converge"):
            mlp.fit(X, y)
    assert mlp.n_iter_ == (5 if solver == "adam" else 3)
    assert np.isfinite(mlp.loss_)
