"""`StackFunction`: what each member of a stack can be asked, with the answers of all members in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.backprop import L2Scaling, Reduction
from deltaprop.derivation.derivatives import Mode
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import StackState
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.training import evaluation
from deltaprop.training.data_door import DataDoor
from deltaprop.training.evaluation import ForwardPass
from deltaprop.training.stack_arguments import each_array, each_targets, one_each, stacked


@methods_on_its_device
class StackFunction(StackState):
    """What a `NetworkStack` can do besides learning, member by member."""

    # Users get arrays of their own library, with everything that these can do.
    parameters: AnyArray
    weights: list[AnyArray]
    biases: list[AnyArray]
    thetas: list[AnyArray]
    _networks: list[Any]  # its members as networks

    def forward(self, X: ArrayLike) -> ForwardPass:
        """Compute every z and every a of every member.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            Samples that all members see, or each one's own.

        Returns
        -------
        ForwardPass
            As of `Network.forward`, with arrays (K, m, s_l).

        Raises
        ------
        ValueError, TypeError
            As `Network.forward`; also if X has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1])
        >>> [z.shape for z in stack.forward([[0.0, 1.0], [1.0, 1.0]]).z]
        [(3, 2, 4), (3, 2, 1)]
        """
        passes = [network.forward(x) for network, x in zip(self._networks, self._each("X", X), strict=True)]
        return ForwardPass(
            z=[stacked([each.z[l] for each in passes]) for l in range(len(self.weights))],
            a=[stacked([each.a[l] for each in passes]) for l in range(len(self.layer_sizes))],
        )

    def predict(self, X: ArrayLike) -> AnyArray:
        """Compute h = a^(L) of every member.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.

        Returns
        -------
        array, (K, m, s_L)
            Member k of it is ``stack[k].predict(X)``.

        Raises
        ------
        ValueError, TypeError
            As `Network.predict`; also if X has not one entry a member.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> stack, X = dp.NetworkStack(3, [2, 4, 1]), [[0.0, 1.0], [1.0, 1.0]]
        >>> stack.predict(X).shape, bool(np.allclose(stack.predict(X)[2], stack[2].predict(X)))
        ((3, 2, 1), True)
        """
        if not self.backend.on_host:
            return self._of_each("predict", X)
        each = self._each("X", X)
        shared = all(x is each[0] for x in each)
        if isinstance(X, EncodedRows):
            return evaluation.predict(self, DataDoor(self._networks[0]).inputs(X, may_stay=True))
        doors = map(DataDoor, self._networks)
        inputs = [door.inputs(x) for door, x in zip(doors, each[:1] if shared else each, strict=False)]
        return evaluation.predict(self, inputs[0] if shared else np.stack(inputs))

    def cost(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        l2: float | Sequence[float] = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> Floats:
        """Compute J(θ) of every member.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.
        Y : array_like
            Targets as of `Network.cost`, for all members, or one such array for each, with X or without.
        l2 : float or sequence of float, default 0.0
            The factor λ of the penalty, one for all members or one each.
        l2_scaling : {"per_sample", "absolute"}
            As of `Network.cost`.
        reduction : {"mean", "sum"}
            As of `Network.cost`.
        sample_weight : array_like, (m,), or (K, m), optional
            As of `Network.cost`, for all members or for each.

        Returns
        -------
        array, (K,) of float64
            On the host.

        Raises
        ------
        ValueError, TypeError
            As `Network.cost`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1], init="zeros")
        >>> stack.cost([[0, 0], [0, 1]], [0, 1]).round(6).tolist()  # log 2
        [0.693147, 0.693147, 0.693147]
        """
        return np.array(
            [
                net.cost(*what, l2_scaling, reduction, **how)
                for net, what, how in self._samples_of(X, Y, l2, sample_weight)
            ]
        )

    def cost_and_gradient(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        l2: float | Sequence[float] = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[Floats, Parameters]:
        """Compute J(θ) and ∂J/∂θ of every member.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `cost`.
        Y : array_like
            As of `cost`.
        l2 : float or sequence of float, default 0.0
            As of `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As of `cost`.
        reduction : {"mean", "sum"}
            As of `cost`.
        sample_weight : array_like, (m,), or (K, m), optional
            As of `cost`.

        Returns
        -------
        cost : array, (K,) of float64
            On the host.
        gradient : Parameters
            ∂J/∂θ with the member axis, in all its shapes.

        Raises
        ------
        ValueError, TypeError
            As `cost`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1])
        >>> cost, gradient = stack.cost_and_gradient([[0, 0], [0, 1]], [0, 1], l2=[0.0, 0.1, 1.0])
        >>> cost.shape, gradient.flat.shape, [W.shape for W in gradient.weights]
        ((3,), (3, 17), [(3, 4, 2), (3, 1, 4)])
        """
        pairs = [
            net.cost_and_gradient(*what, l2_scaling, reduction, **how)
            for net, what, how in self._samples_of(X, Y, l2, sample_weight)
        ]
        flat = stacked([gradient.flat for _, gradient in pairs])
        gradient = Parameters(pairs[0][1].backend, self.layer_sizes, self.dtype, flat=flat)
        return np.array([cost for cost, _ in pairs]), gradient

    def deltas(self, X: ArrayLike, Y: ArrayLike) -> list[AnyArray]:
        """Compute δ^(2) … δ^(L) of every member, without 1/m.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `cost`.
        Y : array_like
            As of `cost`.

        Returns
        -------
        list of array, (K, m, s_l)
            One a layer.

        Raises
        ------
        ValueError, TypeError
            As `Network.deltas`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1])
        >>> [delta.shape for delta in stack.deltas([[0, 0], [0, 1]], [0, 1])]
        [(3, 2, 4), (3, 2, 1)]
        """
        each = [net.deltas(x, y) for net, (x, y, _), _ in self._samples_of(X, Y, 0.0, None)]
        return [stacked([deltas[l] for deltas in each]) for l in range(len(self.weights))]

    def jvp(self, X: ArrayLike, dX: ArrayLike) -> AnyArray:
        """Compute J u of every member, J = ∂h/∂x; see `Network.jvp`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            Samples, for all members or for each.
        dX : array_like, (m, s_1), or (K, m, s_1)
            Directions, for all members or for each.

        Returns
        -------
        array, (K, m, s_L)
            How the outputs move.

        Raises
        ------
        ValueError, TypeError
            As `Network.jvp`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.NetworkStack(3, [2, 4, 1]).jvp([[0.0, 1.0]], [[1.0, 0.0]]).shape
        (3, 1, 1)
        """
        return self._of_each("jvp", X, dX)

    def vjp(self, X: ArrayLike, dY: ArrayLike) -> AnyArray:
        """Compute Jᵀ v of every member, J = ∂h/∂x; see `Network.vjp`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.
        dY : array_like, (m, s_L), or (K, m, s_L)
            The weights v of the outputs, for all members or for each.

        Returns
        -------
        array, (K, m, s_1)
            The gradient of v · h with respect to the inputs.

        Raises
        ------
        ValueError, TypeError
            As `Network.vjp`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.NetworkStack(3, [2, 4, 1]).vjp([[0.0, 1.0]], [[1.0]]).shape
        (3, 1, 2)
        """
        return self._of_each("vjp", X, dY)

    def jacobian(self, X: ArrayLike, mode: Mode = "auto") -> AnyArray:
        """Compute ∂h_k/∂x_i of every member; see `Network.jacobian`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `forward`.
        mode : {"auto", "forward", "reverse"}
            As of `Network.jacobian`.

        Returns
        -------
        array, (K, m, s_L, s_1)
            Member k of it is ``stack[k].jacobian(X)``.

        Raises
        ------
        ValueError, TypeError
            As `Network.jacobian`; also if X has not one entry a member.

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.NetworkStack(3, [2, 4, 1]).jacobian([[0.0, 1.0]]).shape
        (3, 1, 1, 2)
        """
        return stacked([net.jacobian(x, mode) for net, x in zip(self._networks, self._each("X", X), strict=True)])

    def hvp(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        v: ArrayLike,
        l2: float | Sequence[float] = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> AnyArray:
        """Compute H v of every member, H = ∂²J/∂θ²; see `Network.hvp`.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `cost`.
        Y : array_like
            As of `cost`.
        v : array_like, (n,), or (K, n)
            A vector in the order of the parameters, for all members or for each.
        l2 : float or sequence of float, default 0.0
            As of `cost`.
        l2_scaling : {"per_sample", "absolute"}
            As of `cost`.
        reduction : {"mean", "sum"}
            As of `cost`.
        sample_weight : array_like, (m,), or (K, m), optional
            As of `cost`.

        Returns
        -------
        array, (K, n)
            In the order of the parameters.

        Raises
        ------
        ValueError, TypeError
            As `Network.hvp`; also if an argument has not one entry a member.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1])
        >>> stack.hvp([[0, 0], [0, 1]], [0, 1], np.ones(17)).shape
        (3, 17)
        """
        directions = self._each("v", v, axes=1)
        return stacked(
            [
                net.hvp(x, y, direction, own_l2, l2_scaling, reduction, **how)
                for (net, (x, y, own_l2), how), direction in zip(
                    self._samples_of(X, Y, l2, sample_weight), directions, strict=True
                )
            ]
        )

    def _of_each(self, method: str, *arrays: AnyArray) -> AnyArray:
        """Call a method of `Network` for each member, with arrays that are shared or are each one's own."""
        each = [self._each(name, array) for name, array in zip(("X", "direction"), arrays, strict=False)]
        return stacked([getattr(net, method)(*own) for net, *own in zip(self._networks, *each, strict=True)])

    def _each(self, name: str, array: AnyArray, axes: int = 2) -> list[AnyArray]:
        """List the array of each member: its own if there is a member axis before `axes` others, else the same."""
        return each_array(name, array, len(self._networks), axes)

    def _targets_each(self, X: ArrayLike, Y: ArrayLike) -> list[AnyArray]:
        """List the targets of each member."""
        return each_targets(Y, len(self._networks), self.layer_sizes[-1], np.ndim(X) == 3)

    def _samples_of(
        self, X: ArrayLike, Y: ArrayLike, l2: float | Sequence[float], sample_weight: ArrayLike
    ) -> list[tuple[Any, tuple[Any, Any, float], dict[str, Any]]]:
        """List (member, (x, y, l2), {"sample_weight": w}) for each member."""
        penalties = one_each("l2", l2, len(self._networks))
        weights = self._each("sample_weight", sample_weight, axes=1)
        rows = zip(self._networks, self._each("X", X), self._targets_each(X, Y), penalties, weights, strict=True)
        return [(net, (x, y, own_l2), {"sample_weight": weight}) for net, x, y, own_l2, weight in rows]
