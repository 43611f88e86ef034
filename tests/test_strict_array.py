"""Arrays of the emulated device refuse and do what CuPy's do, by the rules that CuPy 14 documents."""

import copy
import pickle
from functools import reduce

import numpy as np
import pytest
from conftest import backend_or_skip, require
from host_cuda import kernel
from strict_array import DEVICES, SHARED, StrictArray, asarray, asnumpy, empty, functions


@pytest.fixture
def host(rng):
    return rng.standard_normal((3, 4))


@pytest.fixture
def x(host):
    return asarray(host)


IMPLICIT = {
    "asarray": np.asarray,
    "a dtype": lambda x: np.asarray(x, np.float32),
    "a list of them": lambda x: np.array([x, x]),
    "assignment to the host": lambda x: np.zeros((3, 4)).__setitem__(..., x),
    "assert_allclose": lambda x: np.testing.assert_allclose(x, x.get()),
    "assert_array_equal": lambda x: np.testing.assert_array_equal(x, x),
    "a number of several": float,
    "an index": lambda x: [1, 2][x[0, 0].astype(np.int64)],
    "apply_along_axis": lambda x: np.apply_along_axis(np.sum, 0, x),
    "a reduction of a ufunc": np.add.reduce,
    "a ufunc that CuPy lacks": np.spacing,
}


@pytest.mark.parametrize("how", IMPLICIT.values(), ids=list(IMPLICIT))
def test_it_is_not_converted_unasked(x, how):
    with pytest.raises(TypeError):
        how(x)


MIXED = {
    "+": lambda x, a: x + a,
    "+ of the host": lambda x, a: a + x,
    "in place": lambda x, a: x.__iadd__(a),
    "in place on the host": lambda x, a: a.__iadd__(x),
    "@": lambda x, a: x @ a.T,
    "@ of the host": lambda x, a: a.T @ x,
    "<": lambda x, a: x < a,
    "==": lambda x, a: x == a,
    "a ufunc": np.maximum,
    "out": lambda x, a: np.exp(x, out=a),
    "out on the device": lambda x, a: np.exp(a, out=x),
    "a function": np.allclose,
    "concatenate": lambda x, a: np.concatenate([x, a]),
    "where": lambda x, a: np.where(x > 0, x, a),
    "a method": lambda x, a: x.dot(a.T),
    "a function of the module": lambda x, a: functions()["logaddexp"](x, a),
}


@pytest.mark.parametrize("how", MIXED.values(), ids=list(MIXED))
def test_it_does_not_mix_with_arrays_of_the_host(x, host, how):
    before = host.copy()
    with pytest.raises(TypeError):
        how(x, host)
    assert np.array_equal(x.get(), before)
    assert np.array_equal(host, before)


def test_items_are_assigned_from_the_device_or_from_one_number(x, host):
    with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for fill"):
        x[...] = host
    with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for fill"):
        x[0] = host[0]
    with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for fill"):
        x.fill(host)
    with pytest.raises(TypeError):
        x[0] = [1.0, 2.0, 3.0, 4.0]
    x[0] = asarray(host[1])
    x[1, 2] = np.array(7.0)
    x[2] = np.float64(8.0)
    x[[0, 1], [0, 0]] = np.array([5.0, 6.0])  # CuPy copies when the index is an array
    assert x.tolist() == [[5.0, *host[1, 1:]], [6.0, host[1, 1], 7.0, host[1, 3]], [8.0] * 4]


def test_what_is_copied_between_host_and_device_is_asked_for(x, host):
    got = x.get()
    assert type(got) is np.ndarray
    got[...] = 0.0
    assert np.array_equal(asnumpy(x), host)
    x.set(2 * host)
    assert np.array_equal(x.get(), 2 * host)
    for wrong, error in ((host.astype(np.float32), TypeError), (host[:2], ValueError), (x, TypeError)):
        with pytest.raises(error):
            x.set(wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, ::2].set(host[:, ::2])
    assert asarray(x) is x
    assert asarray(x, np.float32).dtype == np.float32


def test_numbers_are_arrays_of_no_axis(x, host):
    for number, expected in (
        (x.sum(), host.sum()),
        (x[1, 2], host[1, 2]),
        (x.max(), host.max()),
        (x[0] @ x[0], host[0] @ host[0]),
    ):
        assert type(number) is StrictArray
        assert number.shape == ()
        assert float(number) == number.item() == expected
        assert f"{number:.3f}" == f"{expected:.3f}"
    assert all(type(row) is StrictArray for row in x)
    assert bool((x == x).all())
    with pytest.raises(TypeError, match="0-d"):
        iter(x.sum())


def test_views_share_their_memory(x, host):
    x.reshape(2, 6)[0] = 1.0
    x.T[3] = 2.0
    x[1, 3].fill(3.0)
    host.reshape(2, 6)[0] = 1.0
    host.T[3] = 2.0
    host[1, 3] = 3.0
    assert np.array_equal(x.get(), host)
    assert x[1:].data.ptr == x.data.ptr + 32
    assert not x.T.flags.c_contiguous
    for copied in (x.copy(), copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.astype(np.float64)):
        copied.fill(0.0)
    assert np.array_equal(x.get(), host)


def test_arithmetic_is_numpys(x, host):
    for got, expected in (
        (1.0 - x / 2 + np.float64(3) * x**2, 1.0 - host / 2 + 3 * host**2),
        (np.exp(-abs(x)), np.exp(-abs(host))),
        (np.concatenate([x, x], axis=1).sum(axis=0), np.concatenate([host, host], axis=1).sum(axis=0)),
        (x @ x.T, host @ host.T),
        (x[x > 0], host[host > 0]),
        (x[np.array([2, 0])], host[[2, 0]]),
    ):
        assert type(got) is StrictArray
        assert np.array_equal(got.get(), expected)
    same = x
    x *= 2.0
    assert x is same
    assert np.array_equal(x.get(), 2 * host)
    with pytest.raises(TypeError, match="same_kind"):
        asarray(np.arange(3)).__iadd__(0.5)


def test_what_is_not_written_to_is_no_number():
    assert np.isnan(empty((2, 3), np.float32).get()).all()
    assert empty((3,), np.int64).get().any()


def test_arrays_of_another_device_are_refused(x):
    with DEVICES.device(1):
        other = asarray(np.ones((3, 4)))
        assert x.get().shape == (3, 4)
        assert x.copy().device.id == asarray(x).device.id == 1
        for refused in (lambda: x + other, lambda: x * 2, lambda: x.sum(), lambda: other.__setitem__(..., x)):
            with pytest.raises(ValueError, match="array device = 0 while current = 1"):
                refused()
    assert x[0].device.id == 0


def test_kernels_take_device_arrays_and_numbers_of_their_size(x):
    device = backend_or_skip("cuda-on-host")
    launch = kernel("activation", "activation_tanh", "float64")
    out = device.empty(x.shape, np.float64)
    launch((1,), (32,), (x, out, np.int64(12)))
    assert np.allclose(out.get(), np.tanh(x.get()), rtol=1e-15)
    for argument in (x.get(), [0.0], 3.0, None):
        with pytest.raises(TypeError, match=r"argument 0 is a .*, which is not on the device"):
            launch((1,), (32,), (argument, out, np.int64(12)))
    for arguments in ((x, out, np.int32(12)), (x, out, np.float64(12)), (x, out)):
        with pytest.raises(AssertionError):
            launch((1,), (32,), arguments)
    with DEVICES.device(1), pytest.raises(ValueError, match="array device = 0 while current = 1"):
        launch((1,), (32,), (x, out, np.int64(12)))


def test_it_shares_no_more_names_with_numpy_than_cupy_does():
    cupy = require("cupy")
    for name in SHARED:
        assert callable(reduce(getattr, name.split("."), cupy)), name
    missing = [name for name in dir(StrictArray) if not name.startswith("_") and not hasattr(cupy.ndarray, name)]
    assert not missing
