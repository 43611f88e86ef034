"""What a way of training an epoch is told (`Task`, `Pass`), and what it has to offer (`WholeEpoch`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.backends.base import RandomStream
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.interruption import Interruption
from deltaprop.epochs.shares import Shares
from deltaprop.epochs.step_marks import StepMarks
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.reports.progress import Progress

#: (batches, 3) of float64: for each minibatch the scale of δ^(L), the factor of W in ∂J/∂W and the factor of Σ W²; see
#: `Trainer.terms`.
Terms: TypeAlias = Floats
#: Floating-point operations after which compiled code returns between steps, so that Python hears an interrupt and
#: draws the progress bar.
OPERATIONS_A_CALL = 2e9
#: Floating-point operations above which a step may be left in its middle, because it takes too long for that. One slow
#: core takes up to a second for so many; copying the parameters before the step costs nothing beside them.
LONG_STEP = 1e10


def minibatch_sizes(samples: int, batch_size: int) -> tuple[int, ...]:
    """Return the size of each minibatch of an epoch; the last may be shorter."""
    return tuple(min(batch_size, samples - start) for start in range(0, samples, batch_size))


def weigh_samples(
    objective: Objective, sample_weight: Floats, order: Indices | None, sizes: Sequence[int]
) -> tuple[Floats, list[float]]:
    """Return how much each sample of an epoch counts, in its order, and the sum of the weights of each minibatch.

    sample_weight : (m,), on the host; sizes : of each minibatch.
    """
    weights = sample_weight if order is None else sample_weight[order]
    starts = np.cumsum((0, *sizes[:-1]))
    sums: list[float] = np.add.reduceat(weights, starts, dtype=np.float64).tolist()
    return objective.weights(weights, sizes, sums), sums


def rates_of_epochs(optimizer: Optimizer, learning_rates: list[float], taken: int, batches: int) -> HostArray:
    """Return `Optimizer.rates` of the steps of some epochs, one for each learning rate, after `taken` steps.

    The result is (epochs, batches, 2), or (epochs, 1, 2) if all steps of an epoch are alike.
    """
    epochs, steps, first = len(learning_rates), batches if optimizer.rates_vary else 1, learning_rates[0]
    if learning_rates.count(first) == epochs:
        rates = optimizer.rates(first, taken, epochs * steps)
    else:
        of_each = [optimizer.rates(rate, taken + e * steps, steps) for e, rate in enumerate(learning_rates)]
        rates = np.concatenate(of_each)
    return rates.reshape(epochs, steps, 2)


class RefusedError(Exception):
    """The device refuses a way of training; nothing has been changed, and another way may be looked for.

    Its cause is the error of the device.
    """


def operations_of(network: NetworkState, samples: int) -> float:
    """Count the floating-point operations of the matrix products of a step over so many samples: z, δ and ∂J/∂W."""
    return 6.0 * samples * network.n_weights


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and how.

    Attributes
    ----------
    network : NetworkState
        It is trained in place.
    X, Y : array, (m, s_1) and (m, s_L)
        Arrays of its backend.
    optimizer : Optimizer
    state : dict
        The optimizer's state, which is changed in place.
    batch_size : int
        At most m.
    cost, decay : array, () of float64
        The costs of the minibatches, and their penalties, are added to these.
    squares : array, () of float64
        Some ways write Σ W² at the end of an epoch there; see `WholeEpoch.writes_squares`.
    dropout : sequence of float
        One probability a hidden layer, or nothing.
    shuffled, weighted, penalized : bool
        Whether epochs come with an order, with sample weights, with a penalty.
    terms : dict of int to (float, float, float)
        The factors of a minibatch without sample weights, by its size; see `Trainer.terms`.
    ranks : Ranks
        The processes that share each minibatch.
    shares : Shares, optional
        Where minibatches come as shares: the shares of an epoch, or of the first chunk. So they may for a single rank.
    """

    network: NetworkState
    X: Array
    Y: Array
    optimizer: Optimizer
    state: OptimizerState
    batch_size: int
    cost: Array
    decay: Array
    squares: Array
    dropout: Sequence[float] = ()
    shuffled: bool = True
    weighted: bool = False
    penalized: bool = False
    terms: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)
    ranks: Ranks = ALONE
    shares: Shares | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether loss and optimizer are known by name, and no unit is left out of a step."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why ways that know the built-in losses and optimizers, but no dropout, cannot do it; None if they can."""
        return self.given_as_code or ("units are dropped out" if any(self.dropout) else None)

    @property
    def given_as_code(self) -> str | None:
        """What of the loss and the optimizer is the user's own code, which compiled code cannot call; or None."""
        if not isinstance(self.network.loss, str):
            return "the loss is a pair of functions"
        if self.optimizer.rule() is None:
            return f"the optimizer {type(self.optimizer).__name__} is not a built-in one"
        return None

    @property
    def descends(self) -> bool:
        """Whether a step is plain gradient descent, θ := θ − η ∂J/∂θ, so that η may go into δ."""
        rule = self.optimizer.rule()
        return rule is not None and rule.descends

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return int(self.X.shape[0])

    @property
    def batches(self) -> int:
        """Minibatches an epoch; the last may be shorter."""
        return -(-self.samples // self.batch_size) if self.shares is None else len(self.shares.places)


class StepTable:
    """The table of what differs from step to step of an epoch; it is remade only when its numbers change."""

    def __init__(self) -> None:
        self._made_of: tuple[Terms, float, int, int] | None = None
        self._table: Any = None

    def __call__(
        self,
        make: Callable[[Terms, float, int], Any],
        terms: Terms,
        learning_rate: float,
        taken: int,
        times: int = 1,
    ) -> Any:
        """Return ``make(terms, learning_rate, taken)``, or the last table where it would be the same.

        Parameters
        ----------
        make : callable
        terms : array
            Nobody may change it in place.
        learning_rate : float
        taken : int
            Steps before the epoch, if the optimizer counts them.
        times : int
            How many epochs with the same terms the table is for.
        """
        last = self._made_of
        if last is None or last[0] is not terms or last[1:] != (learning_rate, taken, times):
            repeated = terms if times == 1 else np.tile(terms, (times, 1))
            self._made_of, self._table = (terms, learning_rate, taken, times), make(repeated, learning_rate, taken)
        return self._table


@dataclass(frozen=True)
class Pass:
    """One pass over all samples.

    Attributes
    ----------
    order : array, (m,) of int64, or None
        The order of the samples, on the host; None for the order in which they stand.
    weights : array, (m,), or None
        The sample weights, in that order.
    sums : sequence of float
        For each minibatch the sum of its sample weights; without weights, its number of samples.
    learning_rate : float
    progress : Progress
        It is told how many samples are done.
    dropout : stream of random numbers, or None
        The dropout masks of the epoch are drawn from it.
    first : int
        The number of the minibatch with which the pass begins: not 0 after a pause.
    pause : Interruption
        It is asked between steps, on the host, whether to stop there.
    marks : StepMarks, optional
        The steps after which somebody is told; nobody is without them.
    shares : Shares, optional
        Where several ranks share minibatches: which rows are this rank's. Order and weights are those of these rows.
    """

    order: Indices | None
    weights: Array | None
    sums: Sequence[float]
    learning_rate: float
    progress: Progress
    dropout: RandomStream | None = None
    first: int = 0
    pause: Interruption = field(default_factory=Interruption)
    marks: StepMarks | None = None
    shares: Shares | None = None


class WholeEpoch(ABC):
    """A way of training an epoch in fewer, larger calls than one a step, for some networks and optimizers.

    Attributes
    ----------
    label : str
        What the log calls it.
    resumes : bool
        Whether it honours `Pass.first` and `Pass.pause`, so that an epoch can be resumed.
    writes_squares : bool
        Whether it writes Σ W² at the end of each epoch to `Task.squares`.
    """

    label: ClassVar[str]
    resumes: bool = False
    writes_squares: bool = False

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell why `find` makes none for `task`, for the log; None if it makes one, or only trying tells."""
        return task.obstacle

    @property
    def details(self) -> str:
        """What else the log says of it."""
        return ""

    @classmethod
    @abstractmethod
    def find(cls, task: Task) -> Self | None:
        """Make one for `task`, on the backend that `deltaprop.epochs.engines` names it for; None if it cannot do it."""

    def takes_on(self, task: Task) -> bool:
        """Take on another task, if what there is need not be made anew for it; return whether it does."""
        return False

    @abstractmethod
    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train on all minibatches.

        Raises
        ------
        Paused
            If `given.pause` asks it to stop.
        """

    def in_a_row(self) -> AbstractContextManager[object]:
        """Return a context for several calls between which nobody else's code runs; what they need is kept within."""
        return nullcontext()

    def leaves_finite(self, network: NetworkState) -> bool:
        """Tell whether the parameters of the task's network hold neither nan nor infinity."""
        return network.backend.all_finite(network.parameters)

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold; 0 if it has no such call."""
        return 0

    def epochs(
        self, orders: Indices | None, weights: Array | None, terms: Terms, learning_rate: float, count: int
    ) -> tuple[Floats, Floats, int]:
        """Train `count` epochs in one call.

        If an epoch ends with numbers that are not finite, training ends there, with the parameters of its start.

        Parameters
        ----------
        orders, weights : array, (count, m), or None
        terms : array, (count · batches, 3), or (batches, 3)
            Of all minibatches, or of one epoch if they are the same in each.
        learning_rate : float
        count : int

        Returns
        -------
        costs, squares : array, (count,)
            Σ cost over each epoch, and Σ W² at its end.
        good : int
            How many ended with finite numbers.
        """
        raise NotImplementedError
