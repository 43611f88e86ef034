"""Small layers of a captured step, one launch a formula, equal a per-sample loop in float64 for all shapes."""

from typing import Any

import numpy as np
import pytest
from cases import PAIRS, assert_equal_fits, relative, targets_for
from conftest import real_device_or_skip
from host_cuda import bfloat16

import deltaprop as dp
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.small_layers import LIBRARY
from deltaprop.epochs.resident import ResidentEpoch

TOLERANCE = {"float64": 1e-13, "float32": 2e-6}


@pytest.fixture
def device(capturing_device, monkeypatch):
    """A device on which the kernels for small layers form every formula, and never the resident epoch."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    return capturing_device


@pytest.fixture(params=[0, 1, 2], ids="tiles {}".format)
def tile(request, device, monkeypatch):
    """Choose tiles without timing: the first, second and last of each formula."""
    taken = []

    def choose(ways):
        name = ([way for way in ways if way != LIBRARY] * 3)[request.param]
        taken.append(name)
        return name

    monkeypatch.setattr(device, "fastest_way", choose)
    monkeypatch.setattr(device, "_small_choices", {})
    return taken


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(device, tile, loss, output, dtype, rng):
    X, Y = rng.standard_normal((21, 5)), targets_for(loss, rng, 21, 3)
    options = {"loss": loss, "output_activation": output, "dtype": dtype}
    how = {"optimizer": dp.SGD(0.05), "batch_size": 8, "epochs": 3, "l2": 0.2}
    assert_equal_fits(device, [5, 7, 3], X, Y, options, **how)
    assert "4x32" in tile  # the output layer's
    assert LIBRARY not in tile


@pytest.mark.parametrize("sizes", [(150, 9, 33, 40), (20, 130, 33), (12, 1), (8, 31, 32), (260, 8, 1)])
@pytest.mark.parametrize("optimizer", [dp.SGD(0.1), dp.Adam(0.01)], ids=repr)
def test_sizes(device, tile, sizes, optimizer, rng):
    """Sizes just over and under the tiles, wide and single outputs, sample weights, several row tiles."""
    X, Y = rng.standard_normal((41, sizes[0])), rng.uniform(size=(41, sizes[-1]))
    how = {"sample_weight": rng.uniform(0.5, 2, 41), "optimizer": optimizer, "batch_size": 19, "epochs": 2, "l2": 0.1}
    options = {"hidden_activation": "tanh", "loss": "squared_error"}
    assert_equal_fits(device, list(sizes), X, Y, options, **how)
    assert LIBRARY not in tile


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "softplus", "silu", "gelu"])
def test_activations(device, tile, activation, rng):
    X, Y = rng.standard_normal((30, 6)), rng.uniform(size=(30, 2))
    how = {"optimizer": dp.SGD(0.1), "batch_size": 16, "epochs": 2}
    assert_equal_fits(device, [6, 10, 12, 2], X, Y, {"hidden_activation": activation}, **how)


def of_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(float)


@pytest.mark.parametrize("storage", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 13, 70])
@pytest.mark.parametrize(("inputs", "units"), [(5, 3), (260, 7), (132, 36)])
def test_formulas(device, tile, storage, rows, inputs, units, rng):
    """Forward, δ of the layer below, and the weight gradient equal their formulas."""
    real = np.dtype("float64" if storage == "float64" else "float32")
    narrow = storage == "bfloat16"

    def held(x, dtype):
        on_device = bfloat16(x.astype(np.float32)) if dtype == np.uint16 else x.astype(dtype)
        return device.asarray(on_device, on_device.dtype), of_bfloat16(on_device) if dtype == np.uint16 else on_device

    def read(x):
        x = device.to_numpy(x)
        return of_bfloat16(x) if x.dtype == np.uint16 else x

    error = 2.0**-8 if narrow else TOLERANCE[storage]
    stored = np.dtype(np.uint16) if narrow else real
    W, W_true = held(rng.standard_normal((units, inputs)), real)
    b, b_true = held(rng.standard_normal(units), real)
    z, z_true = held(rng.standard_normal((rows, inputs)), stored)
    A, A_true = held(rng.standard_normal((rows, inputs)), stored)
    Z, out = device.empty((rows, units), stored), device.empty((rows, units), stored)
    with device.small_layers():
        device.affine_activation(A, W, b, "tanh", Z, out)
    expected = A_true @ W_true.T + b_true
    assert relative(read(Z), expected) < error
    assert relative(read(out), np.tanh(expected)) < 2 * error

    delta, delta_true = held(rng.standard_normal((rows, units)), stored)
    back, sums = device.empty((rows, inputs), stored), device.asarray(np.ones(inputs), real)
    below, of_below = held(np.ones((rows, 5)), stored)[0], device.empty((inputs, 5), real)
    for keep in (0.0, 0.5):
        before = device.to_numpy(sums).copy()
        with device.small_layers():
            device.hidden_delta(delta, W, "tanh", z, back, sums, keep=keep)
            device.weight_gradient(back, below, of_below)  # it adds up the bias gradient too
        expected = delta_true @ W_true * (1 - np.tanh(z_true) ** 2)
        assert relative(read(back), expected) < 2 * error
        # the sum of δ as it is stored
        sum_error = error if narrow else TOLERANCE[real.name] * 10
        assert relative(device.to_numpy(sums), expected.sum(axis=0) + keep * before) < sum_error

    gradient = device.asarray(np.ones((units, inputs)), real)
    for factor in (None, 0.25):
        before = device.to_numpy(gradient).copy()
        with device.small_layers():
            device.weight_gradient(delta, A, gradient, keep=factor)
        expected = delta_true.T @ A_true + (factor or 0.0) * before
        assert relative(device.to_numpy(gradient), expected) < TOLERANCE[real.name] * 10
    assert LIBRARY not in tile


def tf32(x):
    """Return x rounded to ten bits after the point, ties away from zero."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    scaled = mantissa * 2**11
    return np.ldexp(np.trunc(scaled + np.copysign(0.5, scaled)), exponent - 11)


def rounded(x, precision):
    """Return x rounded as the operands of a product in `precision` are."""
    return tf32(x) if precision == "tf32" else of_bfloat16(bfloat16(x.astype(np.float32)))


@pytest.mark.parametrize("number", [0, 1], ids="tensor tile {}".format)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize(("inputs", "units"), [(5, 3), (260, 37), (1096, 12), (132, 36)])
def test_formulas_by_tensor_cores(device, monkeypatch, precision, number, rows, inputs, units, rng):
    """z, δ, the weight gradient and its sums equal products of rounded operands, to the accuracy of float."""
    backend = device.in_precision(precision)
    monkeypatch.setattr(backend, "_small_choices", {})
    taken = []

    def choose(ways):
        names = [way for way in ways if way.startswith("tensor")]
        taken.append(names[min(number, len(names) - 1)])
        return taken[-1]

    monkeypatch.setattr(backend, "fastest_way", choose)
    narrow = precision == "bf16"
    stored = np.dtype(np.uint16 if narrow else np.float32)
    error = 2.0**-8 if narrow else 2e-6

    def upload(x, dtype):
        held = bfloat16(x.astype(np.float32)) if dtype == np.uint16 else x.astype(np.float32)
        return backend.asarray(held, held.dtype), of_bfloat16(held) if dtype == np.uint16 else held.astype(float)

    def read(x):
        x = backend.to_numpy(x)
        return of_bfloat16(x) if x.dtype == np.uint16 else x

    W, W_true = upload(rng.standard_normal((units, inputs)), np.float32)
    b, b_true = upload(rng.standard_normal(units), np.float32)
    z, z_true = upload(rng.standard_normal((rows, inputs)), stored)
    A, A_true = upload(rng.standard_normal((rows, inputs)), stored)
    Z, out = backend.empty((rows, units), stored), backend.empty((rows, units), stored)
    if units > 32:  # else it may be the output layer, which has a kernel of its own
        with backend.small_layers():
            backend.affine_activation(A, W, b, "tanh", Z, out)
        expected = rounded(A_true, precision) @ rounded(W_true, precision).T + b_true
        assert relative(read(Z), expected) < error
        assert relative(read(out), np.tanh(expected)) < 2 * error
    delta, delta_true = upload(rng.standard_normal((rows, units)), stored)
    back = backend.empty((rows, inputs), stored)
    with backend.small_layers():
        backend.hidden_delta(delta, W, "tanh", z, back, backend.empty((inputs,), np.float32))
    product = rounded(delta_true, precision) @ rounded(W_true, precision)
    assert relative(read(back), product * (1 - np.tanh(z_true) ** 2)) < 2 * error
    gradient = backend.asarray(np.ones((units, inputs)), np.float32)
    for keep, kept in ((None, 0.0), (0.25, 0.25)):
        before = backend.to_numpy(gradient).copy()
        with backend.small_layers():
            backend.weight_gradient(delta, A, gradient, keep=keep)
        expected = rounded(delta_true, precision).T @ rounded(A_true, precision) + kept * before
        assert relative(backend.to_numpy(gradient), expected) < 2e-5
    assert taken
    assert all(name.startswith("tensor") for name in taken)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_fit_by_tensor_cores(device, monkeypatch, precision, rng):
    """Weights and biases are as in float64, up to the rounding of operands."""
    backend = device.in_precision(precision)
    monkeypatch.setattr(backend, "_small_choices", {})
    taken = set()

    def choose(ways):
        name = next((way for way in ways if way.startswith("tensor")), next(iter(ways)))
        taken.add(name)
        return name

    monkeypatch.setattr(backend, "fastest_way", choose)
    X, Y = rng.standard_normal((60, 21)), rng.uniform(size=(60, 3))
    fits = []
    for on in (backend, "reference"):
        options: dict[str, Any] = {"hidden_activation": "tanh", "loss": "squared_error", "dtype": "float32", "seed": 5}
        net = dp.Network([21, 40, 35, 3], backend=on, **options)
        net.fit(X, Y, batch_size=20, epochs=2, optimizer=dp.SGD(0.1))
        fits.append(np.concatenate([np.ravel(net.backend.to_numpy(p)) for p in (*net.weights, *net.biases)]))
    assert relative(*fits) < {"tf32": 2e-4, "bf16": 4e-3}[precision]
    assert {"tensor_32x16", "tensor_16x32", "tensor_32x32"} <= taken


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_cost_is_added_up_at_the_limit_of_small(device, monkeypatch, precision, rng):
    """The weight gradient adds it up, so it must be ours if the output layer is; rows of δ may be filled up."""
    monkeypatch.setattr("deltaprop.backends.cuda.small_layers.MOST_MULTIPLICATIONS", 20 * 40)
    backend = device.in_precision(precision)
    monkeypatch.setattr(backend, "_small_choices", {})
    monkeypatch.setattr(backend, "fastest_way", lambda ways: next(way for way in ways if way != LIBRARY))
    X, Y = rng.standard_normal((60, 40)), rng.uniform(size=(60, 1))
    costs = []
    for on in (backend, "reference"):
        net = dp.Network([40, 1], loss="squared_error", dtype="float32", seed=2, backend=on)
        costs.append(net.fit(X, Y, batch_size=20, epochs=2, optimizer=dp.SGD(0.01)).cost)
    assert relative(*map(np.array, costs)) < {"fp32": 1e-5, "bf16": 1e-2}[precision]


def test_a_mask_and_the_same_bits_again(device, tile, rng):
    rows, inputs, units = 37, 131, 6
    arrays = [
        device.asarray(rng.standard_normal(shape), np.float64)
        for shape in ((rows, units), (units, inputs), (rows, inputs))
    ]
    mask = device.asarray(rng.integers(0, 2, (rows, inputs)) * 2.0, np.float64)
    results = []
    for _ in range(2):
        out, sums = device.empty((rows, inputs), np.float64), device.empty((inputs,), np.float64)
        with device.small_layers():
            device.hidden_delta(arrays[0], arrays[1], "sigmoid", arrays[2], out, sums, mask)
            device.weight_gradient(out, arrays[0], out=device.empty((inputs, units), np.float64))
        results.append((device.to_numpy(out).copy(), device.to_numpy(sums).copy()))
    delta, W, z = map(device.to_numpy, arrays)
    g = 1 / (1 + np.exp(-z))
    expected = delta @ W * g * (1 - g) * device.to_numpy(mask)
    assert relative(results[0][0], expected) < 1e-13
    assert relative(results[0][1], expected.sum(axis=0)) < 1e-13
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_layer_that_is_held_back_is_there_after_the_step(device, rng):
    """The layer is narrow, and no δ of an output follows it."""
    A, W, b = (rng.standard_normal(shape) for shape in ((6, 4), (3, 4), (3,)))
    Z, out = device.empty((6, 3), np.float64), device.empty((6, 3), np.float64)
    with device.small_layers():
        device.affine_activation(*(device.asarray(x, np.float64) for x in (A, W, b)), "softmax", Z, out)
    e = np.exp(A @ W.T + b)
    assert relative(device.to_numpy(out), e / e.sum(axis=1, keepdims=True)) < 1e-13


def test_without_timing_the_library_is_taken(monkeypatch):
    monkeypatch.setenv("DELTAPROP_TUNE", "0")
    ways = {LIBRARY: None, "8": None}  # never called
    way: Any = CupyBackend.fastest_way
    assert way(None, ways) == LIBRARY


@pytest.mark.gpu
def test_the_clock_chooses(monkeypatch, rng):
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    backend = real_device_or_skip("clock")
    monkeypatch.setattr(backend, "_small_choices", {})
    X, y = rng.standard_normal((256, 40)), rng.integers(0, 5, 256)
    net = dp.Network([40, 30, 5], loss="categorical_cross_entropy", dtype="float32", backend=backend)
    net.fit(X, y, batch_size=32, epochs=2)
    assert {key[0] for key in backend._small_choices} == {"forward", "delta", "gradient", "output"}
