"""The data of a fit: the samples it trains on, and those that judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.inputs.arrays import HostData
from deltaprop.network import Network
from deltaprop.reports.history import History
from deltaprop.training import evaluation

#: The error where training ends in such parameters.
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
#: The warning where early stopping has nothing to go by.
NO_SCORE = (
    "early_stopping: the validation score was nan in every epoch, so there is no best one and the parameters of the "
    "last are kept; look at validation_fraction, scoring and sample_weight"
)

#: Checked inputs, the labels or values that belong to them, and the targets of the network.
CheckedData: TypeAlias = tuple[AnyArray, AnyArray, AnyArray]


@dataclass
class Training:
    """The samples that a fit trains on, as arrays of the network's backend, `HostData`, or a `CheckedSource`.

    Attributes
    ----------
    network : Network
    X, Y, sample_weight : array, (m, s_1), (m, s_L) and (m,)
    dropout : tuple of float
        One a hidden layer.
    constant_costs : array, (m,), optional
        A cost of each sample, on the host, that does not depend on the network and belongs to the reported loss.
    outputs_averaged : int
        The number by which scikit-learn divides the cost before it decides whether to stop.
    """

    network: Network
    X: ArrayLike
    Y: ArrayLike
    sample_weight: Array | None
    dropout: tuple[float, ...]
    constant_costs: Floats | None
    outputs_averaged: int

    def watched(self, cost: float) -> float:
        """Convert a cost to the one by which scikit-learn decides: the mean over the outputs, not their sum."""
        return cost / self.outputs_averaged


@dataclass
class HeldOut:
    """The samples that judge a fit after every epoch.

    Attributes
    ----------
    X, Y : array, (m, s_1) and (m, s_L)
        Arrays of the network's backend, or `HostData`.
    y : array
        The targets as `predict` gives them, on the host.
    sample_weight, constant_costs : array, (m,), optional
        On the host.
    score : callable
        The score of a^(L), (m, s_L), on these samples; it is called with them and with a^(L), or with None where a^(L)
        of all samples is too large to be held.
    scores, costs : list of float
        The scores and the mean costs, one an epoch; a fit that goes on from another appends to the lists of that one.
    """

    X: ArrayLike
    Y: ArrayLike
    y: ArrayLike
    sample_weight: Floats | None
    constant_costs: Floats | None
    score: Callable[[HeldOut, Array | None], float]
    scores: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def record(self, network: Network, history: History) -> None:
        """Append the score and the mean cost of `network` to the lists, and to `history`."""
        summed = self.summed_cost(network) if has_weight(self.sample_weight) else (np.nan, None)
        self.append(*self.mean_cost_and_score(*summed), history)

    def append(self, cost: float, score: float, history: History) -> None:
        """Append a mean cost and a score to the lists, and to `history`."""
        self.costs.append(cost)
        self.scores.append(score)
        history.validation_cost.append(cost)
        history.metrics.setdefault("score", []).append(score)

    def summed_cost(self, network: Network) -> tuple[float, Array | None]:
        """Compute Σ cost, and a^(L) where it can be held."""
        backend = network.backend
        # With very many classes, a^(L) of all samples would take much memory.
        has_many = isinstance(self.Y, HostData) and self.Y.convert is not None
        prediction = None if has_many else evaluation.prediction_for(network, self.Y)
        weights = None if self.sample_weight is None else backend.asarray(self.sample_weight, network.dtype)
        return float(evaluation.data_cost(network, self.X, self.Y, prediction, weights)), prediction

    def mean_cost_and_score(self, cost: float, prediction: Array | None) -> tuple[float, float]:
        """Compute the mean cost from Σ cost, and the score; both are nan where the samples weigh nothing."""
        if not has_weight(self.sample_weight):
            return np.nan, np.nan
        m = self.X.shape[0] if self.sample_weight is None else float(self.sample_weight.sum())
        return cost / m + mean(self.constant_costs, self.sample_weight), float(self.score(self, prediction))


def has_weight(weights: Floats | None) -> bool:
    """Return whether a mean by these weights is defined."""
    return weights is None or float(weights.sum()) != 0.0


def check_weights(weights: Floats | None) -> None:
    """Refuse samples to train on where no sample counts.

    Raises
    ------
    ValueError
        If all weights are 0.
    """
    if weights is not None and not weights.any():
        raise ValueError("sample_weight: expected a weight other than 0 among the samples trained on, got none")


def mean(values: Floats | None, weights: Floats | None) -> float:
    """Compute the mean of `values`, by `weights` where there are any; 0 without values."""
    return 0.0 if values is None else float(np.average(values, weights=weights))
