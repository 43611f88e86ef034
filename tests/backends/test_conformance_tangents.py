"""Derivatives along a direction equal the complex step, which has no cancellation, on every backend."""

import numpy as np
import pytest
import reference
from cases import DTYPES, HIDDEN, PAIRS, ROWS, TOLERANCE, check, put, targets_for


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("moves", [("dA",), ("dW", "db"), ("dA", "dW", "db")])
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("members", [None, 3])
def test_affine_tangent(backend, rng, m, members, moves, dtype):
    lead = () if members is None else (members,)
    shapes = {"A": (m, 5), "dA": (m, 5), "W": (33, 5), "dW": (33, 5), "db": (33,)}
    x = {name: rng.standard_normal((*lead, *shape)).astype(dtype) for name, shape in shapes.items()}
    given = {name: backend.asarray(x[name], dtype) if name[0] != "d" or name in moves else None for name in shapes}
    out = backend.empty((*lead, m, 33), dtype)
    backend.affine_tangent(**given, out=out)
    zero = {name: x[name].astype(float) * (name in moves) for name in ("dA", "dW", "db")}
    expected = np.einsum("...mi,...oi->...mo", zero["dA"], x["W"].astype(float)) + zero["db"][..., None, :]
    check(backend, out, expected + np.einsum("...mi,...oi->...mo", x["A"].astype(float), zero["dW"]), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "exp", "softmax"])
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("members", [None, 3])
def test_activation_tangent(backend, rng, activation, m, members, dtype):
    """It equals the complex step through g; as the Jacobian is symmetric, this tests both modes."""
    lead = () if members is None else (members,)
    z, t = (rng.standard_normal((*lead, m, 35)).astype(dtype) for _ in range(2))
    g = reference.ACTIVATIONS[activation][0]
    a = np.apply_along_axis(g, -1, z.astype(float))
    rows = [reference.along(g, [zi], [ti]) for zi, ti in zip(z.reshape(-1, 35), t.reshape(-1, 35), strict=True)]
    expected = np.reshape(rows, z.shape)
    Z, A, tangent = put(backend, dtype, z, a, t)
    out = backend.empty(z.shape, dtype)
    backend.activation_tangent(activation, Z, A, tangent, out=out)
    check(backend, out, expected, dtype)
    backend.activation_tangent(activation, Z, A, tangent, out=tangent)
    check(backend, tangent, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_output_delta_tangent(backend, rng, loss, activation, m, dtype):
    columns = 35
    z, dz = (rng.standard_normal((m, columns)).astype(dtype) for _ in range(2))
    y = targets_for(loss, rng, m, columns).astype(dtype)
    g = reference.ACTIVATIONS[activation][0]
    a = np.apply_along_axis(g, 1, z.astype(float))
    da = [reference.along(g, [zi.astype(float)], [ti]) for zi, ti in zip(z, dz, strict=True)]
    expected = [
        reference.along(lambda z, y=y_: reference.output_delta(loss, activation, z, g(z), y), [z_.astype(float)], [t])
        for z_, y_, t in zip(z, y, dz, strict=True)
    ]
    out = backend.empty((m, columns), dtype)
    backend.output_delta_tangent(loss, activation, *put(backend, dtype, z, a, y, dz, da), 0.25, out=out)
    check(backend, out, 0.25 * np.array(expected), dtype)
    weight = rng.uniform(0, 3, m).astype(dtype)
    arrays = put(backend, dtype, z, a, y, dz, da, weight)
    backend.output_delta_tangent(loss, activation, *arrays[:5], 0.25, out=out, sample_weight=arrays[5])
    check(backend, out, 0.25 * weight[:, None] * np.array(expected), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "exp"])
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("members", [None, 2])
def test_hidden_delta_tangent(backend, rng, activation, m, members, dtype):
    lead = () if members is None else (members,)
    shapes = ((m, 4), (m, 4), (4, 34), (4, 34), (m, 34), (m, 34))
    arrays = [rng.standard_normal((*lead, *shape)).astype(dtype) for shape in shapes]
    delta, d_delta, W, dW, z, dz = (x.astype(float) for x in arrays)
    slope = reference.ACTIVATIONS[activation][1]
    expected = reference.along(lambda delta, W, z: (delta @ W) * slope(z), [delta, W, z], [d_delta, dW, dz])
    on_backend, out = put(backend, dtype, *arrays), backend.empty(z.shape, dtype)
    backend.hidden_delta_tangent(*on_backend[:4], activation, *on_backend[4:], out=out)
    check(backend, out, expected, dtype)
    backend.input_gradient(on_backend[0], on_backend[2], out=out)
    check(backend, out, delta @ W, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("members", [None, 2])
def test_weight_gradient_tangent(backend, rng, m, members, dtype):
    lead = () if members is None else (members,)
    arrays = [rng.standard_normal((*lead, m, size)).astype(dtype) for size in (33, 33, 6, 6)]
    delta, d_delta, A, dA = (x.astype(float) for x in arrays)
    on_backend, out = put(backend, dtype, *arrays), backend.empty((*lead, 33, 6), dtype)
    tolerance = TOLERANCE[dtype]["rtol"] * max(1, m / 10)
    for moves in (True, False):
        backend.weight_gradient_tangent(*on_backend[:3], on_backend[3] if moves else None, out=out)
        expected = np.einsum("...mo,...mi->...oi", d_delta, A) + moves * np.einsum("...mo,...mi->...oi", delta, dA)
        assert np.allclose(backend.to_numpy(out), expected, rtol=tolerance, atol=tolerance)
