"""Runs the tests marked gpu, in several processes if pytest-xdist is installed; each failed test is a row."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from deltaprop.backends.installed import is_installed

from .channel import Channel, NotHereError
from .part import Options

WORKERS = 8
#: Seconds that a test may take, if pytest-timeout is installed, and seconds between two reports of the counts.
LIMIT, BETWEEN = 60, 5.0
#: The tests of a rehearsal: a few of arithmetic by NumPy and, with g++, of emulated kernels.
REHEARSAL = ("derivation/test_activations.py",)
CHOSEN = "course_table or (special_values and numpy) or (every_activation and host and silu and float64)"


class Counter:
    """Counts outcomes and reports them as they come."""

    told: float
    tell: Channel

    def __init__(self, tell: Channel) -> None:
        self.tell, self.told = tell, time.monotonic()
        self.counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0, "errors": 0, "workers_replaced": 0}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count the setup, call or teardown of a test."""
        if report.failed:
            self.counts["failed" if report.when == "call" else "errors"] += 1
            self._failure(report)
        elif report.skipped:
            self.counts["skipped"] += 1
        elif report.when == "call":
            self.counts["passed"] += 1
        if time.monotonic() - self.told > BETWEEN:
            self.report()

    def pytest_collectreport(self, report: Any) -> None:
        """Count a file that cannot be collected."""
        if report.failed:
            self.counts["errors"] += 1
            self._failure(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Note a worker's end; one that broke has an error."""
        if error:
            self.counts["workers_replaced"] += 1

    def report(self) -> None:
        self.told = time.monotonic()
        self.tell.row("counts", None, **self.counts)

    def _failure(self, report: Any) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = crash.message if crash is not None else str(report.longrepr)
        self.tell.row(report.nodeid, failed=True, why=" ".join(why.split())[:300])


def arguments(folder: Path, *, rehearse: bool) -> list[str]:
    """Return pytest's arguments."""
    root = folder.parent
    given = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    given += ["-c", str(root / "pyproject.toml"), "--rootdir", str(root)]
    if is_installed("pytest_timeout"):
        given += ["--timeout", str(LIMIT), "--timeout-method", "thread"]
    if rehearse:
        return [*given, "-k", CHOSEN, *(str(folder / name) for name in REHEARSAL)]
    given += ["-m", "gpu", "--continue-on-collection-errors", "-p", f"{__package__}.sticky"]
    if is_installed("xdist"):
        given += ["-n", str(min(WORKERS, os.cpu_count() or 1)), "--max-worker-restart", "200"]
    return [*given, str(folder)]


def run(options: Options, tell: Channel) -> None:
    folder = Path(__file__).resolve().parents[2] / "tests"
    if not folder.is_dir():
        raise NotHereError(f"the tests are not at {folder.name}/ beside benches/")
    tell.plan(["counts"])
    counter, began = Counter(tell), time.monotonic()
    status = pytest.main(arguments(folder, rehearse=options.rehearse), plugins=[counter])
    counter.report()
    counts = counter.counts
    if not counts["passed"]:
        raise SystemExit(f"no test has passed; pytest ended with {status!r}")
    if counts["failed"] or counts["errors"]:
        raise SystemExit(f"{counts['failed']} tests failed, {counts['errors']} had errors")
    if status:
        raise SystemExit(f"pytest ended with {status!r} after {time.monotonic() - began:.0f} s")
