"""Backpropagation in matrix form: forward pass, cost, backward pass.

This file is the derivation; it knows no array library. Rows are samples: A^(l) is (m, s_l), so that the column vectors
of the text stand here as rows and products appear transposed. Layers are numbered 1 … L in formulas, from 0 in code:
``A[0]`` is a^(1) = X, ``W[0]`` is W^(1), ``A[L-1]`` is a^(L) = h.

Forward, for l = 1 … L−1::

    z^(l+1) = W^(l) a^(l) + b^(l)                    Z = A Wᵀ + b
    a^(l+1) = g(z^(l+1))                             (Θ form: z = Θ [1; a], Θ = [b, W])

Cost, m samples, h = a^(L)::

    J = (1/m) Σ cost(h, y) + λ/(2m) Σ W²             l2_scaling="per_sample" (Ng); λ/2 Σ W² with "absolute" (UFLDL)
                                                     reduction="sum" drops the 1/m of the first term
                                                     with sample weights w: Σ w cost, and m = Σ w

    squared_error               ½ ‖h − y‖²
    binary_cross_entropy        Σ_k −y_k log h_k − (1 − y_k) log(1 − h_k)
    categorical_cross_entropy   Σ_k −y_k log h_k
    absolute_error              Σ_k |h_k − y_k|
    poisson                     Σ_k h_k − y_k log h_k
    huber                       Σ_k r²/2 where |r| ≤ 1, |r| − 1/2 elsewhere, r = h_k − y_k

Backward::

    δ^(L) = ∂cost/∂z^(L)                             = h − y for a loss under its canonical link,
                                                     = (h − y) ⊙ g′(z^(L)) for the squared error, whose h − y is
                                                     clipped to ±1 under huber, its sign under absolute_error;
                                                     output_error="simplified" leaves it at h − y
    δ^(l) = (W^(l))ᵀ δ^(l+1) ⊙ g′(z^(l))             l = L−1 … 2
    Δ^(l) = Σ δ^(l+1) (a^(l))ᵀ                       over samples, the step of accumulation in the loop form
    ∂J/∂W^(l) = Δ^(l)/m + (λ/m) W^(l)                the bias is never regularised
    ∂J/∂b^(l) = Σ δ^(l+1)/m

With dropout, in training only, units of the hidden layers are left out of a step with probability p (μ = 0), the others
scaled up to make up for them (μ = 1/(1−p))::

    a^(l) = g(z^(l)) ⊙ μ^(l)                         δ^(l) = (W^(l))ᵀ δ^(l+1) ⊙ μ^(l) ⊙ g′(z^(l))

The factor 1/m is applied once, to δ^(L); everything after it is linear in δ.

Sources: Rumelhart, Hinton and Williams (1986) for δ; Ng's machine learning course, exercise 4, for Θ, Δ and D; the
UFLDL tutorial for the matrix form and the squared error; Nielsen's book for the same four equations; Srivastava et al.
(2014) for dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from deltaprop.arguments import check_choice, check_number
from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats
from deltaprop.backends.base import Scalar
from deltaprop.derivation.losses import CustomLoss
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState

L2Scaling: TypeAlias = Literal["per_sample", "absolute"]
Reduction: TypeAlias = Literal["mean", "sum"]


@dataclass(frozen=True)
class Objective:
    """Which J is meant: λ and the two conventions, and what they come to for m samples, or weights that sum to m.

    Parameters
    ----------
    l2 : float
        λ ≥ 0.
    l2_scaling : {"per_sample", "absolute"}
        λ/(2m) Σ W² or λ/2 Σ W².
    reduction : {"mean", "sum"}
        (1/m) Σ cost or Σ cost.

    Raises
    ------
    ValueError
        Naming the argument, its value and what it may be.
    """

    l2: float = 0.0
    l2_scaling: L2Scaling = "per_sample"
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "l2", check_number("l2", self.l2, least=0.0))
        check_choice("l2_scaling", self.l2_scaling, L2Scaling)
        check_choice("reduction", self.reduction, Reduction)

    def scale(self, m: float) -> float:
        """1/m for the mean over samples, 1 for their sum: the factor of Σ cost in J and of δ^(L)."""
        return 1.0 / m if self.reduction == "mean" else 1.0

    def penalty(self, m: float) -> float:
        """λ/m or λ: the factor of ½ Σ W² in J and of W in its gradient."""
        return self.l2 / m if self.l2_scaling == "per_sample" else self.l2

    def total(self, network: NetworkState, cost: Array | float, m: float) -> float:
        """J from Σ cost over m samples, () of float64, and the network's weights."""
        squares = network.backend.squared_norm(network.flat_weights) if self.l2 else 0.0
        return self.value(float(cost), squares, m)

    def value(self, cost: float, squares: float, m: float) -> float:
        """J from Σ cost over m samples and Σ W²."""
        decay = 0.5 * self.penalty(m) * squares if self.l2 else 0.0
        return self.scale(m) * cost + decay

    def terms(self, n: int, m_b: float, m: float) -> tuple[float, float, float]:
        """The factors of a step over a minibatch: n samples, weights that sum to m_b, out of weights that sum to m.

        They belong to δ^(L), 1/m_b or 1; to W in ∂J/∂W, λ/m or λ; and to the Σ W² that the step adds to the cost of its
        epoch, 0: J has the penalty of the parameters at the end of the epoch.
        """
        # Where the weights of a minibatch sum to 0, none of its samples counts.
        return self.scale(m_b or 1.0), self.penalty(m), 0.0

    def weights(self, sample_weight: Floats, sizes: Sequence[int], sums: Sequence[float]) -> Floats:
        """The factor of each sample's cost, for minibatches of these sizes whose weights have these sums."""
        return sample_weight


def total_weight(network: NetworkState, X: Array, sample_weight: Array | None) -> float:
    """The m of the formulas: how many samples there are, or what their weights sum to."""
    return float(X.shape[0]) if sample_weight is None else float(network.backend.sum(sample_weight))


class Workspace:
    """The arrays of one forward and backward pass over `m` samples, made once and written again in every step.

    Several networks of the same widths, a stack, have a member axis before the others, written ``…``.

    Parameters
    ----------
    network : NetworkState
        What is computed.
    m : int
        How many samples.
    backward : bool, optional
        Whether there is a backward pass.
    operand : callable, optional
        Takes the place of the backend's `empty` for every δ and for hidden layers: these are operands of products,
        which a backend may want in an array of another kind.

    Attributes
    ----------
    A : list of array
        a^(1) … a^(L), (…, m, s_l); ``A[0]`` is the input that `forward` takes.
    Z : list of array
        z^(2) … z^(L), (…, m, s_l); ``Z[l]`` belongs to ``A[l + 1]``.
    delta : list of array
        δ^(2) … δ^(L), (…, m, s_l); ``delta[l]`` belongs to ``Z[l]``. Empty in a workspace for forward passes only.
    masks : list of array or None
        μ^(2) … μ^(L), (…, m, s_l), as `Z`; None for a layer without dropout, as every layer is unless training says so.
    """

    def __init__(
        self, network: NetworkState, m: int, *, backward: bool = True, operand: Callable[..., Array] | None = None
    ) -> None:
        *inner, last = [(*network.lead, m, size) for size in network.layer_sizes[1:]]
        empty, dtype = network.backend.empty, network.dtype
        make = operand or empty

        def buffers(of_output: Callable[..., Array] = empty) -> list[Array]:
            return [*(make(shape, dtype) for shape in inner), of_output(last, dtype)]

        self.Z: list[Array] = buffers()
        self.A: list[Array] = [cast("Array", None), *buffers()]  # a^(1) comes with each pass
        self.delta: list[Array] = buffers(make) if backward else []
        self.masks: list[Array | None] = [None] * len(self.Z)


def forward(network: NetworkState, X: Array, work: Workspace) -> Array:
    """z^(l+1) = W^(l) a^(l) + b^(l), a^(l+1) = g(z^(l+1)) for every layer; returns a^(L).

    X : (…, m, s_1), result : (…, m, s_L), which is ``work.A[-1]``; the members of a stack may share an X : (m, s_1).
    """
    backend, A, Z = network.backend, work.A, work.Z
    A[0] = X
    for l, (W, b, g) in enumerate(zip(network.weights, network.biases, network.activations, strict=True)):
        backend.affine_activation(A[l], W, b, g, Z=Z[l], out=A[l + 1], mask=work.masks[l])
    return A[-1]


def add_cost(network: NetworkState, Y: Array, work: Workspace, cost: Array, sample_weight: Array | None = None) -> None:
    """Σ cost(h, y) over the samples of the last forward pass, without 1/m and without the penalty, added to `cost`.

    Y : (…, m, s_L), cost : (…) of float64, sample_weight : (…, m), how much each counts.
    """
    if isinstance(network.loss, CustomLoss):
        network.backend.add_custom_cost(network.loss, work.A[-1], Y, cost, sample_weight)
    else:
        g_L = network.output_activation
        network.backend.add_cost(network.loss, g_L, work.Z[-1], work.A[-1], Y, cost, sample_weight)


def backward(
    network: NetworkState,
    Y: Array,
    work: Workspace,
    gradient: Parameters,
    cost: Array,
    *,
    scale: Scalar,
    penalty: Scalar | None,
    sample_weight: Array | None = None,
    keep: Scalar | None = None,
) -> None:
    """δ^(L), then δ^(l) layer by layer, and from them ∂J/∂W and ∂J/∂b, for the samples of the last forward pass.

    Parameters
    ----------
    Y : array, (…, m, s_L)
        Targets.
    gradient : Parameters
        Where ∂J/∂W and ∂J/∂b are written.
    cost : array, (…) of float64
        Σ cost(h, y) is added to it.
    scale : float, or array, (…)
        From `Objective.scale`: 1/m for the mean over samples, 1 for the sum; ``work.delta`` holds scale · δ afterwards.
    penalty : float, or array, (…), or None
        λ/m or λ: the factor of W in ∂J/∂W, from `Objective.penalty`; None where there is none.
    sample_weight : array, (…, m), optional
        How much each counts: w_i cost(h_i, y_i) replaces cost(h_i, y_i), and Σ w_i replaces m.
    keep : float, optional
        Add to what `gradient` holds, its weights first multiplied by `keep`. If `gradient` is the network's own
        parameters, with scale −η/m and keep = 1 − ηλ/m, this is θ := θ − η ∂J/∂θ itself, and no gradient is stored.
    """
    backend, A, Z, delta = network.backend, work.A, work.Z, work.delta
    weights, g = network.weights, network.activations

    # The simplified error of a squared loss is the exact one of an output whose g′ is 1.
    g_L = g[-1] if network.output_error == "exact" else "identity"
    output_delta = backend.custom_output_delta if isinstance(network.loss, CustomLoss) else backend.output_delta
    kept_biases = 0.0 if keep is None else 1.0
    output_delta(
        network.loss,
        g_L,
        Z[-1],
        A[-1],
        Y,
        scale,
        out=delta[-1],
        cost=cost,
        sample_weight=sample_weight,
        bias_gradient=gradient.biases[-1],
        keep=kept_biases,
    )
    for l in reversed(range(1, len(weights))):
        # δ^(l) before ∂J/∂W^(l): it needs W as it was.
        backend.hidden_delta(
            delta[l],
            weights[l],
            g[l - 1],
            Z[l - 1],
            out=delta[l - 1],
            bias_gradient=gradient.biases[l - 1],
            mask=work.masks[l - 1],
            keep=kept_biases,
        )
        backend.weight_gradient(delta[l], A[l], out=gradient.weights[l], keep=keep)
    backend.weight_gradient(delta[0], A[0], out=gradient.weights[0], keep=keep)
    if penalty is not None:
        backend.add_l2_gradient(network.flat_weights, penalty, gradient.flat_weights)
