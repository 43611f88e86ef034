"""The tables by name, where their figures come from, and the files that no table shows."""

from __future__ import annotations

from collections.abc import Callable

from . import derivatives, estimators, gpu, training
from .figures import Figures, MissingFigureError
from .table import Cell, Table

TABLES: dict[str, Callable[[Figures], Table]] = {
    "ablation": estimators.ablation,
    "busy": training.busy,
    "by table": estimators.by_table,
    "equality": estimators.equality,
    "fits": estimators.fits,
    "gpu": gpu.steps,
    "gpu ceilings": gpu.ceilings,
    "gpu checks": gpu.checks,
    "gpu epochs": gpu.epochs,
    "gpu left out": gpu.left_out,
    "gpu members": gpu.members,
    "gpu mnist": gpu.mnist,
    "growth": training.growth,
    "import time": training.import_time,
    "jacobians": derivatives.jacobians,
    "memory": training.memory,
    "mnist": training.mnist,
    "mnist commands": training.mnist_commands,
    "mnist example": estimators.mnist_example,
    "more fits": estimators.more_fits,
    "neighbour": training.neighbour,
    "others ahead": estimators.others_ahead,
    "output error": derivatives.output_errors,
    "output error accuracy": derivatives.output_error_accuracy,
    "passes": derivatives.passes,
    "peak": training.peak,
    "peers": training.peers,
    "predictions": estimators.predictions,
    "ranks": training.ranks,
    "ranks on paper": training.ranks_on_paper,
    "scripts": estimators.scripts,
    "searches": estimators.searches,
    "soak": training.soak,
    "tabular": estimators.tabular,
    "tabular networks": estimators.tabular_networks,
    "threads": training.threads,
}

#: Files of earlier commits, which no table shows, and what each holds.
HISTORY = {
    "gpu-nvidia-h200-first": "the first run on a GPU, before the changes that came of it",
    "gpu-nvidia-h200-steps": "captured steps, what each small layer was timed at, products, kernels that stream",
    "gpu-nvidia-h200-compared": "one commit beside another on one machine",
    "gpu-nvidia-h200-6b0e959": "ceilings and steps in TF32 and bfloat16, commit 6b0e959",
    "gpu-nvidia-h200-db8119e": "a whole run, commit db8119e",
    "gpu-nvidia-h200-e4624a2": "a whole run, commit e4624a2",
    "gpu-nvidia-h200-2e87c17": "a whole run, commit 2e87c17",
}
#: The program behind files that name no command.
COMMANDS = {
    "cpu": "python -m benches.cpu",
    "peak": "python -m benches.cpu --only peak",
    "ranks": "python -m benches.ranks",
}


def table(figures: Figures, name: str) -> Table:
    """Make a table by its name.

    Raises
    ------
    MissingFigureError
        If there is no such table, or its file lacks a figure.
    """
    if name not in TABLES:
        raise MissingFigureError(f"expected the name of a table, one of {sorted(TABLES)}, got {name!r}")
    return TABLES[name](figures)


def measured(figures: Figures, words: str) -> Cell:
    """Return the figure that a sentence speaks of: ``table; row; column``, or ``table; min; column``, or ``max``."""
    parts = [part.strip() for part in words.split(";")]
    if len(parts) != 3:
        raise MissingFigureError(f"expected 'table; row; column', got {words!r}")
    name, row, column = parts
    found = table(figures, name)
    return found.over_rows(column, row) if row in ("min", "max") else found.find(row, column)


def origin(figures: Figures, source: str, path: str) -> str:
    """Say in Markdown where the figures of a file come from: command, machine, versions, date; `path` leads to it."""
    content = figures[source]
    command = content["command"].text if "command" in content else COMMANDS.get(source)
    said = [f"Made by `{command}`"] if command else []
    if "machine" in content:
        machine = content["machine"]
        said.append(f"on {machine['cpus'].number:.0f} cores, {machine['processor'].text.replace('(R)', '')}")
        if "blas" in machine:  # NumPy's and SciPy's: the newer one is NumPy's
            blas = max(machine["blas"], key=lambda each: [int(part) for part in each["version"].text.split(".")[:3]])
            version = ".".join(blas["version"].text.split(".")[:3])
            name = blas["internal_api"].text.replace("openblas", "OpenBLAS")
            said.append(f"{name} {version}, kernels {blas['architecture'].text}")
        if "versions" in machine:
            versions = machine["versions"]
            kept = [name for name in versions.names() if versions[name].value is not None and name != "deltaprop"]
            said.append(", ".join([f"Python {machine['python'].text}", *(f"{n} {versions[n].text}" for n in kept)]))
    elif "versions" in content:
        said.append(
            ", ".join(f"{n} {content['versions'][n].text}" for n in content["versions"].names() if n != "deltaprop")
        )
    if "device" in content and "name" in content["device"]:
        said.append(f"device {content['device']['name'].text}")
    said += [content["date"].text] if "date" in content else []
    said += [f"commit {content['commit'].text}"] if "commit" in content else []
    return f"{'; '.join(said)}. Everything is in [{source}.json]({path}/{source}.json)."
