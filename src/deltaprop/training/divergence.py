"""Divergence: an epoch that ended in numbers that are not finite is taken again, step by step, to say where."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import DivergenceError
from deltaprop.reports.history import History
from deltaprop.reports.progress import Silent


class Fault(NamedTuple):
    """Where the first number that is not finite stands.

    Attributes
    ----------
    step : int
        The minibatch of the epoch, counted from 1.
    layer : int
        The layer, 2 … L.
    what : str
        Whether it is in "z", "cost", "weights" or "biases".
    """

    step: int
    layer: int
    what: str


def find_fault(trainer: Trainer, learning_rate: float, order: Indices | None) -> Fault | None:
    """Take an epoch from the parameters and the optimizer state as they are, looking at every number after every step.

    Parameters and state are left as they come to be.

    Returns
    -------
    Fault or None
        None where all are finite, as may be where the epoch that diverged was computed in another order, and for data
        that come in chunks.
    """
    if trainer.chunked is not None:
        return None
    network, backend, steps = trainer.network, trainer.network.backend, trainer.steps
    steps.need_buffers(shuffled=order is not None)
    trainer.network.backend.fill(trainer.cost, 0.0)
    given = trainer.begin(learning_rate, order, Silent())
    terms = trainer.terms_of(given).tolist()
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # which are looked for
        for minibatch in steps.in_turn(given):
            steps.take(minibatch, terms[minibatch.number], learning_rate)
            quantities = [("z", l + 2, Z) for l, Z in enumerate(steps.work[minibatch.X.shape[0]].Z)]
            quantities.append(("cost", len(network.layer_sizes), trainer.cost))
            for what, arrays in (("weights", network.weights), ("biases", network.biases)):
                quantities += [(what, l + 2, array) for l, array in enumerate(arrays)]
            number = minibatch.number + 1
            found = (Fault(number, layer, what) for what, layer, array in quantities if not backend.all_finite(array))
            # The rows of another rank may be where it begins.
            faults = [fault for fault in trainer.ranks.gather(next(found, None)) if fault is not None]
            if faults:
                return faults[0]
    return None


def divergence_message(epoch: int, learning_rate: float, cost: float, fault: Fault | None = None) -> str:
    """Say that training ended in numbers that are not finite, and where."""
    what = f"the cost is {cost}" if not np.isfinite(cost) else "a parameter is not finite"
    where = f"epoch {epoch}"
    if fault is not None:
        where += f", step {fault.step}, first in the {fault.what} of layer {fault.layer},"
    return (
        f"training diverged: {what} in {where} at learning rate {learning_rate:g}; the network keeps the "
        "parameters it had before that epoch. A smaller learning rate or scaled inputs usually help"
    )


def divergence_error(
    epoch: int, learning_rate: float, cost: float, history: History, fault: Fault | None
) -> DivergenceError:
    """Make the error of an epoch, counted from 1, that ended in numbers that are not finite."""
    message = divergence_message(epoch, learning_rate, cost, fault)
    step, layer = (None, None) if fault is None else fault[:2]
    return DivergenceError(message, epoch=epoch, learning_rate=learning_rate, history=history, step=step, layer=layer)
