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

#: Steps h of the differences. Four points leave an error of h⁴ f⁽⁵⁾/30, so h need not be so small that rounding rules;
#: the second is for entries where J bends too sharply for the first.
STEPS = (5e-4, 5e-5)
#: Two-point differences at h and 2h differ by O(h²) where J is smooth. By more than this share of the gradient they
#: differ only where J is strongly curved or has a kink between the points.
SMOOTH = 2e-6


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
    subject: NetworkState,
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

    `subject` and the data are float64; its parameters are moved during the check and end where they were. With more
    parameters than `entries`, that many of them are checked, drawn once and for all with equal chance.
    """
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
    largest = float(np.abs(analytic).max())
    for i in map(int, chosen):
        here = float(theta[i])
        for h in STEPS:
            near = (cost_at(i, here + h) - cost_at(i, here - h)) / (2 * h)
            far = (cost_at(i, here + 2 * h) - cost_at(i, here - 2 * h)) / (4 * h)
            if abs(near - far) <= SMOOTH * max(largest, abs(near)):
                numeric[i] = (4 * near - far) / 3
                break
        theta[i] = here
    at_kinks = int(np.isnan(numeric[chosen]).sum())
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
