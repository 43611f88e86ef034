"""Matrix products in less precision than float32 stay within stated errors, on backends that offer them."""

from typing import Any

import numpy as np
import pytest
from cases import relative
from conftest import backend_or_skip, require_emulation
from host_cuda import HostCudaBackend, HostProducts, bfloat16, operand

import deltaprop as dp
from deltaprop.backends.cuda import cublas
from deltaprop.backends.cuda.cublas import CupyProducts
from deltaprop.backends.cuda.launching import NULL
from deltaprop.epochs import graph
from deltaprop.epochs.resident import ResidentEpoch

#: The largest relative error of the gradient: a small multiple of the rounding of an operand, 2⁻²⁴, 2⁻¹¹, 2⁻⁸ and 2⁻¹¹.
STATED_ERROR = {"fp32": 1e-6, "tf32": 2e-3, "bf16": 1.5e-2, "fp16": 2e-3}


@pytest.fixture
def device(capturing_device):
    return capturing_device


def networks(device, precision, sizes=(40, 65, 33, 10)):
    options: dict[str, Any] = {"hidden_activation": "tanh", "loss": "categorical_cross_entropy", "seed": 2}
    narrow = dp.Network(sizes, backend=device, dtype="float32", precision=precision, **options)
    exact = dp.Network(sizes, backend="reference", **options)
    exact.parameters = device.to_numpy(narrow.parameters)
    return narrow, exact


@pytest.mark.parametrize("precision", STATED_ERROR)
def test_stated_errors_of_gradients_and_predictions(device, precision, rng):
    narrow, exact = networks(device, precision)
    X, y = rng.standard_normal((257, 40)), rng.integers(0, 10, 257)
    _, gradient = narrow.cost_and_gradient(X, y)
    _, truth = exact.cost_and_gradient(X, y)
    error = relative(device.to_numpy(gradient.flat), truth.flat)
    assert error < STATED_ERROR[precision]
    # The error is not smaller than rounded operands allow, so the precision was used. A library may keep more bits.
    assert precision == "fp32" or not isinstance(device, HostCudaBackend) or error > STATED_ERROR[precision] / 20
    assert relative(device.to_numpy(narrow.predict(X)), exact.predict(X)) < STATED_ERROR[precision]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_small_deltas_do_not_vanish(device, precision, rng):
    """δ of a mean over many nearly right samples is far below 6e-8, the smallest float16."""
    narrow, exact = networks(device, precision)
    X = rng.standard_normal((64, 40))
    target = exact.predict(X)
    target = target + 1e-5 * (np.roll(target, 1, axis=1) - target)
    _, gradient = narrow.cost_and_gradient(X, target)
    assert np.isfinite(device.to_numpy(gradient.flat)).all()
    # δ^(L) itself is a difference of close numbers here, so compare from δ^(L) on.
    delta = narrow.backend.asarray(1e-7 * rng.standard_normal((64, 10)), np.float32)
    W, out = narrow.weights[-1], narrow.backend.empty((64, 33), np.float32)
    narrow.backend.input_gradient(delta, W, out=out)
    expected = device.to_numpy(delta).astype(float) @ device.to_numpy(W).astype(float)
    assert relative(device.to_numpy(out), expected) < STATED_ERROR[precision]


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_training_goes_as_in_float64(device, precision, monkeypatch, rng):
    """The cost of every epoch is near float64's, in captured steps too."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    narrow, exact = networks(device, precision, (8, 16, 3))
    X = rng.standard_normal((90, 8))
    y = (X @ rng.standard_normal((8, 3))).argmax(axis=1)
    how = {"optimizer": dp.SGD(0.5, momentum=0.5), "batch_size": 16, "epochs": 6}
    costs = [net.fit(X, y, **how).cost for net in (narrow, exact)]
    assert costs[1][-1] < 0.7 * costs[1][0]
    assert costs[0] == pytest.approx(costs[1], rel=20 * STATED_ERROR[precision])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "silu", "gelu"])
@pytest.mark.parametrize("m", [1, 33, 257])
def test_stated_errors_of_captured_steps(device, m, activation, monkeypatch, rng):
    """Hidden layers are kept in 16 bits; the gradient is read from a step of plain descent."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    options = {"hidden_activation": activation, "loss": "categorical_cross_entropy", "seed": 2}
    sizes = [40, 65, 64, 33, 10]
    narrow = dp.Network(sizes, backend=device, dtype="float32", precision="bf16", **options)
    exact = dp.Network(sizes, backend="reference", **options)
    exact.parameters = before = device.to_numpy(narrow.parameters).astype(np.float64)
    X, y = rng.standard_normal((m, 40)), rng.integers(0, 10, m)
    kept = []
    buffers = graph.Buffers.__init__

    def seen(self, *arguments):
        buffers(self, *arguments)
        kept.append(self.work)

    monkeypatch.setattr(graph.Buffers, "__init__", seen)
    rate = 64.0  # so that the step has as many bits as the parameters
    narrow.fit(X, y, optimizer=dp.SGD(rate), batch_size=None, epochs=1)
    for arrays, last in ((kept[0].Z, "float32"), (kept[0].A[1:], "float32"), (kept[0].delta, "uint16")):
        assert [array.dtype.name for array in arrays] == ["uint16"] * 3 + [last]
    _, truth = exact.cost_and_gradient(X, y)
    error = relative((before - device.to_numpy(narrow.parameters)) / rate, truth.flat)
    assert error < STATED_ERROR["bf16"]
    assert not isinstance(device, HostCudaBackend) or error > STATED_ERROR["bf16"] / 20


def test_operands_are_narrowed_once_a_step(monkeypatch, rng):
    """Every W, in both directions; in bfloat16, samples, hidden layers and every δ are in 16 bits already."""
    device = backend_or_skip("cuda-on-host")
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    launched = []
    kernel = type(device)._kernel

    def counted(self, file, function, *arguments):
        launch = kernel(self, file, function, *arguments)

        def noted(grid, block, given, **options):
            launched.append((function, given[0].size))
            launch(grid, block, given, **options)

        return noted if file == "narrow" else launch

    monkeypatch.setattr(type(device), "_kernel", counted)
    narrowed: dict[Any, list[int]] = {"bf16": [], "fp16": [8 * 4, 8 * 6, 8 * 5, 8 * 6, 8 * 5, 8 * 3]}
    for precision, hidden in narrowed.items():
        net = dp.Network([4, 6, 5, 3], backend=device, dtype="float32", precision=precision)
        launched.clear()
        net.fit(rng.standard_normal((8, 4)), rng.uniform(size=(8, 3)), batch_size=8, epochs=1)
        assert {function for function, _ in launched} == {f"narrow_{'bfloat16' if precision == 'bf16' else 'float16'}"}
        assert sorted(n for _, n in launched) == sorted([24, 30, 15, *hidden])


class NotedProducts(HostProducts):
    """Notes when a product of weights runs."""

    def __init__(self, backend, ran):
        super().__init__(backend.run)
        self.ran = ran

    def __call__(self, A, B, out, **how):
        if not how["transpose_A"]:
            self.run(lambda: self.ran.append("product"))
        super().__call__(A, B, out, **how)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("sizes", [(4, 6, 5, 3), (8, 16, 3), (5, 2)])
def test_weights_are_narrowed_beside_the_layers_before(sizes, precision, monkeypatch, rng):
    """Of a captured step: their launches come first, on another stream, and each product waits for its own weights."""
    require_emulation()
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    device = HostCudaBackend()
    launched: list[Any] = []
    ran: list[Any] = []
    device._found.products = NotedProducts(device, ran)
    kernel = type(device)._kernel
    streams: dict[int, int] = {}

    def noted(self, file, function, *arguments):
        launch = kernel(self, file, function, *arguments)

        def launching(grid, block, given, **options):
            of_weights = file == "narrow" and int(given[0].data.ptr) in places
            name = file if not of_weights else places.index(given[0].data.ptr)
            launched.append((name, streams.setdefault(self.streams.top().ptr, len(streams)), self.is_capturing()))
            self.run(lambda: ran.append(name))
            launch(grid, block, given, **options)

        return launching

    monkeypatch.setattr(type(device), "_kernel", noted)
    net = dp.Network(sizes, backend=device, dtype="float32", precision=precision)
    places = [W.data.ptr for W in net.weights]
    layers = list(range(len(places)))
    net.fit(rng.standard_normal((24, sizes[0])), rng.uniform(size=(24, sizes[-1])), batch_size=8, epochs=1)
    first = [(name, stream) for name, stream, captured in launched if not captured]
    later = [(name, stream) for name, stream, captured in launched if captured]
    assert first[0][0] == "minibatch"
    main = first[0][1]
    assert [(name, stream) for name, stream in first if name in layers] == [(l, main) for l in layers]
    assert later[: len(layers) + 1] == [*((l, later[0][1]) for l in layers), ("minibatch", main)]
    assert later[0][1] != main
    # The emulated device runs a launch as late as the waits allow. Two steps replay what was captured.
    of_weights = [name for name in ran if name in (*layers, "product", "minibatch")]
    forward = ["minibatch", *(name for l in layers for name in (l, "product"))]
    step = [*forward, *(len(layers) - 1) * ["product"]]
    assert of_weights[-2 * len(step) :] == 2 * step


@pytest.mark.parametrize("optimizer", [dp.SGD(0.5), dp.Adam(0.01)], ids=repr)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_same_bits_wherever_weights_are_narrowed(device, precision, optimizer, monkeypatch, rng):
    """Also where a graph holds many steps, and where the weights of a layer change between two epochs."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    steps = graph.STEPS_A_GRAPH + 3
    X, Y = rng.standard_normal((8 * steps + 3, 9)), rng.uniform(size=(8 * steps + 3, 3))

    def fitted():
        net = dp.Network([9, 33, 16, 3], backend=device, dtype="float32", precision=precision, seed=1)

        def change(event):
            net.weights[1][...] *= 0.5

        net.fit(X, Y, optimizer=optimizer, batch_size=8, epochs=3, callbacks=[change])
        return device.to_numpy(net.parameters)

    ahead = fitted()
    monkeypatch.setattr(type(device), "narrow_ahead", lambda self, weights: None)
    assert np.array_equal(ahead, fitted())


@pytest.mark.parametrize("columns", [1, 31, 33, 64, 256, 257])
def test_kernels_that_keep_16_bits(device, columns, rng):
    """δ is summed before it is rounded: from slopes that are right to 17 bits, not from numbers of 8 bits."""
    rows = 300  # more than one slice of rows
    narrow = device.in_precision("bf16")
    Z, b = rng.standard_normal((rows, columns)).astype(np.float32), rng.standard_normal(columns).astype(np.float32)
    bits = [bfloat16(x) for x in (Z, rng.standard_normal((rows, columns)).astype(np.float32))]
    z, delta = (narrow.asarray(x.copy(), np.uint16) for x in bits)
    out = narrow.empty(z.shape, np.uint16)
    narrow._bias_activation(z, narrow.asarray(b, np.float32), "sigmoid", out)
    expected_z = operand(bits[0], "bfloat16") + b
    assert np.array_equal(narrow.to_numpy(z), bfloat16(expected_z))
    got = operand(narrow.to_numpy(out), "bfloat16")
    assert np.abs(got * (1 + np.exp(-expected_z.astype(float))) - 1).max() < 2.0**-8
    sums = narrow.empty((columns,), np.float32)
    kept = operand(narrow.to_numpy(z), "bfloat16").astype(float)
    slope = np.exp(-np.abs(kept)) / (1 + np.exp(-np.abs(kept))) ** 2
    expected = operand(bits[1], "bfloat16") * slope
    narrow._over_columns("hidden_delta_sigmoid", (delta, z, NULL), delta, sums, 0.0)
    assert np.abs(operand(narrow.to_numpy(delta), "bfloat16") - expected).max() < 2.0**-8 * np.abs(expected).max()
    assert (np.abs(narrow.to_numpy(sums) - expected.sum(axis=0)) < 2.0**-17 * np.abs(expected).sum(axis=0)).all()


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("width", [1, 4, 8])
def test_faster_functions_are_right_for_every_number(device, activation, width):
    """g and g' of each number of 16 bits are within 0.51 units of the last place; below 2^-126 they may be 0."""
    bits = np.arange(2**16, dtype=np.uint16)
    columns = 256 + width  # a thread takes so many entries of a row at a time
    z = np.resize(bits, (-(-bits.size // columns), columns))
    narrow = device.in_precision("bf16")
    on_device, a, delta = narrow.asarray(z.copy(), np.uint16), *(narrow.empty(z.shape, np.uint16) for _ in range(2))
    sums = narrow.empty((columns,), np.float32)
    narrow._bias_activation(on_device, narrow.zeros((columns,), np.float32), activation, a)
    delta.fill(0x3F80)  # 1
    narrow._over_columns(f"hidden_delta_{activation}", (delta, narrow.asarray(z, np.uint16), NULL), delta, sums, 0.0)
    with np.errstate(invalid="ignore"):
        real = operand(z, "bfloat16").astype(np.longdouble)
        e = np.exp(-np.abs(real))
        value = np.where(real < 0, e, 1) / (1 + e) if activation == "sigmoid" else np.tanh(real)
        slope = e / (1 + e) ** 2 if activation == "sigmoid" else 4 * e**2 / (1 + e**2) ** 2
    for got, true in ((a, value), (delta, slope)):
        own = operand(narrow.to_numpy(got), "bfloat16")
        assert np.array_equal(np.isnan(own), np.isnan(real))
        normal, tiny = np.abs(true) >= 2.0**-126, np.abs(true) < 2.0**-126
        off = np.abs(own[normal] - true[normal]) / np.exp2(np.floor(np.log2(np.abs(true[normal]))) - 7)
        assert off.max() < 0.51
        assert (np.abs(own[tiny]) <= 2.0**-126).all()


def test_a_copy_keeps_its_precision_and_a_file_does_not(device, tmp_path):
    net = dp.Network([3, 4, 2], dtype="float32", backend=device, precision="bf16")
    assert net.copy().backend.precision == "bf16"
    assert device.precision == "fp32"
    assert net.backend.in_precision("fp32") is device
    net.save(tmp_path / "net.safetensors")
    assert dp.Network.load(tmp_path / "net.safetensors", backend=device).backend.precision == "fp32"


def test_who_cannot_have_it(device):
    with pytest.raises(ValueError, match=r"precision: expected 'fp32'.*float64.*got 'tf32'"):
        dp.Network([2, 1], backend=device, precision="tf32")
    with pytest.raises(ValueError, match="precision: expected one of"):
        dp.Network([2, 1], backend=device, dtype="float32", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(dp.BackendError, match=r"backend 'numpy'.*got 'bf16'.*backend='cupy'"):
        dp.Network([2, 1], backend="numpy", dtype="float32", precision="bf16")
    assert dp.Network([2, 1], backend="numpy", precision="fp32").backend.precision == "fp32"
    products = CupyProducts(np)
    x = np.ones((2, 2), np.float32)
    options: dict[str, Any] = {"factor": 1.0, "transpose_A": False, "transpose_B": False, "keep": None}
    with pytest.raises(dp.BackendError, match="precision: a tf32 product needs cublasLt through nvmath-python"):
        products(x, x, x.copy(), kind="tf32", **options)


def test_products_by_cupy_itself(rng):
    """They serve where nvmath-python is missing; NumPy stands for CuPy, whose matmul is the same."""
    A, B, out = (rng.standard_normal(shape) for shape in ((5, 3), (4, 3), (5, 4)))
    expected = A @ B.T
    products = CupyProducts(np)
    options: dict[str, Any] = {"kind": "float64", "factor": 1.0, "transpose_A": False, "transpose_B": True}
    before = out.copy()
    products(A, B, out, keep=0.5, **options)
    assert np.allclose(out, 0.5 * before + expected)
    products(A, B, out, keep=None, **options)
    assert np.allclose(out, expected)


def test_bindings_that_find_no_library_are_done_without(monkeypatch):
    """So it is without a driver; one warning says so."""
    monkeypatch.setattr(cublas, "is_installed", lambda name: True)

    def broken(*given):
        raise RuntimeError("libcublasLt.so.13 is not there")

    monkeypatch.setattr(cublas, "LtProducts", broken)
    find: Any = cublas.find_products
    with pytest.warns(RuntimeWarning, match=r"libcublasLt.so.13 is not there.*not captured"):
        assert not find(np, id, None).capturable
    monkeypatch.setattr(cublas, "is_installed", lambda name: False)
    assert not find(np, id, None).capturable
