"""A stage that runs every operation of the vocabulary on odd sizes and compares with NumPy in float64.

Each function here takes a backend and a `Draw` for its inputs, and yields the results of the operation. It is run
twice with the same random numbers: by the backend under test, and by NumPy's in float64.

The bounds: elementary functions and the few operations around them are allowed 32 units of rounding (ε, 2.2e-16 or
1.2e-7) of the largest entry of a result. The rounding errors of a sum of n terms add up like the steps of a random
walk, to some √n of them; twice that is allowed on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from deltaprop.backends import Array, Backend, get_backend
from deltaprop.backends.array_types import Floats
from deltaprop.backends.choices import FloatName
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.activations import OUTPUT_ACTIVATIONS
from deltaprop.derivation.losses import LOSSES
from deltaprop.doctor.record import Record

if TYPE_CHECKING:
    from deltaprop.derivation.initialization import Generator

#: Rows and columns: odd ones; rows read 16 bytes at a time; more rows (of an output layer: entries) than a block takes.
SHAPES = ((7, 33), (3, 128), (270, 31))
OUTPUT_SHAPES = ((7, 33), (3, 128), (33, 257))
#: From so many entries each loss is tried with one activation only: the arithmetic is the same, the launch is not.
MANY_ENTRIES = 1000
#: Entries of a flat vector: no multiple of a block.
ENTRIES = 20_001
#: Units of rounding that are allowed, apart from sums.
UNITS = 32
#: The probability with which dropout keeps a unit.
KEEP = 0.75
DTYPES: tuple[FloatName, ...] = ("float64", "float32")
#: The functions with a kernel for g′.
SLOPES = tuple(name for name in OUTPUT_ACTIVATIONS if name != "softmax")


class Draw:
    """Draws inputs, rounds them to the dtype under test and gives them to a backend in the dtype it works in."""

    backend: Backend
    tested: str
    own: str

    def __init__(self, backend: Backend, tested: str, own: str) -> None:
        self.backend, self.tested, self.own = backend, tested, own
        self.rng: Generator = np.random.default_rng(20240229)

    def __call__(self, *shape: int) -> Array:
        """Return numbers from the normal distribution."""
        return self.put(self.rng.standard_normal(shape))

    def put(self, x: Floats) -> Array:
        """Return `x`, rounded."""
        return self.backend.asarray(x.astype(self.tested), self.own)

    def empty(self, *shape: int) -> Array:
        """Return an array for a result."""
        return self.backend.empty(shape, self.own)

    def targets(self, loss: str, *shape: int) -> Floats:
        """Return targets in the range of `loss`."""
        about = LOSSES[loss]
        if about.highest < np.inf:
            y = self.rng.uniform(0.05, 0.95, shape)
            return y / y.sum(axis=1, keepdims=True) if about.rows_sum_to_one else y
        return self.rng.uniform(0.0, 3.0, shape) if about.lowest == 0.0 else 2.0 * self.rng.standard_normal(shape)


#: A function of a backend and a `Draw`, which yields the name of each result and the result.
Operation: TypeAlias = Callable[[Backend, Draw], Iterator[tuple[str, Array]]]


def activation(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """a = g(z)."""
    for name in SLOPES:
        z, out = draw(ENTRIES), draw.empty(ENTRIES)
        backend.activation(name, z, out)
        yield name, out


def activation_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """g′(z)."""
    for name in SLOPES:
        z, out = draw(ENTRIES), draw.empty(ENTRIES)
        backend.activation_gradient(name, z, out)
        yield name, out


def affine_activation(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """z and a of a layer; softmax too, and with a mask of dropout."""
    for m, s in SHAPES:
        for name in OUTPUT_ACTIVATIONS:
            A, W, b, Z, out = draw(m, 5), draw(s, 5), draw(s), draw.empty(m, s), draw.empty(m, s)
            mask = None if name == "softmax" else draw.put(2.0 * (draw.rng.random((m, s)) < 0.5))
            backend.affine_activation(A, W, b, name, Z=Z, out=out, mask=mask)
            yield f"z of {name}", Z
            yield name, out


def output_delta(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """δ^(L), its sums and the cost, with sample weights, for every loss and output activation."""
    for m, s in OUTPUT_SHAPES:
        for loss, name, arrays in _outputs(draw, m, s):
            out, sums, cost = draw.empty(m, s), draw.empty(s), backend.zeros((), np.float64)
            weight = draw.put(draw.rng.uniform(0, 3, m))
            backend.output_delta(loss, name, *arrays, 0.25, out, cost, weight, sums)
            backend.add_cost(loss, name, *arrays, cost, weight)
            yield from ((f"{what} of {loss}, {name}", x) for what, x in (("δ", out), ("Σ δ", sums), ("cost", cost)))


def hidden_delta(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """δ^(l) and its sums over the samples."""
    for m, s in SHAPES:
        for name in SLOPES:
            delta, W, Z, out, sums = draw(m, 4), draw(4, s), draw(m, s), draw.empty(m, s), draw.empty(s)
            backend.hidden_delta(delta, W, name, Z, out=out, bias_gradient=sums)
            yield f"δ of {name}", out
            yield f"Σ δ of {name}", sums


def weight_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Δ^(l), by itself and added to an earlier one."""
    for m, s in SHAPES:
        delta, A, out = draw(m, s), draw(m, 6), draw(s, 6)
        backend.weight_gradient(delta, A, out=out)
        yield f"{m} rows", out
        out = draw(s, 6)
        backend.weight_gradient(delta, A, out=out, keep=0.75)
        yield f"{m} rows, added", out


def bias_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Σ δ^(l+1)."""
    for m, s in SHAPES:
        delta, out = draw(m, s), draw.empty(s)
        backend.bias_gradient(delta, out)
        yield f"{m} rows", out


def add_l2_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """λ W."""
    W, gradient = draw(ENTRIES), draw(ENTRIES)
    backend.add_l2_gradient(W, 0.3, gradient)
    yield "", gradient


def squared_norm(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Σ W², as a number on the host, or added to a cost on the device."""
    W, cost = draw(ENTRIES), backend.zeros((), np.float64)
    backend.add_squared_norm(W, 0.25, cost)
    yield "on the device", cost
    yield "on the host", backend.asarray(backend.squared_norm(W), np.float64)


def sgd(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """θ − η g."""
    theta, g = draw(ENTRIES), draw(ENTRIES)
    backend.update(Rule("sgd"), theta, g, (), 0.1, 0.0, 0)
    yield "", theta


def momentum(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """v := μ v − η g, θ := θ + v."""
    theta, g, v = draw(ENTRIES), draw(ENTRIES), draw(ENTRIES)
    backend.update(Rule("momentum", {"momentum": 0.9}), theta, g, (v,), 0.1, 0.0, 0)
    yield "θ", theta
    yield "v", v


def nesterov(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """v := μ v − η g, θ := θ + μ v − η g."""
    theta, g, v = draw(ENTRIES), draw(ENTRIES), draw(ENTRIES)
    backend.update(Rule("nesterov", {"momentum": 0.9}), theta, g, (v,), 0.1, 0.0, 0)
    yield "θ", theta
    yield "v", v


def adam(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Adam with both moments, and weight decay of the first half of θ."""
    theta, g, first = draw(ENTRIES), draw(ENTRIES), draw(ENTRIES)
    second = draw.put(draw.rng.uniform(0.5, 2.0, ENTRIES))
    rule = Rule("adam", {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8})
    backend.update(rule, theta, g, (first, second), 0.01, 0.1, ENTRIES // 2)
    yield from (("θ", theta), ("m", first), ("v", second))


def gather(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """The rows of a minibatch."""
    X, rows = draw(61, 7), backend.asarray(draw.rng.permutation(61)[:33], np.int64)
    yield "", backend.gather(X, rows, out=draw.empty(33, 7))


def dropout_mask(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Dropout masks: two draws from one stream."""
    stream = backend.random_stream((1, 2, 3))
    for number in ("first", "second"):
        out = draw.empty(ENTRIES)
        backend.dropout_mask(stream, KEEP, out)
        yield f"{number} draw", out


def affine_tangent(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """dz of a layer."""
    for m, s in SHAPES:
        out = draw.empty(m, s)
        backend.affine_tangent(draw(m, 5), draw(m, 5), draw(s, 5), draw(s, 5), draw(s), out=out)
        yield f"{m} rows", out


def activation_tangent(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """da, by g′ or by the Jacobian of softmax."""
    for m, s in SHAPES:
        for name in OUTPUT_ACTIVATIONS:
            z, tangent, out = draw.rng.standard_normal((m, s)), draw(m, s), draw.empty(m, s)
            backend.activation_tangent(name, draw.put(z), draw.put(_activated(name, z)), tangent, out=out)
            yield name, out


def input_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Wᵀ δ."""
    for m, s in SHAPES:
        out = draw.empty(m, s)
        backend.input_gradient(draw(m, 4), draw(4, s), out=out)
        yield f"{m} rows", out


def output_delta_tangent(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """dδ^(L), for every loss and output activation."""
    for m, s in OUTPUT_SHAPES:
        for loss, name, arrays in _outputs(draw, m, s):
            out, dZ, dA = draw.empty(m, s), draw(m, s), draw(m, s)
            backend.output_delta_tangent(loss, name, *arrays, dZ, dA, 0.25, out=out)
            yield f"{loss}, {name}", out


def hidden_delta_tangent(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """dδ^(l)."""
    for m, s in SHAPES:
        for name in SLOPES:
            out = draw.empty(m, s)
            inputs = (draw(m, 4), draw(m, 4), draw(4, s), draw(4, s))
            backend.hidden_delta_tangent(*inputs, name, draw(m, s), draw(m, s), out=out)
            yield name, out


def weight_gradient_tangent(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """dΔ^(l)."""
    for m, s in SHAPES:
        out = draw.empty(s, 6)
        backend.weight_gradient_tangent(draw(m, s), draw(m, s), draw(m, 6), draw(m, 6), out=out)
        yield f"{m} rows", out


#: The operations, and how many terms the longest sum of each has.
OPERATIONS: dict[Operation, int] = {
    activation: 0,
    activation_gradient: 0,
    affine_activation: 128,
    output_delta: 257,
    hidden_delta: 270,
    weight_gradient: 270,
    bias_gradient: 270,
    add_l2_gradient: 0,
    squared_norm: ENTRIES,
    sgd: 0,
    momentum: 0,
    nesterov: 0,
    adam: 0,
    gather: 0,
    dropout_mask: 0,
    affine_tangent: 11,
    activation_tangent: 128,
    input_gradient: 4,
    output_delta_tangent: 0,
    hidden_delta_tangent: 12,
    weight_gradient_tangent: 540,
}


def operations(backend: Backend, record: Record) -> None:
    """Run each operation in both dtypes, compare its results, and check the masks of dropout."""
    for operation, terms in OPERATIONS.items():
        for dtype in DTYPES:
            name = f"{dtype} {operation.__name__}"
            record.trying(name)
            allowed = (UNITS + 2.0 * terms**0.5) * float(np.finfo(dtype).eps)
            record.compare(name, error(operation, backend, dtype), allowed)
    record.trying("dropout")
    first, again = (_masks(backend) for _ in range(2))
    record.compare("dropout drawn again", float(np.max(np.abs(first - again))), 0.0)
    deviation = np.sqrt((1.0 - KEEP) / KEEP / first.size)  # standard deviation of the mean of so many entries
    record.compare("mean of dropout", abs(first.mean() - 1.0) / deviation, 5.0, "σ")


def error(operation: Operation, backend: Backend, dtype: str) -> float:
    """Return the worst error of a result: max |got − expected| over the largest entry expected, or nan.

    Results must have the expected shape.
    """
    numpy = get_backend("reference")
    ours = operation(backend, Draw(backend, dtype, dtype))
    expected = operation(numpy, Draw(numpy, dtype, "float64"))
    return float(
        np.max([_error(backend.to_numpy(a), numpy.to_numpy(b)) for (_, a), (_, b) in zip(ours, expected, strict=True)])
    )


def _error(got: Floats, expected: Floats) -> float:
    scale = float(np.max(np.abs(expected)))
    return float(np.max(np.abs(got.astype(np.float64) - expected))) / (scale or 1.0)


def _masks(backend: Backend) -> Floats:
    return np.array([backend.to_numpy(out) for _, out in dropout_mask(backend, Draw(backend, "float32", "float32"))])


def _outputs(draw: Draw, m: int, s: int) -> Iterator[tuple[str, str, tuple[Array, Array, Array]]]:
    """Yield every loss with each of its output activations, and z, a and y for them."""
    for loss, about in LOSSES.items():
        for name in about.activations if m * s < MANY_ENTRIES else about.activations[:1]:
            z = draw.rng.standard_normal((m, s))
            y = draw.targets(loss, m, s)
            yield loss, name, (draw.put(z), draw.put(_activated(name, z)), draw.put(y))


def _activated(name: str, z: Floats) -> Floats:
    out = np.empty_like(z)
    get_backend("reference").activation(name, z, out)
    return out
