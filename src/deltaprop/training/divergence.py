"""Where training diverged: an epoch that ended in numbers that are not finite is taken again, step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent


class Fault(NamedTuple):
    """The first number that is not finite.

    Attributes
    ----------
    step : int
        Minibatch of the epoch, from 1.
    layer : int
        Which of layers 2 … L.
    what : str
        Of what it is: "z", "cost", "weights" or "biases".
    """

    step: int
    layer: int
    what: str


def find_fault(trainer: Trainer, learning_rate: float, order: np.ndarray[Any, Any] | None) -> Fault | None:
    """Take an epoch from the parameters and the optimizer state as they are, looking at every number after every step.

    None where all are finite, as may be where the epoch that diverged was computed in another order, and for data that
    are streamed. Parameters and state are left as they come to be.
    """
    if trainer.streamed is not None:
        return None
    network, backend = trainer.network, trainer.network.backend
    trainer.need_buffers(shuffled=order is not None)
    backend.fill(trainer.cost, 0.0)
    given = trainer.begin(learning_rate, order, Silent())
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # which are looked for
        for step, (X, Y, m, own_weights) in enumerate(trainer.in_turn(given), start=1):
            trainer.minibatch(X, Y, m, learning_rate, own_weights)
            quantities = [("z", l + 2, Z) for l, Z in enumerate(trainer.work[X.shape[0]].Z)]
            quantities.append(("cost", len(network.layer_sizes), trainer.cost))
            for what, arrays in (("weights", network.weights), ("biases", network.biases)):
                quantities += [(what, l + 2, array) for l, array in enumerate(arrays)]
            for what, layer, array in quantities:
                if not backend.all_finite(array):
                    return Fault(step, layer, what)
    return None
