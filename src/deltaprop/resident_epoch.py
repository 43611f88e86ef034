"""An epoch of a small network in one launch, its parameters in shared memory from the first minibatch to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.cupy import CupyBackend
from deltaprop.backends.resident import TERMS, Run, find_residence
from deltaprop.network import NetworkState
from deltaprop.optimizers import Optimizer, moments_of, rule_of
from deltaprop.progress import Progress


class ResidentEpoch:
    """What `Trainer.epoch` does, in one launch: the same to rounding.

    Parameters
    ----------
    network : NetworkState
        On the CUDA backend.
    run : Run
        The launch, bound to the network's arrays.
    optimizer, state
        The latter is changed in place.
    cost, decay : array, () of float64
        What the minibatches cost, and their penalties, are added to.
    """

    def __init__(
        self, network: NetworkState, run: Run, optimizer: Optimizer, state: dict[str, Any], cost: Array, decay: Array
    ) -> None:
        self.network, self.run, self.optimizer, self.state = network, run, optimizer, state
        self.cost, self.decay = cost, decay
        #: Σ W² at the end of the last epoch, () of float64.
        self.squares = network.backend.zeros((), np.float64)

    @classmethod
    def find(
        cls,
        network: NetworkState,
        X: Array,
        Y: Array,
        optimizer: Optimizer,
        state: dict[str, Any],
        batch_size: int,
        dropout: Sequence[float],
        cost: Array,
        decay: Array,
    ) -> Self | None:
        """One, where the kernel can train this network in this way and it fits; else None."""
        backend, rule = network.backend, rule_of(optimizer)
        if (
            rule is None
            or not isinstance(backend, CupyBackend)
            or not isinstance(network.loss, str)
            or network.output_error != "exact"
            or any(dropout)
        ):
            return None
        activations, loss = network.activations, network.loss
        residence = find_residence(backend, network.layer_sizes, activations, loss, network.dtype, batch_size, rule)
        if residence is None:
            return None
        run = Run(backend, residence, network.parameters, moments_of(state), X, Y)
        return cls(network, run, optimizer, state, cost, decay)

    def __call__(
        self,
        order: np.ndarray[Any, Any] | None,
        weights: Array | None,
        terms: Sequence[tuple[float, float, float]],
        learning_rate: float,
        progress: Progress,
    ) -> None:
        """All minibatches; `terms` are, for each, the scale of δ^(L), the factor of W in ∂J/∂W and that of Σ W²."""
        table = self._table(terms, learning_rate)
        self.run(table, None if order is None else order[None, None], weights, self.cost, self.decay, self.squares)
        progress.samples(self.run.X.shape[0])

    def epochs(
        self,
        orders: np.ndarray[Any, Any] | None,
        weights: Array | None,
        terms: Sequence[tuple[float, float, float]],
        learning_rate: float,
        count: int,
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """`count` epochs in one launch; orders and weights : (count, m), `terms` are those of all their minibatches.

        Returns
        -------
        costs, squares : array, (count,)
            Σ cost over each epoch and Σ W² at its end.
        good : int
            How many epochs ended with finite numbers; the parameters are those after the last of them.
        """
        backend = self.network.backend
        cost, decay, squares = (backend.zeros((1, count), np.float64) for _ in range(3))
        table, order = self._table(terms, learning_rate), None if orders is None else orders[None]
        diverged = self.run(table, order, weights, cost, decay, squares, epochs=count, keep_last_good=True)
        when = int(backend.to_numpy(diverged)[0])
        return backend.to_numpy(cost)[0], backend.to_numpy(squares)[0], when - 1 if when else count

    def _table(self, terms: Sequence[tuple[float, float, float]], learning_rate: float) -> np.ndarray[Any, Any]:
        """What `Run` is handed for these steps, which count as taken from then on."""
        table = np.empty((1, len(terms), TERMS))
        table[0, :, :3] = terms
        table[0, :, 3:] = self.optimizer.rates(learning_rate, self.state.get("step", 0), len(terms))
        if "step" in self.state:
            self.state["step"] += len(terms)
        return table
