"""Rows of 16-bit operands begin at multiples of 16 bytes, and the padding changes no result."""

import numpy as np
import pytest
import reference
from cases import relative
from conftest import backend_or_skip
from host_cuda import bfloat16, operand
from strict_array import StrictArray, memory

import deltaprop as dp
from deltaprop.backends.cuda.launching import NULL
from deltaprop.backends.cuda.small_layers import LIBRARY
from deltaprop.epochs.resident import ResidentEpoch

#: Guard entries beside each array of `guarded`.
BESIDE = 256
#: The bits of a NaN in bfloat16.
NO_NUMBER = 0x7FC1


@pytest.fixture
def device(monkeypatch):
    """The emulated device, on which the smallest network is trained layer by layer."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    backend = backend_or_skip("cuda-on-host")
    backend._small_choices.clear()  # its variants of other precisions share them
    yield backend
    backend._small_choices.clear()


@pytest.fixture
def guarded(device, monkeypatch):
    """Make buffers full of NaN, with NaN beside them; at the end the entries beside them must be unchanged."""
    buffers = []

    def nothing(dtype):
        dtype = np.dtype(dtype)
        return np.nan if dtype.kind == "f" else NO_NUMBER if dtype == np.uint16 else 77

    def allocate(fill):
        def make(self, shape, dtype):
            size = int(np.prod(shape))
            whole = np.full(size + 2 * BESIDE, nothing(dtype), dtype)
            buffers.append((whole, size))
            own = whole[BESIDE : BESIDE + size]
            own[...] = nothing(dtype) if fill is None else fill
            return StrictArray(own.reshape(shape))

        return make

    monkeypatch.setattr(type(device), "empty", allocate(None))
    monkeypatch.setattr(type(device), "zeros", allocate(0))
    monkeypatch.setattr(device._here, "buffers", {})  # scratch memory
    yield
    for whole, size in buffers:
        beside = np.concatenate([whole[:BESIDE], whole[BESIDE + size :]])
        np.testing.assert_array_equal(beside, np.full(2 * BESIDE, nothing(whole.dtype), whole.dtype))


def place(array):
    """Return the address of an array of the emulated device."""
    return memory(array).ctypes.data


@pytest.fixture
def products(device, monkeypatch):
    """Collect the operands and results of all products."""
    seen, multiply = [], type(device.products).__call__

    def noted(self, A, B, out, **how):
        seen.append((A, B, out, how))
        multiply(self, A, B, out, **how)

    monkeypatch.setattr(type(device.products), "__call__", noted)
    return seen


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("sizes", [(13, 25, 20, 15, 5), (16, 24, 8, 3), (7, 2)])
def test_rows_of_operands_begin_at_multiples_of_16_bytes(device, products, guarded, sizes, precision, rng):
    """So do rows of 16-bit results; sums over units run over a multiple of 8."""
    X, Y = rng.standard_normal((12, sizes[0])), rng.uniform(size=(12, sizes[-1]))
    net = dp.Network(list(sizes), backend=device, dtype="float32", precision=precision)
    net.fit(X, Y, optimizer=dp.SGD(0.1), batch_size=8, epochs=3)
    for A, B, out, how in products:
        arrays = [A, B, *([out] if precision == "bf16" and out.dtype == np.uint16 else [])]
        assert {array.dtype.name for array in arrays} == {"uint16"}
        for array in arrays:
            assert place(array) % 16 == 0
            assert array.shape[-1] % 8 == 0
        if not how["transpose_A"]:
            assert A.shape[-1] == B.shape[-1 if how["transpose_B"] else -2]
            assert B.shape[-2] % 8 == 0
    gradients = [out.shape for *_, out, how in products if how["transpose_A"]]
    assert set(gradients) == set(zip(sizes[1:], sizes[:-1], strict=True))


@pytest.mark.parametrize("way", [LIBRARY, "first", "last"])
@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
@pytest.mark.parametrize(("sizes", "m"), [((13, 25, 20, 15, 10), 19), ((5, 9, 33, 3), 8), ((8, 70, 1), 1)])
def test_a_step_with_odd_widths(device, guarded, sizes, m, activation, way, monkeypatch, rng):
    """It moves by the gradient of the loop over samples; two of these activations have g(0) ≠ 0."""

    def choose(self, ways):
        ours = [name for name in ways if name != LIBRARY]
        chosen.append(LIBRARY if way == LIBRARY and LIBRARY in ways else ours[0 if way == "first" else -1])
        return chosen[-1]

    chosen = []
    monkeypatch.setattr(type(device), "fastest_way", choose)
    options = {"hidden_activation": activation, "loss": "squared_error", "output_activation": "identity", "seed": 4}
    net = dp.Network(list(sizes), backend=device, dtype="float32", precision="bf16", **options)
    weights, biases = ([device.to_numpy(x).astype(float) for x in part] for part in (net.weights, net.biases))
    X, Y = rng.standard_normal((m, sizes[0])), rng.standard_normal((m, sizes[-1]))
    rate = 64.0  # so that the step has as many bits as the parameters
    before = device.to_numpy(net.parameters).astype(float)
    # The second step uses the same arrays as the first.
    for _ in range(2):
        _, of_W, of_b, _ = reference.cost_and_gradient(
            weights, biases, [activation] * (len(sizes) - 2) + ["identity"], "squared_error", X, Y
        )
        net.fit(X, Y, optimizer=dp.SGD(rate), batch_size=None, epochs=1)
        after = device.to_numpy(net.parameters).astype(float)
        truth = np.concatenate([x.ravel() for x in (*of_W, *of_b)])
        assert relative((before - after) / rate, truth) < 1.5e-2
        net.parameters = before
    assert (LIBRARY in chosen) == (way == LIBRARY)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (9, 12), (16, 20), (8, 16), (40, 2500), (2, 5, 9), (3, 8, 11)])
def test_copies_are_filled_up_with_zeros(device, guarded, shape, weights, kind, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    on_device = device.empty(shape, np.float32)
    memory(on_device)[...] = x
    for scale in (1.0, 8.0):  # the second uses the same scratch
        narrow = device.to_numpy(device._narrow(kind, "A", on_device, scale, weights=weights))
        *lead, rows, columns = shape
        up = lambda size: -(-size // 8) * 8  # noqa: E731
        expected = np.zeros((*lead, up(rows) if weights else rows, up(columns)), np.uint16)
        scaled = x * np.float32(scale)
        expected[..., :rows, :columns] = (
            bfloat16(scaled) if kind == "bfloat16" else scaled.astype(np.float16).view(np.uint16)
        )
        np.testing.assert_array_equal(narrow, expected)


@pytest.mark.parametrize("columns", [1, 12, 31, 784, 1031, 4352])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_minibatch_as_an_operand(device, guarded, columns, shuffled, rng):
    """Its rows are rounded to 16 bits and filled up with zeros; targets are unchanged."""
    narrow, samples, batch, rows = device.in_precision("bf16"), 23, 9, 5
    X, Y = (rng.standard_normal((samples, n)).astype(np.float32) for n in (columns, 3))
    order = rng.permutation(samples)
    chosen = order[2 * batch :] if shuffled else slice(2 * batch, None)
    table = device.asarray(np.ones((3, 6)), np.float32)
    to_X, to_Y, current = (
        narrow.operand((rows, columns), np.float32),
        *(device.empty(shape, np.float32) for shape in ((rows, 3), (6,))),
    )
    memory(to_X)[...] = NO_NUMBER
    source = (device.asarray(X, np.float32), device.asarray(Y, np.float32), None)
    numbers = (device.asarray(order, np.int64) if shuffled else None, table, device.asarray(2, np.int64))
    narrow.minibatch(*source, *numbers, (to_X, to_Y, None), current, batch)
    expected = np.zeros((rows, -(-columns // 8) * 8), np.uint16)
    expected[:, :columns] = bfloat16(X[chosen])
    np.testing.assert_array_equal(device.to_numpy(to_X), expected)
    np.testing.assert_array_equal(device.to_numpy(to_Y), Y[chosen])


@pytest.mark.parametrize(
    ("loss", "activation"), [("squared_error", "identity"), ("categorical_cross_entropy", "softmax")]
)
@pytest.mark.parametrize("columns", [1, 10, 16, 35, 4100])
@pytest.mark.parametrize("rows", [3, 70])
def test_delta_of_the_output_as_an_operand(device, guarded, loss, activation, rows, columns, rng):
    """It is h − y for both pairs, rounded to 16 bits; its sums are not rounded."""
    narrow = device.in_precision("bf16")
    z, y = (rng.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
    a = z if activation == "identity" else np.apply_along_axis(reference.softmax, 1, z.astype(float)).astype(np.float32)
    out, sums, cost = (
        narrow.operand((rows, columns), np.float32),
        narrow.zeros((columns,), np.float32),
        narrow.zeros((), np.float64),
    )
    on_device = (narrow.asarray(x, np.float32) for x in (z, a, y))
    narrow.output_delta(loss, activation, *on_device, 0.5, out, cost, bias_gradient=sums)
    expected = np.zeros(out.shape, np.float32)
    expected[:, :columns] = np.float32(0.5) * (a - y)
    np.testing.assert_array_equal(narrow.to_numpy(out), bfloat16(expected))
    # wide outputs sum the stored, rounded values
    assert relative(narrow.to_numpy(sums), expected[:, :columns].sum(axis=0)) < (1e-6 if columns < 4096 else 2.0**-8)


@pytest.mark.parametrize("columns", [1, 9, 31, 100, 252, 257])
@pytest.mark.parametrize("rows", [3, 300])
def test_kernels_over_rows_that_are_filled_up(device, guarded, rows, columns, rng):
    """Biases are added to units and sums are taken of units only; the padding stays finite."""
    narrow = device.in_precision("bf16")

    def filled(x):
        array = narrow.operand(x.shape, np.float32)
        memory(array)[:, :columns] = bfloat16(x)
        return array, operand(bfloat16(x), "bfloat16").astype(float)

    def made(x):
        array = narrow.empty(x.shape, np.float32)
        memory(array)[...] = x
        return array

    real = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    b, before = real(columns), real(columns)
    (z, z_true), (delta, delta_true) = filled(real(rows, columns)), filled(real(rows, columns))
    a = narrow.operand((rows, columns), np.float32)
    narrow._bias_activation(z, made(b), "sigmoid", a)
    kept = operand(narrow.to_numpy(z), "bfloat16").astype(float)
    assert np.array_equal(kept[:, :columns], operand(bfloat16((z_true + b).astype(np.float32)), "bfloat16"))
    got = operand(narrow.to_numpy(a), "bfloat16")
    assert np.isfinite(got).all()
    assert np.abs(got[:, :columns] * (1 + np.exp(-z_true - b)) - 1).max() < 2.0**-8
    g = 1 / (1 + np.exp(-kept[:, :columns]))
    for function, first, expected in (
        ("hidden_delta_sigmoid", (delta, z, NULL), delta_true * g * (1 - g)),
        ("column_sum", (delta,), None),
    ):
        sums = made(before)
        narrow._over_columns(function, first, delta, sums, 1.0)
        of_rows = operand(narrow.to_numpy(delta), "bfloat16").astype(float)
        assert not of_rows[:, columns:].any()
        expected = of_rows[:, :columns] if expected is None else expected
        assert relative(narrow.to_numpy(sums), before + expected.sum(axis=0)) < 1e-6
