"""Validation shared out over ranks: each evaluates some rows, and the costs and metrics of all are put together."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray, HostArray
from deltaprop.derivation.backprop import Objective, total_weight
from deltaprop.derivation.state import NetworkState
from deltaprop.inputs.arrays import HostData
from deltaprop.ranks.base import Ranks, bounds_of_rank
from deltaprop.ranks.failures import decided, failing_together
from deltaprop.reports.history import History
from deltaprop.training.evaluation import add_metrics, number_of, record
from deltaprop.training.hold_out import HeldOut, take
from deltaprop.training.metrics import MeanOfParts, Metric, R2OfParts, of_parts


class RankValidation:
    """The rows of the validation data that this rank evaluates: rank r of R has rows ⌊m r/R⌋ to ⌊m (r + 1)/R⌋.

    Parameters
    ----------
    network : NetworkState
    held_out : HeldOut
        All rows; the same on every rank.
    ranks : Ranks
    """

    network: NetworkState
    ranks: Ranks

    def __init__(self, network: NetworkState, held_out: HeldOut, ranks: Ranks) -> None:
        self.network, self.ranks = network, ranks
        X, Y, weights = held_out
        self.m: float = total_weight(network, X, weights)
        rows = np.arange(*bounds_of_rank(X.shape[0], ranks))
        self.X, self.Y = take(network, X, rows), take(network, Y, rows)
        self.weights: Any = None if weights is None else take(network, weights, rows)
        #: A metric of the user's own needs them all; rank 0 computes it.
        self.targets: Any = Y if ranks.is_first else None

    def __call__(self, objective: Objective, metrics: dict[str, Metric], history: History) -> None:
        """Append cost and metrics over all validation data to `history`."""
        in_parts = {name: parts for name, metric in metrics.items() if (parts := of_parts(metric)) is not None}
        others = {name: metric for name, metric in metrics.items() if name not in in_parts}
        cost, predictions = 0.0, list[HostArray]()
        with failing_together(self.ranks):
            if self.X.shape[0]:
                cost = add_metrics(
                    self.network, (self.X, self.Y, self.weights), in_parts, predictions if others else None
                )
        of_all = self.ranks.gather((in_parts, predictions))
        values: dict[str, Any] = {name: _joined([parts[name] for parts, _ in of_all]) for name in in_parts}
        if others:
            values |= decided(self.ranks, lambda: self._of_all(others, [part for _, own in of_all for part in own]))
        total = self.ranks.sum_host([cost])[0]
        record(history, objective.scale(self.m) * total, {name: values[name] for name in metrics})

    def _of_all(self, metrics: dict[str, Metric], predictions: list[HostArray]) -> dict[str, float]:
        """Compute metrics that need all predictions, on the backend where the user's function expects them."""
        backend, dtype, Y = self.network.backend, self.network.dtype, self.targets
        prediction: AnyArray = np.concatenate(predictions)
        if isinstance(Y, HostData):
            Y = backend.to_numpy(Y.rows(slice(None), backend, dtype))
        else:
            prediction = backend.asarray(prediction, dtype)
        return {name: number_of(name, metric(prediction, Y)) for name, metric in metrics.items()}


def _joined(parts: list[Any]) -> float:
    """Compute a metric from what the ranks have of it; a rank may have no rows."""
    joined: MeanOfParts | R2OfParts = reduce(lambda one, other: one.joined(other), parts)
    return joined.value()
