"""The matrix form equals the per-sample loop and central differences, in every convention."""

import numpy as np
import pytest
import reference
from cases import HIDDEN, PAIRS, relative, targets_for
from hypothesis import given, settings
from hypothesis import strategies as st

import deltaprop as dp

SIZES = {1: [4, 3], 2: [4, 5, 3], 3: [4, 1, 5, 2], 4: [3, 4, 2, 5, 1], 5: [1, 3, 4, 2, 3, 2]}


def expected(net, X, Y, **options):
    weights = [np.asarray(net.backend.to_numpy(W), np.float64) for W in net.weights]
    biases = [np.asarray(net.backend.to_numpy(b), np.float64) for b in net.biases]
    return reference.cost_and_gradient(weights, biases, net.activations, net.loss, X, Y, **options)


def check(net, X, Y, tolerance=1e-12, **options):
    J, gradient_W, gradient_b, deltas = expected(net, X, Y, **options)
    cost, gradient = net.cost_and_gradient(X, Y, **options)
    assert cost == pytest.approx(J, rel=tolerance)
    assert net.cost(X, Y, **options) == pytest.approx(J, rel=tolerance)
    assert relative(gradient.weights, gradient_W) < tolerance
    assert relative(gradient.biases, gradient_b) < tolerance
    assert relative(net.deltas(X, Y), deltas) < tolerance
    D = [np.column_stack([b, W]) for W, b in zip(gradient_W, gradient_b, strict=True)]
    assert relative(gradient.thetas, D) < tolerance


@pytest.mark.parametrize("l2", [0.0, 1.3])
@pytest.mark.parametrize("depth", SIZES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_equals_the_loop_for_every_loss_and_depth(backend, rng, loss, output, depth, l2):
    net = dp.Network(
        SIZES[depth], hidden_activation="tanh", output_activation=output, loss=loss, backend=backend, seed=depth
    )
    X = rng.standard_normal((7, SIZES[depth][0]))
    check(net, X, targets_for(loss, rng, 7, SIZES[depth][-1]), l2=l2)


@pytest.mark.parametrize("m", [1, 6])
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("activation", HIDDEN)
def test_equals_the_loop_for_every_hidden_activation(backend, rng, activation, depth, m):
    net = dp.Network(SIZES[depth], hidden_activation=activation, backend=backend, seed=depth)
    X = rng.standard_normal((m, SIZES[depth][0]))
    check(net, X, targets_for(net.loss, rng, m, SIZES[depth][-1]), l2=0.7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("l2_scaling", ["per_sample", "absolute"])
def test_every_convention(backend, rng, l2_scaling, reduction):
    net = dp.Network([3, 4, 2], loss="squared_error", output_activation="sigmoid", backend=backend)
    X, Y = rng.standard_normal((5, 3)), rng.random((5, 2))
    check(net, X, Y, l2=2.0, l2_scaling=l2_scaling, reduction=reduction)


@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_float32_equals_the_loop_to_its_rounding(backend, rng, loss, output):
    net = dp.Network(
        [5, 8, 3], hidden_activation="softplus", output_activation=output, loss=loss, dtype="float32", backend=backend
    )
    X = rng.standard_normal((40, 5)).astype(np.float32)
    Y = targets_for(loss, rng, 40, 3).astype(np.float32)
    check(net, X.astype(np.float64), Y.astype(np.float64), tolerance=3e-6, l2=0.5)
    assert net.cost_and_gradient(X, Y)[1].flat.dtype == np.float32


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_the_loop_for_drawn_shapes(data):
    sizes = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=6))
    loss, output = data.draw(st.sampled_from(PAIRS))
    hidden = data.draw(st.sampled_from(HIDDEN))
    m = data.draw(st.integers(1, 9))
    seed = data.draw(st.integers(0, 2**32))
    l2 = data.draw(st.sampled_from([0.0, 0.1, 10.0]))
    rng = np.random.default_rng(seed)
    net = dp.Network(
        sizes, hidden_activation=hidden, output_activation=output, loss=loss, backend="numpy", seed=seed, init="lecun"
    )
    X, Y = rng.standard_normal((m, sizes[0])), targets_for(loss, rng, m, sizes[-1])
    check(net, X, Y, tolerance=1e-11, l2=l2)


def test_forward_record(backend, rng):
    net = dp.Network([3, 4, 2], backend=backend)
    X = rng.standard_normal((5, 3))
    record = net.forward(X)
    assert np.array_equal(record.a[0], X)
    weights, biases = ([backend.to_numpy(array) for array in arrays] for arrays in (net.weights, net.biases))
    for i in range(5):
        z, a = reference.forward(weights, biases, net.activations, X[i])
        assert relative([layer[i] for layer in record.z], z) < 1e-14
        assert relative([layer[i] for layer in record.a], a) < 1e-14
    assert relative(net.predict(X), record.a[-1]) < 1e-15


def test_costs_are_right_in_the_tails(backend):
    """−log σ(−800) is 800 and −log softmax is the distance to the largest z, where log(a) would be −∞."""
    net = dp.Network([1, 1], backend=backend, init="zeros")
    net.weights = [[[1.0]]]
    assert net.cost([[-800.0]], [[1.0]]) == pytest.approx(800.0, rel=1e-15)
    assert net.cost([[40.0]], [[1.0]]) == pytest.approx(4.248354255291589e-18, rel=1e-14)  # log1p(e^-40)
    net = dp.Network([2, 2], loss="categorical_cross_entropy", backend=backend, init="zeros")
    net.weights = [np.eye(2)]
    assert net.cost([[0.0, 5000.0]], [[1.0, 0.0]]) == pytest.approx(5000.0, rel=1e-15)


def test_course_figures_for_a_network_of_zeros(backend):
    """With all parameters 0, every output is ½ and the cost of K outputs is K log 2."""
    net = dp.Network([4, 3, 10], backend=backend, init="zeros")
    assert net.cost(np.ones((6, 4)), np.arange(6)) == pytest.approx(10 * np.log(2), rel=1e-15)


@pytest.mark.parametrize("output", [*HIDDEN, "exp"])
def test_the_simplified_output_error_is_a_minus_y(backend, rng, output):
    """δ^(L) = a − y, and the layers below follow the usual rule; the cost stays the squared error."""
    options = {"loss": "squared_error", "output_activation": output, "backend": backend, "seed": 4}
    exact, net = dp.Network([3, 4, 2], **options), dp.Network([3, 4, 2], **options, output_error="simplified")
    X, Y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    cost, gradient = net.cost_and_gradient(X, Y)
    assert cost == exact.cost_and_gradient(X, Y)[0]
    W = [net.backend.to_numpy(W) for W in net.weights]
    b = [net.backend.to_numpy(b) for b in net.biases]
    rows = [reference.forward(W, b, net.activations, x) for x in X]
    top = np.stack([a[-1] for _, a in rows]) - Y
    below = (top @ W[1]) * reference.ACTIVATIONS["sigmoid"][1](np.stack([z[0] for z, _ in rows]))
    assert relative(net.deltas(X, Y), [below, top]) < 1e-13
    D = [below.T @ X / 6, top.T @ np.stack([a[1] for _, a in rows]) / 6]
    assert relative(gradient.weights, D) < 1e-13
