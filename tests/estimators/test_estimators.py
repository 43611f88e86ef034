"""What the estimators take, give back, and do beyond scikit-learn's."""

import copy
import pickle
import warnings
from itertools import pairwise

import joblib
import numpy as np
import pytest
import reference
from cases import relative
from host_cuda import HostCudaBackend, compiler_problem, in_place_of_cupy
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UndefinedMetricWarning
from sklearn.metrics import log_loss, mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from sklearn.utils.class_weight import compute_sample_weight
from strict_array import StrictArray, asnumpy

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.training import evaluation

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def table():
    X, y = make_regression(120, 5, noise=5.0, random_state=0)
    return X, scale(y)


def classifier(**options):
    return dp.MLPClassifier(
        **({"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "backend": "numpy"} | options)
    )


def regressor(**options):
    return dp.MLPRegressor(
        **({"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "backend": "numpy"} | options)
    )


# -- what comes in and what goes out --------------------------------------------------------------------------------


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


def test_probabilities_are_right_in_the_tails(rng):
    """log p of a class that has no chance is −|z|, not −inf."""
    X = np.array([[-1.0], [1.0]])
    fitted = classifier(hidden_layer_sizes=(), solver="lbfgs", alpha=0).fit(X, [0, 1])
    fitted.coefs_ = [np.array([[900.0]])]
    fitted.intercepts_ = [np.array([0.0])]
    assert np.array_equal(fitted.predict_proba(X), [[1, 0], [0, 1]])
    assert np.array_equal(fitted.predict_log_proba(X), [[0, -900], [-900, 0]])
    several = classifier(hidden_layer_sizes=(), solver="lbfgs").fit(np.eye(3), [0, 1, 2])
    several.coefs_ = [1000 * np.eye(3)]
    several.intercepts_ = [np.zeros(3)]
    assert np.array_equal(several.predict_log_proba(np.eye(3)), 1000 * np.eye(3) - 1000)


class Device(HostCudaBackend):
    """The CUDA backend run on the host; counts what is fetched from the device."""

    def __init__(self):
        super().__init__()
        self.cp.asnumpy = self.fetch
        self.fetched = 0

    def fetch(self, array):
        self.fetched += array.nbytes if isinstance(array, StrictArray) else 0
        return asnumpy(array)


@pytest.fixture
def device():
    problem = compiler_problem()
    if problem:
        pytest.skip(problem)
    with in_place_of_cupy(Device()) as device:
        yield device


@pytest.mark.parametrize("scoring", [None, "balanced_accuracy"])
def test_tables_larger_than_a_device(device, iris, monkeypatch, scoring):
    """Training, early stopping and predictions go through it chunk by chunk."""
    X, y = iris
    monkeypatch.setattr(device, "room", lambda: 100)
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 7 * 4 * 8)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 2000)
    streams = {
        "new_stream": lambda: None,
        "event": lambda: None,
        "wait_on_device": lambda event: None,
        "wait_on_host": lambda event: None,
    }
    for name, function in streams.items():
        monkeypatch.setattr(device, name, function)
    options = {"early_stopping": True, "batch_size": 16, "scoring": scoring}
    expected = classifier(**options).fit(X, y)
    fitted = classifier(**options).set_params(backend="cupy").fit(X, y)
    assert relative(fitted.coefs_, expected.coefs_) < 1e-12
    assert fitted.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-12)
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_, rel=1e-12)
    assert fitted.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_, rel=1e-12)
    assert relative(fitted.predict_proba(X), expected.predict_proba(X)) < 1e-12
    assert relative(fitted.transform(X), expected.transform(X)) < 1e-12
    assert relative(fitted.input_gradient(X), expected.input_gradient(X)) < 1e-12


def test_arrays_on_a_device_stay_there(device, iris, table):
    X, y = iris
    there = device.asarray(X, np.float64)
    expected = classifier(early_stopping=True).fit(X, y)
    fitted = dp.MLPClassifier(hidden_layer_sizes=8, max_iter=15, random_state=0, early_stopping=True).fit(there, y)
    assert device.fetched < X.nbytes  # a cost an epoch, and the predictions on the validation data
    assert fitted.network_.backend is device
    assert relative([coef.get() for coef in fitted.coefs_], expected.coefs_) < 1e-12
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_)
    arrays = [*fitted.coefs_, fitted.predict_proba(there), fitted.predict_log_proba(there), fitted.predict(there)]
    arrays += [fitted.transform(there), fitted.input_gradient(there)]
    for array in arrays:
        assert type(array) is StrictArray
    assert np.array_equal(fitted.predict(there).get(), expected.predict(X))
    assert fitted.score(there, device.asarray(y, np.int64)) == expected.score(X, y)
    words = np.array(["a", "b", "c"])[y]
    assert type(clone(fitted).fit(there, words).predict(there)) is np.ndarray  # a device has no text

    X, y = table
    there, targets = device.asarray(X, np.float32), device.asarray(y, np.float64)
    fitted = dp.MLPRegressor(hidden_layer_sizes=8, max_iter=15, random_state=0).fit(there, targets)
    assert type(fitted.predict(there)) is StrictArray
    assert fitted.predict(there).dtype == np.float32
    expected = regressor().fit(X.astype(np.float32), y)
    assert relative(fitted.predict(there).get(), expected.predict(X.astype(np.float32))) < 1e-4
    with pytest.raises(ValueError, match="X has 4 features, but MLPRegressor is expecting 5 features"):
        fitted.predict(there[:, :4])
    bad = there.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN or infinity"):
        fitted.predict(bad)
    with pytest.raises(TypeError, match="backend: expected 'auto' or 'cupy' for such input, got 'numpy'"):
        regressor().fit(there, y)


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "neg_log_loss"])
def test_scores_of_arrays_on_a_device(device, iris, scoring):
    X, y = iris
    options = {"early_stopping": True, "scoring": scoring, "max_iter": 4}
    expected = classifier(**options).fit(X, y)
    fitted = dp.MLPClassifier(hidden_layer_sizes=8, random_state=0, **options)
    fitted.fit(device.asarray(X, np.float64), device.asarray(y, np.int64))
    assert fitted.network_.backend is device
    assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_, rel=1e-12)


def test_tables_on_the_host_are_computed_on_the_device(device, iris):
    X, y = iris
    expected = classifier().fit(X, y)
    for given in (X, sparse.csr_array(X)):
        fitted = classifier(backend="cupy").fit(given, y)
        assert fitted.network_.backend is device
        for array in (*fitted.coefs_, fitted.predict_proba(given), fitted.transform(given), fitted.predict(given)):
            assert type(array) is np.ndarray
        assert relative(fitted.coefs_, expected.coefs_) < 1e-12
    with pytest.raises(ValueError, match="read-only"):
        fitted.coefs_[0][0, 0] = 1.0  # it would not reach the device
    fitted.coefs_ = [2 * coef for coef in fitted.coefs_]
    assert relative(fitted.predict_proba(X), expected.predict_proba(X)) > 1e-3


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
    fitted.network_.weights[0][:] = 0.0  # by way of the network
    assert not fitted.coefs_[0].any()
    h = np.maximum(fitted.intercepts_[0], 0) @ fitted.coefs_[1] + fitted.intercepts_[1]
    assert relative(fitted.predict_log_proba(X[:1])[0], h - np.log(np.exp(h).sum())) < 1e-12


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


# -- what scikit-learn's refuse -----------------------------------------------------------------------------------------


def drawn(sizes, bound, seed=0):
    """Parameters as scikit-learn draws them, W as (s_out, s_in)."""
    random = np.random.RandomState(seed)
    W, b = [], []
    for s_in, s_out in pairwise(sizes):
        epsilon = np.sqrt(bound / (s_in + s_out))
        W.append(random.uniform(-epsilon, epsilon, (s_in, s_out)).T)
        b.append(random.uniform(-epsilon, epsilon, s_out))
    return W, b


STEP = {"solver": "sgd", "momentum": 0.0, "max_iter": 1, "batch_size": 500, "alpha": 0.3, "learning_rate_init": 0.1}


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize(("build", "options", "loss", "activations"), [
    (regressor, {"loss": "huber"}, "huber", ["relu", "identity"]),
    (regressor, {"loss": "absolute_error", "activation": "silu"}, "absolute_error", ["silu", "identity"]),
    (regressor, {"output_activation": "tanh", "activation": ["gelu"]}, "squared_error", ["gelu", "tanh"]),
    (regressor, {"loss": "huber", "output_activation": "logistic"}, "huber", ["relu", "sigmoid"]),
    (classifier, {"loss": "squared_error", "activation": "softplus"}, "squared_error", ["softplus", "sigmoid"]),
    (classifier, {"loss": "binary_cross_entropy"}, "binary_cross_entropy", ["relu", "sigmoid"]),
    (classifier, {"activation": "leaky_relu"}, "categorical_cross_entropy", ["leaky_relu", "softmax"]),
])  # fmt: skip
def test_one_step_under_every_loss_is_that_of_the_per_sample_loop(build, options, loss, activations, iris, table):
    X, y = iris if build is classifier else table
    Y = np.eye(3)[y] if build is classifier else y[:, None]
    fitted = build(**STEP, **options).fit(X, y)
    W, b = drawn([X.shape[1], 8, Y.shape[1]], 6.0)
    J, dW, db, _ = reference.cost_and_gradient(W, b, activations, loss, X, Y, l2=0.3)
    assert fitted.loss_ == pytest.approx(J, rel=1e-12)
    expected = [w - 0.1 * d for w, d in zip([*W, *b], [*dW, *db], strict=True)]
    got = [*(coef.T for coef in fitted.coefs_), *fitted.intercepts_]
    assert relative(got, expected) < 1e-12


def test_an_activation_for_each_hidden_layer(iris):
    X, y = iris
    fitted = classifier(hidden_layer_sizes=(6, 5, 4), activation=("logistic", "tanh", "gelu")).fit(X, y)
    forward = reference.forward(
        [coef.T for coef in fitted.coefs_], fitted.intercepts_, ["sigmoid", "tanh", "gelu", "softmax"], X[0]
    )
    assert relative(fitted.predict_proba(X[:1])[0], forward[1][-1]) < 1e-13
    for l in range(3):
        assert relative(fitted.transform(X[:1], layer=l)[0], forward[1][l + 1]) < 1e-13
        assert np.array_equal(fitted.transform(X, layer=l - 3), fitted.transform(X, layer=l))
    # What is drawn depends on the activation: the logistic function's layer has the smaller range.
    bounds = [np.sqrt(f / (i + o)) for f, i, o in ((2, 4, 6), (6, 6, 5), (6, 5, 4), (6, 4, 3))]
    fresh = classifier(hidden_layer_sizes=(6, 5, 4), activation=("logistic", "tanh", "gelu"), learning_rate_init=1e-12)
    for coef, bound in zip(fresh.fit(X, y).coefs_, bounds, strict=True):
        assert 0.7 * bound < np.abs(coef).max() < bound + 1e-9


def test_sigmoid_is_another_name_of_logistic(iris):
    one, other = (classifier(activation=name).fit(*iris) for name in ("logistic", "sigmoid"))
    assert np.array_equal(one.coefs_[0], other.coefs_[0])


def test_class_weight(iris):
    X, y = iris
    X, y = X[20:130], y[20:130]
    weight = {0: 2.0, 1: 0.5, 2: 1.0}
    for class_weight in (weight, "balanced"):
        by_class = classifier(class_weight=class_weight).fit(X, y)
        by_sample = classifier().fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        assert np.array_equal(by_class.coefs_[0], by_sample.coefs_[0])
        both = classifier(class_weight=class_weight).fit(X, y, sample_weight=np.arange(110.0))
        product = compute_sample_weight(class_weight, y) * np.arange(110.0)
        assert np.array_equal(both.coefs_[0], classifier().fit(X, y, sample_weight=product).coefs_[0])
    one, other = classifier(class_weight=weight), classifier()
    one.partial_fit(X, y, classes=[0, 1, 2])
    other.partial_fit(X, y, compute_sample_weight(weight, y), classes=[0, 1, 2])
    assert np.array_equal(one.coefs_[0], other.coefs_[0])
    with pytest.raises(ValueError, match="'balanced' is not supported by partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


def test_dropout_is_that_of_the_engine(table):
    """The same masks as `Network` draws from the seed that the random state gives, after the parameters."""
    X, y = table
    options = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "shuffle": False, "batch_size": 30}
    fitted = regressor(**options, max_iter=4, dropout=0.4, hidden_layer_sizes=(8, 6)).fit(X, y)
    random = np.random.RandomState(0)
    W, b = drawn([5, 8, 6, 1], 6.0)
    random.random_sample(sum(w.size for w in W) + sum(v.size for v in b))  # what the parameters took
    net = dp.Network(
        [5, 8, 6, 1], hidden_activation="relu", loss="squared_error", backend="numpy", seed=random.randint(2**31 - 1)
    )
    net.weights, net.biases = W, b
    net.fit(X, y, optimizer=dp.SGD(0.001), batch_size=30, epochs=4, shuffle=False, dropout=0.4)
    assert relative([coef.T for coef in fitted.coefs_], net.weights) < 1e-12
    again = regressor(**options, max_iter=4, dropout=(0.4, 0.4), hidden_layer_sizes=(8, 6)).fit(X, y)
    assert np.array_equal(again.coefs_[0], fitted.coefs_[0])
    with pytest.raises(ValueError, match="dropout: expected 0 with solver='lbfgs'"):
        regressor(solver="lbfgs", dropout=0.1).fit(X, y)


def test_a_loss_of_ones_own(table):
    X, y = table
    named = regressor(loss="huber").fit(X, y)
    pair = (
        lambda h, y: np.where(abs(h - y) <= 1, (h - y) ** 2 / 2, abs(h - y) - 0.5),
        lambda h, y: np.clip(h - y, -1, 1),
    )
    own = regressor(loss=pair).fit(X, y)
    assert relative(own.coefs_, named.coefs_) < 1e-12
    assert own.loss_curve_ == pytest.approx(named.loss_curve_, rel=1e-12)


@pytest.mark.parametrize("early", [False, True])
def test_validation_data_are_scored_after_every_epoch(iris, early):
    X, y = iris
    train, held = (X[::2], y[::2]), (X[1::2], y[1::2])
    weight = np.linspace(0.5, 2, len(held[1]))
    seen = []

    def watch(event):
        h = event.network.predict(held[0])
        seen.append((log_loss(held[1], h, sample_weight=weight), np.average(h.argmax(1) == held[1], weights=weight)))
        assert event.epoch == len(seen)

    fitted = classifier(callbacks=[watch], early_stopping=early, tol=0, n_iter_no_change=3, max_iter=40)
    fitted.fit(*train, validation_data=(*held, weight))
    assert fitted.validation_loss_curve_ == pytest.approx([loss for loss, _ in seen], rel=1e-12)
    assert fitted.validation_scores_ == pytest.approx([score for _, score in seen], rel=1e-12)
    plain = classifier(max_iter=40).fit(*train)
    if early:  # all of the training data was trained on, and the best parameters are back
        assert fitted.loss_curve_ == plain.loss_curve_[: fitted.n_iter_]
        assert fitted.best_validation_score_ == max(fitted.validation_scores_)
        assert np.average(fitted.predict(held[0]) == held[1], weights=weight) == max(fitted.validation_scores_)
    else:
        assert np.array_equal(fitted.coefs_[0], plain.coefs_[0])
    assert plain.validation_scores_ is None
    assert plain.validation_loss_curve_ is None
    for solver in ("lbfgs", "sgd"):
        fitted = regressor(solver=solver, max_iter=5, loss="poisson").fit(*train, validation_data=held)
        deviance = (
            held[1] * np.log(np.maximum(held[1], 1) / fitted.predict(held[0])) - held[1] + fitted.predict(held[0])
        )
        assert fitted.validation_loss_curve_[-1] == pytest.approx(deviance.mean(), rel=1e-9)
        assert fitted.validation_scores_[-1] == pytest.approx(r2_score(held[1], fitted.predict(held[0])))


def test_scoring_decides_early_stopping(table):
    pandas = pytest.importorskip("pandas")
    X, y = table
    frame = pandas.DataFrame(X, columns=list("abcde"))
    seen = []
    held = (X[90:], y[90:])

    def watch(event):
        seen.append(-mean_absolute_error(held[1], event.network.predict(held[0])[:, 0]))

    options = {"early_stopping": True, "max_iter": 30, "learning_rate_init": 0.01, "callbacks": [watch]}
    fitted = regressor(scoring="neg_mean_absolute_error", **options)
    fitted.fit(frame[:90], y[:90], validation_data=(frame[90:], y[90:]))
    assert fitted.validation_scores_ == pytest.approx(seen)
    assert list(fitted.feature_names_in_) == list("abcde")
    calls = []

    def scorer(estimator, X, y):
        calls.append(estimator)
        return -float(len(calls))

    stopped = regressor(scoring=scorer, early_stopping=True, n_iter_no_change=2, max_iter=50).fit(X, y)
    assert stopped.n_iter_ == 4  # the first was the best, and three more did not improve
    assert stopped.best_validation_score_ == -1.0


def scores_in_turn(*scores):
    """A scorer that gives one after another, the last one for ever."""
    given = iter(scores)
    return lambda estimator, X, y: next(given, scores[-1])


@pytest.mark.parametrize(
    ("scores", "kept", "epochs", "best"),
    [
        ([np.nan], 4, 4, np.nan),  # nothing to go by: the parameters of the last epoch
        ([-np.inf], 1, 20, -np.inf),  # a score like any other: the first is the best, and tol below it is as good
        ([np.nan, 0.5, np.nan], 2, 6, 0.5),
        ([0.1, np.nan, 0.7, np.nan, 0.2], 3, 7, 0.7),
        ([np.nan, np.nan, -np.inf, np.nan], 3, 7, -np.inf),
        ([np.inf, np.nan, 1.0], 1, 5, np.inf),
    ],
)
def test_validation_scores_that_are_nan_improve_nothing(table, scores, kept, epochs, best):
    X, y = table
    early = regressor(early_stopping=True, scoring=scores_in_turn(*scores), n_iter_no_change=3, max_iter=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        early.fit(X[:90], y[:90], validation_data=(X[90:], y[90:]))
    said = [str(warning.message) for warning in caught if "the validation score was nan" in str(warning.message)]
    assert len(said) == bool(np.isnan(best))
    assert all(warning.filename == __file__ for warning in caught)
    assert early.n_iter_ == epochs
    assert np.array_equal(early.best_validation_score_, best, equal_nan=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = regressor(max_iter=kept).fit(X[:90], y[:90])
    assert relative(early.coefs_, plain.coefs_) < 1e-14


def test_an_undefined_score_is_warned_of_by_scikit_learn_and_by_name(table):
    X, y = table
    early = regressor(early_stopping=True, n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        early.fit(X[:90], y[:90], validation_data=(X[:1], y[:1]))
    assert early.n_iter_ == 3
    one_class = classifier(early_stopping=True, scoring="roc_auc", n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        one_class.fit(X[:90], y[:90] > 0, validation_data=(X[:5], np.ones(5, bool)))
    assert np.isnan(one_class.best_validation_score_)
    # A score that is a number is better than none, also in the fit that follows.
    one_class.set_params(warm_start=True).fit(X, y > 0, validation_data=(X, y > 0))
    assert one_class.best_validation_score_ == max(one_class.validation_scores_[3:])
    assert relative(one_class.coefs_, [*one_class.to_sklearn().coefs_]) == 0.0
    # And where a later fit has none, its last parameters are kept, not those of the fit before.
    before = [coef.copy() for coef in one_class.coefs_]
    one_class.set_params(n_iter_no_change=2)
    with pytest.warns(UndefinedMetricWarning), pytest.warns(UserWarning, match="early_stopping: the validation score"):
        one_class.fit(X, y > 0, validation_data=(X[:5], np.ones(5, bool)))
    assert relative(one_class.coefs_, before) > 1e-3
    assert one_class.to_sklearn().best_validation_score_ == -np.inf


def test_weights_of_nothing(table):
    X, y = table
    rows = np.arange(len(X))
    _, held = train_test_split(rows, random_state=seeded_before_the_split(X), test_size=0.1)
    early = regressor(early_stopping=True, n_iter_no_change=2)
    with pytest.warns(UserWarning, match="early_stopping: the validation score was nan in every epoch"):
        early.fit(X, y, sample_weight=(~np.isin(rows, held)).astype(float))
    assert np.isnan(early.validation_scores_).all()
    assert np.isnan(early.validation_loss_curve_).all()
    assert early.n_iter_ == 3
    with pytest.raises(ValueError, match="sample_weight: expected a weight other than 0 among the samples trained on"):
        early.fit(X, y, sample_weight=np.isin(rows, held).astype(float))
    with pytest.raises(ValueError, match="sample_weight: expected a weight other than 0 among the samples trained on"):
        classifier(class_weight={0: 0.0, 1: 0.0}).fit(X, (y > 0).astype(int))


def seeded_before_the_split(X):
    """The random state of `regressor` when it splits: after its parameters have been drawn."""
    rng = np.random.RandomState(0)
    drawn = regressor(max_iter=1, shuffle=False, random_state=rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn.fit(X, X[:, 0])
    return rng


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


def test_hidden_features_as_a_table(iris):
    pandas = pytest.importorskip("pandas")
    X, y = iris
    fitted = classifier(hidden_layer_sizes=(6, 5)).fit(X, y).set_output(transform="pandas")
    features = fitted.transform(X)
    assert isinstance(features, pandas.DataFrame)
    assert list(features.columns) == [f"mlpclassifier{i}" for i in range(5)]
    for layer in (2, -3):
        with pytest.raises(ValueError, match="layer: expected a hidden layer, -2 … 1, got"):
            fitted.transform(X, layer=layer)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "multi-output"])
def test_input_gradient_is_the_slope_of_the_predictions(task, rng):
    X = rng.standard_normal((30, 4))
    z = np.tanh(X @ rng.standard_normal((4, 3)))
    y = {"binary": z[:, 0] > 0, "multiclass": z.argmax(1), "regression": z[:, 0], "multi-output": z}[task]
    build = classifier if task in ("binary", "multiclass") else regressor
    fitted = build(activation="tanh", solver="lbfgs").fit(X, y)
    h = 1e-6
    function = fitted.predict_proba if build is classifier else fitted.predict
    steps = [(function(X + h * e) - function(X - h * e)) / (2 * h) for e in np.eye(4)]
    slopes = np.stack(steps, axis=-1)
    if task == "binary":
        slopes = slopes[:, 1]
    gradient = fitted.input_gradient(X)
    assert gradient.shape == ((30, 4) if task in ("binary", "regression") else (30, 3, 4))
    assert relative(gradient, slopes) < 1e-7
    assert relative(fitted.input_gradient(sparse.csr_array(X)), gradient) < 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["log_loss", "binary_cross_entropy", "squared_error"])
@pytest.mark.parametrize("task", ["2 classes", "3 classes", "labels"])
def test_input_gradient_is_that_of_the_probabilities_of_the_per_sample_loop(task, loss, dtype, rng):
    """By the complex step through the loop, and by central differences of `predict_proba`."""
    X = rng.standard_normal((40, 4))
    z = X @ rng.standard_normal((4, 3)) + 0.5 * rng.standard_normal((40, 3))
    y = {"2 classes": z[:, 0] > 0, "3 classes": z.argmax(1), "labels": (z > 0).astype(int)}[task]
    for options in ({}, {"output_activation": "softplus"} if loss == "squared_error" else {"hidden_layer_sizes": ()}):
        options = {"activation": "tanh", "max_iter": 60, "learning_rate_init": 0.02, **options}
        fitted = classifier(loss=loss, dtype=dtype, **options).fit(X, y)
        weights = [coef.T.astype(float) for coef in fitted.coefs_]
        biases = [intercept.astype(float) for intercept in fitted.intercepts_]
        activations = fitted.network_.activations

        def probabilities(x, net=(weights, biases, activations)):
            h = reference.forward(*net, x)[1][-1]
            return h / h.sum() if task == "3 classes" and net[2][-1] != "softmax" else h

        slopes = [[reference.along(probabilities, [x], [e]) for e in np.eye(4)] for x in X]
        expected = np.swapaxes(slopes, 1, 2)
        got = fitted.input_gradient(X)
        assert got.dtype == dtype
        assert relative(got, expected[:, 0] if task == "2 classes" else expected) < (
            1e-5 if dtype == "float32" else 1e-12
        )
        if dtype == "float64":
            step = 1e-6
            moved = [fitted.predict_proba(X + s * step * e) for e in np.eye(4) for s in (1, -1)]
            central = np.stack([(up - down) / (2 * step) for up, down in zip(moved[::2], moved[1::2], strict=True)], -1)
            assert relative(got, central[:, 1] if task == "2 classes" else central) < 1e-7


def test_probabilities_of_outputs_that_are_not_a_distribution(iris):
    X, y = iris
    for loss in ("squared_error", "binary_cross_entropy"):
        fitted = classifier(loss=loss, solver="lbfgs").fit(X, y)
        outputs = fitted.network_.predict(X)
        assert relative(fitted.predict_proba(X), outputs / outputs.sum(1, keepdims=True)) < 1e-15
        assert relative(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X)) < 1e-12
        assert fitted.score(X, y) > 0.95


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
        fitted.set_params(hidden_layer_sizes=5).fit(X, y)
    with pytest.raises(ValueError, match="'loss' parameter of MLPRegressor"):
        regressor(loss="log_loss").fit(X, y)
    with pytest.raises(ValueError, match="loss: unknown loss"):
        regressor(loss=("a", "b")).fit(X, y)


def test_a_validation_set_that_is_diverged_from_is_still_restored(table):
    X, y = table
    fitted = regressor(solver="sgd", learning_rate_init=3.0, early_stopping=True, max_iter=100).fit(X, y)
    assert np.isnan(fitted.validation_scores_[-1])
    assert np.isfinite(fitted.predict(X)).all()
    assert fitted.n_iter_ < 100


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
