"""An epoch in fewer, larger calls than one a step: what such a way of training is handed, and has to offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.optimizers import SGD, Optimizer, rule_of
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.interruption import Interruption
from deltaprop.reports.progress import Progress

#: (batches, 3) of float64: for each minibatch the scale of δ^(L), the factor of W in ∂J/∂W and that of Σ W²; see
#: `Trainer.terms`.
Terms: TypeAlias = np.ndarray[Any, Any]
#: Floating-point operations after which compiled code returns between steps, so that an interrupt is heard and a
#: progress bar drawn; and those of a step that takes too long for that, so that it may be left in its middle: up to
#: a second of one slow core, and few enough that remembering the parameters before it costs nothing beside it.
OPERATIONS_A_CALL, LONG_STEP = 2e9, 1e10


class RefusedError(Exception):
    """The device refuses a way of training; nothing has been changed, and another way may be looked for.

    Its cause is what the device has said.
    """


def operations_of(network: NetworkState, samples: int) -> float:
    """Floating-point operations of the matrix products of a step over so many samples: forward, δ and ∂J/∂W."""
    return 6.0 * samples * network.n_weights


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and how.

    Attributes
    ----------
    network : NetworkState
        Trained in place.
    X, Y : array, (m, s_1) and (m, s_L)
        Of its backend.
    optimizer : Optimizer
    state : dict
        The optimizer's, changed in place.
    batch_size : int
        At most m.
    cost, decay : array, () of float64
        What the minibatches cost, and their penalties, are added to.
    dropout : sequence of float
        One a hidden layer.
    shuffled, weighted, penalized : bool
        Whether epochs come with an order, with sample weights, with a penalty.
    terms : dict of int to (float, float, float)
        By its size, the factors of a minibatch without sample weights; see `Trainer.terms`.
    squares : array, () of float64, or None
        Where Σ W² at the end of an epoch may be written.
    """

    network: NetworkState
    X: Array
    Y: Array
    optimizer: Optimizer
    state: dict[str, Any]
    batch_size: int
    cost: Array
    decay: Array
    dropout: Sequence[float] = ()
    shuffled: bool = True
    weighted: bool = False
    penalized: bool = False
    terms: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)
    squares: Array | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether loss and optimizer are among those that are known by name, and no unit is left out of a step."""
        return isinstance(self.network.loss, str) and rule_of(self.optimizer) is not None and not any(self.dropout)

    @property
    def descends(self) -> bool:
        """Whether a step is plain gradient descent, θ := θ − η ∂J/∂θ, so that η may go into δ."""
        return isinstance(self.optimizer, SGD) and not self.optimizer.momentum

    @property
    def batches(self) -> int:
        """Minibatches an epoch; the last may be shorter."""
        return -(-int(self.X.shape[0]) // self.batch_size)


class StepTable:
    """What differs from step to step of an epoch, made anew only where the last epoch had another."""

    def __init__(self) -> None:
        self._made_of: tuple[Terms, float, int] | None = None
        self._table: Any = None

    def __call__(self, make: Callable[[Terms, float, int], Any], terms: Terms, learning_rate: float, taken: int) -> Any:
        """What `make` makes of the rest, or has made of it the last time.

        Parameters
        ----------
        make : callable
        terms : array
            Changed in place by nobody.
        learning_rate : float
        taken : int
            Steps before the epoch, as far as the optimizer counts them.
        """
        last = self._made_of
        if last is None or last[0] is not terms or last[1:] != (learning_rate, taken):
            self._made_of, self._table = (terms, learning_rate, taken), make(terms, learning_rate, taken)
        return self._table


@dataclass(frozen=True)
class Pass:
    """Every sample once.

    Attributes
    ----------
    order : array, (m,) of int64, or None
        On the host: in which order; None for the one in which they stand.
    weights : array, (m,), or None
        How much each counts, in that order.
    sums : sequence of float
        What the weights of each minibatch sum to; how many samples it has, where there are none.
    learning_rate : float
    progress : Progress
        Told of samples that are done.
    """

    order: np.ndarray[Any, Any] | None
    weights: Array | None
    sums: Sequence[float]
    learning_rate: float
    progress: Progress


class Epoch(Protocol):
    """What trains on the minibatches of a chunk; see `Trainer.minibatches`."""

    def minibatches(self, given: Pass) -> None:
        """All of them, as they stand."""


class WholeEpoch(ABC):
    """A way of training that knows some networks, optimizers and backends.

    Attributes
    ----------
    first : int
        With which minibatch the next epoch begins.
    pause : Interruption
        Asked between calls whether to leave off there.
    takes_up : bool
        Whether it minds these two.
    squares : array, () of float64, or None
        Σ W² at the end of the last epoch, where that is known.
    """

    first: int = 0
    pause: Interruption = Interruption()
    takes_up: bool = False
    squares: Array | None = None

    @classmethod
    @abstractmethod
    def find(cls, task: Task) -> Self | None:
        """One for `task`; None where this is no way to do it."""

    @abstractmethod
    def __call__(self, given: Pass, terms: Terms) -> None:
        """All minibatches.

        Raises
        ------
        Paused
            If it has been asked to leave off.
        """

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold; 0 where there is no such call."""
        return 0

    def epochs(
        self, orders: np.ndarray[Any, Any] | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """`count` epochs in one call; orders and weights : (count, m), `terms` are those of all their minibatches.

        Where one ends in numbers that are not finite, the parameters are as it found them.

        Returns
        -------
        costs, squares : array, (count,)
            Σ cost over each epoch, and Σ W² at its end.
        good : int
            How many ended with finite numbers.
        """
        raise NotImplementedError
