"""The steps inside an epoch after which somebody is told how far training has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deltaprop.backends import Array, Backend

#: It is told how many minibatches of the epoch are done, and Σ cost over them, or None where reading it would wait.
StepListener = Callable[[int, float | None], None]


@dataclass(frozen=True)
class StepMarks:
    """The marks of one epoch: a way of training stops at each, and tells.

    Parameters
    ----------
    every : sequence of int
        There is a mark after each step whose number in the training is a multiple of one of these.
    before : int
        Steps of the training before this epoch, or before this part of it.
    tell : callable
        It is called at each mark.
    skipped : int, default 0
        Minibatches of the epoch before this part of it.
    """

    every: Sequence[int]
    before: int
    tell: StepListener
    skipped: int = 0

    def ends(self, first: int, last: int) -> list[int]:
        """Return where to stop between minibatches `first` and `last`, in order; `last` is always the end."""
        at = self.before
        marks = {end for n in self.every for end in range(first + n - (at + first) % n, last, n)}
        return sorted({*marks, last})

    def reached(self, done: int, backend: Backend, cost: Array, more: Array | float = 0.0) -> None:
        """Tell that `done` minibatches are done, if there is a mark; their Σ cost is `cost` and `more`."""
        if any((self.before + done) % n == 0 for n in self.every):
            self.tell(self.skipped + done, float(cost) + float(more) if backend.on_host else None)

    def of_part(self, first: int) -> StepMarks:
        """Return the marks of the part of the epoch that begins with minibatch `first`."""
        return StepMarks(self.every, self.before + first, self.tell, self.skipped + first)


def ends_of(marks: StepMarks | None, first: int, last: int) -> list[int]:
    """Return where to stop between minibatches `first` and `last`: at the marks, if there are any, and at `last`."""
    return [last] if marks is None else marks.ends(first, last)
