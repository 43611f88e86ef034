"""``deltaprop doctor``: shows what `check_backend` finds, as a table or a file, and compiles kernels beforehand."""

from __future__ import annotations

import json
import re
import sys

import typer

from deltaprop.doctor import Report, check_backend
from deltaprop.doctor.device import compile_for
from deltaprop.doctor.stages import with_stages
from deltaprop.files.atomic_file import write_atomically

#: What stands out on a terminal.
COLOURS = {"ok": "green", "slow": "yellow", "failed": "bold red", "not tried": "dim"}


def examine(backend: str, only: str, *, emulated: bool) -> Report:
    """Make the report of one backend or of all; a line on standard error comes before each stage."""
    if emulated:
        if backend not in ("all", "cupy"):
            raise ValueError(f"--emulated: expected --backend cupy, got --backend {backend}")
        return check_backend("cupy", only=only, progress=_progress, emulated=True)
    if backend != "all":
        return check_backend(backend, only=only, progress=_progress)
    reports = [check_backend(name, only=only, progress=_progress) for name in with_stages(only)]
    return sum(reports[1:], start=reports[0])


def show(report: Report, *, written: bool) -> None:
    """Print a report: in colours and as wide as the terminal, or as plain text if there is no terminal.

    If something has failed, and the report is not `written` to a file, the command for that is printed too.
    """
    _print(report)
    if not written and any(stage.log for stage in report.stages):
        typer.echo("\n--json FILE keeps the output of the failed stages", err=True)


def _print(report: Report) -> None:
    if not sys.stdout.isatty():
        typer.echo(report.text())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    text = Text(report.text(console.width))
    for status, colour in COLOURS.items():
        text.highlight_regex(rf"(?<=│ ){status} +(?=│)|(?<=: ){status}(?=:)|\d+ {status}(?=,|;)", colour)
    console.print(text, soft_wrap=True)


def write_json(path: str, report: Report) -> None:
    """Write the report to a file, all or nothing."""
    write_atomically(path, (json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n").encode())


def fill_cache(architecture: str) -> None:
    """Compile the kernels for a kind of GPU into the cache, and print a line for each file.

    Raises
    ------
    ValueError
        If it is not the name of an architecture.
    """
    if re.fullmatch(r"sm_\d+[a-z]?", architecture) is None:
        raise ValueError(f"--compile: expected the name of an architecture such as sm_90, got {architecture!r}")
    typer.echo(compile_for(architecture, typer.echo))


def _progress(line: str) -> None:
    typer.echo(line, err=True)
