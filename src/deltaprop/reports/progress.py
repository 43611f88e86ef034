"""A progress bar over a whole fit: epoch, cost, validation, samples a second. rich draws it, or a notebook does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from deltaprop.reports.history import History
from deltaprop.reports.notebook import notebook_shell

#: Seconds between two redraws asked for by the training loop.
REDRAW = 0.1


class Progress(Protocol):
    """What the training loop calls to tell how far it is."""

    def samples(self, n: int) -> None:
        """Tell that `n` more samples have been trained on."""

    def epoch(self, history: History) -> None:
        """Tell that an epoch has ended."""

    def members(self, histories: Sequence[History], samples: Sequence[int], epoch: int) -> None:
        """Tell that an epoch of all members has ended; each has so many samples an epoch."""


class Silent:
    """Shows nothing."""

    def samples(self, n: int) -> None:
        """Do nothing."""

    def epoch(self, history: History) -> None:
        """Do nothing."""

    def members(self, histories: Sequence[History], samples: Sequence[int], epoch: int) -> None:
        """Do nothing."""


def _display(before: str, *after: str, elapsed: bool = False) -> Any:
    """Make what draws a bar with these columns before and behind it, on standard error or in the notebook."""
    if notebook_shell() is not None:
        from deltaprop.reports.notebook_progress import NotebookProgress

        return NotebookProgress(before, after, elapsed)
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = [TextColumn(before), BarColumn(bar_width=None), *map(TextColumn, after)]
    seconds = [TimeElapsedColumn()] if elapsed else []
    return RichProgress(*columns, *seconds, console=Console(stderr=True), expand=True)


class Bar:
    """Draws a bar on standard error, or in the output of a notebook's cell."""

    def __init__(self, epochs: int, samples_per_epoch: int, unit: str) -> None:
        self._epochs, self._total = epochs, epochs * samples_per_epoch
        self._pending, self._drawn, self._done, self._start = 0, 0.0, 0, time.perf_counter()
        epoch, figures = f"{unit} {{task.fields[epoch]}}", "{task.fields[figures]}"
        self.display: Any = _display(epoch, figures, "{task.fields[speed]} samples/s")
        self._task = self.display.add_task("fit", total=self._total, epoch=f"0/{epochs}", figures="", speed="-")

    def samples(self, n: int) -> None:
        """Advance, and redraw at most ten times a second."""
        self._pending += n
        now = time.perf_counter()
        if now - self._drawn >= REDRAW:
            self._drawn = now
            self._flush(now)

    def epoch(self, history: History) -> None:
        """Show the figures of the epoch."""
        self._show(history, [])
        self._flush(time.perf_counter())

    def members(self, histories: Sequence[History], samples: Sequence[int], epoch: int) -> None:
        """Show how many members still train, and the figures of the first of them; those that have stopped are done."""
        left = epochs_left(histories, epoch, self._epochs)
        training = [history for history, epochs in zip(histories, left, strict=True) if epochs]
        first = next((history for history in training or histories if history.epochs == epoch), None)
        if first is not None:
            self._show(first, [f"{len(training)} of {len(histories)} train"])
        self._flush(time.perf_counter())
        still = sum(epochs * m for epochs, m in zip(left, samples, strict=True))
        self.display.update(self._task, completed=self._total - still)

    def finish(self) -> None:
        """Tell that training is over, however early."""
        self._flush(time.perf_counter())
        self.display.update(self._task, completed=self._total)

    def _show(self, history: History, figures: list[str]) -> None:
        figures = [*figures, f"cost {history.cost[-1]:.4f}"]
        figures += [f"validation {name} {values[-1]:.4f}" for name, values in history.metrics.items()]
        if history.validation_cost and not history.metrics:
            figures.append(f"validation cost {history.validation_cost[-1]:.4f}")
        self.display.update(self._task, epoch=f"{history.epochs}/{self._epochs}", figures="  ".join(figures))

    def _flush(self, now: float) -> None:
        self._done += self._pending
        speed = f"{self._done / max(now - self._start, 1e-9):,.0f}"
        self.display.update(self._task, advance=self._pending, speed=speed)
        self._pending = 0


@contextmanager
def progress_bar(show: bool, epochs: int, samples_per_epoch: int, unit: str = "epoch") -> Iterator[Progress]:
    """Show a bar if `show` is true, else nothing; `unit` is what is counted."""
    if not show:
        yield Silent()
        return
    bar = Bar(epochs, samples_per_epoch, unit)
    with bar.display:
        yield bar
        bar.finish()


def has_stopped(history: History, epoch: int) -> bool:
    """Tell from a member's history whether it will train no further after an epoch of all."""
    return history.diverged or history.epochs < epoch or history.message.startswith("stopped")


def epochs_left(histories: Sequence[History], epoch: int, epochs: int) -> list[int]:
    """Compute how many epochs each member may still train for after an epoch of all; none if it has stopped."""
    return [0 if has_stopped(history, epoch) else epochs - epoch for history in histories]


class SweepBar:
    """Draws a bar over the fits of a search, with the best score so far."""

    fits: int
    splits: int
    finished: int

    def __init__(self, fits: int, splits: int) -> None:
        self.fits, self.splits, self.finished = fits, splits, 0
        self.display: Any = _display("candidate {task.fields[candidate]}", "{task.fields[figures]}", elapsed=True)
        self._task = self.display.add_task("sweep", total=fits, candidate=f"0/{fits // splits}", figures="")

    def done(self, fits: int, figures: str = "") -> None:
        """Tell that so many more fits have been trained and scored."""
        self.finished += fits
        candidate = f"{self.finished // self.splits}/{self.fits // self.splits}"
        self.display.update(self._task, advance=fits, candidate=candidate, figures=figures)


class SilentSweep:
    """Shows nothing."""

    def done(self, fits: int, figures: str = "") -> None:
        """Do nothing."""


@contextmanager
def sweep_bar(show: bool, fits: int, splits: int) -> Iterator[SweepBar | SilentSweep]:
    """Show a bar over the fits of a search, `splits` a candidate, if `show` is true, else nothing."""
    if not show:
        yield SilentSweep()
        return
    bar = SweepBar(fits, splits)
    with bar.display:
        yield bar
