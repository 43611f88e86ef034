"""The CUDA backend: CuPy's arrays and matrix products, our own kernels (``kernels/cuda/*.cu``) for everything else.

Works on the caller's current device and stream; nothing here waits for the device except where a number is returned to
the host (`all_finite`, `squared_norm`, `to_numpy`), where ways are timed when a shape is first met, and where a device
has refused something (`do_without`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.base import Precision, Scalar
from deltaprop.backends.cuda.launching import NULL, SUMMING_BLOCKS_A_MULTIPROCESSOR, number
from deltaprop.backends.cuda.learning import Learning
from deltaprop.backends.cuda.member_axis import member_by_member
from deltaprop.backends.cuda.small_layers import Affine, SmallLayers
from deltaprop.backends.cuda.tangents import Tangents
from deltaprop.backends.cuda.tiling import THREADS
from deltaprop.backends.cuda.whole_epochs import WholeEpochs


def _named(precision: Precision, device: int | None) -> CupyBackend:
    """The backend of this process."""
    from deltaprop.backends import get_backend

    backend: Any = get_backend("cupy")
    variant: CupyBackend = backend.variant(precision, device)
    return variant


class CupyBackend(Tangents, Learning, WholeEpochs):
    """CUDA devices through CuPy."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, precision and device: another process makes its own."""
        return _named, (self.precision, self.device)

    @contextmanager
    def small_layers(self) -> Iterator[None]:
        small = self._here.small = SmallLayers(self, self._small_choices)
        try:
            yield
            small.flush()
        finally:
            self._here.small = None

    # -- functions of one array ---------------------------------------------------------------------------------

    def activation(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_{activation}", z.dtype, z, out, n=z.size)

    def activation_gradient(self, activation: str, z: Array, out: Array) -> None:
        self._over_elements("activation", f"activation_gradient_{activation}", z.dtype, z, out, n=z.size)

    # -- forward ------------------------------------------------------------------------------------------------

    @member_by_member(2, if_scattered=True)
    def affine_activation(
        self, A: Array, W: Array, b: Array, activation: str, Z: Array, out: Array, mask: Array | None = None
    ) -> None:
        small: SmallLayers | None = self._here.small
        if small is None or not small.affine_activation(Affine(A, W, b, activation, Z, out, mask)):
            self.library_affine_activation(A, W, b, activation, Z, out, mask)

    # -- cost and backward --------------------------------------------------------------------------------------

    @member_by_member(2)
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
        sample_weight: Array | None = None,
        bias_gradient: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        given: dict[str, Any] = {"sample_weight": sample_weight, "bias_gradient": bias_gradient, "keep": keep}
        small: SmallLayers | None = self._here.small
        launch = self.library_output_delta if small is None else small.output_delta
        launch(loss, activation, Z, A, Y, scale, out, cost, **given)

    @member_by_member(2)
    def add_cost(
        self, loss: str, activation: str, Z: Array, A: Array, Y: Array, cost: Array, sample_weight: Array | None = None
    ) -> None:
        self.output_delta(loss, activation, Z, A, Y, 1.0, NULL, cost, sample_weight)  # no δ wanted

    @member_by_member(2, if_scattered=True)
    def hidden_delta(
        self,
        delta: Array,
        W: Array,
        activation: str,
        Z: Array,
        out: Array,
        bias_gradient: Array,
        mask: Array | None = None,
        keep: float = 0.0,
    ) -> None:
        self._fork()
        small: SmallLayers | None = self._here.small
        if small is None or not small.hidden_delta(delta, W, activation, Z, out, bias_gradient, mask, keep):
            self.library_hidden_delta(delta, W, activation, Z, out, bias_gradient, mask, keep)

    @member_by_member(2, if_scattered=True)
    def weight_gradient(self, delta: Array, A: Array, out: Array, keep: Scalar | None = None) -> None:
        self._fork()

        small: SmallLayers | None = self._here.small

        def product() -> None:
            if small is None or not small.weight_gradient(delta, A, out, keep):
                self.product(delta, A, out=out, transpose_A=True, keep=keep, of_delta=True)

        if self._here.aside is None:
            product()
        else:
            self._here.aside.held = product

    @member_by_member(1)
    def add_l2_gradient(self, weights: Array, l2: Scalar, gradient: Array) -> None:
        self._join()  # it adds to what they write
        arguments = (weights, *number(l2, weights.dtype), gradient)
        self._over_elements("l2_gradient", "l2_gradient", weights.dtype, *arguments, n=weights.size)

    def squared_norm(self, weights: Array) -> float:
        return float(self.cp.vdot(weights, weights))

    @member_by_member(1)
    def add_squared_norm(self, weights: Array, factor: Scalar, cost: Array) -> None:
        dtype, n = weights.dtype, weights.size
        blocks = min(-(-n // THREADS), SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors)
        shares = self._scratch("squared_norm", SUMMING_BLOCKS_A_MULTIPROCESSOR * self.multiprocessors, dtype)
        arguments = (weights, *number(factor, dtype), shares, self._tickets(1), cost, np.int64(n))
        self._kernel("squared_norm", "squared_norm", dtype)((blocks,), (THREADS,), arguments)
