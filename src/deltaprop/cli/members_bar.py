"""A progress bar over the training of members that stop by themselves: how much is done, and the time left at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from deltaprop.reports.progress import epochs_left
from deltaprop.training.callbacks import EpochEnd

#: Epochs by which the duration of the next ones is estimated.
RECENT = 5


class MembersBar:
    """Draws a bar on standard error; its `epoch` is a callback.

    Members may be trained some after others. One that has stopped early counts as done. The time left is what the
    members that still train, and those to come, would take for all their epochs; most stop before, so that it is an
    upper bound.

    Parameters
    ----------
    members : int
        How many there are in all.
    time_limit : float or None
        Seconds after which training ends.
    interrupted : callable
        Tells whether training is about to end.
    """

    def __init__(self, members: int, time_limit: float | None, interrupted: Callable[[], bool]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._time_limit, self._interrupted = time_limit, interrupted
        self._began = time.perf_counter()
        self._ends = [self._began]
        self._members, self._active = members, 0
        self._trained_before, self._histories = 0, list[Any]()
        self._one_epoch_of_many = 0.0
        self.display: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            expand=True,
            get_time=time.perf_counter,
        )
        self._task = self.display.add_task("preparing", total=1.0, figures="", left="")

    def epoch(self, event: EpochEnd) -> None:
        """Show how far training has come."""
        now = time.perf_counter()
        self._ends.append(now)
        histories: Any = event.history
        if histories is not self._histories:
            self._trained_before += len(self._histories)
            self._histories, self._active, self._ends = histories, len(histories), self._ends[-2:]
        remaining = epochs_left(histories, event.epoch, event.epochs)
        active = sum(epochs > 0 for epochs in remaining)
        to_come = 0 if self._interrupted() else max(0, self._members - self._trained_before - len(histories))
        done = (self._trained_before + len(histories) - sum(remaining) / event.epochs) / self._members
        one_epoch_of_one = self._seconds_of_an_epoch() / max(self._active, 1)
        if self._active == len(histories):  # a few members leave threads idle, and those to come will not be so slow
            self._one_epoch_of_many = one_epoch_of_one
        left = one_epoch_of_one * max(remaining) * active + self._one_epoch_of_many * event.epochs * to_come
        self._active = active
        if self._time_limit is not None:
            done = max(done, min(1.0, (now - self._began) / self._time_limit))
            left = min(left, max(0.0, self._time_limit - (now - self._began)))
        costs = [history.validation_cost[-1] for history in histories if history.validation_cost]
        self.display.update(
            self._task,
            completed=done,
            description="ending" if self._interrupted() else self._place(event.epoch, event.epochs),
            figures=f"{active} of {self._members} train  cost {sum(costs) / max(1, len(costs)):.4f}",
            left=f"at most {clock(left)} left",
        )

    def _place(self, epoch: int, epochs: int) -> str:
        """Say which epoch has ended, and the numbers of the networks if they are not all."""
        of_all, first = f"epoch {epoch}/{epochs}", self._trained_before + 1
        if len(self._histories) == self._members:
            return of_all
        return f"networks {first} to {self._trained_before + len(self._histories)}: {of_all}"

    def finish(self) -> None:
        """Tell that training is over."""
        self.display.update(self._task, completed=1.0, left="", figures="", description="trained")

    def _seconds_of_an_epoch(self) -> float:
        recent = self._ends[-1 - RECENT :]
        return (recent[-1] - recent[0]) / (len(recent) - 1)


def clock(seconds: float) -> str:
    """Write a duration: 0:42, 1:05:00."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


@contextmanager
def members_bar(
    show: bool, members: int, time_limit: float | None, interrupted: Callable[[], bool]
) -> Iterator[Callable[[EpochEnd], None]]:
    """Show a bar if `show` is true; yields the callback that moves it."""
    if not show:
        yield lambda event: None
        return
    bar = MembersBar(members, time_limit, interrupted)
    with bar.display:
        yield bar.epoch
        bar.finish()
