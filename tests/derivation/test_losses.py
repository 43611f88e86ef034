"""Losses given as a pair of functions, and losses that are clipped as scikit-learn's are."""

import warnings
from typing import Any

import mpmath
import numpy as np
import pytest
from cases import relative
from conftest import backend_or_skip

import deltaprop as dp

#: Our losses, written as users would write them, for NumPy and CuPy arrays.
PAIRS = {
    "squared_error": (lambda h, y: 0.5 * ((h - y) ** 2).sum(axis=1), lambda h, y: h - y),
    "huber": (
        lambda h, y: abs(h - y).clip(0, 1) * (abs(h - y) - 0.5 * abs(h - y).clip(0, 1)),
        lambda h, y: (h - y).clip(-1, 1),
    ),
}


def networks(loss, backend, **options):
    """Return the network with one of our losses, and the network with the pair of functions."""
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


def backend_log(backend):
    """Return the logarithm of the backend's library, as its users call it."""
    return (lambda h: h.log()) if backend.name == "torch" else np.log


def test_categorical_cross_entropy_as_a_pair_under_softmax(backend, rng):
    """∂cost/∂h = −y/h goes through the whole Jacobian of softmax and comes out as h − y."""
    X, Y = rng.standard_normal((11, 4)), np.eye(3)[rng.integers(0, 3, 11)]
    log = backend_log(backend)
    pair = (lambda h, y: -(y * log(h)), lambda h, y: -y / h)
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
        dp.Network([2, 1], loss=(np.sum,))  # type: ignore[arg-type]
    shapes = [((lambda h, y: h, lambda h, y: h[0]), "a gradient of the shape of the outputs, \\(5, 3\\), got \\(3,\\)")]
    shapes += [((lambda h, y: h[:2], lambda h, y: h), "costs of shape \\(5,\\) or \\(5, 3\\), got \\(2, 3\\)")]
    for loss, message in shapes:
        with pytest.raises(ValueError, match=f"loss: expected {message}"):
            dp.Network([4, 3], loss=loss).cost_and_gradient(X, Y)


def returns(value):
    """Return a function for a loss that always returns `value`."""

    def my_function(h, y):
        return value(h) if callable(value) else value

    return my_function


@pytest.mark.parametrize(("value", "got"), [
    (0.5, "a float"), ([0.5], "a list"), (None, "a NoneType"), (lambda h: h + 1j, "dtype complex128"),
    (lambda h: h.sum(), "a float64"), (lambda h: h.astype(object), "dtype object"), ("cost", "a str"),
    (lambda h: np.ma.masked_less(h, 0.0), "a MaskedArray"),
])  # fmt: skip
def test_functions_that_return_no_numbers_are_named(value, got, rng):
    X, Y = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    cost, gradient = PAIRS["squared_error"]
    for pair, what in (((returns(value), gradient), "costs"), ((cost, returns(value)), "a gradient")):
        net = dp.Network([4, 3], loss=pair, backend="numpy")
        before = net.parameters.copy()
        message = rf"loss: expected {what} as a numpy array of real numbers from .*my_function, got {got}$"
        for method in (net.cost_and_gradient, net.fit, net.fit_full_batch):
            with pytest.raises(TypeError, match=message):
                method(X, Y)
        stack = dp.NetworkStack(2, [4, 3], loss=pair, backend="numpy")
        with pytest.raises(TypeError, match=message):
            stack.fit(X, Y)
        mlp = dp.MLPRegressor(pair, (), max_iter=1, backend="numpy")
        with pytest.raises(TypeError, match=message):
            mlp.fit(X, Y)
        assert np.array_equal(net.parameters, before)


def test_metrics_that_return_no_numbers_are_named(rng):
    X, Y = rng.standard_normal((5, 4)), rng.standard_normal((5, 1))

    def my_metric(prediction, Y):
        return None

    net = dp.Network([4, 1], loss="squared_error", backend="numpy")
    with pytest.raises(TypeError, match="metrics: expected a number from my_metric, got None"):
        net.fit(X, Y, validation=(X, Y), metrics=[my_metric])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("loss", "classes"), [("binary_cross_entropy", 1), ("categorical_cross_entropy", 2)])
def test_clipped_costs_are_at_most_minus_log_epsilon(backend, loss, classes, dtype):
    """The cost is softplus(∓z) = −log p, but at most −log of the least p; the gradient is not clipped."""
    z = np.array([-900.0, -40.0, -20.0, -1.0, 0.5, 14.0, 30.0, 700.0], dtype)
    names: list[Any] = [f"clipped_{loss}", loss]
    nets = [dp.Network([1, classes], loss=which, init="zeros", dtype=dtype, backend=backend) for which in names]
    for net in nets:
        net.weights = [np.array([[0.0], [1.0]][-classes:])]
    for label, sign in ((0, 1.0), (1, -1.0)):
        exact = np.logaddexp(0.0, sign * z.astype(float))
        expected = np.minimum(exact, -np.log(np.finfo(dtype).eps)).mean()
        labels = np.full(len(z), label)
        tolerance = 1e-6 if dtype == np.float32 else 1e-14
        assert nets[0].cost(z[:, None], labels) == pytest.approx(expected, rel=tolerance)
        assert nets[1].cost(z[:, None], labels) == pytest.approx(exact.mean(), rel=tolerance)
        clipped, plain = (np.asarray(net.cost_and_gradient(z[:, None], labels)[1].flat) for net in nets)
        assert np.array_equal(clipped, plain)


def exact_cost(z, y):
    """Cross-entropy of one sample to 60 digits, binary for one output, else categorical."""
    with mpmath.workdps(60):
        z, y = [mpmath.mpf(float(v)) for v in z], [mpmath.mpf(float(v)) for v in y]
        if len(z) == 1:
            z, y = [*z, mpmath.mpf(0)], [*y, 1 - y[0]]
        return float(sum(t * mpmath.log(sum(mpmath.exp(u - v) for u in z)) for t, v in zip(y, z, strict=True)))


#: z of the first output; the other outputs have 0 and z/2. The last two values give ties, or nearly.
TAILS = (-60.0, -17.0, -3.0, -0.3, 0.0, 1e-3, 0.7, 5.0, 10.0, 17.0, 30.0, 37.0, 70.0)
TARGETS = (0.0, 1.0, 0.5, 0.1, 0.9, 1 / 3)


def in_the_tails(classes, dtype):
    """Return rows z and y over the grid, and their exact costs."""
    z = np.array([[first, 0.0, first / 2][:classes] for first in TAILS for _ in TARGETS], dtype)
    y = np.array([[first, 1.0 - first, 0.0][:classes] for _ in TAILS for first in TARGETS], dtype)
    return z, y, [exact_cost(*row) for row in zip(z, y, strict=True)]


def network_of_z(classes, dtype, backend, prefix=""):
    """Return a network with z = x."""
    loss = prefix + ("binary_cross_entropy" if classes == 1 else "categorical_cross_entropy")
    net = dp.Network([classes, classes], loss=loss, init="zeros", dtype=dtype, backend=backend)
    net.weights = [np.eye(classes)]
    return net


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_cross_entropies_are_right_in_both_tails(backend, classes, dtype):
    """They are within 4 units in the last place for each sample, with weights and with clipped losses too."""
    nets = [network_of_z(classes, dtype, backend, prefix) for prefix in ("", "clipped_")]
    eps = float(np.finfo(dtype).eps)
    limit = -np.log(eps)
    for z, y, expected in zip(*in_the_tails(classes, dtype), strict=True):
        z, y = z[None], y[None]
        assert nets[0].cost(z, y) == pytest.approx(expected, rel=4 * eps, abs=0)
        assert nets[0].cost(z, y, reduction="sum", sample_weight=[0.5]) == pytest.approx(
            expected / 2, rel=4 * eps, abs=0
        )
        if 1.0 in y:  # only with one output does the clip apply
            assert nets[1].cost(z, y) == pytest.approx(min(expected, limit), rel=4 * eps, abs=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["numpy", "reference", "cuda-on-host"])
def test_epochs_cost_what_they_should_in_both_tails(kind, classes, dtype):
    """The epochs are compiled, recorded and resident, of a network and of a stack, with validation costs."""
    z, y, expected = in_the_tails(classes, dtype)
    backend, eps = backend_or_skip(kind) if kind == "cuda-on-host" else kind, float(np.finfo(dtype).eps)
    how: dict[str, Any] = {
        "optimizer": dp.SGD(1e-300 if dtype == "float64" else 1e-40),
        "epochs": 1,
        "reduction": "sum",
        "batch_size": 2,
    }
    for first in range(0, len(z), 5):
        Z, Y = np.repeat(z[[first]], 4, axis=0), np.repeat(y[[first]], 4, axis=0)
        history = network_of_z(classes, dtype, backend).fit(Z, Y, validation=(Z, Y), **how)
        stack = dp.NetworkStack(
            2, [classes, classes], loss=network_of_z(classes, dtype, backend).loss, dtype=dtype, backend=backend
        )
        stack.weights, stack.biases = [np.array([np.eye(classes)] * 2)], [np.zeros((2, classes))]
        costs = [history.cost[0], history.validation_cost[0], *(h.cost[0] for h in stack.fit(Z, Y, **how))]
        # compiled exp gives the smallest normal number instead of a subnormal one
        assert costs == pytest.approx([4 * expected[first]] * 4, rel=4 * eps, abs=4 * float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [2, 3])
def test_estimators_cost_what_they_should_in_the_tail(classes, dtype):
    """Only one class has weight, so the cost is −log p, where 1 − p is far below ε of float32."""
    X, y = np.zeros((3 * classes, 1), dtype), np.repeat(np.arange(classes), 3)
    weight = (y == 1).astype(dtype)
    z = 12.0 if dtype == "float32" else 25.0
    mlp = dp.MLPClassifier(
        (1,), alpha=0.0, max_iter=1, learning_rate_init=1e-30, warm_start=True, solver="sgd", backend="numpy"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that it has not converged
        mlp.fit(X, y, sample_weight=weight)
        for coefs, intercepts in zip(mlp.coefs_, mlp.intercepts_, strict=True):
            coefs[...] = intercepts[...] = 0.0
        mlp.intercepts_[-1][0 if classes == 2 else 1] = z
        mlp.fit(X, y, sample_weight=weight)
    expected = exact_cost([z], [1.0]) if classes == 2 else exact_cost([0.0, z, 0.0], [0.0, 1.0, 0.0])
    assert mlp.loss_ == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps))
