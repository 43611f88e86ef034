"""Runs the stages of a backend, each in a process of its own; those that do not disturb each other run side by side."""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import deltaprop
from deltaprop.backends import split_name
from deltaprop.doctor.emulated import require_emulation
from deltaprop.doctor.process import Ending, Processes, module_command, run_process
from deltaprop.doctor.record import Event
from deltaprop.doctor.report import Check, Report, Stage, worst_of
from deltaprop.doctor.stages import Trial, trials_of, with_stages

#: How many times as long an emulated device may take.
EMULATED = 10.0
#: Stages that run at a time: a stage mostly waits, for the driver to start, for a compiler, or for launches.
SIDE_BY_SIDE = 4


def check_backend(
    backend: str = "auto",
    *,
    only: str = "",
    progress: Callable[[str], None] = lambda line: None,
    emulated: bool = False,
) -> Report:
    """Find out whether a backend works on this machine; ``deltaprop doctor`` prints the result.

    Every operation and every way of training is tried on small networks of odd sizes. On a device, the results are
    compared with NumPy in float64; on the CPU, with backpropagation written out sample by sample. Each stage runs in a
    process of its own, so that a crash costs one stage only, and this process never touches the device.

    Parameters
    ----------
    backend : {"auto", "numpy", "cupy", "cupy:N", "reference"}
        The backend, as for `get_backend`. "auto" is "numpy" if there is no CUDA device.
    only : str
        Run only stages with this text in their name; by default all.
    progress : callable
        It is called with a line before each stage, and after each kernel file that is compiled: from other threads,
        but from one at a time.
    emulated : bool
        Try the CUDA backend on the emulated device of the tests, on the CPU. This needs a checkout of the repository.

    Returns
    -------
    Report
        ``report.ok`` and ``report.stages``, each with ``name``, ``status`` ("ok", "slow", "failed" or "not tried"),
        ``seconds``, the error ``found``, the error ``allowed``, and ``why``. ``str(report)`` is a table. If there is no
        CUDA device, the only stage of "cupy" is "not tried", and the report is not ok.

    Raises
    ------
    ValueError
        If no backend has that name, or no stage has that text in its name.
    BackendError
        If no Python process can be started from this one, or there is no emulated device.

    See Also
    --------
    get_backend : Returns a backend, or says why it cannot be had.

    Examples
    --------
    It takes some seconds, as every stage is a process:

    >>> import deltaprop as dp
    >>> report = dp.check_backend("numpy")  # doctest: +SKIP
    >>> report.ok  # doctest: +SKIP
    True
    """
    if backend == "auto":
        reports = []
        for name in with_stages(only):
            reports.append(check_backend(name, only=only, progress=progress, emulated=emulated))
            if reports[-1].tried:
                break
        return sum(reports[1:], start=reports[0])
    kind, _ = split_name(backend)
    if emulated:
        if backend != "cupy":
            raise ValueError(f"emulated: expected backend 'cupy', got {backend!r}")
        require_emulation()
    trials = trials_of(kind, emulated=emulated)
    wanted = [trial for trial in trials if only in trial.name]
    if not wanted:
        names = ", ".join(repr(trial.name) for trial in trials)
        raise ValueError(f"only: expected part of a stage's name ({names}), got {only!r}")
    began, machine, stages = time.perf_counter(), _machine(), list[Stage]()
    name, one_at_a_time = "emulated" if emulated else backend, False
    for batch in batches(wanted):
        done = _run_batch(backend, batch, progress, emulated=emulated, alone=one_at_a_time)
        for trial, heard, ending in done:
            machine |= heard.facts
            one_at_a_time |= heard.exclusive
            stages.append(heard.stage(name, trial.name, ending, math.inf if emulated else trial.usual))
        trial, heard, ending = done[0]
        if heard.no_device or (ending.problem and trial.name == "device"):
            break  # the others would find the same, or wait as long for the device
    return Report(tuple(stages), machine, time.perf_counter() - began)


def batches(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Group the trials that may run side by side, in the same order; the first, about the device, runs by itself."""
    found: list[list[Trial]] = []
    for trial in trials:
        if len(found) > 1 and not trial.alone and not found[-1][-1].alone:
            found[-1].append(trial)
        else:
            found.append([trial])
    return found


def _run_batch(
    backend: str, batch: Sequence[Trial], progress: Callable[[str], None], *, emulated: bool, alone: bool
) -> list[tuple[Trial, Heard, Ending]]:
    """Run the trials, `SIDE_BY_SIDE` at a time; return each with its events and its ending, in order.

    If this is interrupted, all their processes are ended.
    """
    processes, lock, options = Processes(), threading.Lock(), ["--emulated"] if emulated else []

    def tell(line: str) -> None:
        with lock:
            progress(line)

    def run(trial: Trial) -> tuple[Trial, Heard, Ending]:
        tell(f"{'emulated' if emulated else backend}: {trial.name}")
        heard = Heard(tell)
        command = module_command("deltaprop.doctor", backend, trial.name, *options)
        return trial, heard, run_process(command, trial.limit * (EMULATED if emulated else 1.0), heard, processes)

    with ThreadPoolExecutor(1 if alone else min(SIDE_BY_SIDE, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(run, trial) for trial in batch]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            processes.end()


@dataclass
class Heard:
    """Collects the events of a stage."""

    progress: Callable[[str], None]
    trying: str = ""
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)
    not_taken: str = ""
    compiled: list[tuple[str, float]] = field(default_factory=list)
    raised: str = ""
    not_tried: str = ""
    no_device: bool = False
    exclusive: bool = False
    done: bool = False

    def __call__(self, event: Event) -> None:
        """Add an event."""
        kind, what = event
        getattr(self, f"_{kind.replace(' ', '_')}")(what)

    def _trying(self, what: str) -> None:
        self.trying = what

    def _check(self, what: list[Any]) -> None:
        self.checks.append(Check(*what))

    def _fact(self, what: list[str]) -> None:
        self.facts[what[0]] = what[1]

    def _slow(self, what: str) -> None:
        if what not in self.slow:
            self.slow.append(what)

    def _not_taken(self, what: str) -> None:
        self.not_taken = what

    def _progress(self, what: str) -> None:
        self.progress(what)

    def _compiled(self, what: list[tuple[str, float]]) -> None:
        self.compiled = what

    def _raised(self, what: str) -> None:
        self.raised = what

    def _not_tried(self, what: str) -> None:
        self.not_tried = what

    def _no_device(self, what: str) -> None:
        self.not_tried, self.no_device = what, True

    def _exclusive(self, what: None) -> None:
        self.exclusive = True

    def _done(self, what: None) -> None:
        self.done = True

    def stage(self, backend: str, name: str, ending: Ending, usual: float) -> Stage:
        """Return the stage as it ended."""
        failures, checks = self._failures(ending), tuple(self.checks)
        if failures:
            return Stage(backend, name, "failed", ending.seconds, "; ".join(failures), checks, ending.log)
        if self.not_tried:
            return Stage(backend, name, "not tried", ending.seconds, self.not_tried, checks)
        slow = self._slowness(ending.seconds, usual)
        return Stage(backend, name, "slow" if slow else "ok", ending.seconds, "; ".join(slow), checks)

    def _failures(self, ending: Ending) -> list[str]:
        problem = ending.problem or ("" if self.done else "its process ended before the stage did")
        during = f", during {self.trying}" if self.trying else ""
        failures = [f"{what}{during}" for what in (problem, self.raised) if what]
        if self.not_taken and not self.slow:  # "slow" explains why another way was taken
            failures.append(f"epochs were not {self.not_taken}, though nothing else was allowed")
        worst = worst_of(self.checks)
        return failures if worst is None else [str(worst), *failures]

    def _slowness(self, seconds: float, usual: float) -> list[str]:
        slow = list(self.slow)
        if self.compiled:
            took = max(seconds for _, seconds in self.compiled)
            slow.append(
                f"{len(self.compiled)} files were compiled anew, the longest in {took:.1f} s; "
                "the next run finds them in the cache"
            )
        elif seconds > usual:
            slow.append(f"it took {seconds:.1f} s; less than {usual:g} s is usual")
        return slow


def _machine() -> dict[str, str]:
    return {
        "deltaprop": deltaprop.__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "NumPy": np.__version__,
    }
