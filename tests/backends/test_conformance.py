"""One suite over every backend compares each operation of the vocabulary with its formula."""

import inspect
from typing import Any

import numpy as np
import pytest
import reference
from cases import DTYPES, HIDDEN, PAIRS, ROWS, TOLERANCE, check, put, targets_for
from conftest import BACKEND_PARAMETERS, backend_or_skip

from deltaprop.backends.base import Backend
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.device import DeviceBackend
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.parameters import Parameters

SGD = Rule("sgd")
MOMENTUM, NESTEROV = (Rule(name, {"momentum": 0.9}) for name in ("momentum", "nesterov"))
ADAM = Rule("adam", {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3})


def test_every_operation_is_there_with_one_signature(backend):
    for name, member in vars(Backend).items():
        if callable(member) and not name.startswith("_"):
            assert inspect.signature(getattr(type(backend), name)) == inspect.signature(member), name


def test_what_only_devices_have_is_there_with_one_signature():
    assert issubclass(CupyBackend, DeviceBackend)
    for name, member in vars(DeviceBackend).items():
        if callable(member) and not name.startswith("_"):
            ours = inspect.signature(getattr(CupyBackend, name)).parameters
            assert ours == inspect.signature(member).parameters, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "exp", "softmax"])
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize(("members", "s_out"), [(None, 33), (3, 33), (2, 192)])
def test_affine_activation(backend, rng, activation, m, members, s_out, dtype):
    lead, s_in = () if members is None else (members,), 5
    A, W, b = (rng.standard_normal((*lead, *shape)).astype(dtype) for shape in ((m, s_in), (s_out, s_in), (s_out,)))
    Z, out = backend.empty((*lead, m, s_out), dtype), backend.empty((*lead, m, s_out), dtype)
    backend.affine_activation(*put(backend, dtype, A, W, b), activation, Z=Z, out=out)
    z = np.einsum("...mi,...oi->...mo", A.astype(float), W.astype(float)) + b[..., None, :]
    g = reference.ACTIVATIONS[activation][0]
    check(backend, Z, z, dtype)
    check(backend, out, np.apply_along_axis(g, -1, z), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_output_delta_and_cost(backend, rng, loss, activation, m, dtype):
    columns = 35
    z = rng.standard_normal((m, columns)).astype(dtype)
    y = targets_for(loss, rng, m, columns).astype(dtype)
    a = np.apply_along_axis(reference.ACTIVATIONS[activation][0], 1, z.astype(float))
    expected = [reference.output_delta(loss, activation, *row) for row in zip(z.astype(float), a, y, strict=True)]
    costs = [reference.sample_cost(loss, *row) for row in zip(a, y, strict=True)]
    out, cost = backend.empty((m, columns), dtype), backend.zeros((), np.float64)
    arrays = put(backend, dtype, z, a, y)
    backend.output_delta(loss, activation, *arrays, 0.25, out=out, cost=cost)
    check(backend, out, 0.25 * np.array(expected), dtype)
    assert float(cost) == pytest.approx(sum(costs), rel=TOLERANCE[dtype]["rtol"])
    backend.add_cost(loss, activation, *arrays, cost)
    assert float(cost) == pytest.approx(2 * sum(costs), rel=TOLERANCE[dtype]["rtol"])
    weight = rng.uniform(0, 3, m).astype(dtype)
    (weights,), cost = put(backend, dtype, weight), backend.zeros((), np.float64)
    backend.output_delta(loss, activation, *arrays, 0.25, out=out, cost=cost, sample_weight=weights)
    check(backend, out, 0.25 * weight[:, None] * np.array(expected), dtype)
    assert float(cost) == pytest.approx(float(weight @ np.array(costs)), rel=TOLERANCE[dtype]["rtol"])
    backend.add_cost(loss, activation, *arrays, cost, weights)
    assert float(cost) == pytest.approx(2 * float(weight @ np.array(costs)), rel=TOLERANCE[dtype]["rtol"])
    (sums,), scaled = put(backend, dtype, np.ones(columns)), 0.25 * np.array(expected)
    tolerance = TOLERANCE[dtype]["rtol"] * max(1, m / 10)
    for keep in (0.0, 1.0):
        backend.output_delta(loss, activation, *arrays, 0.25, out=out, cost=cost, bias_gradient=sums, keep=keep)
        assert np.allclose(backend.to_numpy(sums), (1 + keep) * scaled.sum(axis=0), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "exp"])
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize(("members", "s_in"), [(None, 34), (2, 34), (None, 192)])
def test_hidden_delta_with_bias_gradient(backend, rng, activation, m, members, s_in, dtype):
    lead, s_out = () if members is None else (members,), 4
    delta, W, z = (
        rng.standard_normal((*lead, *shape)).astype(dtype) for shape in ((m, s_out), (s_out, s_in), (m, s_in))
    )
    out, sums = backend.empty((*lead, m, s_in), dtype), backend.empty((*lead, s_in), dtype)
    arrays = put(backend, dtype, delta, W, z)
    backend.hidden_delta(arrays[0], arrays[1], activation, arrays[2], out=out, bias_gradient=sums)
    slope = reference.ACTIVATIONS[activation][1](z.astype(float))
    expected = (delta.astype(float) @ W.astype(float)) * slope
    check(backend, out, expected, dtype)
    tolerance = TOLERANCE[dtype]["rtol"] * max(1, m / 30)
    assert np.allclose(backend.to_numpy(sums), expected.sum(axis=-2), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [*ROWS, 1025])
def test_gradients_of_weights_and_biases(backend, rng, m, dtype):
    delta, A = rng.standard_normal((m, 33)).astype(dtype), rng.standard_normal((m, 6)).astype(dtype)
    W, b = backend.empty((33, 6), dtype), backend.empty((33,), dtype)
    on_backend = put(backend, dtype, delta, A)
    backend.weight_gradient(*on_backend, out=W)
    backend.bias_gradient(on_backend[0], out=b)
    tolerance = TOLERANCE[dtype]["rtol"] * max(1, m / 30)
    outer = sum(np.outer(d, a) for d, a in zip(delta.astype(float), A.astype(float), strict=True))
    assert np.allclose(backend.to_numpy(W), outer, rtol=tolerance, atol=tolerance)
    assert np.allclose(backend.to_numpy(b), delta.astype(float).sum(axis=0), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 300])
def test_sums_added_to_what_is_there(backend, rng, m, dtype):
    """Plain gradient descent uses this, and stores no gradient; the factor may be a number on the device."""
    shapes = ((m, 33), (m, 6), (33, 6), (33,), (33, 6), (m, 6), (6,))
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    delta, A, W, b, V, Z, c = (x.astype(float) for x in arrays)
    on_delta, on_A, on_W, on_b, on_V, on_Z, on_c = put(backend, dtype, *arrays)
    tolerance = TOLERANCE[dtype]["rtol"] * max(1, m / 10)

    def close(got, expected):
        assert np.allclose(backend.to_numpy(got), expected, rtol=tolerance, atol=tolerance)

    backend.weight_gradient(on_delta, on_A, out=on_W, keep=0.75)
    close(on_W, 0.75 * W + delta.T @ A)
    backend.weight_gradient(on_delta, on_A, out=on_W, keep=backend.asarray(0.5, dtype))
    close(on_W, 0.5 * (0.75 * W + delta.T @ A) + delta.T @ A)
    backend.bias_gradient(on_delta, out=on_b, keep=1.0)
    close(on_b, b + delta.sum(axis=0))
    out = backend.empty((m, 6), dtype)
    backend.hidden_delta(on_delta, on_V, "tanh", on_Z, out=out, bias_gradient=on_c, keep=1.0)
    close(on_c, c + ((delta @ V) * (1 - np.tanh(Z) ** 2)).sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [3, 40])
def test_with_a_member_axis_each_has_what_it_has_alone(backend, rng, m, dtype):
    """Parameters lie as in a stack, and each member has its own numbers."""
    K, sizes = 3, (5, 7, 4)
    stacked, gradient = (Parameters(backend, sizes, dtype, K) for _ in range(2))
    own = rng.standard_normal(stacked.flat.shape).astype(dtype)
    stacked.flat[...] = backend.asarray(own, dtype)
    X, Y = rng.standard_normal((K, m, 5)).astype(dtype), rng.uniform(0.1, 0.9, (K, m, 4)).astype(dtype)
    weight, scales = rng.uniform(0.5, 2, (K, m)).astype(dtype), np.array([0.1, 0.2, 0.4])
    on_X, on_Y, on_weight = put(backend, dtype, X, Y, weight)
    on_scales, l2 = backend.asarray(scales, dtype), backend.asarray(np.array([0.0, 0.5, 1.0]), dtype)
    shapes = ((K, m, 7), (K, m, 4))
    Z, A, D = ([backend.empty(shape, dtype) for shape in shapes] for _ in range(3))
    cost, decay = backend.zeros((K,), np.float64), backend.zeros((K,), np.float64)

    backend.affine_activation(on_X, stacked.weights[0], stacked.biases[0], "tanh", Z=Z[0], out=A[0])
    backend.affine_activation(A[0], stacked.weights[1], stacked.biases[1], "sigmoid", Z=Z[1], out=A[1])
    loss = ("binary_cross_entropy", "sigmoid")
    g = gradient
    backend.output_delta(*loss, Z[1], A[1], on_Y, on_scales, D[1], cost, on_weight, g.biases[1])
    backend.hidden_delta(D[1], stacked.weights[1], "tanh", Z[0], out=D[0], bias_gradient=g.biases[0])
    backend.weight_gradient(D[1], A[0], out=g.weights[1])
    backend.weight_gradient(D[0], on_X, out=g.weights[0])
    backend.add_l2_gradient(stacked.flat_weights, l2, g.flat_weights)
    backend.add_squared_norm(stacked.flat_weights, l2, decay)
    backend.add_cost(*loss, Z[1], A[1], on_Y, cost)
    for k in range(K):
        W, b = ([backend.to_numpy(x[k]).astype(float) for x in xs] for xs in (stacked.weights, stacked.biases))
        costs, slopes, mean = 0.0, [np.zeros(w.shape) for w in W], [np.zeros(x.shape) for x in b]
        for x, y, w in zip(X[k].astype(float), Y[k].astype(float), weight[k].astype(float), strict=True):
            z0 = W[0] @ x + b[0]
            a0 = np.tanh(z0)
            h = 1 / (1 + np.exp(-(W[1] @ a0 + b[1])))
            delta1 = w * scales[k] * (h - y)
            delta0 = (W[1].T @ delta1) * (1 - a0**2)
            slopes[1] += np.outer(delta1, a0)
            slopes[0] += np.outer(delta0, x)
            mean[1] += delta1
            mean[0] += delta0
            costs += (1 + w) * -float(np.sum(y * np.log(h) + (1 - y) * np.log(1 - h)))
        close: dict[str, Any] = {"rtol": 100 * TOLERANCE[dtype]["rtol"], "atol": 10 * TOLERANCE[dtype]["atol"]}
        for l in range(2):
            slopes[l] += (0.0, 0.5, 1.0)[k] * W[l]
            assert np.allclose(backend.to_numpy(g.weights[l][k]), slopes[l], **close)
            assert np.allclose(backend.to_numpy(g.biases[l][k]), mean[l], **close)
        assert np.allclose(backend.to_numpy(cost)[k], costs, **close)
        squares = (0.0, 0.5, 1.0)[k] * sum((w**2).sum() for w in W)
        assert np.allclose(backend.to_numpy(decay)[k], squares, **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_with_a_member_axis(backend, rng, dtype):
    """Each member has its own learning rate, momentum, constants of Adam and decay."""
    K, n, n_weights = 3, 50, 40
    theta, gradient, first = (rng.standard_normal((K, n)).astype(dtype) for _ in range(3))
    second = rng.uniform(0.5, 2.0, (K, n)).astype(dtype)
    rate, mu, decay = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.9, 0.0]), np.array([0.0, 0.1, 0.2])
    beta_1, beta_2, epsilon = np.array([0.9, 0.8, 0.7]), np.array([0.99, 0.9, 0.8]), np.array([1e-8, 1e-4, 1e-2])
    t, g, m, v = (array.astype(float) for array in (theta, gradient, first, second))
    numbers = [array[:, None] for array in (rate, mu, beta_1, beta_2, epsilon, decay)]
    eta, momentum, b1, b2, eps, off = numbers
    on_rate, on_decay = put(backend, dtype, rate, decay)

    for name in ("momentum", "nesterov"):
        on_theta, on_g, on_v = put(backend, dtype, theta.copy(), gradient, first.copy())
        backend.update(Rule(name, {"momentum": mu.tolist()}), on_theta, on_g, (on_v,), on_rate, on_decay, n_weights)
        velocity = momentum * m - eta * g
        check(backend, on_theta, t + (momentum * velocity - eta * g if name == "nesterov" else velocity), dtype)
        check(backend, on_v, velocity, dtype)
    on_theta, on_g = put(backend, dtype, theta.copy(), gradient)
    backend.update(Rule("sgd"), on_theta, on_g, (), on_rate, on_decay, n_weights)
    check(backend, on_theta, t - eta * g, dtype)

    on_theta, on_m, on_v = put(backend, dtype, theta.copy(), first.copy(), second.copy())
    rule = Rule("adam", {"beta_1": beta_1.tolist(), "beta_2": beta_2.tolist(), "epsilon": epsilon.tolist()})
    backend.update(rule, on_theta, on_g, (on_m, on_v), on_rate, on_decay, n_weights)
    t[:, :n_weights] *= 1 - off
    moment, square = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    check(backend, on_theta, t - eta * moment / (np.sqrt(square) + eps), dtype)
    check(backend, on_m, moment, dtype)
    check(backend, on_v, square, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_may_stand_on_the_device(backend, rng, dtype):
    """Every operation of a replayed step gives the same results with numbers on the device as on the host."""
    z, y = rng.standard_normal((9, 4)), rng.uniform(0.1, 0.9, (9, 4))
    p, g, v = (rng.standard_normal(50) for _ in range(3))

    def results(number):
        delta, cost = backend.empty((9, 4), dtype), backend.zeros((), np.float64)
        Z, Y, A = put(backend, dtype, z, y, 1 / (1 + np.exp(-z)))
        backend.output_delta("binary_cross_entropy", "sigmoid", Z, A, Y, number(0.25), out=delta, cost=cost)
        plain, moved, velocity, first, second, theta, penalty, gradient = put(
            backend, dtype, p.copy(), p.copy(), v.copy(), v.copy(), v**2, p.copy(), g.copy(), g.copy()
        )
        backend.update(SGD, plain, gradient, (), number(0.1), 0.0, 25)
        backend.update(NESTEROV, moved, gradient, (velocity,), number(0.1), 0.0, 25)
        backend.update(ADAM, theta, gradient, (first, second), number(0.01), number(0.125), 25)
        backend.add_l2_gradient(plain, number(0.5), penalty)
        backend.add_squared_norm(plain, number(0.5), cost)
        return [backend.to_numpy(x) for x in (delta, plain, moved, velocity, theta, penalty, cost)]

    for here, there in zip(results(float), results(lambda x: backend.asarray(x, dtype)), strict=True):
        assert np.allclose(here, there, rtol=TOLERANCE[dtype]["rtol"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_that_begin_anywhere(backend, rng, dtype):
    """Arrays may begin anywhere, not only at multiples of 16 bytes."""
    z = rng.standard_normal(1001).astype(dtype)
    for first in range(4):
        (there,), out = put(backend, dtype, z), backend.zeros((1001,), dtype)
        backend.activation("tanh", there[first:], out[first:])
        check(backend, out[first:], np.tanh(z[first:].astype(float)), dtype)
        assert not backend.to_numpy(out)[:first].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 31, 257, 20_001])
def test_updates(backend, rng, n, dtype):
    """Two steps of every rule equal the formulas of the papers, computed with scalars."""
    theta, g = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
    T, G = theta.astype(float), g.astype(float)

    def run(update, *state):
        arrays = put(backend, dtype, theta.copy(), g, *(s.copy() for s in state))
        for _ in range(2):
            update(*arrays)
        return arrays[0]

    zeros = np.zeros(n)
    check(backend, run(lambda p, g: backend.update(SGD, p, g, (), 0.1, 0.5, n)), T - 0.2 * G, dtype)
    momentum = run(lambda p, g, v: backend.update(MOMENTUM, p, g, (v,), 0.1, 0.5, n), zeros)
    check(backend, momentum, T - 0.1 * G - 0.19 * G, dtype)  # v: −0.1 g, then −0.09 g − 0.1 g
    nesterov = run(lambda p, g, v: backend.update(NESTEROV, p, g, (v,), 0.1, 0.5, n), zeros)
    check(backend, nesterov, T - 0.19 * G - (0.9 * 0.19 + 0.1) * G, dtype)
    k = n // 2
    adam = run(lambda p, g, m, v: backend.update(ADAM, p, g, (m, v), 0.01, 0.1, k), zeros, zeros)
    expected = T.copy()
    for m, v in ((0.1 * G, 0.01 * G**2), (0.19 * G, 0.0199 * G**2)):
        expected[:k] *= 0.9
        expected -= 0.01 * m / (np.sqrt(v) + 1e-3)
    check(backend, adam, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_penalty(backend, rng, dtype):
    w, g = rng.standard_normal(20_001).astype(dtype), rng.standard_normal(20_001).astype(dtype)
    weights, gradient = put(backend, dtype, w, g.copy())
    backend.add_l2_gradient(weights, 0.3, gradient)
    check(backend, gradient, g.astype(float) + 0.3 * w, dtype)
    assert backend.squared_norm(weights) == pytest.approx(float((w.astype(float) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("s_out", [33, 192])
def test_masks_of_dropout_multiply_a_and_delta(backend, rng, m, s_out, dtype):
    s_in = 35
    mask = 2.0 * (rng.random((m, s_out)) < 0.5)
    A, W, b, z, delta = (
        rng.standard_normal(shape).astype(dtype) for shape in ((m, s_in), (s_out, s_in), s_out, (m, s_out), (m, 7))
    )
    (mu,) = put(backend, dtype, mask)
    Z, out, sums = (backend.empty(shape, dtype) for shape in ((m, s_out), (m, s_out), (s_out,)))
    backend.affine_activation(*put(backend, dtype, A, W, b), "tanh", Z=Z, out=out, mask=mu)
    affine = A.astype(float) @ W.astype(float).T + b
    check(backend, Z, affine, dtype)
    check(backend, out, np.tanh(affine) * mask, dtype)
    V = rng.standard_normal((7, s_out)).astype(dtype)
    arrays = put(backend, dtype, delta, V)
    backend.hidden_delta(*arrays, "tanh", *put(backend, dtype, z), out=out, bias_gradient=sums, mask=mu)
    expected = (delta.astype(float) @ V) * mask * (1 - np.tanh(z.astype(float)) ** 2)
    check(backend, out, expected, dtype)
    assert np.allclose(backend.to_numpy(sums), expected.sum(0), rtol=1e-4, atol=1e-4 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 255, 257, 10_000])
def test_add_squared_norm(backend, rng, n, dtype):
    w = rng.standard_normal(n).astype(dtype)
    cost = backend.zeros((), np.float64)
    cost += 2.0
    backend.add_squared_norm(backend.asarray(w, dtype), 0.25, cost)
    assert float(cost) == pytest.approx(2.0 + 0.25 * float((w.astype(float) ** 2).sum()), rel=TOLERANCE[dtype]["rtol"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(backend, rng, dtype):
    X = rng.standard_normal((50, 7)).astype(dtype)
    index = rng.permutation(50)
    out = backend.empty((20, 7), dtype)
    backend.gather(backend.asarray(X, dtype), backend.asarray(index, np.int64)[10:30], out=out)
    assert np.array_equal(backend.to_numpy(out), X[index[10:30]])


def test_all_finite(backend):
    for values, finite in (([1.0, 2.0], True), ([1.0, np.nan], False), ([np.inf, -np.inf], False)):
        assert backend.all_finite(backend.asarray(values, np.float64)) is finite
    assert backend.all_finite(backend.asarray([1.7e308, 1.7e308], np.float64))


def test_asarray_keeps_what_it_can(backend):
    x = backend.zeros((3, 2), np.float64)
    assert backend.asarray(x, np.float64) is x or np.shares_memory(backend.asarray(x, np.float64), x)
    transposed = backend.asarray(backend.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float64).T, np.float64)
    assert backend.to_numpy(transposed.reshape(-1)).tolist() == [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
    assert backend.asarray(np.float64(3.0), np.float64).shape == ()
    assert backend.dtype_of(backend.asarray([[1, 2]], np.float32)) == np.float32


def test_what_a_kernel_reads_is_contiguous(backend):
    """Arrays for kernels are in C order, as our kernels know no strides."""
    array = backend.asarray(backend.zeros((3, 2), np.float64).T, np.float64)
    strides = array.stride() if callable(getattr(array, "stride", None)) else tuple(s // 8 for s in array.strides)
    assert tuple(strides) == (3, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_filled_copied_and_added_up(backend, rng, dtype):
    x = rng.standard_normal((7, 5)).astype(dtype)
    (array,) = put(backend, dtype, x.copy())
    copy = backend.copy(array)
    backend.fill(array, 0.25)
    assert np.array_equal(backend.to_numpy(array), np.full((7, 5), 0.25, dtype))
    check(backend, copy, x, dtype)
    backend.fill(array[2:4], 0.0)
    assert backend.to_numpy(array).sum() == 0.25 * 25
    total = backend.sum(copy)
    assert backend.dtype_of(total) == np.float64
    assert float(total) == pytest.approx(sum(map(float, x.ravel())), rel=1e-14, abs=1e-14)


def test_a_sum_of_float32_is_formed_in_float64(backend):
    array = backend.asarray([2.0**24, *[1.0] * 100], np.float32)
    assert float(backend.sum(array)) == 2.0**24 + 100


COMPOSED = [name for name in BACKEND_PARAMETERS if name in ("numpy", "torch")]


@pytest.fixture(params=COMPOSED)
def composed(request):
    return backend_or_skip(request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_primitives_that_operations_are_composed_of(composed, rng, dtype):
    x = rng.uniform(0.5, 2.0, (3, 4)).astype(dtype)
    y = rng.standard_normal(4).astype(dtype)
    X, Y = put(composed, dtype, x, y)
    out = composed.empty((3, 4), dtype)
    composed.elementwise(np.multiply, (X, Y), out)
    check(composed, out, [[a * b for a, b in zip(row, y, strict=True)] for row in x.astype(float)], dtype)
    composed.elementwise(np.subtract, (1.5, out), out)
    check(composed, out, 1.5 - x.astype(float) * y, dtype)
    row = composed.empty((3, 1), dtype)
    composed.reduce(np.maximum, X, -1, row)
    check(composed, row, [[max(values)] for values in x.tolist()], dtype)
    column = composed.empty((1, 4), dtype)
    composed.reduce(np.add, X, 0, column)
    check(composed, column, [[sum(map(float, values)) for values in x.T]], dtype)
    product = composed.empty((2, 3, 3), dtype)
    members = np.stack([x, 2 * x])
    composed.product(*put(composed, dtype, members, x.T), product)
    expected = [[[float(r @ s) for s in x.astype(float)] for r in own.astype(float)] for own in members]
    check(composed, product, expected, dtype)
    bits: Any = {np.float64: np.int64, np.float32: np.int32}[dtype]
    assert composed.to_numpy(composed.view(composed.asarray([-0.0], dtype), bits)).tolist() == [np.iinfo(bits).min]
