"""Tables of training on a CPU: steps beside others, the share of the machine's peak, what limits it, MNIST."""

from __future__ import annotations

from .figures import Figures, Node
from .table import NOTHING, Cell, Table, cell, duration, label, percent, ratio, significant, whole

OURS = "deltaprop"
FLOOR = "bare products"
#: Columns of our own library: no peers.
OWN = (OURS, "NumPy alone", FLOOR)
RULES = {"sgd": "SGD", "adam": "Adam"}


def peers(figures: Figures) -> Table:
    """Microseconds a step, the floor, and the best of the other libraries over ours."""
    rows = list(figures["peers"]["rows"])
    names = list(dict.fromkeys(name for row in rows for name in row["microseconds_a_step"].names()))
    names.sort(key=lambda name: (name != OURS, name == FLOOR))
    lines = []
    for row in rows:
        times = row["microseconds_a_step"]
        others = [name for name in times.names() if name not in OWN]
        best = min(others, key=lambda name: row["ratio"][name].number, default=None)
        shown = [cell(times[name]["median"], significant) if name in times else label(NOTHING) for name in names]
        line = [label(row["network"].text), cell(row["batch"], whole)]
        line += [label(NOTHING)] * 2 if best is None else [cell(row["ratio"][best], ratio), label(best)]
        lines.append([*line, *shown, cell(row["over_the_floor"][OURS], ratio)])
    heads = ["network", "minibatch", "best peer ÷ deltaprop", "best peer", *names, "deltaprop ÷ floor"]
    return Table(heads, lines, ["peers"], labels=2)


def _near_and_far(row: Node | None, where: str, other: Node) -> Cell:
    for each in (row, other):
        if each is not None and where in each["by distance of the cores"]:
            return cell(each["by distance of the cores"][where]["share of peak"], ratio)
    return label(NOTHING)


def peak(figures: Figures) -> Table:
    """The share of what one large product reaches, with the cores near each other and far."""
    long = {_network(row): row for row in figures["peak"]["peak"]}
    lines = []
    for row in figures["cpu"]["peak"]:
        other = long.get(_network(row))
        first = [label(row["network"].text), cell(row["minibatch"], whole)]
        rule = row["learning"].text.partition(",")[0]
        first += [label(f"{row['dtype'].text}, {RULES.get(rule, rule)}")]
        shares = [_near_and_far(other, where, row) for where in ("near", "far")]
        lines.append([*first, *shares, cell(row["peak"], whole, 1e-9)])
    heads = ["network", "minibatch", "dtype, rule", "cores near", "cores far", "peak, GFLOP/s"]
    return Table(heads, lines, ["cpu", "peak"], labels=3)


def _network(row: Node) -> tuple[str, float]:
    return row["network"].text, row["minibatch"].number


def threads(figures: Figures) -> Table:
    """GFLOP/s by the number of threads on 16 virtual cores, and the share of the peak."""
    rows = list(figures["limits-16-cores"]["threads"])
    counts = sorted({int(row["threads"].number) for row in rows})
    by_network: dict[tuple[str, float, str], dict[int, Node]] = {}
    for row in rows:
        by_network.setdefault((*_network(row), row["dtype"].text), {})[int(row["threads"].number)] = row
    lines = []
    for (network, batch, dtype), found in by_network.items():
        line = [label(network), Cell(whole(batch), batch), label(dtype)]
        line += [cell(found[n]["GFLOP/s"], whole) if n in found else label(NOTHING) for n in counts]
        line += [cell(found[n]["share of peak"], ratio) if n in found else label(NOTHING) for n in counts]
        lines.append(line)
    heads = ["network", "minibatch", "dtype"]
    heads += [f"GFLOP/s by {n}" for n in counts] + [f"share by {n}" for n in counts]
    return Table(heads, lines, ["limits-16-cores"], labels=3)


def growth(figures: Figures) -> Table:
    """How the time of a step grows on logarithmic axes: 1 is as the work."""
    found = figures["limits"]["growth"]
    lines = [
        [label(name), cell(found[name]["slope"], ratio), cell(found[name]["steepest"], ratio)] for name in found.names()
    ]
    return Table(["what grows, backend", "slope", "steepest"], lines, ["limits"])


def neighbour(figures: Figures) -> Table:
    """A fit alone, and beside a process that keeps one of the two cores busy."""
    found = figures["limits"]["neighbour"]
    lines = []
    for name in found.names():
        times = [cell(found[name][key], duration) for key in ("alone", "beside")]
        lines.append([label(name), *times, cell(found[name]["slowdown"], ratio)])
    return Table(["network, backend", "alone", "beside a busy process", "slowdown"], lines, ["limits"])


def memory(figures: Figures) -> Table:
    """Memory that training on MNIST takes beyond its data."""
    found = figures["limits"]["memory"]
    lines = [
        [label(name), *(cell(found[name][key], significant, 2.0**-20) for key in ("data", "above_what_was_held"))]
        for name in found.names()
    ]
    return Table(["backend", "data, MiB", "beyond the data, MiB"], lines, ["limits"])


def soak(figures: Figures) -> Table:
    """An hour of fits of every kind, and the memory of the process."""
    found = figures["soak"]
    lines = [
        [label("fits"), cell(found["fits"], whole)],
        [label("memory in the beginning, MiB"), cell(found["first_mib"], significant)],
        [label("memory at the end, MiB"), cell(found["last_mib"], significant)],
        [label("growth per 1000 fits, MiB"), cell(found["mib_per_1000_fits"], significant)],
    ]
    return Table(["what", "figure"], lines, ["soak"])


def import_time(figures: Figures) -> Table:
    """How long imports take, beside NumPy's."""
    found = figures["import_time"]
    names = found["median_seconds"].names()
    lines = [
        [label(f"`{name}`"), cell(found["median_seconds"][name], duration), cell(found["ratio_to_numpy"][name], ratio)]
        for name in names
    ]
    return Table(["import", "whole process", "÷ `numpy`"], lines, ["import_time"])


def mnist(figures: Figures) -> Table:
    """Accuracy on MNIST's test images over the seeds, and the time of the whole process."""
    lines = []
    for row in figures["mnist"]["rows"]:
        seeds = [each.number for each in row["test_accuracy_percent"]]
        accuracy = Cell(f"{min(seeds):.2f} – {max(seeds):.2f}\N{NO-BREAK SPACE}%", min(seeds))
        lines.append([label(row["setting"].text), accuracy, cell(row["median_seconds_whole_process"], duration)])
    return Table(["setting", "test accuracy", "whole process"], lines, ["mnist"])


def mnist_commands(figures: Figures) -> Table:
    """The command of each setting on MNIST."""
    lines = [[label(row["setting"].text), label(f"`{row['command'].text}`")] for row in figures["mnist"]["rows"]]
    return Table(["setting", "command"], lines, ["mnist"], labels=2)


def busy(figures: Figures) -> Table:
    """What else costs time: dropout, sparse input, a busy machine, as ratios of our own times."""
    rows = [row for row in figures["cpu"]["fits"] if not row["what"].text.startswith("scikit-learn")]
    lines = [[label(row["what"].text), cell(row["ratio"], ratio)] for row in rows]
    return Table(["fit on digits", "ratio"], lines, ["cpu"])


def ranks(figures: Figures) -> Table:
    """Two ranks of one thread each beside one rank."""
    lines = []
    for row in figures["ranks"]["measured"]:
        network = "-".join(whole(each.number) for each in row["layers"])
        times = [cell(row[key]["median"], duration) for key in ("one rank", "all ranks")]
        first = [label(network), cell(row["batch"], whole), cell(row["ranks"], whole)]
        lines.append(
            [*first, *times, cell(row["speedup"]["median"], ratio), cell(row["share of the sum"]["median"], percent)]
        )
    heads = ["network", "minibatch", "ranks", "one rank, a step", "all ranks, a step", "speed-up", "the sum's share"]
    return Table(heads, lines, ["ranks"], labels=2)


def ranks_on_paper(figures: Figures) -> Table:
    """Rows that each rank needs so that 80 % of a step is arithmetic, by network and number of ranks."""
    rows = list(figures["ranks"]["on paper"])
    counts = sorted({int(row["ranks"].number) for row in rows})
    found = {(r["network"].text, r["algorithm"].text, int(r["ranks"].number)): r for r in rows}
    lines = []
    for network, algorithm in dict.fromkeys(key[:2] for key in found):
        cells = [cell(found[network, algorithm, n]["rows_for_80_percent"], whole) for n in counts]
        lines.append([label(network), label(algorithm), *cells])
    return Table(["network", "algorithm of the sum", *(f"{n} ranks" for n in counts)], lines, ["ranks"], labels=2)
