"""Cost and metrics of the members of a stack over the data on which each is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.derivation.backprop import Objective, total_weight
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.reports.history import History
from deltaprop.training.evaluation import record, validate
from deltaprop.training.hold_out import HeldOut
from deltaprop.training.metrics import Metric


class StackValidation:
    """Validates members: encoded rows by the compiled library, all members in one call, others one by one.

    Parameters
    ----------
    stack : NetworkState
        With the member axis.
    networks : sequence of NetworkState
        Its members, in the same memory.
    held_out : sequence of (array, array, array or None)
        For each member X and Y, arrays or `HostData`, and sample weights.
    objectives : sequence of Objective
        One a member.
    metrics : dict of str to Metric
        What is recorded besides the cost.
    """

    networks: Sequence[NetworkState]
    held_out: Sequence[HeldOut]
    objectives: Sequence[Objective]
    metrics: dict[str, Metric]

    def __init__(
        self,
        stack: NetworkState,
        networks: Sequence[NetworkState],
        held_out: Sequence[HeldOut],
        objectives: Sequence[Objective],
        metrics: dict[str, Metric],
    ) -> None:
        self.networks, self.held_out, self.objectives, self.metrics = networks, held_out, objectives, metrics
        self.answers: CompiledAnswers | None = None
        if all(isinstance(X, HostData) and isinstance(X.array, EncodedRows) for X, _, _ in held_out):
            X, Y = [x.array for x, _, _ in held_out], [y.array for _, y, _ in held_out]
            weights: list[Any] = [own for _, _, own in held_out]
            self.answers = CompiledAnswers.find(stack, X, Y, weights)

    def __call__(self, which: Indices, histories: Sequence[History]) -> None:
        """Append cost and metrics of the members that `which` names to their histories, one a member."""
        if self.answers is None:
            for k in which.tolist():
                validate(self.networks[k], self.held_out[k], self.objectives[k], self.metrics, histories[k])
            return
        targets = [self.held_out[k][1].array for k in which.tolist()]
        outputs = [np.empty_like(Y) for Y in targets] if self.metrics else None
        costs = self.answers(which, outputs).tolist()
        for place, k in enumerate(which.tolist()):
            Y = targets[place]
            values = {} if outputs is None else {name: f(outputs[place], Y) for name, f in self.metrics.items()}
            counted = total_weight(self.networks[k], Y, self.held_out[k][2])
            record(histories[k], self.objectives[k].scale(counted) * costs[place], values)
