"""A stage that runs every kernel for small layers, with every tile, on odd sizes, and compares with NumPy in float64.

Training uses only the kernels that are fastest on the device, so most of them run on few machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np

from deltaprop.backends import Array, Backend
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.small_layers import LIBRARY
from deltaprop.backends.device import DeviceBackend
from deltaprop.doctor.operations import UNITS, Draw, Operation, error
from deltaprop.doctor.record import Record

#: Rows, inputs, units, outputs: less than a tile; odd and more than a tile; read 16 bytes at a time, more than a warp.
SIZES = ((1, 3, 2, 1), (13, 133, 35, 7), (9, 260, 36, 12))
#: The arithmetic, and the dtype of the arrays: tensor cores multiply float32 rounded to TF32.
KINDS = {"float64": "float64", "float32": "float32", "tf32": "float32"}
#: The error allowed in TF32, whose operands are rounded by 2^-11 each: terms of a short sum may cancel.
TF32 = 2.0**-7
#: Terms of the longest sum, over the inputs of a layer.
TERMS = 260


def small_layers(backend: Backend) -> AbstractContextManager[None]:
    """Make the backend use these kernels, if it has them; NumPy has none."""
    return backend.small_layers() if isinstance(backend, DeviceBackend) else nullcontext()


def small_forward(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """z = W a + b and a = g(z), of a hidden layer."""
    for m, inputs, units, _ in SIZES:
        for name in ("sigmoid", "gelu"):
            A, W, b = draw(m, inputs), draw(units, inputs), draw(units)
            Z, out = draw.empty(m, units), draw.empty(m, units)
            with small_layers(backend):
                backend.affine_activation(A, W, b, name, Z=Z, out=out)
            yield from (("z", Z), ("a", out))


def small_output(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """The output layer, its δ and the cost, and the weight gradient that adds up the cost and Σ δ."""
    for m, inputs, _, s in SIZES:
        for loss, name in (("categorical_cross_entropy", "softmax"), ("squared_error", "identity")):
            A, W, b, Y = draw(m, inputs), draw(s, inputs), draw(s), draw.put(draw.targets(loss, m, s))
            weight = draw.put(draw.rng.uniform(0.5, 2.0, m))
            Z, out, delta, gradient = draw.empty(m, s), draw.empty(m, s), draw.empty(m, s), draw.empty(s, inputs)
            sums, cost = draw(s), backend.zeros((), np.float64)
            with small_layers(backend):
                backend.affine_activation(A, W, b, name, Z=Z, out=out)
                backend.output_delta(loss, name, Z, out, Y, 0.25, delta, cost, weight, sums, 0.5)
                backend.weight_gradient(delta, A, out=gradient)
            results = (("z", Z), ("a", out), ("δ", delta), ("Σ δ", sums), ("cost", cost), ("Δ", gradient))
            yield from results


def small_delta(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """δ of the layer below, and the weight gradient that adds up Σ δ; with a mask of dropout, and without."""
    for m, inputs, units, _ in SIZES:
        for mask in (None, draw.put(2.0 * (draw.rng.random((m, inputs)) < 0.5))):
            delta, W, Z, A = draw(m, units), draw(units, inputs), draw(m, inputs), draw(m, 5)
            out, sums, gradient = draw.empty(m, inputs), draw(inputs), draw.empty(inputs, 5)
            with small_layers(backend):
                backend.hidden_delta(delta, W, "tanh", Z, out=out, bias_gradient=sums, mask=mask, keep=0.5)
                backend.weight_gradient(out, A, out=gradient)
            yield from (("δ", out), ("Σ δ", sums), ("Δ", gradient))


def small_gradient(backend: Backend, draw: Draw) -> Iterator[tuple[str, Array]]:
    """Δ, by itself and added to an earlier one."""
    for m, inputs, units, _ in SIZES:
        for keep in (None, 0.75):
            delta, A, out = draw(m, units), draw(m, inputs), draw(units, inputs)
            with small_layers(backend):
                backend.weight_gradient(delta, A, out=out, keep=keep)
            yield "Δ", out


KERNELS: tuple[Operation, ...] = (small_forward, small_output, small_delta, small_gradient)


class Turns:
    """Stands for the choice by time: takes the tile number `turn`, or the last one of a kernel that has fewer.

    With `tensor_cores`, only the tiles for tensor cores count in a kernel that has some.
    """

    tiles: int
    turn: int
    tensor_cores: bool

    def __init__(self, turn: int, *, tensor_cores: bool) -> None:
        self.turn, self.tiles, self.tensor_cores = turn, 0, tensor_cores

    def __call__(self, ways: dict[str, Any]) -> str:
        """Return the name of a way, never the library's."""
        own = [name for name in ways if name != LIBRARY]
        if self.tensor_cores:
            own = [name for name in own if name.startswith("tensor")] or own
        self.tiles = max(self.tiles, len(own))
        return own[min(self.turn, len(own) - 1)]


def small_kernels(backend: CupyBackend, record: Record) -> None:
    """Run each formula in each of `KINDS`, once for each tile of its kernels."""
    for kernel in KERNELS:
        for kind, dtype in KINDS.items():
            on = backend.in_precision("tf32") if kind == "tf32" else backend
            rounding = TF32 if kind == "tf32" else float(np.finfo(dtype).eps)
            turn, tiles = 0, 1
            while turn < tiles:
                name = f"{kind} {kernel.__name__}, tile {turn + 1}"
                record.trying(name)
                turns = Turns(turn, tensor_cores=kind == "tf32")
                with patch.object(on, "fastest_way", turns), patch.object(on, "_small_choices", {}):
                    found = error(kernel, on, dtype)
                if not turns.tiles:
                    raise RuntimeError(f"{name}: the backend asked for no kernel of this package")
                allowed = rounding * (1.0 if kind == "tf32" else UNITS + 2.0 * TERMS**0.5)
                record.compare(name, found, allowed)
                turn, tiles = turn + 1, turns.tiles
