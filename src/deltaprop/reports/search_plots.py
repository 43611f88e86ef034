"""Pictures of searches: the score of every candidate against the parameters that were varied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltaprop.reports.parameter_axis import LARGEST, ParameterAxis, parameter_axis
from deltaprop.reports.plot_style import (
    COLOURS,
    COLUMNS,
    GREY,
    LONGEST_BESIDE,
    MARKERS,
    PANEL,
    as_label,
    far_below,
    finite,
    legend_below,
    panels,
    pyplot,
)

#: How the scores of candidates are drawn.
POINTS: dict[str, Any] = {"linestyle": "none", "alpha": 0.6, "markersize": 4.5, "elinewidth": 0.8}
#: No row of panels is wider, inches.
WIDEST = 16.0


def plot_sweep(
    candidates: Sequence[dict[str, Any]], mean: Any, spread: Any, score: str, best: int | None = None
) -> Any:
    """Draw the mean score against each parameter that varies, mark the best candidate, and return the figure.

    By default, the candidate with the highest mean is the best.
    """
    left_out = _why_not_shown(np.asarray(mean, float))
    mean, spread = _drawn(mean), _drawn(spread)
    parameters = _parameter_axes(candidates, varied(candidates)) or [_numbers_of_candidates(len(mean))]
    figure, axes = _panels(parameters, score, left_out)
    if best is None and np.isfinite(mean).any():
        best = int(np.nanargmax(mean))
    look = {"color": COLOURS[0], "marker": MARKERS[0], "label": "mean ± standard deviation over the splits"} | POINTS
    for axis, parameter in zip(axes, parameters, strict=True):
        axis.errorbar(parameter.at, mean, yerr=spread, **look)
        _mark(axis, parameter.at, mean, spread, best)
    legend_below(figure)
    return figure


def plot_halving(
    candidates: Sequence[dict[str, Any]],
    mean: Any,
    spread: Any,
    score: str,
    best: int | None,
    resource: str,
    amounts: Any,
) -> Any:
    """Draw the mean score against the resource and each parameter that varies, mark the best, and return the figure.

    `amounts` says how much of the resource each candidate had. By default, the best of those with the most of it, and
    not the best of all, is marked.
    """
    left_out = _why_not_shown(np.asarray(mean, float))
    mean, spread, amounts = _drawn(mean), _drawn(spread), np.asarray(amounts)
    shown = [name for name in varied(candidates) if name != resource]
    last = np.where(amounts == amounts.max(), mean, np.nan)
    if best is None and np.isfinite(last).any():
        best = int(np.nanargmax(last))
    wider = amounts.max() > amounts.min()
    parameters = [ParameterAxis(resource, amounts.astype(float), "log" if wider else "linear")]
    parameters += _parameter_axes(candidates, shown)
    figure, axes = _panels(parameters, score, left_out)
    levels = np.unique(amounts)
    axes[0].set_xticks(levels, levels.astype(str))
    of_candidate: dict[Any, list[int]] = {}
    for k, each in enumerate(candidates):
        of_candidate.setdefault(tuple(str(each.get(name)) for name in shown), []).append(k)
    for line in of_candidate.values():
        axes[0].plot(amounts[line], mean[line], color=GREY, linewidth=0.8, zorder=1)
    for axis, parameter in zip(axes, parameters, strict=True):
        for position, amount in enumerate(levels):
            own = amounts == amount
            look = {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}
            named = f"{as_label(resource)} {amount}"
            axis.errorbar(parameter.at[own], mean[own], yerr=spread[own], label=named, **look, **POINTS)
        _mark(axis, parameter.at, mean, spread, best)
    legend_below(figure)
    return figure


def _drawn(values: Any) -> NDArray[np.float64]:
    """Return numbers, and nan for those that are too large for matplotlib, as scores of a search that diverged are."""
    numbers: NDArray[np.float64] = np.asarray(values, float)
    return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)


def varied(candidates: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the parameters in which the candidates differ; all names where they do not."""
    names = sorted({name for parameters in candidates for name in parameters})
    return [name for name in names if len({str(parameters.get(name)) for parameters in candidates}) > 1] or names


def _parameter_axes(candidates: Sequence[dict[str, Any]], names: Sequence[str]) -> list[ParameterAxis]:
    return [parameter_axis(name, [parameters.get(name) for parameters in candidates]) for name in names]


def _numbers_of_candidates(count: int) -> ParameterAxis:
    return ParameterAxis("number of the candidate", np.arange(1.0, count + 1), "linear")


def _panels(parameters: Sequence[ParameterAxis], score: str, left_out: str) -> tuple[Any, Any]:
    """Make a figure with a panel for each parameter, all with the same axis of scores; return it and the panels.

    `left_out`, if it says something, is the title: which scores are not shown.
    """
    width = max(parameter.width for parameter in parameters)
    height = PANEL[1] + max(parameter.height for parameter in parameters)
    figure, axes = panels(len(parameters), (width, height), min(COLUMNS, max(1, int(WIDEST / width))))
    for axis, parameter in zip(axes, parameters, strict=True):
        if axis is not axes[0]:
            axis.sharey(axes[0])
        parameter.draw(axis)
        axis.set_ylabel(as_label(f"mean test {score}", LONGEST_BESIDE))
    if left_out:
        figure.suptitle(left_out, fontsize=10)
    return figure, axes


def _why_not_shown(scores: NDArray[np.float64]) -> str:
    """Say how many scores are not drawn, and why; nothing if all are."""
    missing = int(np.isnan(scores).sum())
    too_large = int(np.isnan(_drawn(scores)).sum()) - missing
    if missing and too_large:
        return f"of {len(scores)} results, {missing} without a score and {too_large} too large to draw are not shown"
    if too_large:
        return f"{too_large} of {len(scores)} results have a score too large to draw and are not shown"
    return f"{missing} of {len(scores)} results have no score and are not shown" if missing else ""


def _mark(axis: Any, at: Any, mean: Any, spread: Any, best: int | None) -> None:
    """Mark the best candidate, and those far below all others at the lower edge."""
    lowest = far_below(finite(mean))
    if lowest is not None:
        below = mean < lowest
        reach = finite(np.maximum((mean - spread)[~below], lowest), mean[~below])
        top = float(finite((mean + spread)[~below], mean[~below]).max())
        margin = 0.08 * (top - reach.min())
        axis.set_ylim(reach.min() - margin, top + margin)
        edge = {"transform": axis.get_xaxis_transform(), "linestyle": "none", "clip_on": False}
        label = f"below the axis: {below.sum()}, the lowest {mean[below].min():.3g}"
        axis.plot(at[below], np.full(below.sum(), 0.02), marker="v", color=COLOURS[3], label=label, **edge)
    if best is not None and np.isfinite(mean[best]):
        star = {"color": COLOURS[1], "markeredgecolor": pyplot().rcParams["text.color"], "markeredgewidth": 0.7}
        axis.plot(at[best], mean[best], "*", markersize=14, zorder=3, label=f"best: {mean[best]:.4g}", **star)
