"""Layers so small that a launch costs as much as their products: one kernel of our own for each of the four formulas.

In ``kernels/cuda/``, ``small_forward.cu``, ``small_delta.cu``, ``small_gradient.cu`` and ``small_output.cu`` form the
product and all that follows it, in TF32 and bfloat16 by tensor cores too. Whether they are faster than the library's
product with a kernel behind it depends on the shapes and the device, so all are timed there when a captured step first
meets a shape, and the choice is remembered.

In a step nobody reads z and a of the output layer, whatever its size. So the layer is held back until its δ is asked
for, and where the library forms the product, the kernel of δ computes them on its way and writes neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Scalar
from deltaprop.backends.cuda.launching import NULL, number
from deltaprop.backends.cuda.library_layers import LibraryLayers, Targets
from deltaprop.backends.kernel_names import activation_number, loss_number

#: Units of an output layer that the lanes of a warp can hold, and rows up to which its kernel is tried: the weight
#: gradient that goes with it has few blocks, and each walks all rows.
MOST_OUTPUTS, MOST_OUTPUT_ROWS = 32, 1024
#: Multiplications of a product; above that only the library is used.
MOST_MULTIPLICATIONS = 2**27
#: Rows of the output layer that a block takes; its kernel has this one tile.
OUTPUT_ROWS = 4
#: The name of the way by the library's product and a kernel after it.
LIBRARY = "library"


class Tile(NamedTuple):
    """The part of a result that a block computes: rows by columns.

    Where tensor cores form the products, a warp takes so many entries of the sum (`depth`) at a time; else that is 0.
    """

    rows: int
    columns: int
    depth: int = 0

    @property
    def name(self) -> str:
        """Its part of a kernel's name."""
        return f"{'tensor_' if self.depth else ''}{self.rows}x{self.columns}"

    def grid(self, rows: int, columns: int) -> tuple[int]:
        """Return the grid of blocks for a result."""
        return (-(-rows // self.rows) * -(-columns // self.columns),)

    def warps(self, length: int) -> int:
        """Return the warps of a block by tensor cores; a sum of `length` is split among them.

        There are no more than the kernels have room for, and a thread for every four results.
        """
        most = 8 if self.rows * self.columns > 512 else 16
        return min(most, max(self.rows * self.columns // 128, -(-length // self.depth)))


#: The tiles of each formula that have a kernel.
FORWARD_TILES = (Tile(8, 8), Tile(8, 4), Tile(4, 4), Tile(32, 16, 32), Tile(16, 16, 64))
DELTA_TILES = (Tile(4, 128), Tile(2, 128), Tile(16, 32, 32), Tile(32, 32, 32))
GRADIENT_TILES = (Tile(8, 128), Tile(4, 128), Tile(32, 32, 32))
#: Warps of a block of ``small_gradient.cu`` by tensor cores.
GRADIENT_WARPS = 4
OUTPUT_TILES = (Tile(OUTPUT_ROWS, MOST_OUTPUTS),)
#: Precisions whose products tensor cores may form.
TENSOR_PRECISIONS = ("tf32", "bf16")


class Affine(NamedTuple):
    """The arguments of an `affine_activation` that may be the output layer."""

    A: Array
    W: Array
    b: Array
    activation: str
    Z: Array
    out: Array
    mask: Array | None


@dataclass
class Sums:
    """Sums that the weight gradient's kernel adds up as well, for no kernel waits for them: of δ and of the costs."""

    bias_gradient: Array | None
    keep: float
    row_cost: Array | None = None
    cost: Array | None = None


class SmallLayers:
    """Launches the small kernels of a backend, for the shapes where they are the fastest.

    Attributes
    ----------
    choices : dict
        By formula, shapes, dtypes and device: "library", or the name of our kernel's tile. All threads share it.
    held : Affine or None
        The layer computed last, which is not launched before it is known whether it is the output layer.
    sums : dict
        By the address of a δ, what is still to be added up when its weight gradient is formed.
    targets : dict
        By the address of an array that the minibatch left unwritten, the targets that `output_delta` reads instead.
    """

    backend: LibraryLayers
    choices: dict[Any, str]

    def __init__(self, backend: LibraryLayers, choices: dict[Any, str]) -> None:
        self.backend, self.choices = backend, choices
        self.held: Affine | None = None
        self.sums: dict[int, Sums] = {}
        self.targets: dict[int, Targets] = {}

    def reads_targets(self, copy: Array, Y: Array, order: Array | None, step: Array, batch: int) -> bool:
        """Whether `output_delta` will read the targets of the minibatch where they are, so that they need no `copy`."""
        wide = bool(copy.shape[-1] > MOST_OUTPUTS)  # else the kernel for small output layers may want the copy
        if wide:
            self.targets[self.backend.address(copy)] = Targets(Y, order, step, batch)
        return wide

    # -- the four formulas --------------------------------------------------------------------------------------

    def affine_activation(self, layer: Affine) -> bool:
        """Launch the layer, or hold it back; False if the library has to compute it."""
        self.flush()
        if layer.mask is None and layer.W.ndim == 2 and layer.Z.dtype == layer.W.dtype:
            self.held = layer
            return True
        return self._affine(layer)

    def flush(self) -> None:
        """Launch the layer that is held back, for it was not the output layer."""
        layer, self.held = self.held, None
        if layer is not None:
            self._launch(layer)

    def _launch(self, layer: Affine) -> None:
        if not self._affine(layer):
            self.backend.library_affine_activation(*layer)

    def _affine(self, layer: Affine) -> bool:
        A, W, b, activation, Z, out, mask = layer
        fits = mask is None and activation != "softmax" and self._fits(A, W) and A.dtype == Z.dtype
        if not fits:
            return False

        def ours(tile: Tile, Z: Array, out: Array) -> None:
            self._forward(tile, A, W, b, activation, Z, out)

        def library(Z: Array, out: Array) -> None:
            self.backend.library_affine_activation(A, W, b, activation, Z, out, None)

        key = ("forward", A.shape, W.shape, A.dtype, Z.dtype, self._packed(A, W))
        tile = self._choose(key, FORWARD_TILES, ours, library, Z, out)
        if tile is not None:
            ours(tile, Z, out)
        return tile is not None

    def output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        scale: Scalar,
        out: Array,
        cost: Array,
        *,
        sample_weight: Array | None,
        bias_gradient: Array | None,
        keep: float,
    ) -> None:
        """Launch the output layer, if it has been held back, and its δ."""
        layer, self.held = self.held, None
        targets = self.targets.get(self.backend.address(Y), Y)
        given: dict[str, Any] = {"sample_weight": sample_weight, "bias_gradient": bias_gradient, "keep": keep}
        if layer is None or layer.Z is not Z or layer.activation != activation or out is NULL:
            if layer is not None:
                self._launch(layer)
            self.backend.library_output_delta(loss, activation, Z, A, targets, scale, out, cost, **given)
            return
        fits = (
            layer.W.shape[0] <= MOST_OUTPUTS
            and self._fits(layer.A, layer.W)
            and out.dtype == layer.A.dtype  # so that the weight gradient, which adds up the costs, is ours too
            and Z.shape[0] <= MOST_OUTPUT_ROWS
        )
        if fits:
            row_cost = self.backend._scratch("row_cost", Z.shape[0], Z.dtype)

            def ours(_: Tile, Z: Array, A: Array, delta: Array) -> None:
                self._output(loss, layer._replace(Z=Z, out=A), Y, scale, delta, row_cost, sample_weight)

            def library(Z: Array, A: Array, delta: Array) -> None:
                spare = self.backend._scratch("trial", 1, np.dtype(np.float64))
                trial = {"sample_weight": sample_weight}
                self._output_by_two(layer._replace(Z=Z, out=A), loss, targets, scale, delta, spare, trial)

            key = ("output", loss, activation, layer.A.shape, layer.W.shape, layer.A.dtype)
            with self.backend.counting(None):  # a trial is no step
                tile = self._choose(
                    (*key, self._packed(layer.A, layer.W)), OUTPUT_TILES, ours, library, Z, layer.out, out
                )
            if tile is not None:
                ours(tile, Z, layer.out, out)
                self.sums[self.backend.address(out)] = Sums(bias_gradient, keep, row_cost, cost)
                return
        self._output_by_two(layer, loss, targets, scale, out, cost, given)

    def _output_by_two(
        self,
        layer: Affine,
        loss: str,
        Y: Array | Targets,
        scale: Scalar,
        delta: Array,
        cost: Array,
        given: dict[str, Any],
    ) -> None:
        """Launch the output layer and its δ as a product, by a small kernel or the library, and a kernel after it."""
        A, W, b, activation, Z, out, _ = layer
        if self._affine(layer):
            self.backend.library_output_delta(loss, activation, Z, out, Y, scale, delta, cost, **given)
        else:
            self.backend.library_output_layer(A, W, b, activation, Z, loss, Y, scale, delta, cost, **given)

    def hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None,
        keep: float,
    ) -> bool:
        """Launch δ of the layer; False if the library has to compute it."""
        if not (self._fits(delta, W) and delta.dtype == out.dtype):
            return False

        def ours(tile: Tile, out: Array, _: Array) -> None:
            self._delta(tile, delta, W, activation, Z, out, mask)

        def library(out: Array, sums: Array) -> None:
            self.backend.library_hidden_delta(delta, W, activation, Z, out, sums, mask, keep)

        packed = self._packed(delta, W), self._packed(out)
        key = ("delta", delta.shape, W.shape, delta.dtype, out.dtype, mask is None, packed)
        tile = self._choose(key, DELTA_TILES, ours, library, out, bias_gradient)
        if tile is not None:
            ours(tile, out, bias_gradient)
            self.sums[self.backend.address(out)] = Sums(bias_gradient, keep)
        return tile is not None

    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None) -> bool:
        """Launch Σ δ aᵀ; False if the library has to compute it. The other sums of this δ are launched in any case."""
        sums = self.sums.pop(self.backend.address(delta), None)

        def ours(tile: Tile, out: Array, sums: Sums | None = None) -> None:
            self._gradient(tile, delta, A, out, keep, sums)

        def library(out: Array) -> None:
            self.backend.product(delta, A, out=out, transpose_A=True, keep=keep, of_delta=True)

        tile = None
        if self._fits(A, out) and delta.dtype == A.dtype:
            costs = sums is not None and sums.row_cost is not None  # which the library would leave out
            packed = self._packed(delta), self._packed(A, out)
            key = ("gradient", delta.shape, A.shape, delta.dtype, A.dtype, keep is not None, costs, packed)
            tile = self._choose(key, GRADIENT_TILES, ours, None if costs else library, out)
        if tile is not None:
            ours(tile, out, sums)
        elif sums is not None and sums.bias_gradient is not None:
            self.backend.bias_gradient(delta, sums.bias_gradient, sums.keep)
        return tile is not None

    # -- launching ----------------------------------------------------------------------------------------------

    def _forward(self, tile: Tile, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array) -> None:
        rows, (units, inputs) = A.shape[0], W.shape
        own = (A.shape[1], Z.shape[1], activation_number(activation), self._packed(A, W))
        sizes = map(np.int32, (rows, inputs, units, *own))
        kernel = self.backend._kernel("small_forward", f"small_forward_{tile.name}", Z.dtype)
        warps = tile.warps(inputs) if tile.depth else min(8, -(-inputs // 128))
        kernel(tile.grid(rows, units), (32, warps), (A, W, b, Z, out, *sizes))

    def _output(
        self,
        loss: str,
        layer: Affine,
        Y: Array,
        scale: Scalar,
        delta: Array,
        row_cost: Array,
        weights: Array | None,
    ) -> None:
        backend, (A, W, b, activation, Z, out, _) = self.backend, layer
        rows, (units, inputs), step = A.shape[0], W.shape, self.backend._here.step
        own = (rows, inputs, A.shape[1], units, delta.shape[1], self._packed(A, W))
        sizes = (loss_number(loss), activation_number(activation), *own)
        arrays = (A, W, b, Z, out, Y, NULL if weights is None else weights, delta, row_cost)
        arguments = (*arrays, *number(scale, W.dtype), NULL if step is None else step, *map(np.int32, sizes))
        warps = max(OUTPUT_ROWS, min(8, -(-inputs // 128)))
        backend._kernel("small_output", "small_output", A.dtype)((-(-rows // OUTPUT_ROWS),), (32, warps), arguments)

    def _delta(
        self, tile: Tile, delta: Array, W: Array, activation: str, Z: Array, out: Array, mask: Array | None
    ) -> None:
        rows, (after, columns) = delta.shape[0], W.shape
        packed = self._packed(delta, W), self._packed(out, Z, *(() if mask is None else (mask,)))
        own = (delta.shape[1], out.shape[1], activation_number(activation), *packed)
        sizes = map(np.int32, (rows, after, columns, *own))
        kernel = self.backend._kernel("small_delta", f"small_delta_{tile.name}", out.dtype)
        warps = tile.warps(after) if tile.depth else max(tile.rows, min(32 // W.dtype.itemsize, after // 16))
        arguments = (delta, W, Z, NULL if mask is None else mask, out, *sizes)
        kernel(tile.grid(rows, columns), (32, warps), arguments)

    def _gradient(self, tile: Tile, delta: Array, A: Array, out: Array, keep: Scalar | None, sums: Sums | None) -> None:
        backend, rows, (units, inputs) = self.backend, delta.shape[0], out.shape
        besides = sums or Sums(None, 0.0)
        places = [NULL if a is None else a for a in (besides.bias_gradient, besides.row_cost, besides.cost)]
        adds, factor = np.int32(keep is not None), number(0.0 if keep is None else keep, out.dtype)
        own = (delta.shape[1], A.shape[1], self._packed(delta), self._packed(A, out))
        sizes = map(np.int32, (rows, units, inputs, *own))
        arguments = (delta, A, out, *factor, adds, places[0], out.dtype.type(besides.keep), *places[1:], *sizes)
        kernel = backend._kernel("small_gradient", f"small_gradient_{tile.name}", A.dtype)
        warps = GRADIENT_WARPS if tile.depth else 32 // out.dtype.itemsize
        kernel(tile.grid(units, inputs), (32, warps), arguments)

    # -- choosing -----------------------------------------------------------------------------------------------

    def _fits(self, rows: Array, weights: Array) -> bool:
        """Whether the product of a minibatch's rows with W, or the gradient of W, is a product of two small matrices.

        All products of a layer have the same answer: the weight gradient has to add up what its δ left to it.
        """
        return bool(rows.ndim == weights.ndim == 2 and rows.shape[0] * weights.size <= MOST_MULTIPLICATIONS)

    def _packed(self, *arrays: Array) -> bool:
        """Whether the rows of all arrays begin at multiples of four entries."""
        return all(self.backend.rows_begin_at(4 * int(array.itemsize), array) for array in arrays)

    def _tensor_cores(self, *arrays: Array | None) -> bool:
        """Whether tensor cores can compute a product with these results."""
        backend = self.backend
        floats = all(array is None or array.dtype != np.float64 for array in arrays)
        return floats and backend.precision in TENSOR_PRECISIONS and backend.has_tensor_cores()

    def _choose(
        self,
        key: Any,
        tiles: tuple[Tile, ...],
        ours: Callable[..., None],
        library: Callable[..., None] | None,
        *results: Array | None,
    ) -> Tile | None:
        """Time all ways on the device; return the tile of the fastest one, None for the library's.

        The results of the trials go elsewhere.
        """
        backend = self.backend
        key = (*key, backend.precision, backend.device_number())
        cores = self._tensor_cores(*results)
        by_name = {tile.name: tile for tile in tiles if cores or not tile.depth}
        if key in self.choices:
            return by_name.get(self.choices[key])
        if backend.is_capturing():  # which the step that comes before never is
            return tiles[0] if library is None else None
        trial = [None if array is None else backend.zeros(array.shape, array.dtype) for array in results]
        ways = {name: partial(ours, tile, *trial) for name, tile in by_name.items()}
        if library is not None:
            ways = {LIBRARY: partial(library, *trial), **ways}
        if backend.is_noting():
            for way in ways.values():
                way()
            return by_name.get(next(iter(ways)))
        self.choices[key] = backend.fastest_way(ways)
        return by_name.get(self.choices[key])
