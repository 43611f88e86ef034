"""What an update rule of the parameters is: `Optimizer`, the base class of all optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from deltaprop.arguments import check_number
from deltaprop.backends.array_types import Floats
from deltaprop.backends.base import Scalar
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.schedules import Plateau, ReduceOnPlateau, check_rate
from deltaprop.derivation.state import NetworkState
from deltaprop.reports.history import History

#: A number, or a function of the epoch (from 0) and the history so far; see `deltaprop.derivation.schedules`.
LearningRate: TypeAlias = float | Callable[[int, History], float]


@dataclass(frozen=True)
class Optimizer(ABC):
    """An update rule: base class of `SGD`, `Adam` and `AdamW`, and of your own rules.

    A rule defines `init` and `apply`. It overrides `rates` as well if its numbers differ from step to step. Rules are
    frozen data classes: one with constants of its own is declared with ``@dataclass(frozen=True)``.

    Parameters
    ----------
    learning_rate : float or callable
        The learning rate η > 0, or a schedule: a function ``(epoch, history) -> float`` that is called before each
        epoch. `epoch` counts from 0, `history` is the `History` of the epochs before.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If `learning_rate` is neither a number nor callable.

    Notes
    -----
    Networks train step by step under a rule of your own; the faster ways of training know the built-in rules alone.
    A checkpoint holds the state that `init` returns, and resuming restores it.

    Examples
    --------
    Lion (Chen et al., 2023) moves every weight by η in the direction of a sign:

    >>> import numpy as np
    >>> import deltaprop as dp
    >>> class Lion(dp.Optimizer):
    ...     def init(self, network):
    ...         return {"mean": network.backend.zeros(network.parameters.shape, network.dtype)}
    ...
    ...     def apply(self, network, gradient, state, rate, decay):
    ...         theta, mean, g = network.parameters, state["mean"], gradient.flat
    ...         theta -= rate * np.sign(0.9 * mean + 0.1 * g)
    ...         mean += 0.01 * (g - mean)
    >>> net = dp.Network([2, 8, 1], backend="numpy", seed=3)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=Lion(0.01), epochs=900)
    >>> [round(float(p)) for p in net.predict(X)[:, 0]]
    [0, 1, 1, 0]
    """

    learning_rate: LearningRate

    def __post_init__(self) -> None:
        given: Any = self.learning_rate
        if callable(given):
            return
        if isinstance(given, bool) or not isinstance(given, Real):
            raise TypeError(f"learning_rate: expected a number or a schedule, got {given!r}")
        self._check("learning_rate", above=0.0)

    def _check(self, name: str, **limits: float) -> None:
        """Check that a field is a number within limits, and store it as a float."""
        object.__setattr__(self, name, check_number(name, getattr(self, name), **limits))

    def rate(self, epoch: int, history: History) -> float:
        """Compute the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        history : History
            What the epochs before recorded.

        Returns
        -------
        float
            At least 0.

        Raises
        ------
        ScheduleError
            If the schedule returns a number that is negative, nan or infinite.
        TypeError
            If the schedule does not return a number.

        Examples
        --------
        >>> import deltaprop as dp
        >>> rule = dp.SGD(dp.ExponentialDecay(0.1, factor=0.5))
        >>> [rule.rate(epoch, dp.History()) for epoch in range(3)]
        [0.1, 0.05, 0.025]
        """
        if callable(self.learning_rate):
            return check_rate(self.learning_rate, self.learning_rate(epoch, history), epoch, history)
        return float(self.learning_rate)

    def follow(self, history: History) -> Callable[[int], float]:
        """Return a function that computes `rate` of each epoch while `history` grows.

        `ReduceOnPlateau` then looks at each epoch of the history once, and not at all of them in every epoch.

        Parameters
        ----------
        history : History
            The history of this training; epochs are added to it.

        Returns
        -------
        callable
            ``(epoch) -> float``, with the epoch counted from 0.
        """
        schedule = self.learning_rate
        if type(schedule) is ReduceOnPlateau and type(self).rate is Optimizer.rate:
            plateau = Plateau(schedule, history)
            return lambda epoch: check_rate(schedule, plateau(epoch), epoch, history)
        return lambda epoch: self.rate(epoch, history)

    def rule(self) -> Rule | None:
        """Describe this rule to the ways of training that do without `apply`.

        Returns
        -------
        Rule or None
            None for a rule of your own.
        """
        return None

    @abstractmethod
    def init(self, network: NetworkState) -> OptimizerState:
        """Make the state before the first step.

        Parameters
        ----------
        network : Network
            The network to train.

        Returns
        -------
        dict
            Arrays of the shape and dtype of ``network.parameters``, on its backend, and counters (int) by name.
            A counter called "step" counts the steps taken; `apply` leaves it alone.
        """

    @property
    def rates_vary(self) -> bool:
        """Whether `rates` may differ from step to step while the learning rate stays the same."""
        return type(self).rates is not Optimizer.rates

    def rates(self, learning_rate: float, taken: int, steps: int) -> Floats:
        """Compute the two numbers that `apply` gets in each step.

        Parameters
        ----------
        learning_rate : float
            The learning rate of the epoch.
        taken : int
            How many steps came before: the counter "step" of the state, or 0 if the state has none.
        steps : int
            How many steps follow.

        Returns
        -------
        array, (steps, 2)
            `rate` and `decay` of each step. By default they are `learning_rate` and 0.
        """
        result = np.zeros((steps, 2))
        result[:, 0] = learning_rate
        return result

    def _rates_of_one_step(self, learning_rate: float, taken: int) -> tuple[float, float]:
        """Compute `rates` of one step as two floats."""
        if not self.rates_vary:
            return learning_rate, 0.0
        rate, decay = self.rates(learning_rate, taken, 1)[0].tolist()
        return rate, decay

    @abstractmethod
    def apply(
        self, network: NetworkState, gradient: Parameters, state: OptimizerState, rate: Scalar, decay: Scalar
    ) -> None:
        """Take one step: change ``network.parameters`` and the arrays of `state` in place.

        Parameters
        ----------
        network : Network
            The network to train.
        gradient : Parameters
            ∂J/∂θ; ``gradient.flat`` has the shape and dtype of ``network.parameters``.
        state : dict
            What `init` returned. The counters are not changed here.
        rate : float or array, ()
            What `rates` gives for this step; it may be an array on the device.
        decay : float or array, ()
            Likewise.
        """

    def update(self, network: NetworkState, gradient: Parameters, state: OptimizerState, learning_rate: float) -> None:
        """Take one step, and count it if `state` has a counter "step".

        Nothing is allocated if `gradient` is on the network's backend. A gradient on the host is copied to the device.

        Parameters
        ----------
        network : Network
            The network to train; its parameters are changed in place.
        gradient : Parameters
            ∂J/∂θ, as `Network.cost_and_gradient` returns it.
        state : dict
            What `init` returned; it is changed in place.
        learning_rate : float
            The learning rate η of this step.

        Raises
        ------
        ValueError
            If `gradient` does not have the shape and dtype of the parameters.

        See Also
        --------
        deltaprop.Network.cost_and_gradient : Computes the gradient.
        deltaprop.Network.fit : A whole training.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 8, 1], seed=3)
        >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> rule = dp.Adam()
        >>> state = rule.init(net)
        >>> for _ in range(300):  # a loop of your own
        ...     cost, gradient = net.cost_and_gradient(X, Y)
        ...     rule.update(net, gradient, state, 0.1)
        >>> [round(float(p)) for p in net.predict(X)[:, 0]]
        [0, 1, 1, 0]
        """
        gradient = gradient_for(network, gradient)
        rate, decay = self._rates_of_one_step(learning_rate, state.get("step", 0))
        self.apply(network, gradient, state, rate, decay)
        if "step" in state:
            state["step"] += 1


def gradient_for(network: NetworkState, gradient: Parameters) -> Parameters:
    """Return `gradient` on the backend of `network`; `cost_and_gradient` of host arrays returns one on the host.

    Raises
    ------
    ValueError
        If the gradient does not have the shape and dtype of the parameters.
    """
    wanted, given = network.parameters, gradient.flat
    dtype = gradient.backend.dtype_of(given)
    if given.shape != wanted.shape or dtype != network.dtype:
        raise ValueError(
            f"gradient: expected {tuple(wanted.shape)} of {network.dtype}, as the network's parameters, got "
            f"{tuple(given.shape)} of {dtype}"
        )
    return gradient if network.backend.owns(given) else gradient.on(network.backend)
