"""One step of the estimators equals the per-sample loop, for every loss and weight."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import reference
from cases import relative
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight
from small_fits import classifier, regressor

import deltaprop as dp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def drawn(sizes, bound, seed=0):
    """Draw parameters as scikit-learn does, with W as (s_out, s_in)."""
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
    # The range of the draw depends on the activation: it is smaller for the logistic function.
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
    """The masks are those of a `Network` with the seed that the random state gives after the parameters."""
    X, y = table
    options = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "shuffle": False, "batch_size": 30}
    fitted = regressor(**options, max_iter=4, dropout=0.4, hidden_layer_sizes=(8, 6)).fit(X, y)
    random = np.random.RandomState(0)
    W, b = drawn([5, 8, 6, 1], 6.0)
    random.random_sample(sum(w.size for w in W) + sum(v.size for v in b))  # the draws of the parameters
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


def seeded_before_the_split(X):
    """Return the random state of `regressor` when it splits, after its parameters have been drawn."""
    rng = np.random.RandomState(0)
    drawn = regressor(max_iter=1, shuffle=False, random_state=rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn.fit(X, X[:, 0])
    return rng


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
