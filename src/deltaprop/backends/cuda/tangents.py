"""Derivatives along a direction on the CUDA backend."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.cuda.launching import NULL
from deltaprop.backends.cuda.library_layers import LibraryLayers


class Tangents(LibraryLayers):
    """Computes the tangent of each operation of a layer."""

    def affine_tangent(
        self, A: Array, dA: Array | None, W: Array, dW: Array | None, db: Array | None, out: Array
    ) -> None:
        if dA is None:
            out.fill(0)
        else:
            self.product(dA, W, out=out, transpose_B=True)
        if dW is not None and db is not None:
            self.product(A, dW, out=out, transpose_B=True, keep=1.0)
            self._bias_activation(out, db, "identity", out)

    def activation_tangent(self, activation: str, Z: Array, A: Array, tangent: Array, out: Array) -> None:
        if activation == "softmax":
            columns = A.shape[-1]
            arguments = (A, tangent, out, np.int32(columns))
            self._over_rows(
                "activation_tangent", "activation_tangent_softmax", A.dtype, *arguments, rows=A.size // columns
            )
        else:
            function = f"activation_tangent_{activation}"
            self._over_elements("activation_tangent", function, Z.dtype, Z, tangent, out, n=Z.size)

    def input_gradient(self, delta: Array, W: Array, out: Array) -> None:
        self.product(delta, W, out=out, of_delta=True)

    def output_delta_tangent(
        self,
        loss: str,
        activation: str,
        Z: Array,
        A: Array,
        Y: Array,
        dZ: Array,
        dA: Array,
        scale: float,
        out: Array,
        sample_weight: Array | None = None,
    ) -> None:
        of_rows = NULL if sample_weight is None else sample_weight
        arguments = (Z, A, Y, dZ, dA, of_rows, Z.dtype.type(scale), out, np.int32(Z.shape[-1]))
        function = f"output_delta_tangent_{loss}_{activation}"
        self._over_elements("output_delta_tangent", function, Z.dtype, *arguments, n=Z.size)

    def hidden_delta_tangent(
        self,
        delta: Array,
        d_delta: Array,
        W: Array,
        dW: Array,
        activation: str,
        Z: Array,
        dZ: Array,
        out: Array,
    ) -> None:
        self.product(d_delta, W, out=out, of_delta=True)
        self.product(delta, dW, out=out, keep=1.0, of_delta=True)
        v = self._scratch("second", out.size, out.dtype)[: out.size].reshape(out.shape)
        self.product(delta, W, out=v, of_delta=True)
        function = f"hidden_delta_tangent_{activation}"
        self._over_elements("hidden_delta_tangent", function, Z.dtype, v, Z, dZ, out, n=Z.size)

    def weight_gradient_tangent(self, delta: Array, d_delta: Array, A: Array, dA: Array | None, out: Array) -> None:
        self.product(d_delta, A, out=out, transpose_A=True, of_delta=True)
        if dA is not None:
            self.product(delta, dA, out=out, transpose_A=True, keep=1.0, of_delta=True)
