"""Pictures of a training, of learning rates, of weights and of the columns of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltaprop.reports.plot_style import (
    CHARACTER,
    COLOURS,
    GREY,
    LONGEST_BESIDE,
    PANEL,
    SIGNED_COLOURS,
    as_label,
    finite,
    legend_below,
    look,
    panels,
    scale_for,
    shortened,
    subplots,
)

#: No picture of bars is higher, inches: matplotlib refuses more than 65536 pixels.
HIGHEST = 300.0


def plot_history(
    cost: Sequence[float],
    validation_cost: Sequence[float],
    metrics: dict[str, list[float]],
    best_epoch: int | None,
    unit: str,
) -> Any:
    """Draw the costs by epoch (or another `unit`), and beside them each metric in a panel; return the figure.

    Costs that are positive and span more than a factor of 20 have a logarithmic axis, and so do metrics above 1.
    """
    if not cost:
        raise ValueError(f"history: expected at least one {unit} to plot, got none")
    recorded = {name: values for name, values in metrics.items() if values}
    figure, axes = panels(1 + len(recorded), PANEL if len(recorded) else (5.5, 4.0))
    _curve(axes[0], cost, 0, "training")
    if validation_cost:
        _curve(axes[0], validation_cost, 1, "validation")
    axes[0].set_yscale(**scale_for(finite(cost, validation_cost)))
    axes[0].set_ylabel("cost J")
    for axis, (name, values) in zip(axes[1:], recorded.items(), strict=True):
        _curve(axis, values, 1, "validation")
        shown = finite(values)
        if shown.size and not 0 <= shown.min() <= shown.max() <= 1:  # shares stay on a linear axis
            axis.set_yscale(**scale_for(shown))
        axis.set_ylabel(as_label(f"validation {name.replace('_', ' ')}", LONGEST_BESIDE))
    lost = np.flatnonzero(~np.isfinite(np.asarray(cost, float)))
    for axis in axes:
        axis.set_xlabel(unit)
        axis.set_xlim(*((0.5, 1.5) if len(cost) == 1 else (1 - 0.03 * len(cost), 1.03 * len(cost))))
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(cost) == 1:
            axis.set_xticks([1])
        if best_epoch is not None:
            axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"best {unit}, {best_epoch}")
        if lost.size:
            label = f"cost not finite from {unit} {lost[0] + 1}"
            axis.axvline(lost[0] + 1, color=COLOURS[3], linestyle="-.", label=label)
    legend_below(figure)
    return figure


def _curve(axis: Any, values: Sequence[float], k: int, label: str) -> None:
    """Draw what was recorded by epoch, which may end before the last one."""
    axis.plot(range(1, len(values) + 1), values, label=label, **look(k, len(values)))


def plot_rates(
    rates: NDArray[np.floating], costs: NDArray[np.floating], smoothed: NDArray[np.floating], suggestion: float | None
) -> Any:
    """Draw costs over learning rates, smoothed too, with the rate that is suggested; return the figure."""
    if not len(rates):
        raise ValueError("rates: expected a curve to plot, got none; fit or find makes it")
    figure, (axis,) = panels(1, (5.5, 4.0))
    axis.plot(rates, costs, color=GREY, linewidth=0.9, label="cost of each minibatch")
    axis.plot(rates, smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    if suggestion is not None:
        line = {"color": COLOURS[1], "linestyle": "--"}
        axis.axvline(suggestion, label=f"suggestion, η = {suggestion:.2g}", **line)
    axis.set(xscale="log", xlabel="learning rate η", ylabel="cost J", title="Learning-rate range test")
    axis.set_yscale(**scale_for(finite(costs, smoothed)))
    legend_below(figure)
    return figure


def plot_weights(weights: np.ndarray[Any, Any], shape: tuple[int, int]) -> Any:
    """Draw an image of each unit of `weights`, (units, h · w), on one scale symmetric about 0; return the figure."""
    units = len(weights)
    columns = math.ceil(math.sqrt(units))
    rows = math.ceil(units / columns)
    side = max(0.6, min(1.2, 9 / columns))
    figure, axes = subplots(rows, columns, figsize=(max(2.5, side * columns + 1), max(2.0, side * rows)), squeeze=False)
    # A few extreme weights would leave all others grey.
    sizes = np.abs(finite(weights))
    limit = float(np.percentile(sizes, 99.5) if sizes.size else 0.0) or 1.0
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, weights, strict=False):
        image = axis.imshow(row.reshape(shape), cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit)
    beyond = "both" if sizes.size and sizes.max() > limit else "neither"
    figure.colorbar(image, ax=axes, shrink=0.8, label="weight", extend=beyond)
    return figure


def plot_importances(names: Sequence[str], importances: Any, top: int, unit: str) -> Any:
    """Draw a bar for each of the `top` most important columns, the largest on top, and return the figure."""
    values = np.asarray(importances, float)
    order = np.argsort(-values, kind="stable")[:top]
    shown = [shortened(names[k]) for k in order]
    width = 5.0 + CHARACTER * max(map(len, shown))
    figure, axis = subplots(1, 1, figsize=(width, min(HIGHEST, 1.4 + 0.28 * len(order))))
    places = np.arange(len(order))
    axis.barh(places, values[order], height=0.7, color=[COLOURS[0] if value > 0 else GREY for value in values[order]])
    axis.set_yticks(places, map(as_label, shown))
    axis.set_ylim(len(order) - 0.4, -0.6)
    for place, value in zip(places, values[order], strict=True):
        axis.annotate(f"{value:.3g}", (max(value, 0.0), place), (4, 0), textcoords="offset points", va="center")
    axis.margins(x=0.12)
    more = f", the first {len(order)} of {len(values)} columns" if len(order) < len(values) else ""
    axis.set(xlabel=unit, ylabel="column", title=f"Importance{more}")
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure
