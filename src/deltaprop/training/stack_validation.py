"""Cost and metrics of the members of a stack over the data on which each is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Indices
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_answers import CompiledAnswers
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.reports.history import History
from deltaprop.training.evaluation import record, validate
from deltaprop.training.metrics import Metric

#: On what a member is validated: X, Y, and how much each row counts in the cost, None if all count 1.
HeldOut: TypeAlias = tuple[AnyArray, AnyArray, Array | None]


class StackValidation:
    """Validates members: encoded rows by the compiled library, all members in one call, others one by one.

    Parameters
    ----------
    stack : NetworkState
        With the member axis.
    networks : sequence of NetworkState
        Its members, in the same memory.
    held_out : sequence of HeldOut
        One a member; X and Y are arrays or `HostData`.
    objectives : sequence of Objective
        One a member.
    metrics : dict of str to Metric
        What is recorded besides the cost.
    """

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
            weights: list[Any] = [each for _, _, each in held_out if each is not None]
            X, Y = [each.array for each, _, _ in held_out], [each.array for _, each, _ in held_out]
            self.answers = CompiledAnswers.find(stack, X, Y, weights or None)

    def __call__(self, which: Indices, histories: Sequence[History]) -> None:
        """Append cost and metrics of the members that `which` names to their histories, one a member."""
        if self.answers is None:
            for k in which.tolist():
                X, Y, weights = self.held_out[k]
                validate(self.networks[k], X, Y, self.objectives[k], self.metrics, histories[k], weights)
            return
        targets = [self.held_out[k][1].array for k in which.tolist()]
        outputs = [np.empty_like(Y) for Y in targets] if self.metrics else None
        costs = self.answers(which, outputs).tolist()
        for place, k in enumerate(which.tolist()):
            Y, weights = targets[place], self.held_out[k][2]
            m = float(len(Y) if weights is None else weights.sum(dtype=np.float64))
            values = {} if outputs is None else {name: f(outputs[place], Y) for name, f in self.metrics.items()}
            record(histories[k], self.objectives[k].scale(m) * costs[place], values)
