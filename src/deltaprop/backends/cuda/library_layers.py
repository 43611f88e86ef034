"""The formulas of a layer, each by a matrix product of the library and a kernel of our own after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Scalar
from deltaprop.backends.cuda.compiler import of_loss
from deltaprop.backends.cuda.launching import NULL, SUMMING_BLOCKS_A_MULTIPROCESSOR, number
from deltaprop.backends.cuda.matrix_products import MatrixProducts
from deltaprop.backends.cuda.member_axis import member_by_member
from deltaprop.backends.cuda.tiling import HELD, THREADS, over_columns, over_rows

#: Blocks of ``output_delta_softmax.cu`` that a multiprocessor holds at once.
SOFTMAX_BLOCKS_A_MULTIPROCESSOR = 2


class Targets(NamedTuple):
    """Targets of all samples; a minibatch takes rows order[step · batch], order[step · batch + 1] and so on."""

    Y: Array
    order: Array | None = None
    step: Array | None = None
    batch: int = 0


class LibraryLayers(MatrixProducts):
    """Layers of any size; `deltaprop.backends.cuda.small_layers` challenges them where they are small."""

    def library_affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None
    ) -> None:
        """Compute `affine_activation` by the library's product and a kernel after it."""
        self.product(A, W, out=Z, transpose_B=True)
        self._bias_activation(Z, b, activation, out, mask)

    def _bias_activation(self, Z: Array, b: Array, activation: str, out: Array, mask: Array | None = None) -> None:
        """Write Z + b into `Z` and g(Z + b) into `out`; `out` may be `Z` where g is the identity."""
        rows, columns = Z.shape[-2:]
        members = Z.size // (rows * columns)
        b_stride = np.int64(b.strides[0] // b.itemsize if b.ndim > 1 else 0)
        if activation == "softmax":
            tiling = over_rows(rows, columns, self._widths(Z, out, sizes=(16,)), self.multiprocessors, 1)
            grid = self._blocks(-(-members * rows // (THREADS // tiling.lanes)))
            arguments = (Z, b, out, np.int32(rows), np.int32(columns), b_stride, *tiling.sizes()[-2:])
            self._kernel("softmax", "bias_softmax", Z.dtype)(grid, (32, 8), (*arguments, np.int64(members * rows)))
        else:
            width = self._widths(Z, out, *(() if mask is None else (mask,)), sizes=(16,))[0]
            width = width if columns >= 32 * width else 1
            tiles = -(-columns // (32 * width))
            # As many slices of rows as keep the device busy; what is left is reached by strides.
            (slices,) = self._blocks(-(-rows // 8) * tiles)
            sizes = (np.int32(rows), np.int32(columns), np.int32(b.shape[-1]), b_stride, np.int32(width))
            kernel = self._kernel("bias_activation", f"bias_activation_{activation}", Z.dtype)
            arguments = (Z, b, NULL if mask is None else mask, out, *sizes)
            kernel((tiles * members, max(1, slices // tiles)), (32, 8), arguments)

    def library_output_layer(
        self,
        A: Array,
        W: Array,
        b: Array,
        activation: str,
        Z: Array,
        loss: str,
        Y: Array | Targets,
        scale: Scalar,
        out: Array,
        cost: Array,
        **given: Any,
    ) -> None:
        """Compute `affine_activation` and `output_delta` where nobody reads z and a: `Z` is left without its bias.

        Both are computed from the product on the way to δ, which saves writing them and reading them again.
        """
        self.product(A, W, out=Z, transpose_B=True)
        self.library_output_delta(loss, activation, Z, None, Y, scale, out, cost, **given, bias=b)

    def library_output_delta(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array | None,
        Y: Array | Targets,
        scale: Scalar,
        out: Array,
        cost: Array,
        sample_weight: Array | None = None,
        bias_gradient: Array | None = None,
        keep: float = 0.0,
        *,
        bias: Array | None = None,
    ) -> None:
        """Compute `output_delta` from z and a, or with A = None from z without its bias and the bias."""
        (rows, columns), dtype = Z.shape, Z.dtype
        if activation == "softmax":
            A = None  # it is computed again, which takes less time than to read it
        targets = Y if isinstance(Y, Targets) else Targets(Y)
        optional = (bias, A, targets.order, targets.step, sample_weight)
        b, a, order, at_step, weights = (NULL if array is None else array for array in optional)
        wanted = () if out is NULL else (out,)
        widths = self._widths(Z, targets.Y, *(() if A is None else (A,)), *wanted, sizes=(16,))
        sums = NULL if bias_gradient is None else bias_gradient
        as_it_is, narrow = (NULL, out) if wanted and out.dtype != dtype else (out, NULL)
        multiprocessors = self.multiprocessors
        if activation == "softmax":
            blocks = SOFTMAX_BLOCKS_A_MULTIPROCESSOR
            tiling = over_rows(rows, columns, widths, multiprocessors, blocks, alone=2)
        else:
            blocks = SUMMING_BLOCKS_A_MULTIPROCESSOR
            tiling = over_columns(rows, columns, widths, dtype.itemsize, multiprocessors, blocks, sums=False, alone=4)
        partial, tickets = self._parts(1, rows, columns, dtype)
        costs = self._scratch("costs", blocks * multiprocessors + 2 * columns, np.dtype(np.float64))
        by_blocks = tiling.lanes == THREADS  # each has whole rows, and leaves its sums of them to another launch
        left: Array = NULL
        if by_blocks and bias_gradient is not None and columns <= THREADS * HELD * tiling.width:
            left = self._scratch("sums of rows", min(rows, blocks * multiprocessors) * columns, dtype)
        step = self._here.step
        arguments = (
            *(Z, b, a, targets.Y, order, at_step, np.int64(targets.batch), weights),
            *(as_it_is, narrow, np.int32(out.shape[-1] if wanted else 0), *number(scale, dtype)),
            *(cost, NULL if step is None else step, costs),
            *((NULL, left) if by_blocks else (sums, partial)),
            *(tickets, *tiling.sizes(), dtype.type(keep)),
        )
        softmax = activation == "softmax"
        file, definitions = ("output_delta_softmax", ()) if softmax else ("output_delta", of_loss(loss))
        kernel = self._kernel(file, f"output_delta_{loss}_{activation}", dtype, definitions)
        kernel(tiling.grid(1), (32, 8), arguments)
        if by_blocks and bias_gradient is not None:
            summands = out if left is NULL else left[: tiling.slices * columns].reshape(tiling.slices, columns)
            self.bias_gradient(summands, bias_gradient, keep)

    def library_hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None,
        keep: float,
    ) -> None:
        """Compute `hidden_delta` by the library's product and a kernel after it."""
        self.product(delta, W, out=out, of_delta=True)
        arrays = (out, Z, NULL if mask is None else mask)
        self._over_columns(f"hidden_delta_{activation}", arrays, out, bias_gradient, keep)

    @member_by_member(2, if_scattered=True)
    def bias_gradient(self, delta: Array, out: Array, keep: float = 0.0) -> None:
        self._over_columns("column_sum", (delta,), delta, out, keep)
