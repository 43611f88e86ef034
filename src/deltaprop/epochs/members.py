"""What a way of training the members of a stack together is told, and what it has to offer (`MembersEpoch`)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.task import minibatch_sizes
from deltaprop.inputs.encoded_rows import EncodedRows

#: Which members, and in which order: an array of their numbers.
Numbers: TypeAlias = Indices


#: Members are often alike.
_sizes = lru_cache(minibatch_sizes)


@dataclass(frozen=True)
class Member:
    """How one network of a stack is trained.

    Attributes
    ----------
    samples : int
        How many samples it has.
    batch_size : int
        At most as many.
    optimizer : Optimizer
    objective : Objective
    rows : array of int64, (samples,), optional
        Which of the stack's samples it has; by default all, as they stand.
    sample_weight : array, (samples,), optional
        The weight of each of its samples, on the host.
    dropout : tuple of float
        One probability a hidden layer, or nothing.
    rule : Rule or None
        The update rule of its optimizer, as the kernels know it; None if the optimizer is not a built-in one.
    m : float
        The m of the formulas: how many samples there are, or what their weights sum to.
    """

    samples: int
    batch_size: int
    optimizer: Optimizer
    objective: Objective
    rows: Indices | None = None
    sample_weight: Floats | None = None
    dropout: tuple[float, ...] = ()
    rule: Rule | None = field(init=False)
    m: float = field(init=False)

    def __post_init__(self) -> None:
        weights = self.sample_weight
        object.__setattr__(self, "rule", self.optimizer.rule())
        object.__setattr__(self, "m", float(self.samples if weights is None else weights.sum(dtype=np.float64)))

    @property
    def batches(self) -> int:
        """Minibatches an epoch."""
        return math.ceil(self.samples / self.batch_size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples in each minibatch; the last may have fewer."""
        return _sizes(self.samples, self.batch_size)


@dataclass
class MembersTask:
    """Several networks in training: their parameters, their data, and what their optimizers carry from step to step.

    Attributes
    ----------
    network : NetworkState
        With a member axis.
    X, Y : array, (m, s_1) and (m, s_L), or with the member axis before
        The samples. Members may have some of them, see `Member.rows`; with a member axis, each has its own samples. X
        may be `EncodedRows`.
    members : sequence of Member
        All with built-in optimizers.
    moments : list of array, (K, n)
        As many as the rule that needs most of them has.
    steps : array of int64, (K,)
        How many each member has taken.
    """

    network: NetworkState
    X: AnyArray
    Y: Array
    members: Sequence[Member]

    def __post_init__(self) -> None:
        count, parameters = len(self.members), self.network.parameters
        most = max(member.rule.moments for member in self.members if member.rule is not None)
        self.moments: list[Array] = [
            self.network.backend.zeros(parameters.shape, parameters.dtype) for _ in range(most)
        ]
        self.steps: Indices = np.zeros(count, np.int64)

    def form_inputs(self) -> None:
        """Put an array of all inputs in the place of `EncodedRows`, for ways that take no others."""
        if isinstance(self.X, EncodedRows):
            self.X = self.X[:]

    @property
    def own_samples(self) -> bool:
        """Whether X and Y have the member axis."""
        return bool(self.X.ndim == 3)


@dataclass
class Passes:
    """Some epochs of k members, member by member.

    Attributes
    ----------
    orders : list of array of int64, (epochs, samples), or None
        Rows of the stack's X in the order in which they are visited, or one such order for all epochs, (1, samples);
        None for all of them as they stand.
    weights : list of array, (samples,), or None, or None
        Sample weights in that order, on the host, in the network's dtype, where there is one epoch; None where no
        member has any.
    terms : array of float64, (k, 3, batches)
        For each minibatch the scale of δ^(L), the factor of W in ∂J/∂W and the factor of Σ W². Where there are fewer
        minibatches than others have, the rest means nothing.
    learning_rates : array of float64, (k, epochs)
    """

    orders: Sequence[Indices | None]
    weights: Sequence[Floats | None] | None
    terms: Floats
    learning_rates: Floats

    @property
    def epochs(self) -> int:
        """How many there are."""
        return int(self.learning_rates.shape[1])


class MembersEpoch(ABC):
    """A way of training members of a stack together, for some networks and optimizers.

    Attributes
    ----------
    task : MembersTask
    label : str
        What the log calls it.
    takes_encoded_rows : bool
        Whether the X of its task may be `EncodedRows`.
    """

    task: MembersTask
    label: ClassVar[str]
    takes_encoded_rows: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def find(cls, task: MembersTask, networks: Sequence[NetworkState] | None) -> Self | None:
        """Make one for `task`, on the backend that `deltaprop.epochs.engines` names it for; None if it cannot do it.

        `networks` are the members as networks, if they are at hand.
        """

    @abstractmethod
    def epochs(self, which: Numbers, passes: Passes) -> tuple[Floats, Floats]:
        """Train the members that `which` names on every sample once an epoch, as `passes` says.

        Returns
        -------
        cost, decay : array of float64, (k, epochs)
            The sum of the costs of the minibatches, and of what `Passes.terms` makes of their Σ W².

        Raises
        ------
        RefusedError
            If the device refuses.
        """


def finite_members(stack: NetworkState) -> NDArray[np.bool]:
    """Tell whether all parameters of each member are finite, (K,)."""
    finite: NDArray[np.bool] = np.isfinite(stack.backend.to_numpy(stack.parameters.sum(1)))
    for k in np.flatnonzero(~finite):  # a finite sum may overflow
        finite[k] = stack.backend.all_finite(stack.parameters[k])
    return finite


def squared_norms(stack: NetworkState, which: Numbers) -> Floats:
    """Compute Σ W² of the members that `which` names, (k,); one copy from the device serves all."""
    backend = stack.backend
    if backend.on_host:
        return np.array([backend.squared_norm(stack.flat_weights[k]) for k in which.tolist()])
    weights = stack.flat_weights
    if not np.array_equal(which, np.arange(len(weights))):
        weights = weights[backend.asarray(which, np.int64)]
    squares = backend.empty(weights.shape, np.float64)
    squares[...] = weights
    squares *= squares
    sums: Floats = backend.to_numpy(squares.sum(1))
    return sums
