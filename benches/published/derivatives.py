"""Tables of what derivatives cost, and of what the simplified output error does."""

from __future__ import annotations

from .figures import Figures
from .table import NOTHING, Cell, Table, cell, duration, label, ratio, significant, whole


def passes(figures: Figures) -> Table:
    """What a pass costs, in evaluations of the network."""
    lines = []
    for row in figures["derivative_cost"]["passes"]:
        costs = [cell(row["evaluations"][name], ratio) for name in ("jvp", "vjp", "gradient", "hvp")]
        first = [label(row["network"].text), cell(row["samples"], whole)]
        lines.append([*first, cell(row["seconds"]["evaluation"]["median"], duration), *costs])
    heads = ["network", "samples", "evaluation", "jvp", "vjp", "gradient", "hvp"]
    return Table(heads, lines, ["derivative_cost"], labels=2)


def jacobians(figures: Figures) -> Table:
    """The full Jacobian by both modes: forward goes with the inputs, reverse with the outputs."""
    lines = []
    for row in figures["derivative_cost"]["jacobians"]:
        times = {mode: row["seconds"][mode]["median"].number for mode in ("forward", "reverse")}
        cells = [Cell(duration(seconds), seconds) for seconds in times.values()]
        apart = times["forward"] / times["reverse"]
        sides = [cell(row[side], whole) for side in ("inputs", "outputs")]
        lines.append([*sides, *cells, Cell(ratio(apart), apart)])
    return Table(["inputs", "outputs", "forward", "reverse", "forward ÷ reverse"], lines, ["derivative_cost"], labels=2)


def output_errors(figures: Figures) -> Table:
    """The squared error after the last epoch, by learning rate, of both output errors."""
    rows = list(figures["output_error"]["medians"])
    rates = sorted({row["learning_rate"].number for row in rows})
    lines = []
    for kind in dict.fromkeys(row["output_error"].text for row in rows):
        found = {row["learning_rate"].number: row for row in rows if row["output_error"].text == kind}
        costs = [cell(found[rate]["cost"][-1], significant) if rate in found else label(NOTHING) for rate in rates]
        lines.append([label(kind), *costs])
    return Table(["squared error", *(f"η = {rate:g}" for rate in rates)], lines, ["output_error"], best="least")


def output_error_accuracy(figures: Figures) -> Table:
    """The accuracy on held-out data after the last epoch, by learning rate, of both output errors."""
    rows = list(figures["output_error"]["medians"])
    rates = sorted({row["learning_rate"].number for row in rows})
    lines = []
    for kind in dict.fromkeys(row["output_error"].text for row in rows):
        found = {row["learning_rate"].number: row for row in rows if row["output_error"].text == kind}
        shown = [cell(found[rate]["accuracy"][-1], lambda x: f"{100 * x:.1f} %") for rate in rates]
        lines.append([label(kind), *shown])
    return Table(["accuracy", *(f"η = {rate:g}" for rate in rates)], lines, ["output_error"], best="most")
