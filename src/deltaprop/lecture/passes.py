"""Both passes over a few samples, every number of them as an array of the host; and how a number is written."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats
from deltaprop.derivation.backprop import Objective, Workspace, add_cost
from deltaprop.derivation.derivatives import MatrixDerivatives
from deltaprop.derivation.losses import CustomLoss
from deltaprop.derivation.state import NetworkState

Matrix: TypeAlias = Floats


@dataclass(frozen=True)
class Passes:
    """Every quantity of one forward and one backward pass over m samples, in the order of their computation.

    Parameters
    ----------
    Theta : list of array, (s_{l+1}, 1 + s_l)
        Θ^(l) = [b^(l), W^(l)].
    a : list of array, (m, s_l)
        a^(1) … a^(L).
    z : list of array, (m, s_l)
        z^(2) … z^(L).
    slope : list of array, (m, s_l), or None
        g′(z^(2)) … g′(z^(L)); None for a softmax layer.
    y : array, (m, s_L)
        The targets.
    costs : list of float
        What each sample costs.
    squares : float
        Σ W² over all layers.
    cost : float
        J, with the penalty.
    cost_slope : array, (m, s_L), or None
        ∂cost/∂a^(L) of a loss that is a pair of functions; None for the others.
    delta : list of array, (m, s_l)
        δ^(2) … δ^(L) of each sample by itself, without 1/m.
    Delta : list of array, (s_{l+1}, 1 + s_l)
        Δ^(l) = Σ δ^(l+1) [1; a^(l)]ᵀ over the samples.
    D : list of array, (s_{l+1}, 1 + s_l)
        ∂J/∂Θ^(l).
    """

    Theta: list[Matrix]
    a: list[Matrix]
    z: list[Matrix]
    slope: list[Matrix | None]
    y: Matrix
    costs: list[float]
    squares: float
    cost: float
    cost_slope: Matrix | None
    delta: list[Matrix]
    Delta: list[Matrix]
    D: list[Matrix]


def both_passes(network: NetworkState, X: Array, Y: Array, objective: Objective) -> tuple[Passes, Array]:
    """Run both passes over m samples, X : (m, s_1), Y : (m, s_L), trusted arrays of the network's backend.

    Returns
    -------
    passes : Passes
        Their numbers, which share no memory with the network or the samples.
    gradient : array, (n,)
        ∂J/∂θ of all parameters, in the order of `NetworkState.parameters`, on the network's backend.
    """
    backend, m = network.backend, X.shape[0]
    unscaled = MatrixDerivatives(network, X, Y, Objective(reduction="sum"))
    _, gradient = unscaled.cost_and_gradient()
    work, Delta = unscaled.work, [backend.to_numpy(theta) for theta in gradient.thetas]
    if objective.scale(m) != 1.0:
        gradient.flat[...] *= objective.scale(m)
    if objective.penalty(m):
        backend.add_l2_gradient(network.flat_weights, objective.penalty(m), gradient.flat_weights)
    a, z, delta = ([_host(network, array) for array in arrays] for arrays in (work.A, work.Z, work.delta))
    passes = Passes(
        Theta=[backend.to_numpy(theta) for theta in network.thetas],
        a=a,
        z=z,
        slope=[_slope(network, g, Z) for g, Z in zip(network.activations, work.Z, strict=True)],
        y=_host(network, Y),
        costs=_costs(network, Y, work) if m > 1 else [float(unscaled.cost)],
        squares=float(backend.squared_norm(network.flat_weights)),
        cost=objective.total(network, unscaled.cost, m),
        cost_slope=_cost_slope(network, work.A[-1], Y),
        delta=delta,
        Delta=Delta,
        D=[backend.to_numpy(theta) for theta in gradient.thetas],
    )
    return passes, gradient.flat


def _host(network: NetworkState, array: Array) -> Matrix:
    """Copy an array to the host, also where it is there already."""
    copy: Matrix = network.backend.to_numpy(array).copy()
    return copy


def _costs(network: NetworkState, Y: Array, work: Workspace) -> list[float]:
    """Return what each sample costs, from the outputs of a forward pass over all of them."""
    found, row = [], copy(work)
    for i in range(Y.shape[0]):
        row.Z, row.A = [work.Z[-1][i : i + 1]], [work.A[-1][i : i + 1]]
        cost = network.backend.zeros((), np.float64)
        add_cost(network, Y[i : i + 1], row, cost)
        found.append(float(cost))
    return found


def _slope(network: NetworkState, activation: str, Z: Array) -> Matrix | None:
    if activation == "softmax":
        return None
    out = network.backend.empty(Z.shape, network.dtype)
    network.backend.activation_gradient(activation, Z, out)
    return _host(network, out)


def _cost_slope(network: NetworkState, outputs: Array, Y: Array) -> Matrix | None:
    if not isinstance(network.loss, CustomLoss):
        return None
    out = network.backend.empty(Y.shape, network.dtype)
    out[...] = network.loss.gradient(outputs, Y)
    return _host(network, out)


def number(value: float) -> str:
    """Write a number as tables and pages show it: six significant digits."""
    return f"{float(value):.6g}"
