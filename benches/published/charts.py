"""Charts of ratios beside the tables: a row a case, a dot a contestant, logarithmic, with a line at 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import derivatives, estimators, gpu, training
from .figures import Figures
from .table import Table

#: Colours that people with any kind of colour vision tell apart (Okabe and Ito), and the markers beside them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
COLOURS_ON_DARK = ("#56B4E9", "#E69F00", "#2FD3A3", "#CC79A7", "#F0E442", "#FF8A4C")
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Longer names are broken into two lines.
LONGEST = 26
INK = {False: "#222832", True: "#ced6dd"}


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Parameters
    ----------
    axis : str
        What a ratio is.
    rows : sequence of str
        The cases.
    series : dict
        By contestant, a ratio for each case; None where nothing was measured.
    """

    axis: str
    rows: Sequence[str]
    series: dict[str, list[float | None]]

    def description(self) -> str:
        """Return what somebody who does not see the chart should know."""
        values = [value for each in self.series.values() for value in each if value is not None]
        who = f": {', '.join(self.series)}" if len(self.series) > 1 else ""
        extent = f"from {min(values):.2g} to {max(values):.2g}"
        return f"{self.axis}, {len(self.rows)} rows{who}; {extent}. The table holds the same figures."


def _ratios(table: Table, ours: str, others: Sequence[str], axis: str) -> Chart:
    """Divide the columns of others by ours."""
    heads = list(table.columns)
    at = heads.index(ours)
    series: dict[str, list[float | None]] = {}
    for name in others:
        column = [row[heads.index(name)].value for row in table.rows]
        base = [row[at].value for row in table.rows]
        series[name] = [x / y if x is not None and y else None for x, y in zip(column, base, strict=True)]
    return Chart(axis, _names(table), series)


def _columns(table: Table, columns: dict[str, str], axis: str) -> Chart:
    """Take columns that hold ratios as they are."""
    heads = list(table.columns)
    series = {name: [row[heads.index(column)].value for row in table.rows] for name, column in columns.items()}
    return Chart(axis, _names(table), series)


def _names(table: Table) -> list[str]:
    """Return the labels of the rows, with long networks cut short."""
    labels = [[each.text.replace("`", "") for each in row[: table.labels]] for row in table.rows]
    for row in labels:
        widths = row[0].split("-")
        if len(widths) > 4:
            row[0] = "-".join([*widths[:2], "…", widths[-1]])
    return [_broken(", ".join(row)) for row in labels]


def _broken(name: str) -> str:
    """Break a long name into two lines, at the comma nearest to its middle."""
    commas = [at for at, sign in enumerate(name) if name[at : at + 2] == ", "]
    if len(name) <= LONGEST or not commas:
        return name
    at = min(commas, key=lambda at: abs(at - len(name) / 2))
    return f"{name[: at + 1]}\n{name[at + 2 :]}"


def _peers(figures: Figures) -> Chart:
    names = ["NumPy alone", "scikit-learn", "PyTorch", "PyTorch compiled", "JAX jit", "JAX scan"]
    return _ratios(training.peers(figures), "deltaprop", names, "time of a step ÷ deltaprop's")


def _gpu(figures: Figures) -> Chart:
    names = [name for name in gpu.CONTESTANTS if name != gpu.OURS]
    return _ratios(gpu.steps(figures), gpu.OURS, names, "time of a step ÷ deltaprop's")


def _predictions(figures: Figures) -> Chart:
    names = ["onnxruntime", "PyTorch", "scikit-learn"]
    return _ratios(estimators.predictions(figures), "deltaprop", names, "time of predict ÷ deltaprop's")


def _searches(figures: Figures) -> Chart:
    columns = {"scikit-learn": "scikit-learn ÷ SweepCV", "ours, one by one": "one by one ÷ SweepCV"}
    return _columns(estimators.searches(figures), columns, "time of the search ÷ SweepCV's")


def _fits(figures: Figures) -> Chart:
    return _columns(estimators.fits(figures), {"fit": "scikit-learn ÷ deltaprop"}, "scikit-learn's time ÷ deltaprop's")


def _scripts(figures: Figures) -> Chart:
    table = estimators.scripts(figures)
    return _columns(table, {"script": "scikit-learn ÷ deltaprop"}, "scikit-learn's time ÷ deltaprop.accel's")


def _passes(figures: Figures) -> Chart:
    columns = {name: name for name in ("jvp", "vjp", "gradient", "hvp")}
    return _columns(derivatives.passes(figures), columns, "time of a pass ÷ an evaluation's")


#: By the name of the table that a chart stands beside.
CHARTS = {
    "fits": _fits,
    "gpu": _gpu,
    "passes": _passes,
    "peers": _peers,
    "predictions": _predictions,
    "scripts": _scripts,
    "searches": _searches,
}


def draw(chart: Chart, path: Path, *, dark: bool) -> None:
    """Draw a chart as an SVG file with a transparent background; two runs write the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    ink = INK[dark]
    row_height = 0.44 if any("\n" in row for row in chart.rows) else 0.34
    height = 1.1 + row_height * len(chart.rows) + 0.24 * ((len(chart.series) + 2) // 3) * (len(chart.series) > 1)
    with matplotlib.rc_context({"svg.hashsalt": "deltaprop", "font.size": 11, "text.color": ink}):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        axes: Any = figure.subplots()
        _dots(axes, chart, COLOURS_ON_DARK if dark else COLOURS)
        axes.axvline(1.0, color=ink, linewidth=1)
        axes.set_xlabel(chart.axis, color=ink)
        _decorate(axes, chart, ink)
        if len(chart.series) > 1:
            figure.legend(loc="outside upper center", ncols=3, frameon=False, handletextpad=0.2, columnspacing=1.2)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _dots(axes: Any, chart: Chart, colours: Sequence[str]) -> None:
    for number, (name, values) in enumerate(chart.series.items()):
        points = [(value, row) for row, value in enumerate(values) if value is not None]
        x, y = zip(*points, strict=True)
        colour, marker = colours[number % len(colours)], MARKERS[number % len(MARKERS)]
        if len(chart.series) == 1:
            axes.hlines(y, 1, x, color=colour, linewidth=3)
            for value, row in points:
                text = {"textcoords": "offset points", "xytext": (7, 0), "va": "center", "fontsize": 10}
                axes.annotate(f"{value:.3g}", (max(value, 1.0), row), **text)
        axes.plot(x, y, marker, color=colour, label=name, markersize=7, linestyle="none")


def _decorate(axes: Any, chart: Chart, ink: str) -> None:
    axes.set_xscale("log")
    values = [value for each in chart.series.values() for value in each if value is not None]
    axes.set_xlim(min(0.8, 0.85 * min(values)), max(2.0, 1.35 * max(values)))
    low, high = axes.get_xlim()
    marks = (0.5, 1, 2, 5, 10, 20, 50) if high / low < 60 else (1, 3, 10, 30, 100, 300, 1000)
    ticks = [tick for tick in marks if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.set_ylim(len(chart.rows) - 0.5, -0.5)
    axes.tick_params(colors=ink, length=3)
    axes.grid(axis="x", color=ink, alpha=0.2)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(ink)
