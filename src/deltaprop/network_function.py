"""`NetworkFunction`: a network as a function of its inputs and parameters, with every derivative of it.

This is the public door for whatever leaves the network as it is: it checks what comes in, and calls the floors below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.arguments import check_choice, check_number, check_whole_number
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation import backprop, derivatives
from deltaprop.derivation.backprop import L2Scaling, Objective, Reduction, Workspace, total_weight
from deltaprop.derivation.derivatives import CostDerivatives, Mode
from deltaprop.derivation.losses import describe
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.errors import rows_counted_from
from deltaprop.inputs.arrays import (
    HostData,
    as_inputs,
    as_targets,
    as_vector,
    as_weights,
    is_above_limit,
    is_on_cuda,
    stays_on_host,
    takes_much_memory,
)
from deltaprop.inputs.sources import CHUNK_BYTES
from deltaprop.training import evaluation

if TYPE_CHECKING:
    from deltaprop.lecture.gradient_check import GradientCheck


@dataclass(frozen=True)
class ForwardPass:
    """Every quantity of a forward pass, rows being samples.

    Attributes
    ----------
    z : list of array
        z^(2) … z^(L), (m, s_l).
    a : list of array
        a^(1) … a^(L), (m, s_l); ``a[0]`` is X and ``a[l + 1]`` is g(``z[l]``).
    """

    z: list[Array]
    a: list[Array]


@methods_on_its_device
class NetworkFunction(NetworkState):
    """h(x; θ), its cost J(θ) and their derivatives; what a `Network` can do besides learning.

    Notes
    -----
    Arrays come back as the kind handed in: NumPy for NumPy (and lists, DataFrames), CuPy for CuPy. These methods only
    read the network and may be called from several threads at once.
    """

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(self, X: Any) -> ForwardPass:
        """z^(l+1) = W^(l) a^(l) + b^(l), a^(l+1) = g(z^(l+1)): every z and every a.

        Parameters
        ----------
        X : array_like, (m, s_1)

        Returns
        -------
        ForwardPass
            With lists ``z`` (layers 2 … L) and ``a`` (layers 1 … L, ``a[0]`` being X).

        Raises
        ------
        ValueError, TypeError
            If X has another shape, holds nan or infinity, or is no array of numbers.
        """
        inputs = self._inputs(X)
        work = Workspace(self, inputs.shape[0], backward=False)
        backprop.forward(self, inputs, work)
        return ForwardPass(z=self._like(X, work.Z), a=self._like(X, work.A))

    def predict(self, X: Any) -> Array:
        """h = a^(L), (m, s_L), for X : (m, s_1), a block of rows at a time; X may be larger than the device's memory.

        Raises
        ------
        ValueError, TypeError
            As `forward`.
        """
        return self._like(X, [evaluation.predict(self, self._inputs(X, may_stay=True))])[0]

    # -- cost and gradient --------------------------------------------------------------------------------------

    def cost(
        self,
        X: Any,
        Y: Any,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: Any = None,
    ) -> float:
        """J(θ) over all samples.

        Parameters
        ----------
        X : array_like, (m, s_1)
        Y : array_like, (m, s_L)
            Targets; (m,) where there is one output, or (m,) whole-number class labels where there are several.
        l2 : float, default 0.0
            λ ≥ 0. Biases are never regularised.
        l2_scaling : {"per_sample", "absolute"}
            λ/(2m) Σ W² or λ/2 Σ W².
        reduction : {"mean", "sum"}
            (1/m) Σ cost or Σ cost.
        sample_weight : array_like, (m,), optional
            How much each sample counts, at least 0: w cost takes the place of cost, and Σ w that of m.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If an argument is none of these; the message names it.
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets, weights = self._samples(X, Y, sample_weight, may_stay=True)
        cost = evaluation.data_cost(self, inputs, targets, sample_weight=weights)
        return objective.total(self, cost, total_weight(self, inputs, weights))

    def cost_and_gradient(
        self,
        X: Any,
        Y: Any,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: Any = None,
    ) -> tuple[float, Parameters]:
        """J(θ) and ∂J/∂θ over all samples, by one forward and one backward pass.

        Parameters
        ----------
        X, Y, l2, l2_scaling, reduction, sample_weight
            As for `cost`.

        Returns
        -------
        cost : float
        gradient : Parameters
            ∂J/∂θ in all its shapes: ``weights``, ``biases``, ``thetas`` and ``flat``.

        Raises
        ------
        ValueError, TypeError
            As `cost`.
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets, weights = self._samples(X, Y, sample_weight)
        cost, gradient = CostDerivatives(self, inputs, targets, objective, weights).cost_and_gradient()
        return cost, gradient.on(get_backend("numpy")) if self._wants_host(X) else gradient

    def deltas(self, X: Any, Y: Any) -> list[Array]:
        """δ^(2) … δ^(L), (m, s_l), one a layer: ∂cost/∂z^(l) of each sample by itself, without 1/m.

        Parameters
        ----------
        X, Y
            As for `cost`.

        Raises
        ------
        ValueError, TypeError
            As `cost`.
        """
        inputs, targets = self._data(X, Y)
        unscaled = CostDerivatives(self, inputs, targets, Objective(reduction="sum"))
        unscaled.cost_and_gradient()
        return self._like(X, unscaled.work.delta)

    # -- derivatives of the network -----------------------------------------------------------------------------

    def jvp(self, X: Any, dX: Any) -> Array:
        """J u for every sample, J = ∂h/∂x, by forward mode: how the outputs move as the inputs move by u.

        Parameters
        ----------
        X : array_like, (m, s_1)
        dX : array_like, (m, s_1)
            The direction u of each sample.

        Returns
        -------
        array, (m, s_L)

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if dX has another shape than X.
        """
        inputs = self._inputs(X)
        direction = self._rows(dX, "dX", inputs.shape[0], self.layer_sizes[0])
        return self._like(X, [derivatives.jvp(self, inputs, direction)])[0]

    def vjp(self, X: Any, dY: Any) -> Array:
        """Jᵀ v for every sample, J = ∂h/∂x, by reverse mode: the gradient of v · h with respect to the inputs.

        Parameters
        ----------
        X : array_like, (m, s_1)
        dY : array_like, (m, s_L)
            The weights v of each sample's outputs.

        Returns
        -------
        array, (m, s_1)

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if dY is not (m, s_L).
        """
        inputs = self._inputs(X)
        weights = self._rows(dY, "dY", inputs.shape[0], self.layer_sizes[-1])
        return self._like(X, [derivatives.vjp(self, inputs, weights)])[0]

    def jacobian(self, X: Any, mode: Mode = "auto") -> Array:
        """∂h_k/∂x_i for every sample.

        Parameters
        ----------
        X : array_like, (m, s_1)
        mode : {"auto", "forward", "reverse"}
            Column by column, s_1 forward passes, or row by row, s_L reverse passes. "auto" is the smaller number.

        Returns
        -------
        array, (m, s_L, s_1)

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if `mode` is none of these.
        """
        check_choice("mode", mode, Mode)
        return self._like(X, [derivatives.jacobian(self, self._inputs(X), mode)])[0]

    def hvp(
        self,
        X: Any,
        Y: Any,
        v: Any,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: Any = None,
    ) -> Array:
        """H v, H = ∂²J/∂θ² over all samples: exact, by forward mode over backpropagation, H never being formed.

        Parameters
        ----------
        X, Y, l2, l2_scaling, reduction, sample_weight
            As for `cost`.
        v : array_like, (n,)
            A vector in the order of `parameters`.

        Returns
        -------
        array, (n,)
            In the order of `parameters`.

        Raises
        ------
        ValueError, TypeError
            As `cost`; also if v has another shape, or the network's output error is the simplified one or its loss a
            pair of functions, of which there is no Hessian.

        Notes
        -----
        Pearlmutter, Fast exact multiplication by the Hessian (1994); the formulas stand in
        `deltaprop.derivation.derivatives`.
        Where an activation has a kink (relu, leaky_relu at 0), its second derivative is taken as 0.
        """
        objective = Objective(l2, l2_scaling, reduction)
        self._require_exact("hvp")
        if not isinstance(self.loss, str):
            raise ValueError(
                f"loss: hvp needs second derivatives, and a pair of functions gives first ones; got {self.loss!r}"
            )
        inputs, targets, weights = self._samples(X, Y, sample_weight)
        direction = Parameters(self.backend, self.layer_sizes, self.dtype)
        direction.flat[...] = as_vector(v, "v", size=direction.size, backend=self.backend, dtype=self.dtype)
        at = CostDerivatives(self, inputs, targets, objective, weights)
        at.cost_and_gradient()  # for its z, a and δ
        return self._like(X, [at.hessian_product(direction).flat])[0]

    # -- the door -----------------------------------------------------------------------------------------------

    def _inputs(self, X: Any, name: str = "X", *, may_stay: bool = False) -> Any:
        """Inputs as an array of ours or, where they may stay and take much room in that form, `HostData`."""
        width = self.layer_sizes[0]
        if may_stay and stays_on_host(X, self.backend, width + self.layer_sizes[-1], self.dtype):
            return HostData(as_inputs(X, name, columns=width, backend=get_backend("reference"), dtype=self.dtype))
        if may_stay and (isinstance(X, HostData) or takes_much_memory(X, self.backend, self.dtype)):
            return self._kept_inputs(X, name)
        return as_inputs(X, name, columns=width, backend=self.backend, dtype=self.dtype)

    def _kept_inputs(self, X: Any, name: str) -> HostData:
        """Inputs of the host as they are, checked chunk by chunk."""
        for rows in self._chunks(X):
            part = X.rows(rows, self.backend, self.dtype) if isinstance(X, HostData) else X[rows]
            with rows_counted_from(rows.start):
                self._inputs(part, name)
        return X if isinstance(X, HostData) else HostData(X)

    def _chunks(self, X: Any) -> Iterator[slice]:
        """The rows of X, so many at a time as may be converted together."""
        at_once = max(1, CHUNK_BYTES // ((self.layer_sizes[0] + self.layer_sizes[-1]) * self.dtype.itemsize))
        m = X.shape[0]
        return (slice(start, min(start + at_once, m)) for start in range(0, m, at_once))

    def _rows(self, value: Any, name: str, rows: int, columns: int) -> Array:
        """`value` as an array of one row a sample."""
        return as_inputs(value, name, columns=columns, rows=rows, backend=self.backend, dtype=self.dtype)

    def _weights(self, sample_weight: Any, inputs: Any) -> Array | None:
        """The sample weights as an array of ours, or None where there are none."""
        if sample_weight is None:
            return None
        rows = inputs.shape[0]
        return as_weights(sample_weight, "sample_weight", rows=rows, backend=self.backend, dtype=self.dtype)

    def _data(self, X: Any, Y: Any, X_name: str = "X", Y_name: str = "Y", *, may_stay: bool = False) -> tuple[Any, Any]:
        """Inputs and targets as arrays of ours, or as `HostData` both, see `_inputs`."""
        kept = self._kept(X, Y, X_name, Y_name) if may_stay else None
        if kept is not None:
            return kept
        inputs = self._inputs(X, X_name, may_stay=may_stay and not self.backend.on_host)
        if isinstance(inputs, HostData):
            return inputs, HostData(self._targets(Y, Y_name, inputs.shape[0], get_backend("reference")))
        return inputs, self._targets(Y, Y_name, inputs.shape[0], self.backend)

    def _kept(self, X: Any, Y: Any, X_name: str, Y_name: str) -> tuple[HostData, HostData] | None:
        """Inputs and targets of the host as they are, checked chunk by chunk; None where they take little memory.

        Inputs that are `HostData` already stay so.
        """
        outputs = self.layer_sizes[-1]
        if not isinstance(X, HostData):
            on_host = self.backend.on_host and backend_of(Y) in (None, self.backend) and not is_on_cuda(Y)
            if not (on_host and isinstance(X, np.ndarray) and X.ndim == 2):
                return None
            labels_are_large = outputs > 1 and np.ndim(Y) == 1 and is_above_limit(len(X), outputs, self.dtype)
            if not (labels_are_large or any(takes_much_memory(x, self.backend, self.dtype) for x in (X, Y))):
                return None
        Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        if Y.shape[:1] != X.shape[:1]:
            self._targets(Y, Y_name, X.shape[0], self.backend)  # which names what is wrong
        inputs = self._kept_inputs(X, X_name)
        for rows in self._chunks(X):
            with rows_counted_from(rows.start):
                self._targets(Y[rows], Y_name, rows.stop - rows.start, self.backend)
        return inputs, HostData(Y, outputs, lambda part: self._targets(part, Y_name, len(part), self.backend))

    def _targets(self, Y: Any, name: str, rows: int, backend: Backend) -> Array:
        """Targets as an array of `backend`."""
        loss = describe(self.loss)
        return as_targets(
            Y,
            name,
            rows=rows,
            columns=self.layer_sizes[-1],
            lowest=loss.lowest,
            highest=loss.highest,
            rows_sum_to_one=loss.rows_sum_to_one,
            backend=backend,
            dtype=self.dtype,
        )

    def _samples(self, X: Any, Y: Any, sample_weight: Any, *, may_stay: bool = False) -> tuple[Any, Any, Array | None]:
        """Inputs and targets as of `_data`, and sample weights, if any, as an array of ours."""
        inputs, targets = self._data(X, Y, may_stay=may_stay)
        return inputs, targets, self._weights(sample_weight, inputs)

    def _wants_host(self, X: Any) -> bool:
        """Whether the caller handed in host data while the network lives on a device."""
        return not self.backend.on_host and not self.backend.owns(X)

    def _like(self, X: Any, arrays: list[Array]) -> list[Array]:
        """`arrays` as the kind that `X` was."""
        return [self.backend.to_numpy(array) for array in arrays] if self._wants_host(X) else arrays

    def _require_exact(self, method: str) -> None:
        """Refuse where backpropagation does not compute the gradient of the cost."""
        if self.output_error != "exact":
            raise ValueError(
                f"output_error: {method} needs the gradient of the cost, which output_error={self.output_error!r} "
                "is not; expected a network made with output_error='exact'"
            )


def check_gradient(
    network: NetworkFunction,
    X: Any,
    Y: Any,
    l2: float = 0.0,
    *,
    l2_scaling: L2Scaling = "per_sample",
    reduction: Reduction = "mean",
    sample_weight: Any = None,
    tolerance: float = 1e-9,
    entries: int = 2000,
) -> GradientCheck:
    """∂J/∂θ by backpropagation against central differences of J, entry by entry.

    Parameters
    ----------
    network : Network
        Not changed. A float32 network is checked through a float64 copy: the formulas are, not the rounding.
    X, Y, l2, l2_scaling, reduction, sample_weight
        As for `NetworkFunction.cost`. A few samples suffice.
    tolerance : float, default 1e-9
        What the relative difference ‖analytic − numeric‖/‖analytic + numeric‖ has to stay below.
    entries : int, default 2000
        A network with more parameters is checked at so many of them, drawn with equal chance.

    Returns
    -------
    GradientCheck
        With ``relative_difference``, ``max_abs_difference``, ``passed``, the same figures layer by layer, ``failed``
        (names of layers) and ``worst`` (an entry); ``print`` shows it as a table. With ``output_error="simplified"``
        its ``note`` says that what is compared is not the gradient of the squared error.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these.
    """
    from deltaprop.lecture import gradient_check  # not at start-up, for those who only train

    objective = Objective(l2, l2_scaling, reduction)
    entries = check_whole_number("entries", entries, least=1)
    tolerance = check_number("tolerance", tolerance, least=0.0)
    with network.backend.scope():
        subject = network.copy(np.float64)
        inputs, targets, weights = subject._samples(X, Y, sample_weight)
        return gradient_check.check_gradient(
            subject, inputs, targets, objective, weights, tolerance=tolerance, entries=entries
        )
