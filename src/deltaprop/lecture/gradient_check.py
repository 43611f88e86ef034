"""The gradient checked from outside: backpropagation against central differences of the cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Array, get_backend
from deltaprop.backends.array_types import AnyArray
from deltaprop.derivation.backprop import Objective, Workspace, add_cost, forward, total_weight
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_gradient import cost_derivatives
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

#: Steps h of the differences. Four points leave an error of h⁴ f⁽⁵⁾/30, so h need not be so small that rounding rules;
#: the second is for entries where J bends too sharply for the first.
STEPS = (5e-4, 5e-5)
#: Two-point differences at h and 2h differ by O(h²) where J is smooth. By more than this share of the gradient they
#: differ only where J is strongly curved or has a kink between the points.
SMOOTH = 2e-6
#: The rounding error of J is a few units in its last place; differences cannot see what is smaller than this over h.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

SIMPLIFIED = (
    "output_error='simplified' takes δ^(L) = a − y, which is not the gradient of the squared error (that has the "
    "factor g′(z^(L))); a difference is expected. It is the gradient of cross-entropy for a sigmoid output"
)


@dataclass(frozen=True)
class LayerCheck:
    """How the gradient of one layer's weights or biases compares.

    Parameters
    ----------
    name : str
        Which they are: ``"weights[0]"`` and so on.
    entries : int
        How many entries were compared.
    relative_difference : float
        ‖analytic − numeric‖/‖analytic + numeric‖ over these entries.
    worst : tuple of int
        The index, within the layer, of the entry that differs most.
    max_abs_difference : float
        By how much that entry differs.
    analytic : float
        That entry by backpropagation.
    numeric : float
        That entry by differences.
    passed : bool
        Whether ‖analytic − numeric‖ is below tolerance · ‖analytic + numeric‖, or is the rounding of the differences.

    Examples
    --------
    >>> import deltaprop as dp
    >>> layer = dp.check_gradient(dp.Network([2, 3, 1], seed=0), [[0.0, 1.0]], [1]).layers[0]
    >>> layer.name, layer.entries, layer.passed, abs(layer.analytic - layer.numeric) < 1e-8
    ('weights[0]', 6, True, True)
    """

    name: str
    entries: int
    relative_difference: float
    worst: tuple[int, ...]
    max_abs_difference: float
    analytic: float
    numeric: float
    passed: bool


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradient` found; ``str()`` gives it as a table.

    Parameters
    ----------
    relative_difference : float
        ‖analytic − numeric‖/‖analytic + numeric‖ over all entries compared.
    max_abs_difference : float
        The largest difference of any entry.
    passed : bool
        Whether `relative_difference` is below `tolerance` and every layer has passed.
    tolerance : float
        The tolerance that was asked for.
    layers : list of LayerCheck
        Weights and biases, layer by layer.
    entries : int
        How many entries were compared.
    at_kinks : int
        How many entries were left out because the cost has a kink (relu at 0) within the step.
    note : str
        What a reader has to know to understand the result; it may be empty.

    See Also
    --------
    deltaprop.check_gradient : Makes it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> check = dp.check_gradient(dp.Network([2, 3, 1], seed=0), [[0.0, 1.0]], [1])
    >>> check.passed, check.relative_difference < 1e-9, [layer.name for layer in check.layers]
    (True, True, ['weights[0]', 'biases[0]', 'weights[1]', 'biases[1]'])
    """

    relative_difference: float
    max_abs_difference: float
    passed: bool
    tolerance: float
    layers: list[LayerCheck]
    entries: int
    at_kinks: int
    note: str = ""

    @property
    def failed(self) -> list[str]:
        """The names of the layers that have not passed: where to look for a fault."""
        return [layer.name for layer in self.layers if not layer.passed]

    @property
    def worst(self) -> str:
        """The entry that differs most, such as ``"weights[1][0, 3]"``; empty if nothing could be compared."""
        layer = max(self.layers, key=lambda layer: layer.max_abs_difference, default=None)
        return f"{layer.name}{list(layer.worst)}" if layer else ""

    def __str__(self) -> str:
        lines = [self._table.render(), self._verdict]
        return "\n".join([*lines, self.note] if self.note else lines)

    def _repr_html_(self) -> str:
        return Sheet("Gradient check", self._verdict, self._table, self.note).html()

    @property
    def _table(self) -> Table:
        table = Table(["", "entries", "relative difference", "worst entry", "backpropagation", "differences", ""])
        for layer in self.layers:
            table.add(
                layer.name,
                str(layer.entries),
                f"{layer.relative_difference:.3e}",
                str(list(layer.worst)),
                f"{layer.analytic:.9g}",
                f"{layer.numeric:.9g}",
                "passed" if layer.passed else "FAILED",
                strong=not layer.passed,
            )
        return table

    @property
    def _verdict(self) -> str:
        kinks = f", {self.at_kinks} left out at kinks" if self.at_kinks else ""
        verdict = f"passed: relative difference {self.relative_difference:.3e}"
        if not self.passed:
            where = f" in {', '.join(self.failed)}; worst at {self.worst}" if self.failed else ""
            verdict = f"FAILED{where}: relative difference {self.relative_difference:.3e}"
        return f"{verdict}, tolerance {self.tolerance:.0e}, {self.entries} entries{kinks}"


def check_gradient(
    subject: NetworkState,
    X: Array,
    Y: Array,
    objective: Objective,
    sample_weight: Array | None = None,
    *,
    tolerance: float,
    entries: int,
) -> GradientCheck:
    """Compare ∂J/∂θ by backpropagation with (4 D(h) − D(2h))/3, D(h) = (J(θ+h) − J(θ−h))/2h, entry by entry.

    `subject` and the data are float64; its parameters are moved during the check and end where they were. If there are
    more parameters than `entries`, that many of them are checked, drawn once with equal chance.
    """
    J, gradient = cost_derivatives(subject, X, Y, objective, sample_weight, once=True).cost_and_gradient()
    analytic = gradient.on(get_backend("numpy"))
    # nan where nothing is compared
    numeric = Parameters(analytic.backend, subject.layer_sizes, np.float64)
    numeric.flat[...] = np.nan
    noise = Parameters(analytic.backend, subject.layer_sizes, np.float64)

    m, theta = total_weight(subject, X, sample_weight), subject.parameters
    work = Workspace(subject, X.shape[0], backward=False)

    def cost_at(index: int, value: float) -> float:
        theta[index] = value
        total = subject.backend.zeros((), np.float64)
        forward(subject, X, work)
        add_cost(subject, Y, work, total, sample_weight)
        return objective.total(subject, total, m)

    chosen = np.arange(len(theta))
    if len(theta) > entries:
        chosen = np.sort(np.random.default_rng(0).choice(len(theta), entries, replace=False))
    largest = float(np.abs(analytic.backend.to_numpy(analytic.flat)).max())
    for i in map(int, chosen):
        here = float(theta[i])
        for h in STEPS:
            near = (cost_at(i, here + h) - cost_at(i, here - h)) / (2 * h)
            far = (cost_at(i, here + 2 * h) - cost_at(i, here - 2 * h)) / (4 * h)
            if abs(near - far) <= SMOOTH * max(largest, abs(near)):
                numeric.flat[i] = (4 * near - far) / 3
                noise.flat[i] = ROUNDING * abs(J) / h
                break
        theta[i] = here

    layers = list(_compare_layers(analytic, numeric, noise, tolerance))
    compared = sum(layer.entries for layer in layers)
    relative = _ratio(*_norms(analytic.flat, numeric.flat)) if compared else float("nan")
    return GradientCheck(
        relative_difference=relative,
        max_abs_difference=max((layer.max_abs_difference for layer in layers), default=float("nan")),
        passed=compared > 0 and relative < tolerance and all(layer.passed for layer in layers),
        tolerance=tolerance,
        layers=layers,
        entries=compared,
        at_kinks=len(chosen) - compared,
        note=SIMPLIFIED if subject.output_error == "simplified" else "",
    )


def _compare_layers(
    analytic: Parameters, numeric: Parameters, noise: Parameters, tolerance: float
) -> Iterator[LayerCheck]:
    """Compare weights and biases layer by layer; leave out arrays without a compared entry."""
    for l in range(len(analytic.weights)):
        for kind in ("weights", "biases"):
            a, n, rounding = (getattr(parameters, kind)[l] for parameters in (analytic, numeric, noise))
            difference = np.abs(a - n)
            compared = np.isfinite(difference)
            if not compared.any():
                continue
            worst = tuple(int(i) for i in np.unravel_index(int(np.nanargmax(difference)), a.shape))
            off, both = _norms(a, n)
            yield LayerCheck(
                name=f"{kind}[{l}]",
                entries=int(compared.sum()),
                relative_difference=_ratio(off, both),
                worst=worst,
                max_abs_difference=float(difference[worst]),
                analytic=float(a[worst]),
                numeric=float(n[worst]),
                passed=off <= tolerance * both + float(np.linalg.norm(rounding[compared])),
            )


def _norms(analytic: AnyArray, numeric: AnyArray) -> tuple[float, float]:
    """Compute ‖a − n‖ and ‖a + n‖ over the entries that were compared."""
    compared = np.isfinite(numeric)
    a, n = analytic[compared], numeric[compared]
    return float(np.linalg.norm(a - n)), float(np.linalg.norm(a + n))


def _ratio(difference: float, both: float) -> float:
    """Divide one norm by the other; the result is 0 if both are 0."""
    return difference / both if both else (0.0 if difference == 0 else float("inf"))
