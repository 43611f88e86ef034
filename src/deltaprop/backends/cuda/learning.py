"""Updates, minibatches and dropout on the CUDA backend."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import RandomStream, Scalar, philox_key
from deltaprop.backends.cuda.launching import NULL, Launching, number
from deltaprop.backends.cuda.member_axis import member_by_member
from deltaprop.backends.cuda.tiling import THREADS, power_of_two
from deltaprop.backends.kernel_names import Rule


class PhiloxStream:
    """A stream of random numbers: the key of the generator, and how many 32-bit numbers have been drawn."""

    def __init__(self, *key: np.uint64) -> None:
        self.key = key
        self.drawn = 0


class Learning(Launching):
    """Gathers the minibatch before the layers of a step, and updates the parameters after them."""

    # -- learning -----------------------------------------------------------------------------------------------

    @member_by_member(1)
    def update(
        self,
        rule: Rule,
        parameters: Array,
        gradient: Array,
        moments: tuple[Array, ...],
        rate: Scalar,
        decay: Scalar,
        n_decayed: int,
    ) -> None:
        dtype, (first, second, *_) = parameters.dtype, (*moments, NULL, NULL)
        numbers = (*number(rate, dtype), *number(decay, dtype), np.int64(n_decayed), *map(dtype.type, rule.values))
        arguments = (parameters, gradient, first, second, *numbers)
        self._over_elements("optimizer", f"update_{rule.name}", dtype, *arguments, n=parameters.size)

    # -- minibatches --------------------------------------------------------------------------------------------

    def gather(self, X: Array, index: Array, out: Array) -> Array:
        columns = X.size // X.shape[0]
        self._over_elements("gather", "gather", X.dtype, X, index, out, np.int32(columns), n=out.size)
        return out

    def minibatch(
        self,
        X: Array,
        Y: Array,
        weights: Array | None,
        order: Array | None,
        table: Array,
        step: Array,
        out: tuple[Array, Array, Array | None],
        current: Array,
        batch: int,
    ) -> None:
        to_X, to_Y, to_weights = out
        arrays = (X, Y, weights, order, table, step, to_X, to_Y, to_weights, current)
        rows, narrows, small = to_X.shape[0], to_X.dtype != X.dtype, self._here.small
        left = small is not None and small.reads_targets(to_Y, Y, order, step, batch)
        y_columns = 0 if left else Y.shape[1]
        x_bytes, y_bytes = self.bytes_a_copy(X, *(() if narrows else (to_X,))), self.bytes_a_copy(Y, to_Y)
        pieces = (to_X.shape[1] * to_X.itemsize // (16 if narrows else x_bytes), y_columns * Y.itemsize // y_bytes)
        teams = [min(THREADS, power_of_two(max(1, n))) for n in pieces]  # threads a row
        (x_blocks,), (y_blocks,) = (self._blocks(-(-rows // (THREADS // threads))) for threads in teams)
        log2_x, log2_y = (threads.bit_length() - 1 for threads in teams)
        sizes = (X.shape[1], to_X.shape[1], y_columns, x_bytes, y_bytes, log2_x, log2_y, x_blocks, table.shape[1])
        arguments = (
            *(NULL if a is None else a for a in arrays),
            *map(np.int32, sizes),
            np.int64(batch),
            np.int64(rows),
        )
        self._kernel("minibatch", "minibatch", to_X.dtype)((x_blocks + y_blocks,), (THREADS,), arguments)

    def no_rows(self, gradient: Array, table: Array, step: Array, current: Array) -> None:
        arguments = (gradient, table, step, current, np.int32(table.shape[1]))
        self._over_elements("no_rows", "no_rows", gradient.dtype, *arguments, n=gradient.size)

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> RandomStream:
        first, second = philox_key(key)
        return PhiloxStream(first, second)

    def dropout_mask(self, stream: RandomStream, keep: float, out: Array) -> None:
        real, n = out.dtype.type, out.size
        arguments = (*stream.key, np.int64(stream.drawn), np.float32(keep), real(1.0 / keep), out)
        self._over_elements("dropout_mask", "dropout_mask", out.dtype, *arguments, n=n)
        stream.drawn += n
