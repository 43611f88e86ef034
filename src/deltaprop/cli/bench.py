"""``deltaprop bench``: pytest-benchmark runs the suite in a process of its own; its table and picture are shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deltaprop.backends.installed import is_installed
from deltaprop.cli.info import info
from deltaprop.cli.plot import check_plot, save_plot
from deltaprop.files.atomic_file import check_writable, write_atomically

INSTALL = "the benchmarks need pytest-benchmark: pip install 'deltaprop[bench]'"


def bench(only: str, seconds: float, plot: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the benchmarks that `only` names, an expression for pytest's ``-k``; return the rows and everything recorded.

    Raises
    ------
    ImportError
        If pytest-benchmark is not installed.
    ValueError
        If the expression names nothing.
    """
    if not is_installed("pytest_benchmark"):
        raise ImportError(INSTALL)
    if plot is not None:
        check_plot(plot)
    with as_file(files("deltaprop.benches")) as folder, TemporaryDirectory() as scratch:
        result, nothing = Path(scratch, "result.json"), Path(scratch, "pytest.ini")
        nothing.write_text("[pytest]\n")  # in place of whatever is configured where the package lies
        command = [sys.executable, "-m", "pytest", str(folder / "suite.py"), "-q", "--benchmark-only", "-k", only]
        command += [f"--benchmark-json={result}", f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=3"]
        command += ["-c", str(nothing), "-p", "no:cacheprovider", "--no-header", "--benchmark-disable-gc"]
        command += ["--benchmark-quiet"]
        run = subprocess.run(command, stdout=sys.stderr, check=False, cwd=scratch)
        recorded = json.loads(result.read_text()) if result.exists() and result.stat().st_size else {}
    if run.returncode == 5 or not recorded.get("benchmarks"):
        raise ValueError(f"--only: {only!r} names no benchmark")
    if run.returncode:
        raise ValueError(f"the benchmarks failed with exit status {run.returncode}; pytest has said why")
    rows = [_row(each) for each in recorded["benchmarks"]]
    if plot is not None:
        save_plot(_picture(rows), plot)
    return rows, {"machine": info(), "rows": rows}


def _row(recorded: dict[str, Any]) -> dict[str, Any]:
    facts, median = recorded["extra_info"], float(recorded["stats"]["median"])
    row: dict[str, Any] = facts | {"seconds": median, "over_floor": median / facts["floor_seconds"]}
    if "samples" in facts:
        row["samples_a_second"] = facts["samples"] / median
    else:
        row["bytes_a_second"] = facts["bytes"] / median
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as text, a line each."""
    lines = [
        f"{'operation':13} {'on':28} {'dtype':8} {'backend':8} {'time':>11} {'throughput':>18} {'over the floor':>15}"
    ]
    for row in rows:
        if "network" in row:
            what, rate = f"{row['network']}, {row['minibatch']}", f"{row['samples_a_second']:,.0f} samples/s"
        else:
            what, rate = f"{row['elements']:,} elements", f"{row['bytes_a_second'] / 1e9:,.2f} GB/s"
        time = f"{row['seconds'] * 1e6:,.1f} µs"
        lines.append(
            f"{row['operation']:13} {what:28} {row['dtype']:8} {row['backend']:8} {time:>11} {rate:>18} "
            f"{row['over_floor']:>15.2f}"
        )
    return "\n".join(lines)


def _picture(rows: Sequence[dict[str, Any]]) -> Any:
    """Draw throughput against minibatch size, a panel an operation, a line a network, dtype and backend."""
    from deltaprop.reports.plot_style import legend_below, look, panels

    of_networks = [row for row in rows if "network" in row]
    if not of_networks:
        raise ValueError("--plot: expected benchmarks of networks, got none; --only leaves them out")
    lines: dict[tuple[str, str, str], dict[str, list[tuple[int, float]]]] = {}
    for row in of_networks:
        line = lines.setdefault((row["network"], row["dtype"], row["backend"]), {})
        line.setdefault(row["operation"], []).append((row["minibatch"], row["samples_a_second"]))
    networks = list(dict.fromkeys(row["network"] for row in of_networks))
    kinds = list(dict.fromkeys((row["dtype"], row["backend"]) for row in of_networks))
    operations = list(dict.fromkeys(row["operation"] for row in of_networks))
    figure, axes = panels(len(operations), columns=2)
    for axis, operation in zip(axes, operations, strict=True):
        for (network, *kind), points in lines.items():
            if operation in points:
                label = ", ".join((network, *kind))
                own = look(kinds.index((kind[0], kind[1]))) | {"color": look(networks.index(network))["color"]}
                axis.plot(*zip(*sorted(points[operation]), strict=True), label=label, **own)
        axis.set(xscale="log", yscale="log", title=operation)
        axis.set(xlabel="samples a minibatch", ylabel="samples a second [1/s]")
    legend_below(figure)
    return figure


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write everything recorded as JSON."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def check(json_file: str | None) -> None:
    """Find out now whether `write_json` will be able to write."""
    if json_file is not None:
        check_writable(json_file)
