"""Holds what was found: checks, the stages they belong to, and the whole report, as text and as JSON types."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from deltaprop.reports.text_table import Table

Status: TypeAlias = Literal["ok", "slow", "failed", "not tried"]
#: The default width of the text, in columns.
WIDTH = 80


@dataclass(frozen=True)
class Check:
    """A number that was found, beside the largest one allowed.

    Parameters
    ----------
    name : str
        What was compared, such as ``"float32 Adam"``.
    found : float
        The number that was found. The check has passed where it is at most `allowed`.
    allowed : float
        The largest number that is allowed.
    unit : str
        The unit of both, such as ``"MiB"``; "" for a relative error.

    Examples
    --------
    >>> from deltaprop.doctor.report import Check
    >>> Check("float32 Adam", found=2e-7, allowed=1e-6, unit="").passed
    True
    """

    name: str
    found: float
    allowed: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether `found` is at most `allowed`; nan is not."""
        return self.found <= self.allowed

    @property
    def exhausted(self) -> float:
        """`found` over `allowed`, which orders checks from good to bad."""
        if not self.passed:
            return math.inf if math.isnan(self.found) or self.allowed == 0 else self.found / self.allowed
        return self.found / self.allowed if self.allowed else 0.0

    def __str__(self) -> str:
        return f"{self.name}: {number(self.found, self.unit)}, allowed {number(self.allowed, self.unit)}"


@dataclass(frozen=True)
class Stage:
    """What was tried in one process.

    Parameters
    ----------
    backend : str
        The backend it belongs to, such as ``"cupy"``; ``"emulated"`` for an emulated device.
    name : str
        Its name, such as ``"captured epochs"``.
    status : {"ok", "slow", "failed", "not tried"}
        How it ended.
    seconds : float
        The time from the start of the process to its end.
    why : str
        Why the status is not "ok"; "" where it is.
    checks : tuple of Check
        All its checks.
    log : str
        If it failed, the end of the standard error of its process.

    Examples
    --------
    >>> from deltaprop.doctor.report import Check, Stage
    >>> checks = (Check("SGD", 1e-7, 1e-6, ""), Check("Adam", 5e-7, 1e-6, ""))
    >>> stage = Stage("numpy", "steps", "ok", 0.8, why="", checks=checks, log="")
    >>> stage.worst.name, stage.found, stage.allowed
    ('Adam', 5e-07, 1e-06)
    """

    backend: str
    name: str
    status: Status
    seconds: float = 0.0
    why: str = ""
    checks: tuple[Check, ...] = ()
    log: str = ""

    @property
    def worst(self) -> Check | None:
        """The failed check furthest beyond what is allowed; else the check closest to it, errors before quantities."""
        errors = [check for check in self.checks if not check.unit]
        return worst_of(self.checks) or max(errors or self.checks, key=lambda check: check.exhausted, default=None)

    @property
    def found(self) -> float | None:
        """The number that the worst check found; None if there are no checks."""
        return None if self.worst is None else self.worst.found

    @property
    def allowed(self) -> float | None:
        """The number that the worst check allows; None if there are no checks."""
        return None if self.worst is None else self.worst.allowed


@dataclass(frozen=True)
class Report:
    """What `check_backend` found.

    Parameters
    ----------
    stages : tuple of Stage
        The stages, in the order in which they were tried.
    machine : mapping of str to str
        Versions, processor and device.
    seconds : float
        The time of the whole check, less than the sum over the stages if some ran side by side.

    Examples
    --------
    >>> from deltaprop.doctor.report import Check, Report, Stage
    >>> stage = Stage("numpy", "steps", "ok", 0.8, why="", checks=(Check("SGD", 1e-7, 1e-6, ""),), log="")
    >>> report = Report((stage,), {"machine": "x86_64"}, 0.9)
    >>> report.ok, report.verdict
    (True, '1 ok; 1 s')
    """

    stages: tuple[Stage, ...]
    machine: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether at least one stage was tried, and none has failed."""
        return self.tried and all(stage.status != "failed" for stage in self.stages)

    @property
    def tried(self) -> bool:
        """Whether at least one stage was tried."""
        return any(stage.status != "not tried" for stage in self.stages)

    def __add__(self, other: Report) -> Report:
        """Return one report of both."""
        stages, machine = (*self.stages, *other.stages), {**self.machine, **other.machine}
        return Report(stages, machine, self.seconds + other.seconds)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """Write the report for people, without a newline at its end.

        Parameters
        ----------
        width : int, default 80
            Lines are broken after so many columns.

        Returns
        -------
        str
            The machine, a table of the stages, their operations, the reasons and the verdict.
        """
        blocks = [self._machine(width), self._stages(), *map(_operations, self.stages), self._why(width), self.verdict]
        return "\n\n".join(block for block in blocks if block)

    @property
    def verdict(self) -> str:
        """The number of stages of each status, and how long they took, in one line."""
        count = {status: sum(stage.status == status for stage in self.stages) for status in ("ok", "slow", "failed")}
        if not sum(count.values()):
            return "nothing was tried"
        return f"{', '.join(f'{n} {status}' for status, n in count.items() if n)}; {self.seconds:.0f} s"

    def as_json(self) -> dict[str, Any]:
        """Return the report in JSON types.

        Returns
        -------
        dict
            The whole report. A number that is not finite is text, such as ``"nan"``.
        """
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "machine": dict(self.machine),
            "stages": [
                {
                    "backend": stage.backend,
                    "name": stage.name,
                    "status": stage.status,
                    "seconds": round(stage.seconds, 3),
                    "found": _json(stage.found),
                    "allowed": _json(stage.allowed),
                    "why": stage.why,
                    "checks": [
                        {"name": c.name, "found": _json(c.found), "allowed": _json(c.allowed), "unit": c.unit}
                        for c in stage.checks
                    ],
                    "log": stage.log,
                }
                for stage in self.stages
            ],
        }

    def _machine(self, width: int) -> str:
        space = max(map(len, self.machine), default=0) + 2
        lines = [_wrapped(f"{name:<{space}}{value}", width, space) for name, value in self.machine.items()]
        return "\n".join(lines)

    def _stages(self) -> str:
        table = Table(("backend", "stage", "result", "seconds", "error", "allowed"), left=3)
        for stage in self.stages:
            worst = stage.worst
            numbers = ("", "") if worst is None else (number(x, worst.unit) for x in (worst.found, worst.allowed))
            seconds = "" if stage.status == "not tried" else f"{stage.seconds:.1f}"
            table.add(stage.backend, stage.name, stage.status, seconds, *numbers)
        return table.render()

    def _why(self, width: int) -> str:
        reasons = [stage for stage in self.stages if stage.why]
        return "\n".join(
            _wrapped(f"{stage.backend}, {stage.name}: {stage.status}: {stage.why}", width, 2) for stage in reasons
        )


def number(value: float, unit: str = "") -> str:
    """Write a number short: an error with two digits, a quantity with a unit with one decimal."""
    if unit:
        return f"{value:.1f} {unit}"
    return "0" if value == 0 else f"{value:.1e}"


def _operations(stage: Stage) -> str:
    """Write the checks of the stage "operations" as a table: a row for each operation, columns for each dtype."""
    dtypes = ("float64", "float32")
    found = {tuple(check.name.split(" ")): check for check in stage.checks}
    names = list(dict.fromkeys(key[1] for key in found if len(key) == 2 and key[0] in dtypes))
    if stage.name != "operations" or not names:
        return ""
    table = Table((f"{stage.backend}: operation", *(column for dtype in dtypes for column in (dtype, "allowed"))))
    for name in names:
        cells = [found.get((dtype, name)) for dtype in dtypes]
        numbers = [number(x) for check in cells if check is not None for x in (check.found, check.allowed)]
        table.add(name, *numbers, *[""] * (4 - len(numbers)))
    return table.render()


def _wrapped(line: str, width: int, indent: int) -> str:
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def worst_of(checks: Sequence[Check]) -> Check | None:
    """Return the failed check furthest beyond what is allowed; None if all passed."""
    return max((check for check in checks if not check.passed), key=lambda check: check.exhausted, default=None)
