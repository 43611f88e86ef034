"""Classes and scores equal scikit-learn's, of every kind of network and target."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

import deltaprop as dp


def net_of(outputs, backend="numpy", **options):
    return dp.Network([4, 5, outputs], **{"init": "normal", "backend": backend} | options)


@pytest.fixture
def X(rng):
    return 3.0 * rng.standard_normal((50, 4))


@pytest.mark.parametrize("loss", ["categorical_cross_entropy", "binary_cross_entropy", "squared_error"])
def test_classes_are_the_largest_outputs(backend, rng, X, loss):
    """Labels of several outputs name classes under every loss; of one-hot rows, a cross-entropy has to say so."""
    net = net_of(3, backend, loss=loss, output_activation="softmax" if loss.startswith("cat") else "sigmoid")
    labels, weights = rng.integers(0, 3, 50), rng.uniform(size=50)
    host, given = net.backend.to_numpy, net.backend.asarray(X, np.float64)
    expected = [max(range(3), key=row.__getitem__) for row in net.predict(X).tolist()]
    classes = net.predict_classes(X)
    assert isinstance(classes, np.ndarray) or not net.backend.on_host
    assert classes.tolist() == expected
    assert classes.dtype == np.int64 or not isinstance(classes, np.ndarray)
    on_backend = net.predict_classes(given)
    assert net.backend.owns(on_backend)
    assert host(on_backend).tolist() == expected
    assert net.score(X, labels) == accuracy_score(labels, expected)
    assert net.score(given, labels, weights) == pytest.approx(accuracy_score(labels, expected, sample_weight=weights))
    if loss != "squared_error":
        assert net.score(X, np.eye(3)[labels]) == accuracy_score(labels, expected)


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_one_output_is_on_a_side_of_a_half(rng, X, shape):
    net, y = net_of(1, hidden_activation="tanh", seed=2), rng.integers(0, 2, shape)
    expected = [int(h > 0.5) for (h,) in net.predict(X).tolist()]
    assert net.predict_classes(X).tolist() == expected
    assert 0 < sum(expected) < 50
    weights = rng.integers(0, 3, 50)
    score = accuracy_score(y.ravel(), expected, sample_weight=weights)
    assert net.score(X, y, weights) == pytest.approx(score)
    assert dp.Network([4, 1], init="zeros", backend="numpy").predict_classes(X).tolist() == [0] * 50  # ½ exactly


def test_scores_are_what_fit_records(rng, X):
    net, y = net_of(3, loss="categorical_cross_entropy"), rng.integers(0, 3, 50)
    history = net.fit(X, y, validation=(X, y), epochs=1)
    assert history.metrics["accuracy"] == [net.score(X, y)]


def test_several_labels_a_sample(rng, X):
    net, Y = net_of(3), rng.integers(0, 2, (50, 3))
    Y[7] = [1, 0, 1]
    expected = (net.predict(X) > 0.5).astype(int)
    assert np.array_equal(net.predict_classes(X, multilabel=True), expected)
    Y[:10] = expected[:10]
    score = net.score(X, Y, multilabel=True)
    assert score == pytest.approx(accuracy_score(Y, expected))
    assert 0.0 < score < 1.0
    with pytest.raises(ValueError, match=r"Y: expected one class a sample .*got 2 ones in row 0; .*multilabel=True"):
        net.score(X[7:], np.vstack([[1, 0, 1], Y[8:]]))
    soft = rng.uniform(size=(50, 3))
    assert net.score(X, soft) == accuracy_score(soft.argmax(axis=1), net.predict_classes(X))


@pytest.mark.parametrize("outputs", [1, 2])
def test_quantities_have_r2(backend, rng, X, outputs):
    net = net_of(outputs, backend, loss="squared_error")
    Y, weights = rng.standard_normal((50, outputs)), rng.uniform(size=50)
    h = net.predict(X)
    for y in (Y, Y[:, 0]) if outputs == 1 else (Y,):
        assert net.score(X, y) == pytest.approx(r2_score(Y, h), rel=1e-12)
        assert net.score(X, y, weights) == pytest.approx(r2_score(Y, h, sample_weight=weights), rel=1e-12)
    constant = np.ones((50, outputs))
    assert net.score(X, constant) == r2_score(constant, h) == 0.0


def test_each_member_has_its_score(trained_on, rng, X):
    stack = dp.NetworkStack(3, [4, 5, 3], init="normal", loss="categorical_cross_entropy", backend=trained_on)
    labels, weights = rng.integers(0, 3, 50), rng.uniform(size=50)
    own_X, own_labels = np.stack([X, X[::-1], 2 * X]), np.stack([labels, labels, labels[::-1]])
    classes = stack.predict_classes(X)
    assert classes.shape == (3, 50)
    scores = stack.score(X, labels, weights)
    assert scores.shape == (3,)
    for k, member in enumerate(stack):
        assert classes[k].tolist() == member.predict_classes(X).tolist()
        assert scores[k] == pytest.approx(accuracy_score(labels, classes[k], sample_weight=weights))
        assert stack.predict_classes(own_X)[k].tolist() == member.predict_classes(own_X[k]).tolist()
        assert stack.score(own_X, own_labels)[k] == member.score(own_X[k], own_labels[k])


def test_members_with_several_labels(rng, X):
    stack = dp.NetworkStack(2, [4, 5, 3], init="normal", backend="numpy")
    Y = (stack[1].predict(X) > 0.5).astype(int)
    assert stack.predict_classes(X, multilabel=True).shape == (2, 50, 3)
    assert stack.score(X, Y, multilabel=True)[1] == 1.0


@pytest.mark.parametrize(("options", "call", "message"), [
    ({"loss": "squared_error"}, lambda n, X: n.predict_classes(X), "output_activation: classes .* got 'identity'"),
    ({"loss": "poisson"}, lambda n, X: n.predict_classes(X), "output_activation: classes .* got 'exp'"),
    ({"loss": "categorical_cross_entropy"}, lambda n, X: n.predict_classes(X, multilabel=True), "got 3 of 'softmax'"),
    ({}, lambda n, X: n.score(X, [0] * 50, multilabel=1), "multilabel: expected True or False, got 1"),
    ({}, lambda n, X: n.score(X, [0] * 49), "Y: expected shape"),
    ({}, lambda n, X: n.score(X, [0] * 50, [0] * 50), "sample_weight: expected a weight above 0"),
])  # fmt: skip
def test_what_has_no_classes_is_refused(X, options, call, message):
    for net in (net_of(3, **options), dp.NetworkStack(2, [4, 3], backend="numpy", **options)):
        with pytest.raises((ValueError, TypeError), match=message):
            call(net, X)
