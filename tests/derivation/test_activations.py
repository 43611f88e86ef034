"""sigmoid and sigmoid_grad equal mpmath; every activation of every backend equals the reference."""

import warnings

import mpmath
import numpy as np
import pytest
import reference
from cases import HIDDEN
from conftest import real_device_or_skip

import deltaprop as dp

mpmath.mp.dps = 60
SMALLEST = {np.float32: 2.0**-149, np.float64: 2.0**-1074}


def true_sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def true_sigmoid_grad(x):
    e = mpmath.exp(-abs(x))
    return e / (1 + e) ** 2


def ulps(got, true, dtype):
    """|got − true| in units in the last place that the true value has in `dtype`."""
    true = mpmath.mpf(true)
    _, exponent = mpmath.frexp(true)
    bits = 24 if dtype is np.float32 else 53
    unit = max(mpmath.ldexp(1, int(exponent) - bits), mpmath.mpf(SMALLEST[dtype]))
    return abs(mpmath.mpf(float(got)) - true) / unit


def sample(dtype, rng):
    """Return points of every kind: moderate, far out, with subnormal results, next to 0, and at the edges."""
    tail = -104.0 if dtype is np.float32 else -746.0
    points = [
        rng.uniform(-10, 10, 2000),
        rng.uniform(-40, 40, 1500),
        rng.uniform(tail, 0, 1500),
        rng.uniform(tail, tail * 0.83, 1500),
        rng.choice([-1, 1], 300) * 10.0 ** rng.uniform(-40, 0, 300),
        [-0.0, 0.0, 1.0, -1.0, -87.0, -88.8, 88.8, -708.0, -709.9, 709.9, 5e-324, 1e300, -1e300],
    ]
    with np.errstate(over="ignore"):
        x = np.concatenate(points).astype(dtype)
    return x[np.isfinite(x)]


@pytest.mark.parametrize(
    ("name", "true", "bounds"),
    [("activation", true_sigmoid, {np.float64: 2, np.float32: 4}),
     ("activation_gradient", true_sigmoid_grad, {np.float64: 4, np.float32: 6})],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sigmoid_is_accurate_over_the_whole_range(backend, rng, dtype, name, true, bounds):
    x = sample(dtype, rng)
    out = backend.empty(x.shape, dtype)
    with np.errstate(under="ignore"):
        getattr(backend, name)("sigmoid", backend.asarray(x, dtype), out)
    got = backend.to_numpy(out)
    worst = max(ulps(g, true(mpmath.mpf(float(z))), dtype) for g, z in zip(got, x, strict=True))
    assert worst <= bounds[dtype]
    public = {"activation": dp.sigmoid, "activation_gradient": dp.sigmoid_grad}[name]
    assert backend.name != "numpy" or np.array_equal(public(x), got)


@pytest.mark.parametrize(("function", "bound"), [(dp.sigmoid, 4), (dp.sigmoid_grad, 6)])
def test_float32_over_a_comb_of_all_bit_patterns(function, bound):
    """Every 1009th float32 is compared with float64, which is right to many more digits."""
    x = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    e = np.exp(-np.abs(x.astype(np.float64)))
    true = np.where(x < 0, e, 1.0) / (1 + e) if function is dp.sigmoid else e / (1 + e) ** 2
    _, exponent = np.frexp(true)
    unit = np.maximum(np.ldexp(1.0, exponent - 24), 2.0**-149)
    assert (np.abs(function(x) - true) / unit).max() <= bound


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_special_values_and_no_warning(quick_backend, dtype):
    highest = float(np.finfo(dtype).max)
    values = quick_backend.asarray([np.nan, np.inf, -np.inf, 0.0, -0.0, highest, -highest], dtype)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        s = quick_backend.to_numpy(dp.sigmoid(values))
        g = quick_backend.to_numpy(dp.sigmoid_grad(values))
    assert np.isnan(s[0])
    assert np.isnan(g[0])
    assert s[1:].tolist() == [1.0, 0.0, 0.5, 0.5, 1.0, 0.0]
    assert g[1:].tolist() == [0.0, 0.0, 0.25, 0.25, 0.0, 0.0]


def test_nan_beside_the_tail_stays_nan():
    s = dp.sigmoid(np.array([np.nan, -745.0, 3.0]))
    assert np.isnan(s[0])
    assert s[1] == 5e-324
    assert np.isnan(dp.sigmoid(np.full(3, np.nan))).all()


def test_sigmoid_grad_does_not_vanish_where_sigmoid_rounds_to_one():
    assert dp.sigmoid(40.0) == 1.0
    assert float(dp.sigmoid_grad(40.0)) == pytest.approx(4.248354255291589e-18, rel=1e-15)


def test_the_course_table_of_sigmoid_gradients():
    got = dp.sigmoid_grad([-1, -0.5, 0, 0.5, 1])
    assert np.round(np.asarray(got), 6).tolist() == [0.196612, 0.235004, 0.25, 0.235004, 0.196612]


def test_shapes_kinds_and_out(quick_backend, rng):
    x = quick_backend.asarray(rng.standard_normal((40, 30)), np.float32)
    expected = quick_backend.to_numpy(dp.sigmoid(x))
    for view in (x.T, x[::2, ::3], x[:0], x[0, 0:1].reshape(())):
        got = dp.sigmoid(view)
        assert quick_backend.owns(got)
        assert got.shape == view.shape
        assert got.dtype == np.float32
    assert np.array_equal(quick_backend.to_numpy(dp.sigmoid(x.T)), expected.T)
    out = quick_backend.empty((30, 40), np.float32).T
    assert dp.sigmoid(x, out=out) is out
    assert np.array_equal(quick_backend.to_numpy(out), expected)
    assert dp.sigmoid(x, out=x) is x
    assert np.array_equal(quick_backend.to_numpy(x), expected)


def test_overlapping_out_is_written_after_all_has_been_read():
    buffer = np.linspace(-3, 3, 100_001)
    expected = dp.sigmoid(buffer[:-1].copy())
    dp.sigmoid(buffer[:-1], out=buffer[1:])
    assert np.array_equal(buffer[1:], expected)


@pytest.mark.parametrize("function", [dp.sigmoid, dp.sigmoid_grad])
def test_wrong_arguments_are_named(function):
    with pytest.raises(TypeError, match=r"float32, float64, got complex128"):
        function(np.zeros(2, complex))
    with pytest.raises(TypeError, match=r"got float16"):
        function(np.zeros(2, np.float16))
    with pytest.raises(TypeError, match=r"out: expected dtype float64 as x has, got float32"):
        function(np.zeros(2), out=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"out: expected shape \(2,\) as x has, got \(3,\)"):
        function(np.zeros(2), out=np.zeros(3))
    with pytest.raises(TypeError, match=r"out: expected an array of the kind of x \(numpy\), got list"):
        function(np.zeros(2), out=[0.0, 0.0])


@pytest.mark.gpu
def test_float16_on_the_gpu():
    device = real_device_or_skip("float16")
    x = np.linspace(-20, 20, 2001).astype(np.float16)
    got = device.to_numpy(dp.sigmoid(device.asarray(x, np.float16)))
    assert np.array_equal(got, (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*HIDDEN, "exp"])
def test_every_activation_and_derivative(backend, rng, name, dtype):
    """Sizes are below, at and past one block of the blockwise loops and one pass of the grid."""
    value, gradient = reference.ACTIVATIONS[name]
    for size in (0, 1, 31, 33, 257, 16384, 16391) if backend.name == "numpy" else (0, 1, 31, 33, 257, 4099):
        z = rng.uniform(-8, 8, size).astype(dtype)
        out = backend.empty((size,), dtype)
        tolerance = 1e-13 if dtype is np.float64 else 2e-5
        for operation, expected in ((backend.activation, value), (backend.activation_gradient, gradient)):
            operation(name, backend.asarray(z, dtype), out)
            true = expected(z.astype(np.float64)) if size else z
            assert np.allclose(backend.to_numpy(out), true, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "z", "true"), [
    ("tanh", 30.0, 4 * mpmath.exp(-60)),
    ("softplus", -200.0, mpmath.log1p(mpmath.exp(-200))),
    ("silu", -100.0, None),
    ("gelu", -9.0, None),
])  # fmt: skip
def test_tails(backend, name, z, true):
    """Values and slopes far out keep their relative accuracy."""
    x, out = backend.asarray([z], np.float64), backend.empty((1,), np.float64)
    if name == "tanh":
        backend.activation_gradient(name, x, out)
    else:
        backend.activation(name, x, out)
    if name == "silu":
        true = z / (1 + mpmath.exp(-z))
    if name == "gelu":
        true = mpmath.mpf(z) * mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2
    assert float(backend.to_numpy(out)[0]) == pytest.approx(float(true), rel=1e-13)


def curvature(backend, name, z, dtype):
    """g″(z) by hidden_delta_tangent with Wᵀ δ = 1, its derivative 0 and dz = 1, as it has no operation of its own."""
    one, zero = backend.asarray([[1.0]], dtype), backend.asarray([[0.0]], dtype)
    Z = backend.asarray(np.reshape(z, (1, -1)), dtype)
    W, dW = (backend.asarray(np.full((1, Z.shape[1]), value), dtype) for value in (1.0, 0.0))
    dZ, out = backend.asarray(np.ones(Z.shape), dtype), backend.empty(Z.shape, dtype)
    backend.hidden_delta_tangent(one, zero, W, dW, name, Z, dZ, out=out)
    return backend.to_numpy(out)[0]


def normal_density(z):
    return mpmath.exp(-(z**2) / 2) / mpmath.sqrt(2 * mpmath.pi)


#: g′ as books print it, for mpmath to differentiate.
TRUE_GRADIENT = {
    "sigmoid": true_sigmoid_grad,
    "tanh": lambda z: mpmath.sech(z) ** 2,
    "softplus": true_sigmoid,
    "silu": lambda z: true_sigmoid(z) + z * true_sigmoid_grad(z),
    "gelu": lambda z: mpmath.ncdf(z) + z * normal_density(z),
    "exp": mpmath.exp,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", TRUE_GRADIENT)
def test_second_derivatives(backend, name, dtype):
    """g″ is right relative to its own size far out and next to 0, where textbook forms cancel."""
    points = [-30.0, -9.0, -2.5, -1.0, -1e-3, -1e-9, 1e-9, 1e-3, 0.3, 1.0, 4.0, 12.0, 30.0]
    z = np.array(points, dtype)
    with np.errstate(under="ignore"):
        got = curvature(backend, name, z, dtype)
    tolerance = 1e-13 if dtype is np.float64 else 3e-5
    for zi, gi in zip(z, got, strict=True):
        x = mpmath.mpf(float(zi))
        with mpmath.workdps(400):  # far out, gelu's g′ differs from 1 in its 190th digit
            true = mpmath.diff(TRUE_GRADIENT[name], x, h=mpmath.mpf(10) ** -60)
        floor = float(mpmath.mpf(2) ** -140) if dtype is np.float32 else 1e-300
        assert float(gi) == pytest.approx(float(true), rel=tolerance, abs=floor), (float(zi), float(true))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "identity"])
def test_straight_pieces_have_no_second_derivative(backend, rng, name):
    assert not curvature(backend, name, rng.standard_normal(50), np.float64).any()


def test_second_derivatives_of_huge_arguments_are_zero(backend):
    for name in ("sigmoid", "tanh", "softplus", "silu", "gelu"):
        with np.errstate(under="ignore", over="ignore"):
            assert curvature(backend, name, np.array([-1e300, 1e300]), np.float64).tolist() == [0.0, 0.0], name
