"""Matrix products of the CUDA backend: their precision, operands in 16 bits, and the fastest of several ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Scalar
from deltaprop.backends.cuda.cublas import CupyProducts, Products, find_products
from deltaprop.backends.cuda.launching import BFLOAT16
from deltaprop.backends.cuda.padding import ENTRIES, padded_shape
from deltaprop.backends.cuda.streams import GRAPHS, Streams
from deltaprop.backends.cuda.thread_state import Narrowed
from deltaprop.backends.cuda.tiling import THREADS, power_of_two
from deltaprop.backends.cuda.tuning import GraphWatch, fastest, tunes
from deltaprop.backends.device import Graph, Stream

#: The name of each precision in `deltaprop.backends.cuda.cublas`.
KIND_OF_PRECISION = {"tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}
#: The factor of δ in a float16 product: entries from 1.5e-11 (as a subnormal number) to 16 then fit into float16.
DELTA_SCALE = 4096.0


class MatrixProducts(Streams):
    """Multiplies by cublasLt, or by CuPy where there is no cublasLt."""

    @property
    def products(self) -> Products:
        """The library that multiplies matrices; the first access finds it."""
        if self._found.products is None:
            with self._found.lock:
                if self._found.products is None:
                    self._found.products = find_products(self.cp, self.address, self._scratch)
        return self._found.products

    def product(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        transpose_A: bool = False,
        transpose_B: bool = False,
        keep: Scalar | None = None,
        of_delta: bool = False,
    ) -> None:
        """Write op(A) op(B), or keep · out + op(A) op(B), into `out`, in the precision of this backend.

        Where A is a δ (`of_delta`), it is scaled up on its way into float16, whose range is small, and the product is
        scaled down again. Operands and result may be bfloat16 already; then they need the padding of `operand`. Where
        A is not transposed, B are weights.
        """
        kind, factor = str(out.dtype.name), 1.0
        if self.precision != "fp32" and kind != "float64":
            kind = KIND_OF_PRECISION[self.precision]
            if kind != "tf32":
                scale = DELTA_SCALE if kind == "float16" and of_delta else 1.0
                A, factor = self._narrow(kind, "A", A, scale), 1.0 / scale
                B = self._narrow(kind, "B", B, 1.0, weights=not transpose_A)
        products = self.products
        if self._here.wanted is not None:
            return
        how: Any = {"transpose_A": transpose_A, "transpose_B": transpose_B, "keep": keep}
        try:
            products(A, B, out, kind=kind, factor=factor, **how)
        except products.errors as error:
            if kind not in ("float32", "float64") or self.is_capturing():
                raise
            self.do_without("cublasLt", "CuPy multiplies, and steps are not captured as CUDA graphs", error)
            self._found.products = CupyProducts(self.cp)
            self._found.products(A, B, out, kind=kind, factor=factor, **how)

    # -- operands in 16 bits ------------------------------------------------------------------------------------

    def _narrow(self, kind: str, purpose: str, x: Array, scale: float, *, weights: bool = False) -> Array:
        """Return `x` · `scale` in 16 bits, padded; the next product overwrites it, except in `narrowed_once`."""
        if x.dtype == BFLOAT16:
            return x
        narrowed, shape = self._here.narrowed, padded_shape(x.shape, weights=weights)
        key, size, stream = (self.address(x), shape, scale), math.prod(shape), self.cp.cuda.get_current_stream()
        if narrowed is not None and key in narrowed.valid:
            if key in narrowed.ready:
                self._wait(stream, narrowed.ready.pop(key))
            return narrowed.buffers[key]
        if narrowed is None or stream.ptr != narrowed.stream:
            out = self._scratch(f"narrow {purpose}", size, BFLOAT16)[:size].reshape(shape)
        else:
            if key not in narrowed.buffers:
                narrowed.buffers[key] = self.empty(shape, BFLOAT16)
            out = narrowed.buffers[key]
            narrowed.valid.add(key)
        self._write_narrow(kind, x, scale, out)
        return out

    def narrow_ahead(self, weights: Sequence[Array]) -> None:
        """Turn weights into 16 bits on the stream `beside`, in a captured step; each product waits for its own only.

        So they are made while the minibatch is gathered and the layers before are computed. Only weights that
        an earlier step in the same `narrowed_once` copied are made; other layers need none.
        """
        narrowed, aside = self._here.narrowed, self._here.aside
        if narrowed is None or aside is None or not self.is_capturing():
            return
        sources = {(self.address(W), padded_shape(W.shape, weights=True), 1.0): W for W in weights}
        keys = [key for key in sources if key in narrowed.buffers]
        if keys:
            kind = KIND_OF_PRECISION[self.precision]
            launches = [partial(self._write_narrow, kind, sources[key], 1.0, narrowed.buffers[key]) for key in keys]
            narrowed.ready = dict(zip(keys, self._launch_aside(aside, launches), strict=True))
            narrowed.valid.update(keys)

    def _write_narrow(self, kind: str, x: Array, scale: float, out: Array) -> None:
        """Write `x` · `scale` into `out`, in 16 bits, whose shape may have padding: several threads take a row."""
        rows, threads = out.size // out.shape[-1], min(THREADS, power_of_two(out.shape[-1] // ENTRIES))
        sizes = (*x.shape[-2:], *out.shape[-2:], threads.bit_length() - 1, self.rows_begin_at(16, x))
        arguments = (x, x.dtype.type(scale), out, *map(np.int32, sizes), np.int64(rows))
        kernel = self._kernel("narrow", f"narrow_{kind}", x.dtype)
        kernel(self._blocks(-(-rows // (THREADS // threads))), (THREADS,), arguments)

    @contextmanager
    def narrowed_once(self, narrowed: Narrowed) -> Iterator[None]:
        """Turn each float32 operand into 16 bits once inside, not before every product.

        The arrays must not change between their products. In a training step they do not: the update, which writes the
        weights, comes after all products.
        """
        narrowed.valid.clear()
        narrowed.ready.clear()
        narrowed.stream = self.cp.cuda.get_current_stream().ptr  # what another stream makes may not be there in time
        before, self._here.narrowed = self._here.narrowed, narrowed
        try:
            yield
        finally:
            self._here.narrowed = before

    def operand(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        if self.precision != "bf16":
            return self.empty(shape, dtype)
        return self.zeros(padded_shape(shape, weights=False), BFLOAT16)

    # -- the fastest of several ways ----------------------------------------------------------------------------

    @property
    def captures(self) -> bool:
        return self.products.capturable and GRAPHS not in self._found.failed

    def fastest_way(self, ways: Mapping[str, Callable[[], None]]) -> str:
        """Return the name of the way that takes the device the shortest time; ways only launch on the current stream.

        It is the first way with ``DELTAPROP_TUNE=0`` in the environment, and where nothing can be captured.
        """
        first, can_be_timed = next(iter(ways)), tunes() and self.captures
        if not can_be_timed:
            return first
        stream, narrowed = self.stream_for("timing"), Narrowed()

        def capture(stream: Stream, body: Callable[[], None]) -> Graph:
            def narrowing() -> None:
                with self.narrowed_once(narrowed):  # as it is in a step, whose products share operands
                    body()

            return self.capture(stream, narrowing)

        try:
            with self.on_stream(stream):
                with self.narrowed_once(narrowed):
                    for way in ways.values():
                        way()  # kernels are loaded, and scratch is there
                if not self.captures:  # cublasLt may just have failed
                    return first
                return list(ways)[fastest(list(ways.values()), GraphWatch(self.cp, stream, capture))]
        except (*self.device_errors, *self.products.errors) as error:
            self.do_without(GRAPHS, "steps are launched one by one", error)
            return first
