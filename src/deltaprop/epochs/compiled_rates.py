"""What the plan says about the learning rates of steps, which are computed for several epochs at a time."""

from __future__ import annotations

from typing import Any

from deltaprop.derivation.optimizers import STEPS_AT_ONCE
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.compiled_plan import PlanTable, strides_of
from deltaprop.epochs.task import rates_of_epochs

#: Bytes of the two numbers of a step.
BYTES_A_STEP = 16


class CompiledRates:
    """Lets the plan of one network point to the rates of steps.

    Parameters
    ----------
    table : PlanTable
        Of one network.
    optimizer : Optimizer
        A built-in one.
    batches : int
        Steps an epoch.
    """

    table: PlanTable
    optimizer: Optimizer
    batches: int

    def __init__(self, table: PlanTable, optimizer: Optimizer, batches: int) -> None:
        self.table, self.optimizer, self.batches = table, optimizer, batches
        self._plan: Any = table.row
        #: The learning rate of the table, the numbers of steps with which an epoch in it may begin, and its address.
        self._rate: float | None = None
        self._begins: range = range(0)
        self._address = 0

    def of_epoch(self, learning_rate: float, taken: int) -> None:
        """Point to the rates of an epoch that begins after so many steps, or would have begun."""
        place = taken if self.optimizer.rates_vary else 0
        if learning_rate != self._rate or place not in self._begins:
            steps = max(self.batches, STEPS_AT_ONCE - taken % STEPS_AT_ONCE) if self.optimizer.rates_vary else 1
            rates = self.optimizer.rates(learning_rate, taken, steps)
            self.table.point("rates", rates, rates.shape)
            self._plan.rates_stride, self._plan.step_stride = strides_of(rates)
            self._rate, self._address = learning_rate, self._plan.rates
            self._begins = range(place, place + max(1, steps - self.batches + 1))
        self._plan.rates = self._address + BYTES_A_STEP * (place - self._begins.start)

    def of_epochs(self, learning_rate: float, taken: int, count: int) -> None:
        """Point to the rates of several epochs, after so many steps."""
        rates = rates_of_epochs(self.optimizer, [learning_rate] * count, taken, self.batches)
        self.table.point("rates", rates, rates.shape)
        self._plan.rates_stride, self._plan.step_stride = strides_of(rates)
        self._rate = None
