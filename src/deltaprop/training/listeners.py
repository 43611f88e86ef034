"""The callbacks of one training, and when each of them is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.step_marks import StepMarks
from deltaprop.epochs.trainer import Trainer
from deltaprop.ranks.failures import decided
from deltaprop.training.agreement import SameParameters
from deltaprop.training.callbacks import (
    Callback,
    EpochBegin,
    EpochCallback,
    EpochEnd,
    FitBegin,
    FitEnd,
    StepEnd,
    check_every_steps,
    tell,
)

#: What a callback that ends training before it begins leaves in the history.
STOPPED_AT_ONCE = "stopped by a callback before the first epoch"


class Listeners:
    """The callbacks of one training.

    Parameters
    ----------
    callbacks : sequence of callable
        Functions, which are told of ends of epochs only, and `Callback` objects.
    network : NetworkState
        The network, or the stack.
    epochs : int
        How many epochs were asked for.
    history : History
        The history, or the list of the histories of members.
    steps : bool, default True
        Whether this training can tell of steps.

    Attributes
    ----------
    every : list of int
        After how many steps somebody is told; empty if nobody asks for steps.

    Raises
    ------
    ValueError, TypeError
        If a callback's ``every_steps`` is no whole number of at least 1, or this training cannot tell of steps.
    """

    callbacks: Sequence[EpochCallback]
    network: NetworkState
    epochs: int
    history: Any

    def __init__(
        self,
        callbacks: Sequence[EpochCallback],
        network: NetworkState,
        epochs: int,
        history: Any,
        *,
        steps: bool = True,
    ) -> None:
        self.callbacks, self.network, self.epochs, self.history = callbacks, network, epochs, history
        self.objects: list[Callback] = [callback for callback in callbacks if isinstance(callback, Callback)]
        self.of_steps: list[tuple[int, Callback]] = [
            (each.every_steps, each) for each in self.objects if each.every_steps is not None
        ]
        for every, callback in self.of_steps:
            check_every_steps(f"{type(callback).__name__}.every_steps", every)
            if not steps:
                raise ValueError(
                    f"{type(callback).__name__}.every_steps: expected None for a stack, whose members train whole "
                    f"epochs, got {every}"
                )
        self.every: list[int] = sorted({every for every, _ in self.of_steps})

    @contextmanager
    def training(
        self,
        parameters: Callable[[], Mapping[str, Any]],
        try_rates: Callable[[Sequence[float]], list[float]] | None = None,
    ) -> Iterator[bool]:
        """Tell of the begin of training, and of its end, also by an exception; yield whether it ends at once.

        Every callback that was told of the begin is told of the end, even if another one fails then.
        """
        if not self.objects:
            yield False
            return
        begin = FitBegin(self.network, self.epochs, self.history, parameters(), try_rates)
        begun: list[Callback] = []
        error: BaseException | None = None
        try:
            over = False
            for callback in self.objects:
                begun.append(callback)
                over = callback.on_fit_begin(begin) is True or over
            yield over
        except BaseException as raised:
            error = raised
            raise
        finally:
            end = FitEnd(self.network, self.epochs, self.history, error)
            with ExitStack() as stack:
                for callback in reversed(begun):
                    stack.callback(callback.on_fit_end, end)

    def epoch_begins(self, epoch: int) -> None:
        """Tell that an epoch begins, counted from 1."""
        if self.objects:
            event = EpochBegin(self.network, epoch, self.epochs, self.history)
            for callback in self.objects:
                callback.on_epoch_begin(event)

    def epoch_ended(self, epoch: int) -> bool:
        """Tell that an epoch ended, counted from 1; return whether a callback ends training."""
        return bool(self.callbacks) and tell(self.callbacks, EpochEnd(self.network, epoch, self.epochs, self.history))

    def marks(self, trainer: Trainer, epoch: int) -> StepMarks | None:
        """Return the steps of an epoch, counted from 1, after which somebody is told; None if nobody asks for steps."""
        if not self.every:
            return None
        before = (epoch - 1) * len(trainer.sizes)
        return StepMarks(self.every, before, partial(self._step_ended, trainer, epoch, before))

    def _step_ended(self, trainer: Trainer, epoch: int, before: int, done: int, cost: float | None) -> None:
        """Tell that `done` minibatches of an epoch are done, whose Σ cost is `cost`."""
        ranks = trainer.ranks
        mean = None if cost is None else trainer.mean_cost(ranks.sum_host([cost])[0], done)
        decided(ranks, partial(self.step_ended, epoch, before + done, mean))
        SameParameters(ranks, trainer.network, trainer.state)()  # a callback may have changed them on rank 0

    def step_ended(self, epoch: int, step: int, cost: float | None) -> None:
        """Tell of a step, counted from 1, those who asked for it."""
        event = StepEnd(self.network, epoch, self.epochs, self.history, step, cost)
        for every, callback in self.of_steps:
            if step % every == 0:
                callback.on_step_end(event)
