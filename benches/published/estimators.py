"""Tables beside scikit-learn: fits, searches, unchanged scripts, predictions; and estimators for tables."""

from __future__ import annotations

import statistics
from collections import defaultdict

from .figures import Figures, Node
from .table import NOTHING, Cell, Table, cell, duration, label, ratio, significant, thousandths, whole


def fits(figures: Figures) -> Table:
    """`fit` of both estimators with the same parameters, seed and data."""
    lines = []
    for row in figures["estimators"]["fits"]:
        parameters = row["parameters"]
        solver = parameters["solver"].text if "solver" in parameters else "adam"
        times = [cell(row["seconds"][who]["median"], duration) for who in ("scikit-learn", "deltaprop")]
        lines.append([label(row["data"].text), label(solver), *times, cell(row["ratio"], ratio)])
    heads = ["data", "solver", "scikit-learn", "deltaprop", "scikit-learn ÷ deltaprop"]
    return Table(heads, lines, ["estimators"], labels=2)


def equality(figures: Figures) -> Table:
    """How far the results of both are apart."""
    lines = []
    for row in figures["estimators"]["fits"]:
        parameters = row["parameters"]
        solver = parameters["solver"].text if "solver" in parameters else "adam"
        scores = [cell(row[key], lambda x: f"{x:.6f}") for key in ("score_of_scikit_learn", "score")]
        apart = cell(row["largest_difference_of_coefs"], lambda x: f"{x:.1e}")
        lines.append([label(row["data"].text), label(solver), *scores, apart])
    heads = ["data", "solver", "score, scikit-learn", "score, deltaprop", "`coefs_` differ by"]
    return Table(heads, lines, ["estimators"], labels=2)


def mnist_example(figures: Figures) -> Table:
    """scikit-learn's own example on MNIST."""
    found = figures["estimators"]["mnist_example"]
    lines = []
    for who in found.names():
        scores = [cell(found[who][key], lambda x: f"{x:.6f}") for key in ("training_score", "test_score")]
        losses = [each.number for each in found[who]["losses"]]
        shown = Cell(f"{losses[0]:.8f} … {losses[-1]:.8f}", losses[-1])
        lines.append([label(who), *scores, shown, cell(found[who]["seconds"], duration)])
    return Table(["", "training score", "test score", "losses", "time"], lines, ["estimators"])


def more_fits(figures: Figures) -> Table:
    """Fits with other options, and `partial_fit`."""
    prefix = "scikit-learn ÷ ours: "
    lines = []
    for row in figures["cpu"]["fits"]:
        if row["what"].text.startswith(prefix):
            ours = "ours" if "ours" in row["seconds"] else "deltaprop"
            times = [cell(_median(row["seconds"][who]), duration) for who in ("scikit-learn", ours)]
            lines.append([label(row["what"].text.removeprefix(prefix)), *times, cell(row["ratio"], ratio)])
    return Table(["data, option", "scikit-learn", "deltaprop", "scikit-learn ÷ deltaprop"], lines, ["cpu"])


def _median(node: Node) -> Node:
    return node["median"] if isinstance(node.value, dict) else node


def scripts(figures: Figures) -> Table:
    """Whole scripts of scikit-learn, with imports, run as they are and by `python -m deltaprop.accel`."""
    lines = []
    for row in figures["accel"]["scripts"]:
        name = row["script"].text.rpartition("/")[2].removesuffix(".py")
        times = []
        for who in ("scikit-learn", "deltaprop"):
            seconds = statistics.median(each.number for each in row["seconds"][who])
            times.append(Cell(duration(seconds), seconds))
        same = label("yes" if row["equal"].value is True else "no")
        lines.append([label(name.replace("_", " ")), *times, cell(row["ratio"], ratio), same])
    heads = ["script", "scikit-learn", "deltaprop.accel", "scikit-learn ÷ deltaprop", "same lines printed"]
    return Table(heads, lines, ["accel"])


def searches(figures: Figures) -> Table:
    """Grid searches: scikit-learn's, ours one network after another, and all networks at once."""
    lines = []
    for row in figures["sweep"]["searches"]:
        times = [cell(row["seconds"][who]["median"], duration) for who in ("scikit-learn", "one by one", "SweepCV")]
        ratios = [cell(row[key], ratio) for key in ("against_scikit_learn", "against_one_by_one")]
        apart = cell(row["largest_difference_of_mean_test_scores"], thousandths)
        lines.append([label(row["search"].text), *times, *ratios, apart])
    heads = ["search", "GridSearchCV, scikit-learn's", "GridSearchCV, ours", "SweepCV"]
    heads += ["scikit-learn ÷ SweepCV", "one by one ÷ SweepCV", "mean scores differ by"]
    return Table(heads, lines, ["sweep"])


def predictions(figures: Figures) -> Table:
    """`predict` of float32 rows beside other libraries."""
    rows = list(figures["cpu"]["predict"])
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"].names()))
    names.sort(key=lambda name: not name.startswith("deltaprop"))
    lines = []
    for row in rows:
        times = [cell(row["seconds"][name]["median"], duration) for name in names]
        others = [row["seconds"][name]["median"].number for name in names if not name.startswith("deltaprop")]
        ours = row["seconds"]["deltaprop"]["median"].number
        best = Cell(ratio(min(others) / ours), min(others) / ours)
        lines.append([label(row["network"].text), cell(row["rows"], whole), *times, best])
    return Table(["network", "rows", *names, "best peer ÷ deltaprop"], lines, ["cpu"], labels=2)


NAMES = {
    "deltaprop": "as it is",
    "many bins for all": "up to 32 bins for all members",
    "few bins for all": "up to 8 bins for all members",
}
NAMES |= {
    "1 member": "one member",
    "8 members": "eight members, all with up to 32 bins",
    "128-128": "128-128 for all tables",
}


def _summary(figures: Figures, name: str, rename: dict[str, str]) -> Table:
    groups = figures[name]["summary"]
    keys = groups.names()
    everything = groups["all tables"]
    heads, lines = [""], []
    for key in keys:
        heads += [f"{key}: error / RMSE", "log loss / RMSE"] if len(keys) == 1 else []
        heads += [f"{key}: error / RMSE", f"{key}: log loss / RMSE"] if len(keys) > 1 else []
    for row in everything:
        who = row["contestant"].text
        line = [label(rename.get(who, who))]
        for key in keys:
            same = groups[key].where(contestant=who)
            line += [cell(same[f"normalised_{metric}"], thousandths) for metric in ("error", "log_loss")]
        lines.append([*line, cell(row["mean_rank"], lambda x: f"{x:.1f}"), cell(row["median_seconds"], duration)])
    return Table([*heads, "mean rank", "median fit"], lines, [name], best="least")


def tabular(figures: Figures) -> Table:
    """Estimators for tables: normalised errors, mean rank, median time of a fit."""
    return _summary(figures, "tabular", {})


def ablation(figures: Figures) -> Table:
    """The same with one ingredient changed."""
    return _summary(figures, "tabular_ablation", NAMES)


def tabular_networks(figures: Figures) -> Table:
    """The same beside other networks for tables, on a few of the tables."""
    return _summary(figures, "tabular_networks", {})


def by_table(figures: Figures) -> Table:
    """The normalised log loss or RMSE of each contestant on each table, mean over the splits."""
    found = figures["tabular"]["normalised_log_loss_by_table"]
    names = [name for name in found.names() if name != "constant"]
    lines = []
    for table in found["deltaprop"].names():
        means = [statistics.fmean(each.number for each in found[name][table]) for name in names]
        best = min(means)
        cells = [Cell(f"**{thousandths(x)}**" if x == best else thousandths(x), x) for x in means]
        lines.append([label(table.replace("_", " ")), *cells])
    return Table(["table", *names], lines, ["tabular"])


def others_ahead(figures: Figures) -> Table:
    """The tables on which another contestant has the lower mean log loss or RMSE."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in figures["tabular"]["runs"]:
        scores[run["table"].text][run["contestant"].text].append(run["log_loss"].number)
    lines = []
    for table, by_name in scores.items():
        means = {name: statistics.fmean(values) for name, values in by_name.items()}
        best = min(means, key=means.__getitem__)
        if best != "deltaprop":
            ours = means["deltaprop"]
            cells = [label(best), Cell(significant(means[best]), means[best]), Cell(significant(ours), ours)]
            lines.append([label(table.replace("_", " ")), *cells, Cell(ratio(ours / means[best]), ours / means[best])])
    if not lines:
        lines.append([label("no table"), *[label(NOTHING)] * 4])
    heads = ["table", "ahead", "its log loss or RMSE", "deltaprop's", "deltaprop ÷ best"]
    return Table(heads, lines, ["tabular"], labels=2)
