"""Small calls take shortcuts past scikit-learn's checks; the results, errors and warnings are those of the long way."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer

import deltaprop as dp
from deltaprop.estimators import class_targets

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6))
CODES = RNG.integers(0, 4, 120)
KINDS: dict[str, Any] = {
    "numbers": np.arange(10, 14),
    "unsigned": np.array([3, 5, 7, 9], np.uint8),
    "strings": np.array(["ab", "b", "cde", "d"]),
    "objects": np.array(["ab", "b", "cde", "d"], object),
    "floats": np.array([0.0, 1.0, 2.0, 3.0]),
    "two": np.array(["no", "yes", "no", "yes"]),
    "truth": np.array([False, True, False, True]),
}


def fitted(y, module=dp, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {"backend": "numpy"} if module is dp else {}
        model = module.MLPClassifier(hidden_layer_sizes=(7,), max_iter=5, random_state=0, **own | options)
        return model.fit(X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_probabilities_and_scores_are_scikit_learns(kind):
    y = KINDS[kind][CODES]
    ours, theirs = fitted(y), fitted(y, sklearn.neural_network)
    for m in (1, 2, 100):
        np.testing.assert_allclose(ours.predict_proba(X[:m]), theirs.predict_proba(X[:m]), rtol=1e-9)
        predicted = ours.predict(X[:m])
        np.testing.assert_array_equal(predicted, theirs.predict(X[:m]))
        assert predicted.dtype == theirs.predict(X[:m]).dtype
        assert ours.score(X[:m], y[:m]) == theirs.score(X[:m], y[:m])
        weight = np.arange(1.0, m + 1)
        assert ours.score(X[:m], y[:m], weight) == pytest.approx(theirs.score(X[:m], y[:m], weight), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_partial_fit_learns_what_scikit_learns_learns(kind):
    y, classes = KINDS[kind][CODES], np.unique(KINDS[kind])
    models = [
        dp.MLPClassifier((7,), random_state=0, backend="numpy"),
        sklearn.neural_network.MLPClassifier((7,), random_state=0),
    ]
    for model in models:
        for first in range(0, 120, 30):
            model.partial_fit(X[first : first + 30], y[first : first + 30], classes=classes)
        model.partial_fit(X, y)  # a call with more samples
        model.partial_fit(X[:30], y[:30])
    ours, theirs = models
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-9)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)
    state, expected = ours._random_state.get_state(), theirs._random_state.get_state()
    np.testing.assert_array_equal(state[1], expected[1])
    assert state[2] == expected[2]


def test_partial_fit_goes_on_after_pickles_and_copies_and_other_parameters():
    def train(between):
        model = dp.MLPClassifier((7,), random_state=0, backend="numpy")
        for k in range(4):
            model.partial_fit(X[:32], CODES[:32], classes=[0, 1, 2, 3])
            model = between(model, k)
        return model.coefs_[0]

    def assign(model, k):
        model.coefs_ = [coef.copy() for coef in model.coefs_]
        return model

    expected = train(lambda model, k: model)
    for between in (
        lambda model, k: pickle.loads(pickle.dumps(model)),
        lambda model, k: copy.deepcopy(model),
        assign,
        lambda model, k: (model.predict(X), model)[1],
    ):
        np.testing.assert_allclose(train(between), expected, rtol=1e-12)


def test_partial_fit_refuses_what_it_refused():
    model = dp.MLPClassifier((7,), random_state=0, backend="numpy")
    model.partial_fit(X[:32], CODES[:32], classes=[0, 1, 2, 3])
    before = model.coefs_[0].copy()
    bad = X[:32].copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.partial_fit(X[:32], CODES[:32] + 1)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.partial_fit(bad, CODES[:32])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.partial_fit(X[:32], CODES[:31])
    with pytest.raises(ValueError, match="X has 5 features, but MLPClassifier is expecting 6"):
        model.partial_fit(X[:32, :5], CODES[:32])
    np.testing.assert_array_equal(model.coefs_[0], before)


def test_a_regressor_goes_on_and_refuses_values_that_are_not_finite():
    models = [
        dp.MLPRegressor(hidden_layer_sizes=(7,), random_state=0, backend="numpy"),
        sklearn.neural_network.MLPRegressor(hidden_layer_sizes=(7,), random_state=0),
    ]
    for model in models:
        for _ in range(3):
            model.partial_fit(X[:32], X[:32, 0])
        with pytest.raises(ValueError, match="Input y contains NaN"):
            model.partial_fit(X[:32], np.full(32, np.nan))
    np.testing.assert_allclose(models[0].predict(X), models[1].predict(X), rtol=1e-7)


def test_predictions_refuse_and_warn_as_scikit_learns():
    ours = fitted(CODES)
    for ask in (ours.predict, ours.predict_proba):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            ask(np.full((2, 6), np.inf))
        with pytest.raises(ValueError, match="X has 5 features, but MLPClassifier is expecting 6"):
            ask(X[:, :5])
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
            ask(X[0])
        with pytest.raises(ValueError, match="0 sample"):
            ask(X[:0])
    ours.feature_names_in_ = np.array(list("abcdef"), object)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        ours.predict_proba(X)


def test_coefficients_that_are_replaced_count():
    ours = fitted(CODES)
    ours.predict_proba(X)
    ours.coefs_ = [0 * coef for coef in ours.coefs_]
    ours.intercepts_ = [0 * b for b in ours.intercepts_]
    np.testing.assert_allclose(ours.predict_proba(X[:1]), [[0.25, 0.25, 0.25, 0.25]], rtol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_known_labels_become_the_targets_of_a_binarizer(kind):
    binarizer = LabelBinarizer().fit(KINDS[kind])
    y = KINDS[kind][CODES]
    targets = class_targets.of_known(binarizer, y)
    assert (targets is None) == (kind in ("objects", "floats"))
    if targets is not None:
        np.testing.assert_array_equal(targets, binarizer.transform(y).astype(bool))


def test_unknown_labels_are_left_to_a_closer_look():
    binarizer = LabelBinarizer().fit([1, 3, 5])
    for y in ([1, 2], [0, 1], [7, 7], [True, True], ["1", "3"]):
        assert class_targets.of_known(binarizer, np.array(y)) is None


def test_accuracy_is_scikit_learns():
    y, predicted = np.array(["a", "b", "b"]), np.array(["a", "bb", "b"])
    assert class_targets.accuracy(y, predicted, None) == accuracy_score(y, predicted) == 2 / 3
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        class_targets.accuracy(y, predicted[:2], None)


LABELS: dict[str, Any] = {
    **KINDS,
    "negative": np.array([-7, 0, 3, 100]),
    "short": np.array([-128, -1, 0, 127], np.int8),
    "far apart": np.array([-(2**63), -1, 0, 2**63 - 1]),
    "beyond int64": np.array([0, 1, 2**63, 2**64 - 1], np.uint64),
    "swapped bytes": np.array([1, 2, 3, 4], ">i4"),
    "wide strings": np.array(["", "b", "cde", "d"], "U12"),
    "one": np.array([5, 5, 5, 5]),
}


@pytest.mark.parametrize("samples", [1, 6, 30, 120])
@pytest.mark.parametrize("kind", LABELS)
def test_new_labels_become_a_binarizer_and_its_targets(kind, samples):
    y = LABELS[kind][CODES[:samples]]
    expected = LabelBinarizer().fit(y)
    binarizer, targets = class_targets.of_new(y)
    ours, theirs = vars(binarizer), vars(expected)
    assert ours.keys() == theirs.keys()
    assert ours["classes_"].dtype == theirs["classes_"].dtype
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(targets, expected.transform(y).astype(bool))
    assert targets.dtype == bool


@pytest.mark.parametrize("samples", [20, 21, 60])
@pytest.mark.parametrize("classes", [9, 10, 11, 12, 20, 29, 30, 31])
def test_many_classes_warn_as_scikit_learn_does(samples, classes):
    y, said = np.arange(samples) % classes, []
    for fit in (lambda: LabelBinarizer().fit(y), lambda: class_targets.of_new(y)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit()
        said.append([str(each.message) for each in caught])
    assert said[0] == said[1]


def test_parameters_that_have_passed_are_told_from_others_that_are_equal():
    model = dp.MLPRegressor(
        hidden_layer_sizes=(3,), max_iter=1, alpha=1, warm_start=True, backend="numpy", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            model.fit(X, X[:, 0])
    for name, wrong in {"warm_start": 1, "max_iter": 1.0, "dropout": False, "alpha": -1, "tol": "1"}.items():
        for _ in range(2):
            with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPRegressor must be .* Got {wrong!r}"):
                dp.MLPRegressor(**(model.get_params() | {name: wrong})).fit(X, X[:, 0])


def test_a_fit_to_an_array_forgets_the_names_of_columns():
    model = fitted(CODES)
    model.feature_names_in_ = np.array(list("abcdef"), object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[:, :5], CODES)
    assert model.n_features_in_ == 5
    assert not hasattr(model, "feature_names_in_")
    for bad, said in ((X[:, :0], r"0 feature\(s\)"), (X[:0], r"0 sample\(s\)"), (X * np.nan, "Input X contains NaN")):
        with pytest.raises(ValueError, match=said):
            model.fit(bad, CODES[: len(bad)])


def test_callbacks_and_scores_find_the_threads_of_blas_as_they_were():
    from threadpoolctl import threadpool_info

    def threads():
        return sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())

    fitted(CODES)  # loads what there is
    before, seen = threads(), []
    fitted(CODES, callbacks=[lambda event: seen.append(threads())])
    fitted(CODES, early_stopping=True, scoring=lambda *data: (seen.append(threads()), 0.5)[1])
    fitted(CODES)
    assert len(seen) == 10
    assert all(each == before for each in [*seen, threads()])


def test_parameters_that_a_callback_makes_read_only_are_not_written():
    def freeze(event):
        event.network.parameters.flags.writeable = False

    with pytest.raises(ValueError, match="parameters: expected a writeable array, got a read-only one"):
        fitted(CODES, callbacks=[freeze])


def test_training_ends_in_the_epoch_in_which_the_parameters_overflow():
    ended = []
    for backend in ("numpy", "reference"):
        model = dp.MLPRegressor(
            hidden_layer_sizes=(7,), solver="sgd", learning_rate_init=0.5, max_iter=50, random_state=0, backend=backend
        )
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            model.fit(X, 100 * X[:, 0])
        ended.append(model.n_iter_)
    assert ended[0] == ended[1] < 50
