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


def plot_sweep(candidates: Sequence[dict[str, Any]], mean: Any, spread: Any, score: str) -> Any:
    """Draw the mean score against each parameter that varies, mark the best candidate, and return the figure."""
    names = sorted({name for parameters in candidates for name in parameters})
    shown = [name for name in names if len({str(parameters.get(name)) for parameters in candidates}) > 1] or names
    mean, spread = np.asarray(mean, float), np.asarray(spread, float)
    columns = min(3, max(1, len(shown)))
    rows = math.ceil(max(1, len(shown)) / columns)
    figure, axes = _subplots(rows, columns, figsize=(4.5 * columns, 3.5 * rows), squeeze=False, sharey=True)
    best = int(np.nanargmax(mean)) if np.isfinite(mean).any() else None
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, shown, strict=False):
        values = [parameters.get(name) for parameters in candidates]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            at = np.array(values, float)
            positive = at[at > 0]
            if positive.size and positive.max() >= 50 * positive.min():
                axis.set_xscale("log" if positive.size == at.size else "symlog")
        else:
            labels = list(dict.fromkeys(map(str, values)))
            at = np.array([labels.index(str(value)) for value in values], float)
            axis.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 6 else 0)
        axis.errorbar(at, mean, yerr=spread, fmt="o", alpha=0.5, markersize=4, linewidth=0.8)
        if best is not None:
            axis.plot(at[best], mean[best], "*", markersize=14, color="C3", label=f"best: {mean[best]:.4g}", zorder=3)
            axis.legend()
        axis.set(xlabel=name, ylabel=f"mean test {score}" if axis in axes[:, 0] else "")
        axis.grid(alpha=0.3)
    return figure


def plot_importances(names: Sequence[str], importances: Any, top: int, unit: str) -> Any:
    """Draw a bar for each of the `top` most important columns, the largest on top, and return the figure."""
    values = np.asarray(importances, float)
    order = np.argsort(-values, kind="stable")[:top]
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    figure, axis = _subplots(1, 1, figsize=(7, 1.2 + 0.28 * len(order)))
    places = np.arange(len(order))
    axis.barh(places, values[order], height=0.7, color=["C0" if value > 0 else "0.7" for value in values[order]])
    axis.set_yticks(places, [shown[k].replace("$", r"\$") for k in order])
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
