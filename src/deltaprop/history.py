"""What training records."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """One entry an epoch in every list.

    Attributes
    ----------
    cost : list of float
        J over the epoch: the cost of each sample at the moment its minibatch was trained on, reduced as `fit` was told,
        plus the penalty at the end of the epoch.
    validation_cost : list of float
        Cost over the validation data at the end of the epoch, without penalty. Empty without validation data.
    metrics : dict of str to list of float
        By metric name, over the validation data at the end of the epoch.
    learning_rate : list of float
        Of the epoch.
    seconds : list of float
        Wall time of the epoch, validation included.
    best_epoch : int or None
        Epoch, counted from 1, whose parameters early stopping restored; None without early stopping.
    message : str
        Why training ended.
    """

    cost: list[float] = field(default_factory=list)
    validation_cost: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    message: str = ""

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.cost)
