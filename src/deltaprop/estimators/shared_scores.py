"""Validation of a fit that ranks share: each predicts some of the samples held out, and rank 0 scores them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import HostArray
from deltaprop.estimators.fit_data import HeldOut, has_weight
from deltaprop.network import Network
from deltaprop.ranks.base import Ranks, bounds_of_rank
from deltaprop.ranks.failures import decided, failing_together
from deltaprop.reports.history import History
from deltaprop.training.hold_out import take


class SharedScores:
    """The samples held out that this rank predicts: rank r of R has rows ⌊m r/R⌋ to ⌊m (r + 1)/R⌋.

    Parameters
    ----------
    held_out : HeldOut
        All of them; the same on every rank.
    network : Network
    ranks : Ranks
    alone : bool
        Whether a scorer of the user's computes the score, which predicts by itself.
    """

    held_out: HeldOut
    network: Network
    ranks: Ranks

    alone: bool

    def __init__(self, held_out: HeldOut, network: Network, ranks: Ranks, *, alone: bool) -> None:
        self.held_out, self.network, self.ranks, self.alone = held_out, network, ranks, alone
        rows = np.arange(*bounds_of_rank(held_out.X.shape[0], ranks))
        weights = None if held_out.sample_weight is None else held_out.sample_weight[rows]
        X, Y = take(network, held_out.X, rows), take(network, held_out.Y, rows)
        self._part: HeldOut = replace(held_out, X=X, Y=Y, sample_weight=weights)

    def __call__(self, history: History) -> None:
        """Append the score and the mean cost to the lists of `held_out`, and to `history`."""
        of_part: tuple[float, HostArray | None] = (0.0, None)
        with failing_together(self.ranks):
            if self._part.X.shape[0] and has_weight(self.held_out.sample_weight):
                cost, prediction = self._part.summed_cost(self.network)
                is_needed = prediction is not None and not self.alone
                of_part = cost, self.network.backend.to_numpy(cast(Array, prediction)) if is_needed else None
        parts = self.ranks.gather(of_part)
        cost_and_score = decided(self.ranks, lambda: self._of_all(parts))
        self.held_out.append(*cost_and_score, history)

    def _of_all(self, parts: list[tuple[float, HostArray | None]]) -> tuple[float, float]:
        """Put the parts of all ranks together."""
        predictions: list[HostArray] = [prediction for _, prediction in parts if prediction is not None]
        outputs: Any = np.concatenate(predictions) if predictions else None
        network = self.network
        if outputs is not None and network.backend.owns(self.held_out.Y):
            outputs = network.backend.asarray(outputs, network.dtype)
        return self.held_out.mean_cost_and_score(sum(cost for cost, _ in parts), outputs)
