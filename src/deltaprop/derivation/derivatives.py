"""Derivatives of the network and of its cost: forward mode, reverse mode, and one over the other.

The network is a chain of maps z^(l+1) = W^(l) a^(l) + b^(l), a^(l+1) = g(z^(l+1)). The derivative of a chain is a
product of the derivatives of its links; the modes differ in the end at which the product is begun. Write ẋ for the
derivative of x along the direction in which the input is moved, x̄ for the derivative with respect to x of the outputs
weighted by ȳ, and δ for z̄::

    forward (jvp)    ż^(l+1) = W^(l) ȧ^(l)                   ȧ^(l+1) = g′(z^(l+1)) ⊙ ż^(l+1)          l = 1 … L−1
    reverse (vjp)    δ^(l+1) = g′(z^(l+1)) ⊙ ā^(l+1)         ā^(l) = (W^(l))ᵀ δ^(l+1)                 l = L−1 … 1

A pass of either mode costs about as much as the forward pass (twice the latter in all, with the forward pass whose z
it needs). One forward pass gives a column of the Jacobian, one reverse pass a row; hence the mode to choose.

The Hessian of the cost times a vector is the derivative of backpropagation itself along v = (Ẇ, ḃ): forward mode over
reverse mode, exact, at a few times the price of the gradient, the Hessian never being formed::

    ż^(l+1) = W^(l) ȧ^(l) + Ẇ^(l) a^(l) + ḃ^(l)              ȧ^(l+1) = g′(z^(l+1)) ⊙ ż^(l+1)
    δ̇^(L)  = ȧ^(L) under the canonical link,                 g′ ⊙ ȧ^(L) + (a − y) ⊙ g″ ⊙ ż for the squared error
    δ̇^(l)  = (Wᵀ δ̇^(l+1) + Ẇᵀ δ^(l+1)) ⊙ g′(z^(l)) + Wᵀ δ^(l+1) ⊙ g″(z^(l)) ⊙ ż^(l)
    (H v)_W = (Σ δ̇^(l+1) (a^(l))ᵀ + δ^(l+1) (ȧ^(l))ᵀ)/m + (λ/m) Ẇ^(l)                (H v)_b = Σ δ̇^(l+1)/m

Sources: Griewank and Walther, Evaluating Derivatives (2008), for the modes and their cost; Pearlmutter, Fast exact
multiplication by the Hessian (1994), who writes R{x} for ẋ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective, Workspace, backward, forward, total_weight
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState

Mode: TypeAlias = Literal["auto", "forward", "reverse"]
#: Rows, samples times directions, that the Jacobian carries at once: enough for the matrix products to be efficient.
JACOBIAN_ROWS = 4096


class Tangents:
    """Derivatives, along a direction, of what a `Workspace` holds: ż, ȧ and δ̇ of m samples, (m, s_l) each."""

    def __init__(self, network: NetworkState, m: int) -> None:
        shapes = [(m, size) for size in network.layer_sizes[1:]]
        empty, dtype = network.backend.empty, network.dtype
        self.dZ: list[Array] = [empty(shape, dtype) for shape in shapes]
        self.dA: list[Array] = [empty(shape, dtype) for shape in shapes]
        self.d_delta: list[Array] = [empty(shape, dtype) for shape in shapes]


def jvp(network: NetworkState, X: Array, dX: Array) -> Array:
    """J u for every sample, J = ∂h/∂x and u its row of `dX`: X and dX (m, s_1), result (m, s_L)."""
    work = Workspace(network, X.shape[0], backward=False)
    forward(network, X, work)
    return forward_mode(network, work.Z, work.A, dX)


def vjp(network: NetworkState, X: Array, dY: Array) -> Array:
    """Jᵀ v for every sample, J = ∂h/∂x and v its row of `dY`: X (m, s_1), dY (m, s_L), result (m, s_1)."""
    work = Workspace(network, X.shape[0], backward=False)
    forward(network, X, work)
    return reverse_mode(network, work.Z, work.A, dY)


def forward_mode(network: NetworkState, Z: list[Array], A: list[Array], dX: Array) -> Array:
    """ż = W ȧ, ȧ = g′(z) ⊙ ż from the first layer to the last, at the Z and A of a forward pass."""
    backend, dA = network.backend, dX
    for l, (W, g) in enumerate(zip(network.weights, network.activations, strict=True)):
        dZ = backend.empty(Z[l].shape, network.dtype)
        backend.affine_tangent(A[l], dA, W, None, None, out=dZ)
        backend.activation_tangent(g, Z[l], A[l + 1], dZ, out=dZ)
        dA = dZ
    return dA


def reverse_mode(network: NetworkState, Z: list[Array], A: list[Array], dY: Array) -> Array:
    """δ = g′(z) ⊙ ā, ā = Wᵀ δ from the last layer to the first, at the Z and A of a forward pass."""
    backend, adjoint = network.backend, dY
    for l in reversed(range(len(network.weights))):
        W, g = network.weights[l], network.activations[l]
        delta = backend.empty(Z[l].shape, network.dtype)
        backend.activation_tangent(g, Z[l], A[l + 1], adjoint, out=delta)
        adjoint = backend.empty((delta.shape[0], W.shape[1]), network.dtype)
        backend.input_gradient(delta, W, out=adjoint)
    return adjoint


def jacobian(network: NetworkState, X: Array, mode: Mode) -> Array:
    """∂h_k/∂x_i of every sample, (m, s_L, s_1), column by column in forward mode, row by row in reverse mode."""
    backend, m = network.backend, X.shape[0]
    n_in, n_out = network.layer_sizes[0], network.layer_sizes[-1]
    if mode == "auto":
        mode = "forward" if n_in <= n_out else "reverse"
    directions = n_in if mode == "forward" else n_out
    at_once = min(directions, max(1, JACOBIAN_ROWS // m))
    work = Workspace(network, m, backward=False)
    forward(network, X, work)
    # Several directions at once are so many more rows, each block of m having the same Z and A.
    Z, A = ([_repeat(network, array, at_once) for array in arrays] for arrays in (work.Z, work.A))
    result = backend.empty((m, n_out, n_in), network.dtype)
    for start in range(0, directions, at_once):
        stop = min(start + at_once, directions)
        unit = backend.zeros((stop - start, m, directions), network.dtype)
        for i in range(start, stop):
            unit[i - start, :, i] = 1.0
        rows = (stop - start) * m
        arguments = ([z[:rows] for z in Z], [a[:rows] for a in A], unit.reshape(rows, directions))
        if mode == "forward":
            columns = forward_mode(network, *arguments).reshape(stop - start, m, n_out)
            result[:, :, start:stop] = columns.swapaxes(0, 1).swapaxes(1, 2)
        else:
            result[:, start:stop, :] = reverse_mode(network, *arguments).reshape(stop - start, m, n_in).swapaxes(0, 1)
    return result


def _repeat(network: NetworkState, array: Array, times: int) -> Array:
    """`array`, (m, s), one copy below the other: (times · m, s)."""
    result = network.backend.empty((times, *array.shape), network.dtype)
    result[...] = array
    return result.reshape(-1, array.shape[1])


class CostDerivatives(ABC):
    """J, ∂J/∂θ and H v over all samples, wherever the network's parameters are moved; the buffers are made once.

    Parameters
    ----------
    network : NetworkState
    X, Y, sample_weight : array, (m, s_1), (m, s_L) and (m,)
        Trusted arrays of the network's backend.
    objective : Objective

    Attributes
    ----------
    cost : array, () of float64
        Σ cost(h, y) of the last `cost_and_gradient`, without 1/m and without the penalty.
    gradient : Parameters
        ∂J/∂θ of the last `cost_and_gradient`.
    """

    network: NetworkState
    objective: Objective
    sample_weight: Array | None
    scale: float
    penalty: float

    def __init__(
        self, network: NetworkState, X: Array, Y: Array, objective: Objective, sample_weight: Array | None = None
    ) -> None:
        self.network, self.X, self.Y, self.objective, self.sample_weight = network, X, Y, objective, sample_weight
        self.m: float = total_weight(network, X, sample_weight)
        self.scale, self.penalty = objective.scale(self.m), objective.penalty(self.m)
        self.cost: Array = network.backend.zeros((), np.float64)
        self.gradient: Parameters = Parameters(network.backend, network.layer_sizes, network.dtype)

    @abstractmethod
    def cost_and_gradient(self) -> tuple[float, Parameters]:
        """J and ∂J/∂θ; the latter is overwritten by the next call."""

    @abstractmethod
    def hessian_product(self, direction: Parameters) -> Parameters:
        """H v for v = (Ẇ, ḃ), the `direction`; overwritten by the next call.

        The parameters have to be those of the last `cost_and_gradient`, if there was one.
        """


class MatrixDerivatives(CostDerivatives):
    """They are computed by the operations of the network's backend, over all samples at once.

    Attributes
    ----------
    work : Workspace
        z, a and δ (times 1/m, where J is a mean) of the last `cost_and_gradient`.
    """

    def __init__(
        self, network: NetworkState, X: Array, Y: Array, objective: Objective, sample_weight: Array | None = None
    ) -> None:
        super().__init__(network, X, Y, objective, sample_weight)
        self.work: Workspace = Workspace(network, X.shape[0])
        self._is_computed = False
        self._tangents: tuple[Tangents, Parameters] | None = None

    def cost_and_gradient(self) -> tuple[float, Parameters]:
        """J and ∂J/∂θ, by one forward and one backward pass."""
        self.network.backend.fill(self.cost, 0.0)
        forward(self.network, self.X, self.work)
        backward(
            self.network,
            self.Y,
            self.work,
            self.gradient,
            self.cost,
            scale=self.scale,
            penalty=self.penalty or None,
            sample_weight=self.sample_weight,
        )
        self._is_computed = True
        return self.objective.total(self.network, self.cost, self.m), self.gradient

    def hessian_product(self, direction: Parameters) -> Parameters:
        """H v for v = (Ẇ, ḃ), the `direction`, from the z, a and δ of `cost_and_gradient`."""
        if not self._is_computed:
            self.cost_and_gradient()
        network, backend = self.network, self.network.backend
        if self._tangents is None:
            samples = self.X.shape[0]
            product = Parameters(backend, network.layer_sizes, network.dtype)
            self._tangents = Tangents(network, samples), product
        tangents, product = self._tangents
        A, Z, delta = self.work.A, self.work.Z, self.work.delta
        dX: list[Array | None] = [None, *tangents.dA]  # what goes into each layer; the input does not move
        dA, dZ, d_delta = tangents.dA, tangents.dZ, tangents.d_delta
        W, dW, db, g = network.weights, direction.weights, direction.biases, network.activations

        for l in range(len(W)):
            backend.affine_tangent(A[l], dX[l], W[l], dW[l], db[l], out=dZ[l])
            backend.activation_tangent(g[l], Z[l], A[l + 1], dZ[l], out=dA[l])
        backend.output_delta_tangent(
            network.loss,
            g[-1],
            Z[-1],
            A[-1],
            self.Y,
            dZ[-1],
            dA[-1],
            self.scale,
            out=d_delta[-1],
            sample_weight=self.sample_weight,
        )
        for l in reversed(range(len(W))):
            backend.weight_gradient_tangent(delta[l], d_delta[l], A[l], dX[l], out=product.weights[l])
            backend.bias_gradient(d_delta[l], out=product.biases[l])
            if l:
                backend.hidden_delta_tangent(
                    delta[l], d_delta[l], W[l], dW[l], g[l - 1], Z[l - 1], dZ[l - 1], out=d_delta[l - 1]
                )
        if self.penalty:
            backend.add_l2_gradient(direction.flat_weights, self.penalty, product.flat_weights)
        return product
