"""Derivatives checked from outside: the gradient against central differences of the cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Array, get_backend
from deltaprop.backprop import Objective, Workspace, add_cost, backward, forward
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


def cost_and_gradient(network: NetworkState, X: Array, Y: Array, objective: Objective) -> tuple[float, Parameters]:
    """J and ∂J/∂θ over all of X, (m, s_1), and Y, (m, s_L), which are trusted arrays of the network's backend."""
    m = X.shape[0]
    work = Workspace(network, m)
    gradient = Parameters(network.backend, network.layer_sizes, network.dtype)
    cost = network.backend.zeros((), np.float64)
    forward(network, X, work)
    backward(network, Y, work, gradient, cost, scale=objective.scale(m), penalty=objective.penalty(m))
    return objective.total(network, cost, m), gradient


def check_gradient(
    subject: NetworkState, X: Array, Y: Array, objective: Objective, *, tolerance: float, entries: int
) -> GradientCheck:
    """∂J/∂θ by backpropagation against (4 D(h) − D(2h))/3, D(h) = (J(θ+h) − J(θ−h))/2h, entry by entry.

    `subject` and the data are float64; its parameters are moved during the check and end where they were. With more
    parameters than `entries`, that many of them are checked, drawn once and for all with equal chance.
    """
    _, gradient = cost_and_gradient(subject, X, Y, objective)
    analytic = gradient.on(get_backend("numpy"))
    # nan where nothing is compared
    numeric = Parameters(analytic.backend, subject.layer_sizes, np.float64)
    numeric.flat.fill(np.nan)

    m, theta = X.shape[0], subject.parameters
    work = Workspace(subject, m, backward=False)

    def cost_at(index: int, value: float) -> float:
        theta[index] = value
        total = subject.backend.zeros((), np.float64)
        forward(subject, X, work)
        add_cost(subject, Y, work, total)
        return objective.total(subject, total, m)

    chosen = np.arange(theta.size)
    if theta.size > entries:
        chosen = np.sort(np.random.default_rng(0).choice(theta.size, entries, replace=False))
    largest = float(np.abs(analytic.flat).max())
    for i in map(int, chosen):
        here = float(theta[i])
        for h in STEPS:
            near = (cost_at(i, here + h) - cost_at(i, here - h)) / (2 * h)
            far = (cost_at(i, here + 2 * h) - cost_at(i, here - 2 * h)) / (4 * h)
            if abs(near - far) <= SMOOTH * max(largest, abs(near)):
                numeric.flat[i] = (4 * near - far) / 3
                break
        theta[i] = here

    layers = list(_compare_layers(analytic, numeric))
    compared = sum(layer.entries for layer in layers)
    relative = _relative_difference(analytic.flat, numeric.flat) if compared else float("nan")
    return GradientCheck(
        relative_difference=relative,
        max_abs_difference=max((layer.max_abs_difference for layer in layers), default=float("nan")),
        passed=compared > 0 and relative < tolerance,
        tolerance=tolerance,
        layers=layers,
        entries=compared,
        at_kinks=len(chosen) - compared,
    )


def _compare_layers(analytic: Parameters, numeric: Parameters) -> Iterator[LayerCheck]:
    """The comparison of every layer's weights and biases of which at least one entry was compared."""
    for l in range(len(analytic.weights)):
        for kind in ("weights", "biases"):
            a, n = getattr(analytic, kind)[l], getattr(numeric, kind)[l]
            difference = np.abs(a - n)
            compared = int(np.isfinite(difference).sum())
            if compared:
                worst = tuple(int(i) for i in np.unravel_index(int(np.nanargmax(difference)), a.shape))
                name, relative = f"{kind}[{l}]", _relative_difference(a, n)
                yield LayerCheck(name, compared, relative, worst, float(difference[worst]))


def _relative_difference(analytic: np.ndarray[Any, Any], numeric: np.ndarray[Any, Any]) -> float:
    """‖a − n‖/‖a + n‖ over the entries that were compared; 0 where both vanish."""
    compared = np.isfinite(numeric)
    a, n = analytic[compared], numeric[compared]
    both = float(np.linalg.norm(a + n))
    difference = float(np.linalg.norm(a - n))
    return difference / both if both else (0.0 if difference == 0 else float("inf"))
