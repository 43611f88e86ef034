"""The output layer of a captured step: one kernel from the product to δ, the cost and Σ δ, where nobody reads z and a."""

import numpy as np
import pytest
import reference
from cases import PAIRS, targets_for
from conftest import backend_or_skip
from host_cuda import bfloat16, operand
from strict_array import memory

import deltaprop as dp
from deltaprop.backends.choices import LossName
from deltaprop.epochs.resident import ResidentEpoch

#: The relative rounding of each precision: of operands, and of δ as it is stored.
ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8}
#: Rows and columns: odd and even; a row for some lanes, for a block, and more than a block holds; several rows a block.
SHAPES = [(1, 7), (300, 10), (40, 33), (13, 128), (29, 515), (17, 520), (7, 1031), (3, 4104)]


@pytest.fixture
def device(monkeypatch):
    """An emulated device of one multiprocessor, whose blocks have many rows; the library forms every product."""
    backend = backend_or_skip("cuda-on-host")
    backend._small_choices.clear()  # its variants of other precisions share them
    monkeypatch.setattr(backend, "way", "library")
    yield backend
    backend._small_choices.clear()


class Layer:
    """An output layer on a device, and what it computes, by NumPy in float64 from the numbers that the device holds."""

    def __init__(self, device, rng, loss, activation, shape, kind, *, weighted=False):
        self.names, self.kind = (loss, activation), kind
        self.backend = device if kind.startswith("float") else device.in_precision(kind)
        (rows, columns), inputs = shape, 6
        self.real = np.dtype(np.float64 if kind == "float64" else np.float32)
        A, W, b = (
            rng.standard_normal((rows, inputs)),
            rng.standard_normal((columns, inputs)),
            rng.standard_normal(columns),
        )
        y, weight = targets_for(loss, rng, rows, columns), rng.uniform(0.5, 2, rows)
        A, W, self.b, self.y, self.weight = (x.astype(self.real) for x in (A, W, b, y, weight))
        put = lambda x: self.backend.asarray(x, x.dtype)  # noqa: E731
        if kind == "bf16":
            filled = np.zeros((rows, 8), np.uint16)
            filled[:, :inputs] = bfloat16(A)
            self.A = put(filled)
        else:
            self.A = put(A)
        self.W, self.bias, self.Y = put(W), put(self.b), put(self.y)
        self.weights = put(self.weight) if weighted else None
        rounded = {"bf16": lambda x: operand(bfloat16(x), "bfloat16"), "tf32": lambda x: operand(x, "tf32")}.get(kind)
        A, W = (rounded(x) if rounded else x for x in (A, W))
        self.product = A.astype(float) @ W.T.astype(float)
        self.z = self.product + self.b
        self.a = np.array([reference.ACTIVATIONS[activation][0](row) for row in self.z])
        factor = self.weight if weighted else np.ones(rows)
        delta = [reference.output_delta(loss, activation, *row) for row in zip(self.z, self.a, self.y, strict=True)]
        self.delta = 0.5 * factor[:, None] * np.array(delta)
        self.cost = sum(w * reference.sample_cost(loss, *row) for w, *row in zip(factor, self.a, self.y, strict=True))
        poison = lambda: put(np.full((rows, columns), np.nan, self.real))  # noqa: E731
        self.Z, self.out = poison(), poison()
        self.d = self.backend.operand((rows, columns), self.real)
        self.total, self.step = put(np.array(3.0)), put(np.array(5))

    def forward(self):
        """z and a, or at least the product."""
        self.backend.affine_activation(self.A, self.W, self.bias, self.names[1], Z=self.Z, out=self.out)

    def backward(self, sums, keep):
        """δ and the cost, and keep · sums + Σ δ."""
        self.backend.output_delta(
            *self.names, self.Z, self.out, self.Y, 0.5, self.d, self.total, self.weights, sums, keep
        )

    def step_of_training(self, sums, keep):
        """Both, as a captured step takes them."""
        with self.backend.counting(self.step), self.backend.small_layers():
            self.forward()
            self.backward(sums, keep)

    def read(self, x):
        """Return an array of the device, without padding, in float64."""
        x = self.backend.to_numpy(x)
        x = operand(x, "bfloat16") if x.dtype == np.uint16 else x
        return x[:, : self.z.shape[1]].astype(float) if x.ndim == 2 else x.astype(float)

    def check(self, sums, expected, step=6):
        """Compare δ, sums and the cost with float64."""
        rows, columns = self.z.shape
        eps = float(np.finfo(self.real.type).eps)
        top = np.abs(self.delta).max()
        np.testing.assert_allclose(
            self.read(self.d), self.delta, rtol=ROUNDING[self.kind] + 256 * eps, atol=64 * eps * top
        )
        # Where a block cannot hold a row, δ is added up as it is stored.
        held = 4096 if columns % 4 == 0 else 1024
        stored = ROUNDING["bf16"] if self.kind == "bf16" and columns > held and self.names[1] == "softmax" else 0.0
        np.testing.assert_allclose(
            self.read(sums), expected, rtol=stored + 256 * eps, atol=(64 * eps + stored) * (rows**0.5 * top + 1)
        )
        assert float(self.total) == pytest.approx(3.0 + self.cost, rel=256 * eps)
        assert int(self.step) == step


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(13, 7), (40, 36)])
@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_every_loss(device, rng, loss, activation, shape, kind):
    layer = Layer(device, rng, loss, activation, shape, kind, weighted=True)
    before = rng.standard_normal(shape[1]).astype(layer.real)
    sums = device.asarray(before, before.dtype)
    layer.step_of_training(sums, 0.5)
    layer.check(sums, 0.5 * before + layer.delta.sum(axis=0))


@pytest.mark.parametrize("kind", ["float64", "float32", "tf32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("categorical_cross_entropy", "softmax"),
        ("clipped_categorical_cross_entropy", "softmax"),
        ("binary_cross_entropy", "sigmoid"),
    ],
)
@pytest.mark.parametrize("multiprocessors", [1, 132])
def test_shapes(device, monkeypatch, rng, multiprocessors, loss, activation, shape, kind):
    """In a step of plain gradient descent: Σ δ goes to the biases, which the same kernel adds to z."""
    monkeypatch.setattr(device, "_limits", {0: (232448, 8, multiprocessors)})
    layer = Layer(device, rng, loss, activation, shape, kind, weighted=shape[0] % 2 == 1)
    layer.step_of_training(layer.bias, 1.0)
    layer.check(layer.bias, layer.b + layer.delta.sum(axis=0))
    # z has no bias, and a has not been written.
    np.testing.assert_allclose(layer.read(layer.Z), layer.product, rtol=1e-5, atol=1e-5)
    assert np.isnan(layer.read(layer.out)).all()


@pytest.mark.parametrize("kind", ["float64", "float32", "tf32", "bf16"])
@pytest.mark.parametrize("shape", [(13, 128), (29, 515), (3, 4104)])
@pytest.mark.parametrize(
    ("loss", "activation"), [("categorical_cross_entropy", "softmax"), ("squared_error", "tanh"), ("poisson", "exp")]
)
def test_the_same_bits_as_layer_and_delta_one_by_one(device, rng, loss, activation, shape, kind):
    """A captured step and a step by itself agree, and the latter leaves z and a."""
    layer = Layer(device, rng, loss, activation, shape, kind, weighted=True)
    results = []
    for captured in (True, False):
        sums = device.asarray(np.ones(shape[1]), layer.real)
        layer.total = device.zeros((), np.float64)
        if captured:
            layer.step_of_training(sums, 1.0)
        else:
            layer.forward()
            layer.backward(sums, 1.0)
        results.append([device.to_numpy(x).copy() for x in (layer.d, sums, layer.total)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    eps = float(np.finfo(layer.real.type).eps)
    np.testing.assert_allclose(layer.read(layer.Z), layer.z, rtol=16 * eps, atol=64 * eps)
    np.testing.assert_allclose(layer.read(layer.out), layer.a, rtol=256 * eps, atol=64 * eps)


@pytest.mark.parametrize("reader", ["the cost", "another layer", "another activation", "the end"])
@pytest.mark.parametrize("shape", [(13, 7), (40, 515)])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_z_and_a_are_there_for_whoever_reads_them(device, rng, activation, shape, reader):
    """The layer that has been held back is launched in full, unless its δ is all that is asked for."""
    loss = "categorical_cross_entropy" if activation == "softmax" else "squared_error"
    layer = Layer(device, rng, loss, activation, shape, "float64")
    cost = device.zeros((), np.float64)
    with device.small_layers():
        layer.forward()
        if reader == "the cost":
            device.add_cost(loss, activation, layer.Z, layer.out, layer.Y, cost)
        elif reader == "another layer":
            above = rng.standard_normal((4, shape[1]))
            Z, out = (device.empty((shape[0], 4), np.float64) for _ in range(2))
            bias = device.zeros((4,), np.float64)
            device.affine_activation(layer.out, device.asarray(above, np.float64), bias, "identity", Z=Z, out=out)
        elif reader == "another activation":  # as for the simplified error of a squared loss
            device.output_delta("squared_error", "identity", layer.Z, layer.out, layer.Y, 1.0, layer.d, cost)
    np.testing.assert_allclose(layer.read(layer.Z), layer.z, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(layer.read(layer.out), layer.a, rtol=1e-13, atol=1e-13)
    if reader == "the cost":
        assert float(cost) == pytest.approx(layer.cost, rel=1e-12)
    elif reader == "another layer":
        np.testing.assert_allclose(device.to_numpy(Z), layer.a @ above.T, rtol=1e-12, atol=1e-12)
    elif reader == "another activation":
        np.testing.assert_allclose(layer.read(layer.d), layer.a - layer.y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_evaluation_after_captured_steps(device, monkeypatch, shuffle, output, rng):
    """Costs of an epoch come from steps in one kernel, those of the validation from z and a."""
    monkeypatch.setattr(ResidentEpoch, "find", lambda *_: None)
    loss: LossName = "categorical_cross_entropy" if output == "softmax" else "binary_cross_entropy"
    X, Y = rng.standard_normal((41, 5)), targets_for(loss, rng, 41, 36)
    weight, histories, predicted = rng.uniform(0.5, 2, 41), [], []
    for backend in (device, "reference"):
        net = dp.Network([5, 9, 36], backend=backend, loss=loss, output_activation=output, seed=3)
        how = {"batch_size": 8, "epochs": 2, "shuffle": shuffle, "sample_weight": weight, "validation": (X, Y)}
        histories.append(net.fit(X, Y, optimizer=dp.Adam(0.01), **how))
        predicted.append(net.backend.to_numpy(net.predict(X)))
    assert histories[0].cost == pytest.approx(histories[1].cost, rel=1e-12)
    assert histories[0].validation_cost == pytest.approx(histories[1].validation_cost, rel=1e-12)
    np.testing.assert_allclose(predicted[0], predicted[1], rtol=1e-12, atol=1e-14)


def test_a_row_that_is_no_number(device, rng):
    """Its δ and the cost are NaN; δ of the other rows is unchanged."""
    layer = Layer(device, rng, "categorical_cross_entropy", "softmax", (40, 515), "float64")
    memory(layer.A)[17, 3] = np.nan
    layer.step_of_training(layer.bias, 1.0)
    delta, others = layer.read(layer.d), np.arange(40) != 17
    assert np.isnan(delta[17]).all()
    assert np.isnan(float(layer.total))
    np.testing.assert_allclose(delta[others], layer.delta[others], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["float64", "float32", "bf16"])
@pytest.mark.parametrize("shape", [(13, 36), (29, 515), (7, 1031), (3, 4104)])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(("loss", "activation"), [("categorical_cross_entropy", "softmax"), ("squared_error", "tanh")])
def test_targets_are_read_where_they_are(device, rng, loss, activation, shape, shuffled, kind):
    """The targets of a minibatch are rows of all targets, in the order of the epoch; no copy of them is made."""
    layer = Layer(device, rng, loss, activation, shape, kind)
    rows, columns = shape
    step, samples = 2, 3 * rows + 1
    order = rng.permutation(samples) if shuffled else np.arange(samples)
    Y = np.full((samples, columns), np.nan, layer.real)
    Y[order[step * rows : (step + 1) * rows]] = layer.y
    X = np.arange(samples, dtype=layer.real)[:, None]
    put = lambda x: layer.backend.asarray(x, x.dtype)  # noqa: E731
    to_X, current = layer.backend.operand((rows, 1), layer.real), layer.backend.empty((6,), layer.real)
    table, layer.step = put(np.ones((3, 6), layer.real)), put(np.array(step))
    memory(layer.Y)[...] = np.nan
    with layer.backend.counting(layer.step), layer.backend.small_layers():
        out = (to_X, layer.Y, None)
        where = put(order) if shuffled else None
        layer.backend.minibatch(put(X), put(Y), None, where, table, layer.step, out, current, rows)
        layer.forward()
        layer.backward(layer.bias, 1.0)
    layer.check(layer.bias, layer.b + layer.delta.sum(axis=0), step=step + 1)
    assert np.isnan(layer.read(layer.Y)).all()
    np.testing.assert_allclose(
        layer.read(to_X)[:, 0], order[step * rows : (step + 1) * rows], rtol=2 * ROUNDING[kind], atol=0
    )
    assert (layer.read(current) == 1).all()
