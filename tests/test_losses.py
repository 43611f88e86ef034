"""Losses given as a pair of functions, and those that are clipped as scikit-learn's are."""

import numpy as np
import pytest
from cases import relative

import deltaprop as dp

#: Losses of ours, written as users would write them, for NumPy and CuPy arrays alike.
PAIRS = {
    "squared_error": (lambda h, y: 0.5 * ((h - y) ** 2).sum(axis=1), lambda h, y: h - y),
    "huber": (
        lambda h, y: abs(h - y).clip(0, 1) * (abs(h - y) - 0.5 * abs(h - y).clip(0, 1)),
        lambda h, y: (h - y).clip(-1, 1),
    ),
}


def networks(loss, backend, **options):
    """The network with a loss of ours, and the one with the pair of functions."""
    return [
        dp.Network([4, 6, 3], loss=which, backend=backend, seed=2, hidden_activation="tanh", **options)
        for which in (loss, PAIRS[loss])
    ]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", ["identity", "tanh", "exp"])
@pytest.mark.parametrize("loss", PAIRS)
def test_a_pair_of_functions_is_the_loss_it_computes(backend, loss, output, weighted, rng):
    X, Y = rng.standard_normal((11, 4)), 2 * rng.standard_normal((11, 3))
    weight = rng.uniform(0, 2, 11) if weighted else None
    named, pair = networks(loss, backend, output_activation=output)
    expected, gradient = named.cost_and_gradient(X, Y, l2=0.3, sample_weight=weight)
    cost, got = pair.cost_and_gradient(X, Y, l2=0.3, sample_weight=weight)
    assert cost == pytest.approx(expected, rel=1e-14)
    assert relative(got.flat, gradient.flat) < 1e-13
    assert pair.cost(X, Y, sample_weight=weight) == pytest.approx(named.cost(X, Y, sample_weight=weight), rel=1e-14)


def test_categorical_cross_entropy_as_a_pair_under_softmax(backend, rng):
    """∂cost/∂h = −y/h goes through the whole Jacobian of softmax and comes out as h − y."""
    X, Y = rng.standard_normal((11, 4)), np.eye(3)[rng.integers(0, 3, 11)]
    pair = (lambda h, y: -(y * np.log(h)), lambda h, y: -y / h)
    options = {"output_activation": "softmax", "backend": backend, "seed": 2}
    named = dp.Network([4, 6, 3], loss="categorical_cross_entropy", **options)
    own = dp.Network([4, 6, 3], loss=pair, **options)
    for (a, b), (c, d) in [(named.cost_and_gradient(X, Y), own.cost_and_gradient(X, Y))]:
        assert a == pytest.approx(c, rel=1e-14)
        assert relative(d.flat, b.flat) < 1e-13


def test_it_trains_and_is_checked_like_any_other(rng):
    X, Y = rng.standard_normal((40, 4)), rng.standard_normal((40, 3))
    named, pair = networks("squared_error", "numpy")
    for net in (named, pair):
        net.fit(X, Y, optimizer=dp.Adam(0.01), epochs=5, validation=(X, Y))
    assert relative(pair.parameters, named.parameters) < 1e-12
    assert dp.check_gradient(pair, X[:5], Y[:5]).passed
    wrong = dp.Network([4, 6, 3], loss=(PAIRS["squared_error"][0], lambda h, y: 1.01 * (h - y)), seed=2)
    assert not dp.check_gradient(wrong, X[:5], Y[:5]).passed
    assert pair.fit_full_batch(X, Y, max_iter=3).cost[-1] < pair.cost(X, Y) + 1e-12
    assert "∂cost/∂a" in str(dp.Network([2, 2, 1], loss=PAIRS["squared_error"]).explain([1.0, 2.0], 0.5))


def test_what_a_pair_of_functions_cannot_do(tmp_path, rng):
    net = networks("squared_error", "numpy")[1]
    X, Y = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    with pytest.raises(ValueError, match="loss: expected the name of a loss, as a file holds no code"):
        net.save(tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="loss: hvp needs second derivatives"):
        net.hvp(X, Y, np.zeros(net.parameters.size))
    with pytest.raises(ValueError, match="loss: unknown loss"):
        dp.Network([2, 1], loss=(np.sum,))
    shapes = [((lambda h, y: h, lambda h, y: h[0]), "a gradient of the shape of the outputs, \\(5, 3\\), got \\(3,\\)")]
    shapes += [((lambda h, y: h[:2], lambda h, y: h), "costs of shape \\(5,\\) or \\(5, 3\\), got \\(2, 3\\)")]
    for loss, message in shapes:
        with pytest.raises(ValueError, match=f"loss: expected {message}"):
            dp.Network([4, 3], loss=loss).cost_and_gradient(X, Y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("loss", "classes"), [("binary_cross_entropy", 1), ("categorical_cross_entropy", 2)])
def test_clipped_costs_are_at_most_minus_log_epsilon(backend, loss, classes, dtype):
    """softplus(∓z), which is −log p, but no more than that of the least p there is; the gradient is not clipped."""
    z = np.array([-900.0, -40.0, -20.0, -1.0, 0.5, 14.0, 30.0, 700.0], dtype)
    nets = [
        dp.Network([1, classes], loss=which, init="zeros", dtype=dtype, backend=backend)
        for which in (f"clipped_{loss}", loss)
    ]
    for net in nets:
        net.weights = [np.array([[0.0], [1.0]][-classes:])]
    for label, sign in ((0, 1.0), (1, -1.0)):
        exact = np.logaddexp(0.0, sign * z.astype(float))
        expected = np.minimum(exact, -np.log(np.finfo(dtype).eps)).mean()
        labels = np.full(len(z), label)
        tolerance = 1e-6 if dtype == np.float32 else 1e-14
        assert nets[0].cost(z[:, None], labels) == pytest.approx(expected, rel=tolerance)
        assert nets[1].cost(z[:, None], labels) == pytest.approx(exact.mean(), rel=tolerance)
        clipped, plain = (net.cost_and_gradient(z[:, None], labels)[1].flat for net in nets)
        assert np.array_equal(clipped, plain)
