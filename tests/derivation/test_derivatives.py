"""jvp, vjp, the Jacobian and Hessian-vector products equal the complex step through the per-sample loop."""

from typing import Any

import numpy as np
import pytest
import reference
from cases import HIDDEN, PAIRS, relative, targets_for

import deltaprop as dp

DTYPES = (np.float64, np.float32)
#: float64: rounding only. float32: sums over a few dozen products.
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def host(net: dp.Network) -> tuple[list[Any], list[Any]]:
    """Return weights and biases in float64 on the host, for the reference."""
    weights, biases = (
        [net.backend.to_numpy(p).astype(np.float64) for p in layers] for layers in (net.weights, net.biases)
    )
    return weights, biases


def network(backend, hidden, loss, output, dtype, sizes=(4, 6, 5, 3)):
    return dp.Network(
        sizes,
        hidden_activation=hidden,
        output_activation=output,
        loss=loss,
        dtype=np.dtype(dtype).name,
        backend=backend,
        seed=7,
    )


def draw(rng, dtype, *shapes):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_jvp_and_vjp(backend, rng, hidden, loss, output, dtype):
    net = network(backend, hidden, loss, output, dtype)
    X, U, V = draw(rng, dtype, (7, 4), (7, 4), (7, 3))
    J = [reference.jacobian(*host(net), net.activations, x) for x in X.astype(float)]
    forward, reverse = net.jvp(X, U), net.vjp(X, V)
    assert relative(forward, np.stack([j @ u for j, u in zip(J, U, strict=True)])) < TOLERANCE[dtype]
    assert relative(reverse, np.stack([v @ j for j, v in zip(J, V, strict=True)])) < TOLERANCE[dtype]
    assert forward.dtype == reverse.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["forward", "reverse", "auto"])
@pytest.mark.parametrize("sizes", [(4, 6, 3), (2, 5, 6), (3, 1), (1, 4, 1)])
@pytest.mark.parametrize(("loss", "output"), [("squared_error", "tanh"), ("categorical_cross_entropy", "softmax")])
def test_jacobian(backend, rng, loss, output, sizes, mode, dtype):
    net = network(backend, "gelu", loss, output, dtype, sizes)
    (X,) = draw(rng, dtype, (5, sizes[0]))
    expected = np.stack([reference.jacobian(*host(net), net.activations, x) for x in X.astype(float)])
    got = net.jacobian(X, mode=mode)
    assert got.shape == (5, sizes[-1], sizes[0])
    if sizes[-1] == 1 and output == "softmax":  # one class is certain, so its slopes are 0
        assert abs(got).max() < 1e-7
    else:
        assert relative(got, expected) < TOLERANCE[dtype]


def test_jacobian_takes_more_directions_than_go_at_once(quick_backend, rng, monkeypatch):
    from deltaprop.derivation import derivatives

    net = dp.Network([7, 5, 4], backend=quick_backend)
    X = rng.standard_normal((3, 7))
    expected = np.stack([reference.jacobian(*host(net), net.activations, x) for x in X])
    for rows in (1, 6, 8, 20):  # 1, 2 and 6 directions at a time, with a short last block
        monkeypatch.setattr(derivatives, "JACOBIAN_ROWS", rows)
        for mode in ("forward", "reverse"):
            assert relative(net.jacobian(X, mode=mode), expected) < 1e-12


@pytest.mark.parametrize(("sizes", "cheaper"), [([9, 5, 2], "reverse"), ([2, 5, 9], "forward"), ([4, 4], "forward")])
def test_auto_takes_the_smaller_side(rng, sizes, cheaper, monkeypatch):
    from deltaprop.derivation import derivatives

    used = []
    for mode in ("forward", "reverse"):
        right = getattr(derivatives, f"{mode}_mode")
        monkeypatch.setattr(
            derivatives, f"{mode}_mode", lambda *args, mode=mode, right=right: used.append(mode) or right(*args)
        )
    dp.Network(sizes, backend="numpy").jacobian(rng.standard_normal((3, sizes[0])))
    assert used == [cheaper]


@pytest.mark.parametrize("sizes", [(5, 3), (784, 30, 10), (3, 40, 41, 42, 2)])
@pytest.mark.parametrize("hidden", ["sigmoid", "silu", "relu"])
def test_forward_and_reverse_mode_are_each_others_transpose(backend, rng, hidden, sizes):
    """vᵀ (J u) = (Jᵀ v)ᵀ u for every sample."""
    net = network(backend, hidden, "categorical_cross_entropy", "softmax", np.float64, sizes)
    X, U, V = draw(rng, np.float64, (33, sizes[0]), (33, sizes[0]), (33, sizes[-1]))
    forward, reverse = (V * net.jvp(X, U)).sum(axis=1), (net.vjp(X, V) * U).sum(axis=1)
    scale = np.linalg.norm(net.vjp(X, V), axis=1) * np.linalg.norm(U, axis=1)
    assert (abs(forward - reverse) <= 1e-12 * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "output"), PAIRS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_hessian_vector_product(backend, rng, hidden, loss, output, dtype):
    net = network(backend, hidden, loss, output, dtype)
    (X,) = draw(rng, dtype, (6, 4))
    Y = targets_for(loss, rng, 6, 3).astype(dtype)
    (v,) = draw(rng, dtype, net.parameters.shape)
    V = dp.Network(net.layer_sizes, backend="numpy")
    V.parameters = v
    options = {"l2": 0.7}
    expected = reference.hessian_vector_product(
        *host(net), net.activations, loss, X.astype(float), Y.astype(float), V.weights, V.biases, **options
    )
    got = net.hvp(X, Y, v, **options)
    assert got.dtype == dtype
    V.parameters = got
    assert relative([*V.weights, *V.biases], [*expected[0], *expected[1]]) < 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("sizes", [(4, 3), (4, 1, 5, 2), (1, 3, 4, 2, 3, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("l2_scaling", ["per_sample", "absolute"])
def test_hessian_vector_product_in_every_convention(backend, rng, l2_scaling, reduction, sizes):
    net = network(backend, "softplus", "binary_cross_entropy", "sigmoid", np.float64, sizes)
    X, v = draw(rng, np.float64, (5, sizes[0]), net.parameters.shape)
    Y = rng.random((5, sizes[-1]))
    V = dp.Network(sizes, backend="numpy")
    V.parameters = v
    options = {"l2": 2.0, "l2_scaling": l2_scaling, "reduction": reduction}
    expected = reference.hessian_vector_product(
        *host(net), net.activations, net.loss, X, Y, V.weights, V.biases, **options
    )
    V.parameters = net.hvp(X, Y, v, **options)
    assert relative([*V.weights, *V.biases], [*expected[0], *expected[1]]) < 1e-12


def test_hessian_is_symmetric_and_linear(backend, rng):
    net = network(backend, "tanh", "categorical_cross_entropy", "softmax", np.float64)
    X, u, v = draw(rng, np.float64, (9, 4), net.parameters.shape, net.parameters.shape)
    Y = np.arange(9) % 3
    Hu, Hv = net.hvp(X, Y, u, l2=1.0), net.hvp(X, Y, v, l2=1.0)
    assert abs(v @ Hu - u @ Hv) < 1e-12 * np.linalg.norm(v) * np.linalg.norm(Hu)
    assert relative(net.hvp(X, Y, 2 * u - 3 * v, l2=1.0), 2 * Hu - 3 * Hv) < 1e-12
    assert not net.hvp(X, Y, np.zeros_like(u)).any()


def test_nothing_is_changed_and_kinds_come_back(quick_backend, rng):
    net = network(quick_backend, "tanh", "squared_error", "identity", np.float64)
    X = quick_backend.asarray(rng.standard_normal((3, 4)), np.float64)
    V = quick_backend.asarray(rng.standard_normal((3, 3)), np.float64)
    v = quick_backend.asarray(rng.standard_normal(net.parameters.shape), np.float64)
    kept = [quick_backend.to_numpy(x).copy() for x in (net.parameters, X, V, v)]
    results = [net.jvp(X, X), net.vjp(X, V), net.jacobian(X), net.hvp(X, V, v)]
    assert all(quick_backend.owns(result) for result in results)
    assert isinstance(net.jvp(quick_backend.to_numpy(X), quick_backend.to_numpy(X)), np.ndarray)
    for before, after in zip(kept, (net.parameters, X, V, v), strict=True):
        assert np.array_equal(before, quick_backend.to_numpy(after))


X3 = np.zeros((3, 4))


@pytest.mark.parametrize(("call", "message"), [
    (lambda net: net.jvp(X3, np.zeros((2, 4))), r"dX: expected shape \(3, 4\), one row for each of X, got shape \(2, 4\)"),
    (lambda net: net.jvp(X3, np.full((3, 4), np.nan)), r"dX: expected finite numbers in float64, got nan at dX\[0, 0\]"),
    (lambda net: net.vjp(X3, np.zeros((3, 4))), r"dY: expected shape \(3, 3\), one row for each of X, got shape \(3, 4\)"),
    (lambda net: net.vjp(np.zeros((3, 5)), X3), r"X: expected 4 features"),
    (lambda net: net.jacobian(X3, mode="sideways"), "mode: expected one of 'auto', 'forward', 'reverse', got 'sideways'"),
    (lambda net: net.hvp(X3, [0, 1, 2], np.zeros(5)), r"v: expected shape \(83,\), one entry a parameter, got shape \(5,\)"),
    (lambda net: net.hvp(X3, [0, 1, 2], np.full(83, np.inf)), r"v: expected finite numbers in float64, got inf at v\[0\]"),
])  # fmt: skip
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(network("numpy", "tanh", "categorical_cross_entropy", "softmax", np.float64))
