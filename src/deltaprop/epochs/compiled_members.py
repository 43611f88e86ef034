"""An epoch of every member of a stack in one call of the compiled library, each by one thread at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import pointer
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.remembered import Remembered
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_dropout import MemberDropout
from deltaprop.epochs.compiled_plan import PlanTable, can_compile, strides_of
from deltaprop.epochs.interruption import run_abandonable
from deltaprop.epochs.member_rates import MemberRates
from deltaprop.epochs.members import MembersEpoch, MembersTask, Numbers, Passes
from deltaprop.epochs.task import LONG_STEP, OPERATIONS_A_CALL


class CompiledMembers(MembersEpoch):
    """Trains members by the compiled library: no member waits for another. The inputs of encoded rows are not formed.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    label = "all members together by the compiled library"
    takes_encoded_rows = True

    def __init__(self, task: MembersTask, networks: Sequence[NetworkState] | None = None) -> None:
        network, members = task.network, task.members
        self.task = task
        self.table: PlanTable = PlanTable(
            network,
            task.X,
            task.Y,
            [member.optimizer for member in members],
            task.moments,
            [member.samples for member in members],
            [member.batch_size for member in members],
        )
        self.plans: HostArray = self.table.rows
        self.plans["last_batch"] = [member.batches for member in members]
        self.operations: Floats = self.table.operations_of_a_row * np.array([member.samples for member in members])
        self.threads: int = max(1, min(own_threads(), len(members)))
        self.stride: int = self.table.share_scratch(1, self.threads)
        self.rates: MemberRates = MemberRates(members)
        self.dropout: MemberDropout = MemberDropout(self.table, members, networks)

    @classmethod
    def find(cls, task: MembersTask, networks: Sequence[NetworkState] | None) -> Self | None:
        """Make one, if a library that can be compiled here can train these networks in these ways."""
        drops = any(any(member.dropout) for member in task.members)
        if (drops and networks is None) or not can_compile(task.network, task.X):
            return None
        return cls(task, networks)

    def epochs(self, which: Numbers, passes: Passes) -> tuple[Floats, Floats]:
        """Train the members that `which` names, in as many calls as keep an interrupt waiting for a second or so."""
        plans, task, count = self.plans, self.task, passes.epochs
        parameters, terms = task.network.parameters, np.ascontiguousarray(passes.terms)
        rates = self.rates(which, passes.learning_rates, task.steps[which])
        cost, decay = np.zeros((len(which), count)), np.zeros((len(which), count))
        self._describe(which, passes, terms, *rates, cost, decay)
        self.dropout.point(which, count)
        with scipy_on_one_thread():
            for part in self._calls(which, count):
                if count * self.operations[part].sum() > LONG_STEP:
                    moments = {f"moment {i}": moment for i, moment in enumerate(task.moments)}
                    others = {"parameters": parameters, "cost": cost, "decay": decay}
                    self._run(part, Remembered(task.network.backend, moments, **others))
                else:
                    self._run(part)
        task.steps[which] += count * plans["last_batch"][which]
        return cost, decay

    def _calls(self, which: Numbers, epochs: int) -> Iterator[Indices]:
        """Divide members into calls of about the same length in time, each with as many members for every thread."""
        # The largest first, so that no thread begins one when the others are through.
        left = which[np.argsort(-self.operations[which], kind="stable")]
        while len(left):
            operations = np.cumsum(epochs * self.operations[left])
            fit = int(np.searchsorted(operations, OPERATIONS_A_CALL * self.threads, side="right"))
            part, left = np.split(left, [max(1, math.ceil(fit / self.threads)) * self.threads])
            yield np.ascontiguousarray(part, np.int64)

    def _describe(
        self,
        which: Numbers,
        passes: Passes,
        terms: Floats,
        rates: Floats,
        rows: Indices,
        cost: Floats,
        decay: Floats,
    ) -> None:
        """Write into the plans of these members what they are to do; the caller keeps the arrays alive."""
        plans, table, count = self.plans, self.table, passes.epochs
        table.point_to_parameters()
        plans["epochs"] = count
        plans["order"][which] = self._addresses("order", passes.orders, which, count)
        alike = [order is None or len(order) == 1 for order in passes.orders]
        plans["order_stride"][which] = np.where(alike, 0, plans["samples"][which])
        if passes.weights is not None:
            plans["weights"][which] = self._addresses("weights", passes.weights, which, 1)
        for name, array in (("cost", cost), ("decay", decay)):
            plans[name][which] = table.starts(name, array, (len(which), count))
        plans["rates"][which] = table.starts("rates", rates, rates.shape)[rows]
        plans["rates_stride"], plans["step_stride"] = strides_of(rates)
        for row, name in enumerate(("scales", "penalties", "decays")):
            plans[name][which] = table.starts(name, terms, (len(which), 3, terms.shape[2])) + row * terms.strides[1]

    def _run(self, part: Indices, before: Remembered | None = None) -> None:
        """Train some members; with a copy of what was `before` they may be left in their middle, and are undone."""
        run_members = self.table.library.run_members
        arguments = (
            address("plans", self.plans, self.plans.dtype),
            address("part", part, np.int64),
            part.size,
            self.threads,
            self.stride,
        )
        if before is None:
            run_members(*arguments)
        else:
            run_abandonable(lambda: run_members(*arguments), before.restore, self.table.stop)

    def _addresses(self, name: str, arrays: Sequence[HostArray | None], which: Numbers, epochs: int) -> list[int]:
        """Return where each begins, 0 for None; an array that members share is asked once.

        They are orders, (epochs, samples) or (1, samples), or weights, (samples,), of the members that `which` names.
        """
        known: dict[tuple[int, int], int] = {}
        addresses = []
        for array, samples in zip(arrays, self.plans["samples"][which].tolist(), strict=True):
            key = id(array), samples
            if key not in known:
                known[key] = 0
                if array is not None:
                    shape = (samples,) if name == "weights" else (1 if len(array) == 1 else epochs, samples)
                    known[key] = pointer(name, array, self.task.network.dtype, shape)
            addresses.append(known[key])
        return addresses
