"""Derivatives checked from outside: the gradient against central differences of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.backprop import (
    L2Scaling,
    Reduction,
    Workspace,
    add_cost,
    backward,
    forward,
    penalty_cost,
    penalty_factor,
    scale_factor,
)
from deltaprop.network import NetworkState
from deltaprop.parameters import Parameters

#: Step of the differences. Four points leave an error of h⁴/30 f⁽⁵⁾, so h need not be so small that rounding rules.
STEP = 5e-4
#: Two-point differences at h and 2h agree to O(h²) where J is smooth; beyond this share they do not.
KINK = 1e-4


@dataclass(frozen=True)
class LayerCheck:
    """How the gradient of one layer's weights or biases compares.

    Attributes
    ----------
    name : str
        ``"weights[0]"`` and so on.
    entries : int
        Entries compared.
    relative_difference : float
        ‖analytic − numeric‖/‖analytic + numeric‖ over them.
    worst : tuple of int
        Index, within the layer, of the entry that differs most.
    max_abs_difference : float
        By how much that entry differs.
    """

    name: str
    entries: int
    relative_difference: float
    worst: tuple[int, ...]
    max_abs_difference: float


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradient` found.

    Attributes
    ----------
    relative_difference : float
        ‖analytic − numeric‖/‖analytic + numeric‖ over all entries compared.
    max_abs_difference : float
        The largest difference of any entry.
    passed : bool
        Whether `relative_difference` is below `tolerance`.
    tolerance : float
        As asked for.
    layers : list of LayerCheck
        Weights and biases, layer by layer.
    entries, at_kinks : int
        Entries compared, and entries left out because the cost has a kink (relu at 0) within the step.
    """

    relative_difference: float
    max_abs_difference: float
    passed: bool
    tolerance: float
    layers: list[LayerCheck]
    entries: int
    at_kinks: int


def cost_and_gradient(
    network: NetworkState,
    X: Array,
    Y: Array,
    l2: float = 0.0,
    l2_scaling: L2Scaling = "per_sample",
    reduction: Reduction = "mean",
) -> tuple[float, Parameters]:
    """J and ∂J/∂θ over all of X, (m, s_1), and Y, (m, s_L), which are trusted arrays of the network's backend."""
    m = X.shape[0]
    work = Workspace(network, m)
    gradient = Parameters(network.backend, network.layer_sizes, network.dtype)
    cost = network.backend.zeros((), np.float64)
    penalty = penalty_factor(l2, l2_scaling, m)
    scale = scale_factor(reduction, m)
    forward(network, X, work)
    backward(network, Y, work, gradient, cost, scale=scale, penalty=penalty)
    return scale * float(cost) + penalty_cost(network, penalty), gradient


def check_gradient(
    network: NetworkState,
    X: Array,
    Y: Array,
    *,
    l2: float = 0.0,
    l2_scaling: L2Scaling = "per_sample",
    reduction: Reduction = "mean",
    tolerance: float = 1e-9,
    entries: int = 2000,
) -> GradientCheck:
    """∂J/∂θ by backpropagation against (4 D(h) − D(2h))/3, D(h) = (J(θ+h) − J(θ−h))/2h, entry by entry.

    Both are computed in float64, whatever the network's dtype, on a copy of it. A network with more parameters than
    `entries` is checked at that many of them, drawn once and for all with equal chance.
    """
    subject = network.copy_state(np.float64)
    X, Y = subject.backend.asarray(X, np.float64), subject.backend.asarray(Y, np.float64)
    _, gradient = cost_and_gradient(subject, X, Y, l2, l2_scaling, reduction)
    analytic = subject.backend.to_numpy(gradient.flat)

    m = X.shape[0]
    work = Workspace(subject, m, backward=False)
    penalty, scale = penalty_factor(l2, l2_scaling, m), scale_factor(reduction, m)
    theta = subject.parameters

    def cost_at(index: int, value: float) -> float:
        theta[index] = value
        total = subject.backend.zeros((), np.float64)
        forward(subject, X, work)
        add_cost(subject, Y, work, total)
        return scale * float(total) + penalty_cost(subject, penalty)

    chosen = np.arange(theta.size)
    if theta.size > entries:
        chosen = np.sort(np.random.default_rng(0).choice(theta.size, entries, replace=False))
    numeric = np.full(theta.size, np.nan)
    scale_of_gradient = float(np.abs(analytic).max())
    at_kinks = 0
    for i in map(int, chosen):
        here = float(theta[i])
        near = (cost_at(i, here + STEP) - cost_at(i, here - STEP)) / (2 * STEP)
        far = (cost_at(i, here + 2 * STEP) - cost_at(i, here - 2 * STEP)) / (4 * STEP)
        theta[i] = here
        if abs(near - far) > KINK * max(scale_of_gradient, abs(near)):
            at_kinks += 1
        else:
            numeric[i] = (4 * near - far) / 3
    return _compare(gradient, analytic, numeric, tolerance, at_kinks)


def _compare(
    gradient: Parameters, analytic: np.ndarray[Any, Any], numeric: np.ndarray[Any, Any], tolerance: float, at_kinks: int
) -> GradientCheck:
    """Set `numeric`, nan where nothing was compared, against `analytic`, layer by layer and as a whole."""
    layers = []
    w, b = 0, gradient.n_weights
    for l, (W, bias) in enumerate(zip(gradient.weights, gradient.biases, strict=True)):
        for name, start, shape in ((f"weights[{l}]", w, W.shape), (f"biases[{l}]", b, bias.shape)):
            part = slice(start, start + int(np.prod(shape)))
            difference = np.abs(analytic[part] - numeric[part])
            compared = int(np.isfinite(difference).sum())
            if compared:
                worst = int(np.nanargmax(difference))
                place = tuple(int(i) for i in np.unravel_index(worst, shape))
                relative = _relative_difference(analytic[part], numeric[part])
                layers.append(LayerCheck(name, compared, relative, place, float(difference[worst])))
        w, b = w + W.size, b + bias.size
    total = sum(layer.entries for layer in layers)
    relative = _relative_difference(analytic, numeric) if total else float("nan")
    return GradientCheck(
        relative_difference=relative,
        max_abs_difference=max((layer.max_abs_difference for layer in layers), default=float("nan")),
        passed=total > 0 and relative < tolerance,
        tolerance=tolerance,
        layers=layers,
        entries=total,
        at_kinks=at_kinks,
    )


def _relative_difference(analytic: np.ndarray[Any, Any], numeric: np.ndarray[Any, Any]) -> float:
    """‖a − n‖/‖a + n‖ over the entries that were compared; 0 where both vanish."""
    compared = np.isfinite(numeric)
    a, n = analytic[compared], numeric[compared]
    both = float(np.linalg.norm(a + n))
    difference = float(np.linalg.norm(a - n))
    return difference / both if both else (0.0 if difference == 0 else float("inf"))
