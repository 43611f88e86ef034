"""`NetworkFunction`: a network as a function of its inputs and parameters, with every derivative of it.

Its methods leave the network as it is: they have the data checked, and call the floors below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

from deltaprop.arguments import check_choice, check_number, check_whole_number
from deltaprop.backends import Array, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats, HostArray
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation import backprop, derivatives
from deltaprop.derivation.backprop import L2Scaling, Objective, Reduction, Workspace, total_weight
from deltaprop.derivation.derivatives import MatrixDerivatives, Mode
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_gradient import cost_derivatives
from deltaprop.inputs.arrays import (
    as_vector,
)
from deltaprop.training import evaluation
from deltaprop.training.data_door import DataDoor
from deltaprop.training.evaluation import ForwardPass

if TYPE_CHECKING:
    from deltaprop.lecture.gradient_check import GradientCheck


@methods_on_its_device
class NetworkFunction(NetworkState):
    """h(x; θ), its cost J(θ) and their derivatives; what a `Network` can do besides learning.

    Notes
    -----
    Arrays come back as the kind that came in: NumPy for NumPy (and lists, DataFrames), CuPy for CuPy. These methods
    only read the network and may be called from several threads at once.
    """

    # Users get arrays of their own library, with everything that these can do. NumPy's have a type: NumPy goes in and
    # NumPy comes out. CuPy has no types, and a DataFrame or a list is converted, so the rest is Any.
    parameters: AnyArray
    weights: list[AnyArray]
    biases: list[AnyArray]
    thetas: list[AnyArray]

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(self, X: ArrayLike) -> ForwardPass:
        """Compute z^(l+1) = W^(l) a^(l) + b^(l) and a^(l+1) = g(z^(l+1)): every z and every a.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.

        Returns
        -------
        ForwardPass
            With lists ``z`` (layers 2 … L) and ``a`` (layers 1 … L, ``a[0]`` being X).

        Raises
        ------
        ValueError, TypeError
            If X has another shape, holds nan or infinity, or is no array of numbers.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1])
        >>> seen = net.forward([[0.0, 1.0], [1.0, 1.0]])
        >>> [z.shape for z in seen.z], [a.shape for a in seen.a]
        ([(2, 3), (2, 1)], [(2, 2), (2, 3), (2, 1)])
        >>> bool(np.allclose(seen.a[1], dp.sigmoid(seen.z[0])))
        True
        """
        inputs = self._door.inputs(X)
        work = Workspace(self, inputs.shape[0], backward=False)
        backprop.forward(self, inputs, work)
        return ForwardPass(z=self._like(X, work.Z), a=self._like(X, work.A))

    @overload
    def predict(self, X: HostArray) -> Floats: ...
    @overload
    def predict(self, X: ArrayLike) -> AnyArray: ...
    def predict(self, X: ArrayLike) -> AnyArray:
        """Compute h = a^(L), a block of rows at a time.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row. They may be larger than the device's memory.

        Returns
        -------
        array, (m, s_L)
            The outputs h, one row a sample.

        Raises
        ------
        ValueError, TypeError
            As `forward`.

        See Also
        --------
        predict_classes : The number of each sample's class.
        forward : Every z and a on the way.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1], init="zeros")  # all weights are 0, so all outputs are σ(0)
        >>> net.predict([[0.0, 1.0], [1.0, 1.0]]).tolist()
        [[0.5], [0.5]]
        """
        outputs = evaluation.predict_as_is(self, X)
        if outputs is not None:
            return outputs
        return self._like(X, [evaluation.predict(self, self._door.inputs(X, may_stay=True))])[0]

    # -- cost and gradient --------------------------------------------------------------------------------------

    def cost(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute J(θ) over all samples.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        Y : array_like, (m, s_L)
            Targets; (m,) where there is one output, or (m,) whole-number class labels where there are several.
        l2 : float, default 0.0
            The factor λ ≥ 0 of the penalty. Biases are never regularised.
        l2_scaling : {"per_sample", "absolute"}
            The penalty is λ/(2m) Σ W² or λ/2 Σ W².
        reduction : {"mean", "sum"}
            J without the penalty is (1/m) Σ cost or Σ cost.
        sample_weight : array_like, (m,), optional
            How much each sample counts, at least 0: w cost replaces cost, and Σ w replaces m.

        Returns
        -------
        float
            The cost J, with the penalty.

        Raises
        ------
        ValueError, TypeError
            If an argument is not one of these; the message names it.

        Notes
        -----
        The cost of a sample is ½ ‖h − y‖² for "squared_error", −Σ [y log h + (1 − y) log(1 − h)] for
        "binary_cross_entropy", −Σ y log h for "categorical_cross_entropy", and so on: the formulas stand in
        `deltaprop.derivation.backprop`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1], init="zeros")  # every output is ½, and the cost of a sample is log 2
        >>> round(net.cost([[0, 0], [0, 1]], [0, 1]), 6)
        0.693147
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets, weights = self._door.samples(X, Y, sample_weight, may_stay=True)
        cost = evaluation.data_cost(self, inputs, targets, sample_weight=weights)
        return objective.total(self, cost, total_weight(self, inputs, weights))

    def cost_and_gradient(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, Parameters]:
        """Compute J(θ) and ∂J/∂θ over all samples, by one forward and one backward pass.

        Parameters
        ----------
        X : array_like, (m, s_1)
            As for `cost`.
        Y : array_like, (m, s_L)
            As for `cost`.
        l2 : float, default 0.0
            As for `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As for `cost`.
        reduction : {"mean", "sum"}
            As for `cost`.
        sample_weight : array_like, (m,), optional
            As for `cost`.

        Returns
        -------
        cost : float
            The cost J, with the penalty.
        gradient : Parameters
            ∂J/∂θ in all its shapes: ``weights``, ``biases``, ``thetas`` and ``flat``.

        Raises
        ------
        ValueError, TypeError
            As `cost`.

        See Also
        --------
        deltas : The errors δ that the gradient is made of.
        deltaprop.check_gradient : Compares it with central differences.

        Notes
        -----
        ∂J/∂W^(l) = (1/m) (δ^(l+1))ᵀ A^(l) + (λ/m) W^(l) and ∂J/∂b^(l) = (1/m) Σ δ^(l+1). A row of A^(l) or δ^(l+1) is a
        sample.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 1], loss="squared_error", init="zeros")
        >>> cost, gradient = net.cost_and_gradient([[1.0, 2.0]], [3.0])
        >>> cost  # ½ (0 − 3)²
        4.5
        >>> gradient.weights[0].tolist(), gradient.biases[0].tolist()  # (h − y) x and h − y
        ([[-3.0, -6.0]], [-3.0])
        >>> gradient.thetas[0].tolist()
        [[-3.0, -3.0, -6.0]]
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets, weights = self._door.samples(X, Y, sample_weight)
        at = cost_derivatives(self, inputs, targets, objective, weights, once=True)
        cost, gradient = at.cost_and_gradient()
        return cost, gradient.on(get_backend("numpy")) if self._wants_host(X) else gradient

    def deltas(self, X: ArrayLike, Y: ArrayLike) -> list[AnyArray]:
        """Compute δ^(2) … δ^(L): ∂cost/∂z^(l) of each sample by itself, without 1/m.

        Parameters
        ----------
        X : array_like, (m, s_1)
            As for `cost`.
        Y : array_like, (m, s_L)
            As for `cost`.

        Returns
        -------
        list of array, (m, s_l)
            One a layer.

        Raises
        ------
        ValueError, TypeError
            As `cost`.

        Notes
        -----
        δ^(L) follows from the loss, and δ^(l) = (W^(l))ᵀ δ^(l+1) ⊙ g′(z^(l)).

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1], init="zeros")
        >>> deltas = net.deltas([[0, 0], [0, 1]], [0, 1])
        >>> [delta.shape for delta in deltas]
        [(2, 3), (2, 1)]
        >>> deltas[-1].tolist()  # a^(3) − y, as every output is ½
        [[0.5], [-0.5]]
        """
        inputs, targets = self._door.data(X, Y)
        unscaled = MatrixDerivatives(self, inputs, targets, Objective(reduction="sum"))
        unscaled.cost_and_gradient()
        return self._like(X, unscaled.work.delta)

    # -- derivatives of the network -----------------------------------------------------------------------------

    @overload
    def jvp(self, X: HostArray, dX: ArrayLike) -> Floats: ...
    @overload
    def jvp(self, X: ArrayLike, dX: ArrayLike) -> AnyArray: ...
    def jvp(self, X: ArrayLike, dX: ArrayLike) -> AnyArray:
        """Compute J u for every sample, J = ∂h/∂x, by forward mode: how h moves as the inputs move by u.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        dX : array_like, (m, s_1)
            The direction u of each sample.

        Returns
        -------
        array, (m, s_L)
            How the outputs of each sample move.

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if dX has another shape than X.

        See Also
        --------
        vjp : Reverse mode.
        jacobian : The whole matrix.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 1], loss="squared_error", init="zeros")
        >>> net.weights = [[[3.0, 4.0]]]  # h = 3 x_1 + 4 x_2
        >>> net.jvp([[5.0, 6.0]], [[1.0, -1.0]]).tolist()
        [[-1.0]]
        """
        inputs = self._door.inputs(X)
        direction = self._door.rows(dX, "dX", inputs.shape[0], self.layer_sizes[0])
        return self._like(X, [derivatives.jvp(self, inputs, direction)])[0]

    @overload
    def vjp(self, X: HostArray, dY: ArrayLike) -> Floats: ...
    @overload
    def vjp(self, X: ArrayLike, dY: ArrayLike) -> AnyArray: ...
    def vjp(self, X: ArrayLike, dY: ArrayLike) -> AnyArray:
        """Compute Jᵀ v for every sample, J = ∂h/∂x, by reverse mode: ∂(v · h)/∂x.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        dY : array_like, (m, s_L)
            The weights v of each sample's outputs.

        Returns
        -------
        array, (m, s_1)
            The gradient of v · h with respect to the inputs of each sample.

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if dY is not (m, s_L).

        See Also
        --------
        jvp : Forward mode.
        jacobian : The whole matrix.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 1], loss="squared_error", init="zeros")
        >>> net.weights = [[[3.0, 4.0]]]  # h = 3 x_1 + 4 x_2
        >>> net.vjp([[5.0, 6.0]], [[10.0]]).tolist()
        [[30.0, 40.0]]
        """
        inputs = self._door.inputs(X)
        weights = self._door.rows(dY, "dY", inputs.shape[0], self.layer_sizes[-1])
        return self._like(X, [derivatives.vjp(self, inputs, weights)])[0]

    @overload
    def jacobian(self, X: HostArray, mode: Mode = ...) -> Floats: ...
    @overload
    def jacobian(self, X: ArrayLike, mode: Mode = ...) -> AnyArray: ...
    def jacobian(self, X: ArrayLike, mode: Mode = "auto") -> AnyArray:
        """Compute ∂h_k/∂x_i for every sample.

        Parameters
        ----------
        X : array_like, (m, s_1)
            Samples, one a row.
        mode : {"auto", "forward", "reverse"}
            Column by column, s_1 forward passes, or row by row, s_L reverse passes. "auto" is the smaller number.

        Returns
        -------
        array, (m, s_L, s_1)
            Entry (n, k, i) is ∂h_k/∂x_i of sample n.

        Raises
        ------
        ValueError, TypeError
            As `forward`; also if `mode` is not one of these.

        See Also
        --------
        jvp : One product with it, by forward mode.
        vjp : One product with its transpose, by reverse mode.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> net, X = dp.Network([3, 4, 2], seed=0), np.eye(3)
        >>> forward, reverse = net.jacobian(X, mode="forward"), net.jacobian(X, mode="reverse")
        >>> forward.shape, bool(np.allclose(forward, reverse))
        ((3, 2, 3), True)
        """
        check_choice("mode", mode, Mode)
        return self._like(X, [derivatives.jacobian(self, self._door.inputs(X), mode)])[0]

    def hvp(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        v: ArrayLike,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> AnyArray:
        """Compute H v, H = ∂²J/∂θ² over all samples: exact, by forward mode over backpropagation, without forming H.

        Parameters
        ----------
        X : array_like, (m, s_1)
            As for `cost`.
        Y : array_like, (m, s_L)
            As for `cost`.
        v : array_like, (n,)
            A vector in the order of `parameters`.
        l2 : float, default 0.0
            As for `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As for `cost`.
        reduction : {"mean", "sum"}
            As for `cost`.
        sample_weight : array_like, (m,), optional
            As for `cost`.

        Returns
        -------
        array, (n,)
            The product H v, in the order of `parameters`.

        Raises
        ------
        ValueError, TypeError
            As `cost`; also if v has another shape, or the network's output error is the simplified one or its loss a
            pair of functions, which has no Hessian.

        Notes
        -----
        Pearlmutter, Fast exact multiplication by the Hessian (1994); the formulas stand in
        `deltaprop.derivation.derivatives`.
        Where an activation has a kink (relu, leaky_relu at 0), its second derivative is taken as 0.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 1], loss="squared_error", seed=0)
        >>> X, Y = [[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0]
        >>> H = np.column_stack([net.hvp(X, Y, v) for v in np.eye(3)])  # of J as a function of w_1, w_2 and b
        >>> H.round(6).tolist()  # (1/m) Σ [x; 1] [x; 1]ᵀ
        [[5.0, 7.0, 2.0], [7.0, 10.0, 3.0], [2.0, 3.0, 1.0]]
        """
        objective = Objective(l2, l2_scaling, reduction)
        self._require_exact("hvp")
        if not isinstance(self.loss, str):
            raise ValueError(
                f"loss: hvp needs second derivatives, but a pair of functions gives only first ones; got {self.loss!r}"
            )
        inputs, targets, weights = self._door.samples(X, Y, sample_weight)
        direction = Parameters(self.backend, self.layer_sizes, self.dtype)
        direction.flat[...] = as_vector(v, "v", size=direction.size, backend=self.backend, dtype=self.dtype)
        at = cost_derivatives(self, inputs, targets, objective, weights, once=True)
        return self._like(X, [at.hessian_product(direction).flat])[0]

    # -- what comes in and what goes out ------------------------------------------------------------------------

    @property
    def _door(self) -> DataDoor:
        return DataDoor(self)

    def _wants_host(self, X: ArrayLike) -> bool:
        """Tell whether the caller passed host data while the network lives on a device."""
        return not self.backend.on_host and not self.backend.owns(X)

    def _like(self, X: ArrayLike, arrays: list[Array]) -> list[AnyArray]:
        """Convert `arrays` to the kind of array that `X` is."""
        if not self._wants_host(X):
            return arrays
        return [self.backend.to_numpy(array) if self.backend.owns(array) else array for array in arrays]

    def _require_exact(self, method: str) -> None:
        """Refuse a network for which backpropagation does not compute the gradient of the cost."""
        if self.output_error != "exact":
            raise ValueError(
                f"output_error: {method} needs the gradient of the cost, which output_error={self.output_error!r} "
                "is not; expected a network made with output_error='exact'"
            )


def check_gradient(
    network: NetworkFunction,
    X: ArrayLike,
    Y: ArrayLike,
    l2: float = 0.0,
    *,
    l2_scaling: L2Scaling = "per_sample",
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    tolerance: float = 1e-9,
    entries: int = 2000,
) -> GradientCheck:
    """Compare ∂J/∂θ by backpropagation with central differences of J, entry by entry.

    Parameters
    ----------
    network : Network
        Not changed. A float32 network is checked through a float64 copy: the formulas are, not the rounding.
    X : array_like, (m, s_1)
        As for `Network.cost`. A few samples suffice.
    Y : array_like, (m, s_L)
        As for `Network.cost`.
    l2 : float, default 0.0
        As for `Network.cost`.
    l2_scaling : {"per_sample", "absolute"}
        As for `Network.cost`.
    reduction : {"mean", "sum"}
        As for `Network.cost`.
    sample_weight : array_like, (m,), optional
        As for `Network.cost`.
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
        If an argument is not one of these.

    See Also
    --------
    deltaprop.Network.cost_and_gradient : What is checked.
    deltaprop.Network.explain : All numbers of one sample.

    Examples
    --------
    >>> import numpy as np
    >>> import deltaprop as dp
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(5, 3)), rng.integers(2, size=(5, 3))
    >>> check = dp.check_gradient(dp.Network([3, 5, 3], seed=0), X, Y, l2=1.0)
    >>> check.passed, check.entries, check.failed
    (True, 38, [])
    >>> how = {"output_activation": "sigmoid", "loss": "squared_error", "output_error": "simplified"}
    >>> simplified = dp.Network([3, 5, 3], **how)
    >>> dp.check_gradient(simplified, X, Y).passed  # δ^(L) = a − y is not the gradient of the squared error
    False
    """
    from deltaprop.lecture import gradient_check  # not at start-up, for those who only train

    objective = Objective(l2, l2_scaling, reduction)
    entries = check_whole_number("entries", entries, least=1)
    tolerance = check_number("tolerance", tolerance, least=0.0)
    with network.backend.scope():
        subject = network.copy(np.float64)
        inputs, targets, weights = subject._door.samples(X, Y, sample_weight)
        return gradient_check.check_gradient(
            subject, inputs, targets, objective, weights, tolerance=tolerance, entries=entries
        )
