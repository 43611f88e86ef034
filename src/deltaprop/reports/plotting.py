"""Pictures by matplotlib, which is loaded when the first one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltaprop.reports.notebook import notebook_shell

#: Longer names are cut off.
LONGEST_NAME = 40
#: How the scores of candidates are drawn.
POINTS: dict[str, Any] = {"fmt": "o", "alpha": 0.5, "markersize": 4, "linewidth": 0.8}
INSTALL = "plotting needs matplotlib: pip install 'deltaprop[plot]'"


def pyplot() -> Any:
    """Import matplotlib.pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message names the extra that installs it.
    """
    try:
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from error


def _subplots(rows: int, columns: int, **options: Any) -> Any:
    """Make a figure by pyplot and its axes; a notebook shows it once."""
    drawing = pyplot()
    if notebook_shell() is not None:
        from deltaprop.reports.notebook_figure import NotebookFigure

        options["FigureClass"] = NotebookFigure
    return drawing.subplots(rows, columns, layout="constrained", **options)


def plot_history(
    cost: Sequence[float],
    validation_cost: Sequence[float],
    metrics: dict[str, list[float]],
    best_epoch: int | None,
    unit: str,
) -> Any:
    """Draw the costs by epoch (or another `unit`), and beside them the metrics, if any, and return the figure."""
    if not cost:
        raise ValueError(f"history: expected at least one {unit} to plot, got none")
    panels = 2 if metrics else 1
    figure, axes = _subplots(1, panels, figsize=(5.5 * panels, 4), squeeze=False)
    epochs = range(1, len(cost) + 1)
    marker = "o" if len(cost) == 1 else None  # one point makes no line

    axes[0, 0].plot(epochs, cost, marker=marker, label="training")
    if validation_cost:
        axes[0, 0].plot(epochs, validation_cost, marker=marker, label="validation")
    curves = [*cost, *validation_cost]
    if min(curves) > 0 and max(curves) > 20 * min(curves):
        axes[0, 0].set_yscale("log")
    axes[0, 0].set(xlabel=unit, ylabel="cost J", title="Cost")
    for name, values in metrics.items():
        axes[0, -1].plot(epochs, values, marker=marker, label=f"validation {name.replace('_', ' ')}")
    if metrics:
        axes[0, -1].set(xlabel=unit, title="Validation")
    for axis in axes.flat:
        axis.xaxis.get_major_locator().set_params(integer=True)
        if best_epoch is not None:
            axis.axvline(best_epoch, color="0.6", linestyle=":", label=f"best epoch, {best_epoch}")
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def plot_rates(
    rates: NDArray[np.floating], costs: NDArray[np.floating], smoothed: NDArray[np.floating], suggestion: float | None
) -> Any:
    """Draw costs over learning rates, smoothed too, with the rate that is suggested; return the figure."""
    if not len(rates):
        raise ValueError("rates: expected a curve to plot, got none; fit or find makes it")
    figure, axis = pyplot().subplots(figsize=(5.5, 4), layout="constrained")
    axis.plot(rates, costs, color="0.7", label="of each minibatch")
    axis.plot(rates, smoothed, label="smoothed")
    if suggestion is not None:
        axis.axvline(suggestion, color="0.4", linestyle=":", label=f"suggestion, {suggestion:.2g}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="cost", title="Learning-rate range test")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def plot_weights(weights: np.ndarray[Any, Any], shape: tuple[int, int]) -> Any:
    """Draw an image of each unit of `weights`, (units, h · w), on one scale symmetric about 0; return the figure."""
    units = len(weights)
    columns = math.ceil(math.sqrt(units))
    rows = math.ceil(units / columns)
    side = max(0.6, min(1.2, 9 / columns))
    figure, axes = _subplots(rows, columns, figsize=(side * columns + 1, side * rows), squeeze=False)
    # A few extreme weights would leave all others grey.
    limit = float(np.percentile(np.abs(weights), 99.5)) or 1.0
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, weights, strict=False):
        image = axis.imshow(row.reshape(shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=axes, shrink=0.8, label="weight")
    return figure


def plot_sweep(
    candidates: Sequence[dict[str, Any]], mean: Any, spread: Any, score: str, best: int | None = None
) -> Any:
    """Draw the mean score against each parameter that varies, mark the best candidate, and return the figure.

    By default, the candidate with the highest mean is the best.
    """
    shown, mean, spread = varied(candidates), np.asarray(mean, float), np.asarray(spread, float)
    figure, axes = _panels(len(shown), score)
    if best is None and np.isfinite(mean).any():
        best = int(np.nanargmax(mean))
    for axis, name in zip(axes, shown, strict=False):
        at = _places(axis, [parameters.get(name) for parameters in candidates], name)
        axis.errorbar(at, mean, yerr=spread, **POINTS)
        _mark_best(axis, at, mean, best)
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
    mean, spread, amounts = np.asarray(mean, float), np.asarray(spread, float), np.asarray(amounts)
    shown = [name for name in varied(candidates) if name != resource]
    figure, axes = _panels(1 + len(shown), score)
    last = np.where(amounts == amounts.max(), mean, np.nan)
    if best is None and np.isfinite(last).any():
        best = int(np.nanargmax(last))
    of_candidate: dict[Any, list[int]] = {}
    for k, parameters in enumerate(candidates):
        of_candidate.setdefault(tuple(str(parameters.get(name)) for name in shown), []).append(k)
    for line in of_candidate.values():
        axes[0].plot(amounts[line], mean[line], color="0.7", linewidth=0.8, zorder=1)
    if amounts.max() > amounts.min():
        axes[0].set_xscale("log")
        axes[0].set_xticks(np.unique(amounts), np.unique(amounts).astype(str))
        axes[0].set_xticks([], minor=True)
    places = [amounts.astype(float)]
    axes[0].set_xlabel(_plain(resource))
    for axis, name in zip(axes[1:], shown, strict=False):
        places.append(_places(axis, [parameters.get(name) for parameters in candidates], name))
    for axis, at in zip(axes, places, strict=False):
        for position, amount in enumerate(np.unique(amounts)):
            own = amounts == amount
            options = {"color": f"C{position % 10}", "label": f"{_plain(resource)} {amount}"} | POINTS
            axis.errorbar(at[own], mean[own], yerr=spread[own], **options)
        _mark_best(axis, at, mean, best)
    return figure


def varied(candidates: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the parameters in which the candidates differ; all names where they do not."""
    names = sorted({name for parameters in candidates for name in parameters})
    return [name for name in names if len({str(parameters.get(name)) for parameters in candidates}) > 1] or names


def _panels(count: int, score: str) -> tuple[Any, Any]:
    """Make a figure of so many panels, with one axis of scores; return it and the panels."""
    columns = min(3, max(1, count))
    rows = math.ceil(max(1, count) / columns)
    figure, axes = _subplots(rows, columns, figsize=(4.5 * columns, 3.5 * rows), squeeze=False, sharey=True)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    for axis in axes.flat[:count]:
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"mean test {_plain(score)}")
    return figure, axes.flat


def _places(axis: Any, values: Sequence[Any], name: str) -> NDArray[np.float64]:
    """Set up the axis of a parameter, and return where each value stands."""
    axis.set_xlabel(_plain(name))
    if all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in values):
        at = np.array(values, float)
        positive = at[at > 0]
        if positive.size and positive.max() >= 50 * positive.min():
            axis.set_xscale("log" if positive.size == at.size else "symlog")
        return at
    texts = [shortened(value) for value in values]
    labels = list(dict.fromkeys(texts))
    axis.set_xticks(range(len(labels)), map(_plain, labels), rotation=30 if max(map(len, labels)) > 6 else 0)
    return np.array([labels.index(text) for text in texts], float)


def _mark_best(axis: Any, at: Any, mean: Any, best: int | None) -> None:
    if best is not None:
        axis.plot(at[best], mean[best], "*", markersize=14, color="C3", label=f"best: {mean[best]:.4g}", zorder=3)
        axis.legend()


def shortened(value: object) -> str:
    """Return a value as one short line of text."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _plain(text: str) -> str:
    """Keep matplotlib from reading formulas in a name."""
    return text.replace("$", r"\$")


def plot_importances(names: Sequence[str], importances: Any, top: int, unit: str) -> Any:
    """Draw a bar for each of the `top` most important columns, the largest on top, and return the figure."""
    values = np.asarray(importances, float)
    order = np.argsort(-values, kind="stable")[:top]
    shown = [shortened(name) for name in names]
    figure, axis = _subplots(1, 1, figsize=(7, 1.2 + 0.28 * len(order)))
    places = np.arange(len(order))
    axis.barh(places, values[order], height=0.7, color=["C0" if value > 0 else "0.7" for value in values[order]])
    axis.set_yticks(places, [_plain(shown[k]) for k in order])
    axis.set_ylim(len(order) - 0.4, -0.6)
    for place, value in zip(places, values[order], strict=True):
        axis.annotate(
            f"{value:.3g}", (max(value, 0.0), place), (4, 0), textcoords="offset points", va="center", color="0.3"
        )
    axis.margins(x=0.12)
    more = f", the first {len(order)} of {len(values)} columns" if len(order) < len(values) else ""
    axis.set(xlabel=unit, title=f"Importance{more}")
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure
