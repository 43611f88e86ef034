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

from typing import Literal, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backprop import Objective, Workspace, backward, forward, total_weight
from deltaprop.network import NetworkState
from deltaprop.parameters import Parameters

Mode: TypeAlias = Literal["forward", "reverse", "auto"]
#: Rows, samples times directions, that the Jacobian carries at once: enough for the matrix products to be efficient.
JACOBIAN_ROWS = 4096


def cost_and_gradient(
    network: NetworkState, X: Array, Y: Array, objective: Objective, sample_weight: Array | None = None
) -> tuple[float, Parameters]:
    """J and ∂J/∂θ over all samples, from trusted arrays: X (m, s_1), Y (m, s_L), sample_weight (m,)."""
    m = total_weight(X, sample_weight)
    work = Workspace(network, X.shape[0])
    gradient = Parameters(network.backend, network.layer_sizes, network.dtype)
    cost = network.backend.zeros((), np.float64)
    forward(network, X, work)
    scale, penalty = objective.scale(m), objective.penalty(m)
    backward(network, Y, work, gradient, cost, scale=scale, penalty=penalty, sample_weight=sample_weight)
    return objective.total(network, cost, m), gradient


class Tangents:
    """Derivatives, along a direction, of what a `Workspace` holds: ż, ȧ and δ̇ of m samples, (m, s_l) each."""

    def __init__(self, network: NetworkState, m: int) -> None:
        shapes = [(m, size) for size in network.layer_sizes[1:]]
        empty, dtype = network.backend.empty, network.dtype
        self.dZ: list[Array] = [empty(shape, dtype) for shape in shapes]
        self.dA: list[Array] = [None, *(empty(shape, dtype) for shape in shapes)]
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
            result[:, :, start:stop] = columns.transpose(1, 2, 0)
        else:
            result[:, start:stop, :] = reverse_mode(network, *arguments).reshape(stop - start, m, n_in).swapaxes(0, 1)
    return result


def _repeat(network: NetworkState, array: Array, times: int) -> Array:
    """`array`, (m, s), one copy below the other: (times · m, s)."""
    result = network.backend.empty((times, *array.shape), network.dtype)
    result[...] = array
    return result.reshape(-1, array.shape[1])


def hvp(
    network: NetworkState,
    X: Array,
    Y: Array,
    direction: Parameters,
    objective: Objective,
    sample_weight: Array | None = None,
) -> Parameters:
    """H v over all samples, H = ∂²J/∂θ² and v the `direction`: X (m, s_1), Y (m, s_L), sample_weight (m,)."""
    m = total_weight(X, sample_weight)
    scale, penalty = objective.scale(m), objective.penalty(m)
    work, tangents = Workspace(network, X.shape[0]), Tangents(network, X.shape[0])
    product = Parameters(network.backend, network.layer_sizes, network.dtype)
    cost = network.backend.zeros((), np.float64)
    forward(network, X, work)
    # For δ: the gradient is overwritten.
    backward(network, Y, work, product, cost, scale=scale, penalty=penalty, sample_weight=sample_weight)
    hessian_product(
        network, Y, work, tangents, direction, product, scale=scale, penalty=penalty, sample_weight=sample_weight
    )
    return product


def hessian_product(
    network: NetworkState,
    Y: Array,
    work: Workspace,
    tangents: Tangents,
    direction: Parameters,
    product: Parameters,
    *,
    scale: float,
    penalty: float,
    sample_weight: Array | None = None,
) -> None:
    """H v into `product`, at the z, a and δ that a forward and a backward pass have left in `work`.

    Parameters
    ----------
    Y : array, (m, s_L)
        Targets.
    tangents : Tangents
        Where ż, ȧ and δ̇ are written.
    direction : Parameters
        The vector v = (Ẇ, ḃ).
    scale, penalty, sample_weight
        As in the backward pass: ``work.delta`` holds scale · δ.
    """
    backend, A, Z, delta = network.backend, work.A, work.Z, work.delta
    dA, dZ, d_delta = tangents.dA, tangents.dZ, tangents.d_delta
    W, dW, db, g = network.weights, direction.weights, direction.biases, network.activations

    for l in range(len(W)):
        backend.affine_tangent(A[l], dA[l], W[l], dW[l], db[l], out=dZ[l])
        backend.activation_tangent(g[l], Z[l], A[l + 1], dZ[l], out=dA[l + 1])
    backend.output_delta_tangent(
        network.loss, g[-1], Z[-1], A[-1], Y, dZ[-1], dA[-1], scale, out=d_delta[-1], sample_weight=sample_weight
    )
    for l in reversed(range(len(W))):
        backend.weight_gradient_tangent(delta[l], d_delta[l], A[l], dA[l], out=product.weights[l])
        backend.bias_gradient(d_delta[l], out=product.biases[l])
        if l:
            backend.hidden_delta_tangent(
                delta[l], d_delta[l], W[l], dW[l], g[l - 1], Z[l - 1], dZ[l - 1], out=d_delta[l - 1]
            )
    if penalty:
        backend.add_l2_gradient(direction.flat_weights, penalty, product.flat_weights)
