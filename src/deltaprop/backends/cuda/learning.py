"""Updates, minibatches and dropout on the CUDA backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import RandomStream, Scalar, philox_key
from deltaprop.backends.cuda.launching import NULL, Launching, number
from deltaprop.backends.cuda.member_axis import member_by_member
from deltaprop.backends.cuda.tiling import THREADS, power_of_two


class PhiloxStream:
    """A stream of random numbers: the key of the generator, and how many 32-bit numbers have been drawn."""

    def __init__(self, *key: np.uint64) -> None:
        self.key = key
        self.drawn = 0


class Learning(Launching):
    """Gathers the minibatch before the layers of a step, and updates the parameters after them."""

    # -- learning -----------------------------------------------------------------------------------------------

    @member_by_member(1)
    def sgd_update(
        self,
        parameters: Array,
        gradient: Array,
        velocity: Array | None,
        learning_rate: Scalar,
        momentum: Scalar,
        nesterov: bool,
    ) -> None:
        real, rate = parameters.dtype.type, number(learning_rate, parameters.dtype)
        if velocity is None:
            function = "sgd"
            arguments: tuple[Any, ...] = (parameters, gradient, *rate)
        else:
            function = "sgd_nesterov" if nesterov else "sgd_momentum"
            arguments = (parameters, gradient, velocity, *rate, real(momentum))
        self._over_elements("sgd", function, parameters.dtype, *arguments, n=parameters.size)

    @member_by_member(1)
    def adam_update(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step_size: Scalar,
        beta_1: Scalar,
        beta_2: Scalar,
        epsilon: Scalar,
        decay: Scalar,
        n_decayed: int,
    ) -> None:
        dtype = parameters.dtype
        constants = [dtype.type(x) for x in (beta_1, beta_2, epsilon)]
        arrays = (parameters, gradient, first_moment, second_moment)
        arguments = (*arrays, *number(step_size, dtype), *constants, *number(decay, dtype), np.int64(n_decayed))
        self._over_elements("adam", "adam", parameters.dtype, *arguments, n=parameters.size)

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
        rows, narrows = to_X.shape[0], to_X.dtype != X.dtype
        x_bytes, y_bytes = self.bytes_a_copy(X, *(() if narrows else (to_X,))), self.bytes_a_copy(Y, to_Y)
        pieces = (to_X.shape[1] * to_X.itemsize // (16 if narrows else x_bytes), Y.shape[1] * Y.itemsize // y_bytes)
        teams = [min(THREADS, power_of_two(n)) for n in pieces]  # threads a row
        (x_blocks,), (y_blocks,) = (self._blocks(-(-rows // (THREADS // threads))) for threads in teams)
        log2_x, log2_y = (threads.bit_length() - 1 for threads in teams)
        sizes = (X.shape[1], to_X.shape[1], Y.shape[1], x_bytes, y_bytes, log2_x, log2_y, x_blocks, table.shape[1])
        arguments = (
            *(NULL if a is None else a for a in arrays),
            *map(np.int32, sizes),
            np.int64(batch),
            np.int64(rows),
        )
        self._kernel("minibatch", "minibatch", to_X.dtype)((x_blocks + y_blocks,), (THREADS,), arguments)

    # -- dropout ------------------------------------------------------------------------------------------------

    def random_stream(self, key: tuple[int, ...]) -> RandomStream:
        first, second = philox_key(key)
        return PhiloxStream(first, second)

    def dropout_mask(self, stream: RandomStream, keep: float, out: Array) -> None:
        real, n = out.dtype.type, out.size
        arguments = (*stream.key, np.int64(stream.drawn), np.float32(keep), real(1.0 / keep), out)
        self._over_elements("dropout_mask", "dropout_mask", out.dtype, *arguments, n=n)
        stream.drawn += n
