"""An epoch of a small network in one launch, its parameters in shared memory from the first minibatch to the last."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.shared_memory import TERMS, Run, find_residence
from deltaprop.derivation.optimizers import moments_of, rule_of
from deltaprop.epochs.task import Pass, RefusedError, StepTable, Task, Terms, WholeEpoch

#: Steps that one launch may hold where it can hold many epochs: within a second or so an interrupt is heard.
STEPS_A_CALL = 200_000


class ResidentEpoch(WholeEpoch):
    """What `Trainer.epoch` does, in one launch: the same to rounding.

    Parameters
    ----------
    task : Task
        On the CUDA backend.
    run : Run
        The launch, bound to its arrays.
    """

    def __init__(self, task: Task, run: Run) -> None:
        self.task, self.network, self.run = task, task.network, run
        self.squares = task.network.backend.zeros((), np.float64) if task.squares is None else task.squares
        self.table = StepTable()

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """One, where the kernel can train this network in this way and it fits; else None."""
        network, rule = task.network, rule_of(task.optimizer)
        backend, known = network.backend, task.is_built_in and network.output_error == "exact"
        if rule is None or not known or not isinstance(backend, CupyBackend):
            return None
        what = (network.layer_sizes, network.activations, network.loss, network.dtype)
        residence = find_residence(backend, *what, task.batch_size, rule)
        if residence is None:
            return None
        return cls(task, Run(backend, residence, network.parameters, moments_of(task.state), task.X, task.Y))

    def __call__(self, given: Pass, terms: Terms) -> None:
        """In one launch."""
        order = None if given.order is None else given.order[None, None]
        self._launch(terms, given.learning_rate, order, given.weights, self.task.cost, self.task.decay, self.squares)
        given.progress.samples(self.run.X.shape[0])

    @property
    def epochs_at_once(self) -> int:
        """As many as let an interrupt be heard."""
        return max(1, STEPS_A_CALL // self.task.batches)

    def epochs(
        self, orders: np.ndarray[Any, Any] | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """In one launch; the optimizer's state is as it came to be."""
        backend = self.network.backend
        sums = backend.zeros((3, 1, count), np.float64)
        cost, decay, squares = (sums[i] for i in range(3))
        what = (None if orders is None else orders[None], weights, cost, decay, squares)
        diverged = self._launch(terms, learning_rate, *what, epochs=count, keep_last_good=True)
        when = int(backend.to_numpy(diverged)[0])
        costs, _, squares_of_each = backend.to_numpy(sums)[:, 0]
        return costs, squares_of_each, when - 1 if when else count

    def _launch(self, terms: Terms, learning_rate: float, *arrays: Any, **options: Any) -> Array:
        """`Run` these steps, on fewer blocks where so many are refused.

        Raises
        ------
        RefusedError
            If even one is. A launch that is refused changes nothing.
        """
        backend, state = self.run.backend, self.task.state
        table = self.table(self._make_table, terms, learning_rate, state.get("step", 0))
        while True:
            try:
                diverged = self.run(table, *arrays, **options)
            except backend.device_errors as error:
                backend.shrink_clusters(self.run.residence.blocks, error)
                found = self.find(self.task)
                if found is None:
                    raise RefusedError from error
                self.run = found.run
            else:
                break
        if "step" in state:
            state["step"] += len(terms)
        return diverged

    def _make_table(self, terms: Terms, learning_rate: float, taken: int) -> np.ndarray[Any, Any]:
        """(1, steps, 5), as `Run` takes it."""
        table = np.empty((1, len(terms), TERMS))
        table[0, :, :3] = terms
        table[0, :, 3:] = self.task.optimizer.rates(learning_rate, taken, len(terms))
        return table
