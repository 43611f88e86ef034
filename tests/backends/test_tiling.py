"""Launches over rows and columns visit every entry once, in grids that a device takes, with equal bits."""

from typing import Any

import numpy as np
import pytest
import reference
from cases import DTYPES, targets_for
from conftest import require_emulation
from host_cuda import HostCudaBackend, bfloat16, check_shape, operand
from strict_array import StrictArray

from deltaprop.backends.cuda.launching import NULL
from deltaprop.backends.cuda.tiling import over_columns

COLUMNS = (1, 7, 10, 31, 33, 100, 515)
ROWS = (1, 13, 300)


@pytest.fixture(params=[1, 132], ids=lambda n: f"{n}-multiprocessors")
def device(request):
    """A device of one multiprocessor cuts rows into slices; one of many spreads columns over blocks."""
    require_emulation()
    device = HostCudaBackend()
    device._limits[0] = (232448, 8, request.param)
    return device


def put(*arrays):
    """Return copies on the device."""
    copies = [None if array is None else StrictArray(array.copy()) for array in arrays]
    return copies[0] if len(copies) == 1 else copies


def room(shape, dtype):
    """Return an array on the device with arbitrary content."""
    return StrictArray(np.empty(shape, dtype))


def close(got, expected, dtype, terms=1):
    got = got.get() if isinstance(got, StrictArray) else got
    scale = np.finfo(dtype).eps * 32 * terms
    assert np.allclose(got, expected, rtol=scale, atol=scale, equal_nan=True)


def tickets(device):
    return [buffer for key, buffer in device._here.buffers.items() if key[0] == "tickets"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("members", "masked", "keep"), [(1, False, 0.0), (3, True, 1.0)])
def test_hidden_delta(device, rng, rows, columns, members, masked, keep, dtype):
    shape = (members, rows, columns)
    delta, z, mask = rng.standard_normal(shape), rng.standard_normal(shape), 2.0 * (rng.random(shape) < 0.5)
    z[:, rows // 2] *= 40.0
    delta, z, mask = (x.astype(dtype) for x in (delta, z, mask))
    before = rng.standard_normal((members, columns)).astype(dtype)
    e = np.exp(-np.abs(z.astype(float)))
    expected = delta.astype(float) * e / (1 + e) ** 2 * (mask if masked else 1.0)
    bits = []
    for _ in range(2):
        out, sums = put(delta, before)
        device._over_columns("hidden_delta_sigmoid", (out, put(z), put(mask) if masked else NULL), out, sums, keep)
        close(out, expected, dtype)
        close(sums, keep * before + expected.sum(axis=1), dtype, terms=np.sqrt(rows))
        bits.append((out.tobytes(), sums.tobytes()))
    assert bits[0] == bits[1]
    for buffer in tickets(device):
        assert not buffer.any()


@pytest.mark.parametrize("columns", [*COLUMNS, 12, 20, 520])
@pytest.mark.parametrize("rows", [13, 300])
def test_bfloat16(device, rng, rows, columns):
    """Sums are taken of δ before it is rounded; packs have 8, 4 and 1 entries."""
    narrow = device.in_precision("bf16")
    delta, z = (bfloat16(rng.standard_normal((rows, columns)).astype(np.float32)) for _ in range(2))
    b = rng.standard_normal(columns).astype(np.float32)
    e = np.exp(-np.abs(operand(z, "bfloat16").astype(float)))
    expected = operand(delta, "bfloat16") * e / (1 + e) ** 2
    out, sums = put(delta), narrow.empty((columns,), np.float32)
    narrow._over_columns("hidden_delta_sigmoid", (out, put(z), NULL), out, sums, 0.0)
    assert np.abs(operand(out.get(), "bfloat16") - expected).max() <= 2.0**-8 * np.abs(expected).max()
    close(sums, expected.sum(axis=0), np.float32, terms=np.sqrt(rows))
    affine, a = put(z), narrow.empty(z.shape, np.uint16)
    narrow._bias_activation(affine, put(b), "tanh", a)
    own = operand(z, "bfloat16") + b
    assert np.array_equal(affine.get(), bfloat16(own))
    assert np.abs(operand(a.get(), "bfloat16") - np.tanh(own.astype(float))).max() <= 2.0**-8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("rows", ROWS)
def test_bias_gradient_alone(device, rng, rows, columns, dtype):
    delta, sums = rng.standard_normal((rows, columns)).astype(dtype), put(np.ones(columns, dtype))
    device.bias_gradient(put(delta), sums, keep=1.0)
    close(sums, 1.0 + delta.astype(float).sum(axis=0), dtype, terms=rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [*COLUMNS, 128])
@pytest.mark.parametrize(("members", "rows", "masked"), [(1, 1, False), (1, 300, True), (3, 13, True)])
def test_bias_activation(device, rng, members, rows, columns, masked, dtype):
    shape = (members, rows, columns)
    z, b = rng.standard_normal(shape).astype(dtype), rng.standard_normal((members, columns)).astype(dtype)
    mask = (2.0 * (rng.random(shape) < 0.5)).astype(dtype)
    affine, a = put(z), device.empty(shape, dtype)
    device._bias_activation(affine, put(b), "tanh", a, put(mask) if masked else None)
    expected = z.astype(float) + b[:, None]
    close(affine, expected, dtype)
    close(a, np.tanh(expected) * (mask if masked else 1.0), dtype)


#: Rows and columns: odd and even; a row for some lanes or for a block; rows that fit the registers or not.
SOFTMAX = [
    (*case, dtype)
    for case in ((300, 1), (300, 10), (40, 33), (40, 100), (13, 128), (13, 515), (9, 520), (3, 1031))
    for dtype in DTYPES
]
SOFTMAX += [(3, 4104, np.float32), (3, 2052, np.float64)]


@pytest.mark.parametrize(("rows", "columns", "dtype"), SOFTMAX)
def test_softmax(device, rng, rows, columns, dtype):
    members = 2
    z = (5 * rng.standard_normal((members, rows, columns))).astype(dtype)
    b = rng.standard_normal((members, columns)).astype(dtype)
    z[1, rows // 2, columns // 2] = np.nan
    affine, a = put(z), device.empty(z.shape, dtype)
    device._bias_activation(affine, put(b), "softmax", a)
    expected = z.astype(float) + b[:, None]
    close(affine, expected, dtype)
    e = np.exp(expected - expected.max(axis=-1, keepdims=True))
    close(a, e / e.sum(axis=-1, keepdims=True), dtype)
    assert np.isnan(a.get()).all(axis=-1).sum() == 1


@pytest.mark.parametrize(("rows", "columns", "dtype"), SOFTMAX)
@pytest.mark.parametrize("loss", ["categorical_cross_entropy", "clipped_categorical_cross_entropy"])
def test_output_delta_of_softmax(device, rng, loss, rows, columns, dtype):
    z = (5 * rng.standard_normal((rows, columns))).astype(dtype)
    e = np.exp(z.astype(float) - z.max(axis=1, keepdims=True))
    a, y = (e / e.sum(axis=1, keepdims=True)).astype(dtype), targets_for(loss, rng, rows, columns).astype(dtype)
    weight = rng.uniform(0.5, 2, rows).astype(dtype)
    log_a = z.astype(float) - z.max(axis=1, keepdims=True) - np.log(e.sum(axis=1, keepdims=True))
    terms = -y * log_a
    if loss.startswith("clipped"):
        terms = np.minimum(terms, -np.log(np.finfo(dtype).eps))
    check_output_delta(device, (loss, "softmax"), (z, a, y), weight, a.astype(float) - y, terms.sum(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (13, 515), (13, 128), (300, 1), (300, 10), (130, 33), (300, 12)])
def test_output_delta_of_one_unit_at_a_time(device, rng, rows, columns, dtype):
    z, y = rng.standard_normal((rows, columns)).astype(dtype), rng.uniform(0, 1, (rows, columns)).astype(dtype)
    exact = 1 / (1 + np.exp(-z.astype(float)))
    a, weight = exact.astype(dtype), rng.uniform(0.5, 2, rows).astype(dtype)
    costs = -(y * np.log(exact) + (1 - y) * np.log1p(-exact)).sum(axis=1)
    check_output_delta(device, ("binary_cross_entropy", "sigmoid"), (z, a, y), weight, a.astype(float) - y, costs)


def check_output_delta(device, names, arrays, weight, slope, costs):
    """Check it with and without weights and δ, twice with equal bits; each call counts the step once."""
    (rows, columns), dtype = slope.shape, arrays[0].dtype.type
    before = np.linspace(-1, 1, columns).astype(dtype)
    for w in (None, weight):
        factor = np.ones(rows) if w is None else w.astype(float)
        bits = []
        for _ in range(2 if w is None else 1):
            out = device.empty((rows, columns), dtype)
            sums, cost, step = put(before, np.array(3.0), np.array(5))
            with device.counting(step):
                device.output_delta(*names, *put(*arrays), 0.5, out, cost, put(w), sums, 1.0)
            expected = 0.5 * factor[:, None] * slope
            close(out, expected, dtype, terms=4)
            close(sums, before + expected.sum(axis=0), dtype, terms=4 * np.sqrt(rows))
            assert float(cost) == pytest.approx(
                3.0 + factor @ costs, rel=64 * np.finfo(dtype).eps * np.log2(columns + 2)
            )
            assert step == 6
            bits.append((out.tobytes(), sums.tobytes(), cost.tobytes()))
        alone = put(np.array(3.0))
        device.add_cost(*names, *put(*arrays), alone, put(w))
        assert alone.tobytes() == cost.tobytes()
        assert bits[0] == bits[-1]
    for buffer in tickets(device):
        assert not buffer.any()


def test_a_row_that_is_no_number(device, rng):
    """Its δ and its cost are NaN; those of the other rows are unchanged."""
    z, y = rng.standard_normal((40, 10)), np.eye(10)[rng.integers(10, size=40)]
    a = np.apply_along_axis(reference.ACTIVATIONS["softmax"][0], 1, z)
    z[17, 3] = np.nan
    a[17] = np.nan
    out, sums, cost = device.empty(z.shape, z.dtype), device.zeros((10,), z.dtype), put(np.array(0.0))
    device.output_delta("categorical_cross_entropy", "softmax", *put(z, a, y), 1.0, out, cost, None, sums)
    out, others = out.get(), np.arange(40) != 17
    assert np.isnan(float(cost))
    assert np.isnan(sums.get()).all()
    assert np.isnan(out[17]).all()
    close(out[others], (a - y)[others], np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_columns", "y_columns"), [(1, 1), (10, 3), (784, 10), (4, 2), (1031, 33), (4352, 5)])
@pytest.mark.parametrize(("shuffled", "weighted"), [(False, True), (True, False), (True, True)])
def test_minibatch(device, rng, x_columns, y_columns, shuffled, weighted, dtype):
    samples, batch = 23, 9
    X, Y = (rng.standard_normal((samples, columns)).astype(dtype) for columns in (x_columns, y_columns))
    table, w = rng.standard_normal((3, 6)).astype(dtype), rng.uniform(size=samples).astype(dtype) if weighted else None
    order = rng.permutation(samples).astype(np.int64) if shuffled else None
    for step, rows in ((1, 9), (2, 5)):
        out = [device.empty(shape, dtype) for shape in ((rows, x_columns), (rows, y_columns), (rows,))]
        current, here = device.empty((6,), dtype), slice(step * batch, step * batch + rows)
        given = out if weighted else (*out[:2], None)
        device.minibatch(*put(X, Y, w, order, table, np.array(step)), given, current, batch)
        out, current = [x.get() for x in out], current.get()
        chosen = np.arange(samples)[here] if order is None else order[here]
        assert np.array_equal(out[0], X[chosen])
        assert np.array_equal(out[1], Y[chosen])
        assert np.array_equal(current, table[step])
        if w is not None:
            assert np.array_equal(out[2], w[here])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 255, 5000])
def test_a_step_without_rows(device, rng, n, dtype):
    """Its gradient is 0; its numbers are those of the step, which is counted."""
    gradient, table = rng.standard_normal(n).astype(dtype), rng.standard_normal((3, 6)).astype(dtype)
    (on_device, its_table, step), current = put(gradient, table, np.array(1)), device.empty((6,), dtype)
    device.no_rows(on_device, its_table, step, current)
    assert np.array_equal(on_device.get(), np.zeros(n))
    assert np.array_equal(current.get(), table[1])
    assert int(step) == 2


class Launches(HostCudaBackend):
    """A backend that notes the shape of each launch, and does not run it, as that would take too long."""

    def __init__(self, multiprocessors):
        super().__init__()
        self._limits[0] = (232448, 8, multiprocessors)
        self.shapes = []

    def _kernel(self, *_: Any, **__: Any) -> Any:
        return lambda grid, block, arguments: self.shapes.append((grid, block))


@pytest.mark.parametrize("multiprocessors", [1, 132, 1000])
@pytest.mark.parametrize(
    ("members", "rows", "columns"), [(1, 2**24, 1), (1, 2**24, 10), (65536, 2, 3), (70000, 1, 40), (1, 9, 2**20)]
)
def test_grids_a_device_takes(multiprocessors, members, rows, columns):
    device = Launches(multiprocessors)
    x, b, cost = room((members, rows, columns), np.float32), room((members, columns), np.float32), room((), float)
    device._over_columns("hidden_delta_sigmoid", (x, x, NULL), x, b, 0.0)
    device.bias_gradient(x, b)
    for activation in ("tanh", "softmax"):
        device._bias_activation(x, b, activation, x)
    for names in (("squared_error", "identity"), ("categorical_cross_entropy", "softmax")):
        device.output_delta(*names, x[0], x[0], x[0], 1.0, x[0], cost, None, b[0])
    device.minibatch(x[0], x[0], None, None, x[0][:1, :1], room((), int), (x[0], x[0], None), x[0][0], rows)
    assert len(device.shapes) >= 7
    for grid, block in device.shapes:
        check_shape(grid, block)


@pytest.mark.parametrize(("rows", "columns"), [(8192, 4096), (8192, 4100), (700, 31), (100_000, 64), (4000, 40_000)])
@pytest.mark.parametrize("sums", [True, False])
def test_large_arrays_are_cut_into_what_runs_at_once(rows, columns, sums):
    tiling = over_columns(rows, columns, [4, 2, 1], 4, 132, 4, sums=sums)
    assert tiling.tiles * tiling.lanes * tiling.width >= columns
    assert tiling.slices * tiling.rows_per_block >= rows > (tiling.slices - 1) * tiling.rows_per_block
    assert tiling.tiles * tiling.slices <= 4 * 132
    assert tiling.tiles * tiling.slices > 2 * 132 or tiling.slices == 1 or tiling.rows_per_block == 256 // tiling.lanes


def test_shapes_that_no_device_takes():
    for grid in ((1, 65536), (1, 1, 65536), (2**31,), (0,)):
        with pytest.raises(AssertionError):
            check_shape(grid, (32, 8))


def test_a_smaller_minibatch_leaves_the_buffers_of_a_larger_one(rng):
    """A captured graph holds their addresses."""
    device = Launches(132)
    for rows in range(2000, 0, -37):
        x, y, cost = room((rows, 64), np.float32), room((rows, 640), np.float32), room((), float)
        device._over_columns("hidden_delta_sigmoid", (x, x, NULL), x, x[0], 0.0)
        device.output_delta("squared_error", "identity", x, x, x, 1.0, x, cost, None, x[0])
        device.output_delta("categorical_cross_entropy", "softmax", y, y, y, 1.0, y, cost, None, y[0])
        now = {key: buffer.data.ptr for key, buffer in device._here.buffers.items()}
        if rows == 2000:
            first = now
    assert now == first
