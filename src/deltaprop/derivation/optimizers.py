"""Optimizers: an update rule over the flat vector, and its state from step to step."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from deltaprop.arguments import check_bool, check_number
from deltaprop.backends import Backend
from deltaprop.backends.base import Scalar
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.schedules import Plateau, ReduceOnPlateau
from deltaprop.derivation.state import NetworkState
from deltaprop.errors import ScheduleError
from deltaprop.reports.history import History

#: A number, or a function of the epoch (from 0) and the history so far; see `deltaprop.derivation.schedules`.
LearningRate: TypeAlias = float | Callable[[int, History], float]


@dataclass(frozen=True)
class Optimizer(ABC):
    """An update rule: base class of `SGD`, `Adam` and `AdamW`, and of your own rules.

    A rule defines `init` and `apply`. It overrides `rates` as well if its numbers differ from step to step.

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
    Networks train step by step under a rule of your own; the faster ways of training know the three built-in rules.
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

    @abstractmethod
    def init(self, network: NetworkState) -> dict[str, Any]:
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

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
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
        if type(self).rates is Optimizer.rates:
            return learning_rate, 0.0
        rate, decay = self.rates(learning_rate, taken, 1)[0].tolist()
        return rate, decay

    @abstractmethod
    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
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
        rate, decay : float or array, ()
            What `rates` gives for this step. They may be arrays on the device.
        """

    def update(self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float) -> None:
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
        """
        gradient = gradient_for(network, gradient)
        rate, decay = self._rates_of_one_step(learning_rate, state.get("step", 0))
        self.apply(network, gradient, state, rate, decay)
        if "step" in state:
            state["step"] += 1


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: θ := θ − η ∂J/∂θ; with momentum μ > 0, v := μv − η ∂J/∂θ and θ := θ + v.

    Parameters
    ----------
    learning_rate : float or callable, default 0.01
        The learning rate η > 0, or a schedule ``(epoch, history) -> float``.
    momentum : float, default 0.0
        The momentum μ in [0, 1].
    nesterov : bool, default False
        Use Nesterov's momentum, as Sutskever et al. (2013) write it: θ := θ + μv − η ∂J/∂θ with the new v.

    Raises
    ------
    ValueError
        If a number is out of range, or `nesterov` is True without momentum.
    TypeError
        If an argument is of the wrong type.
    """

    learning_rate: LearningRate = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("momentum", least=0.0, most=1.0)
        object.__setattr__(self, "nesterov", check_bool("nesterov", self.nesterov))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: expected momentum > 0 with it, got momentum=0")

    def init(self, network: NetworkState) -> dict[str, Any]:
        """Make the state before the first step.

        Parameters
        ----------
        network : Network
            The network to train.

        Returns
        -------
        dict
            {"velocity": v} with v = 0 if there is momentum, else empty.
        """
        parameters = network.parameters
        return {"velocity": network.backend.zeros(parameters.shape, parameters.dtype)} if self.momentum else {}

    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
    ) -> None:
        """Take one step of gradient descent, with momentum if there is any.

        Parameters
        ----------
        network : Network
            The network to train; its parameters are changed in place.
        gradient : Parameters
            ∂J/∂θ.
        state : dict
            What `init` returned; its arrays are changed in place.
        rate : float or array, ()
            The learning rate.
        decay : float or array, ()
            Not used.
        """
        network.backend.sgd_update(
            network.parameters, gradient.flat, state.get("velocity"), rate, self.momentum, self.nesterov
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: θ := θ − η √(1−β₂^t)/(1−β₁^t) · m/(√v + ε), m and v running means of the gradient and its square.

    This is the form at the end of section 2 of Kingma and Ba (2015). The bias corrections are part of the step size.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
        The learning rate η > 0, or a schedule ``(epoch, history) -> float``.
    beta_1 : float, default 0.9
        Decay of the running mean of the gradient, in [0, 1).
    beta_2 : float, default 0.999
        Decay of the running mean of the squared gradient, in [0, 1).
    epsilon : float, default 1e-8
        The ε-hat of the paper, > 0. Other libraries add theirs to √(v/(1−β₂^t)) instead.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If an argument is of the wrong type.
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("beta_1", least=0.0, below=1.0)
        self._check("beta_2", least=0.0, below=1.0)
        self._check("epsilon", above=0.0)

    def init(self, network: NetworkState) -> dict[str, Any]:
        """Make the state before the first step.

        Parameters
        ----------
        network : Network
            The network to train.

        Returns
        -------
        dict
            {"first_moment": m, "second_moment": v, "step": t}, all 0.
        """
        shape, dtype = network.parameters.shape, network.dtype
        zeros = network.backend.zeros
        return {"first_moment": zeros(shape, dtype), "second_moment": zeros(shape, dtype), "step": 0}

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
        """Compute the learning rate with the bias corrections of each step, and the weight decay.

        Parameters
        ----------
        learning_rate : float
            The learning rate of the epoch.
        taken : int
            How many steps came before.
        steps : int
            How many steps follow.

        Returns
        -------
        array, (steps, 2)
            `rate` and `decay` of each step.
        """
        result = super().rates(learning_rate, taken, steps)
        result[:, 0] *= _corrections(self.beta_1, self.beta_2, taken, steps)
        result[:, 1] = self._decay(learning_rate)
        return result

    def _rates_of_one_step(self, learning_rate: float, taken: int) -> tuple[float, float]:
        """Compute them by Python's arithmetic, which is much faster for one step than NumPy's."""
        if type(self).rates is not Adam.rates:
            return super()._rates_of_one_step(learning_rate, taken)
        correction = float(_correction(self.beta_1, self.beta_2, taken + 1))
        return learning_rate * correction, self._decay(learning_rate)

    def _decay(self, learning_rate: float) -> float:
        """Return the share by which a step shrinks the weights: 0."""
        return 0.0

    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
    ) -> None:
        """Take one step, in one pass over the parameters.

        Parameters
        ----------
        network : Network
            The network to train; its parameters are changed in place.
        gradient : Parameters
            ∂J/∂θ.
        state : dict
            What `init` returned; its arrays are changed in place.
        rate : float or array, ()
            The learning rate with the bias corrections.
        decay : float or array, ()
            The share by which the step shrinks the weights; 0 without weight decay.
        """
        network.backend.adam_update(
            network.parameters,
            gradient.flat,
            state["first_moment"],
            state["second_moment"],
            rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            decay,
            network.n_weights,
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: W := W − ηλW beside Adam's step (Loshchilov and Hutter, 2019).

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
        The learning rate η > 0, or a schedule ``(epoch, history) -> float``.
    beta_1 : float, default 0.9
        Decay of the running mean of the gradient, in [0, 1).
    beta_2 : float, default 0.999
        Decay of the running mean of the squared gradient, in [0, 1).
    epsilon : float, default 1e-8
        The ε-hat of the paper, > 0, as for `Adam`.
    weight_decay : float, default 0.01
        The weight decay λ ≥ 0. Biases are not decayed.

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If an argument is of the wrong type.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("weight_decay", least=0.0)

    def _decay(self, learning_rate: float) -> float:
        """Return the share by which a step shrinks the weights: ηλ."""
        return learning_rate * self.weight_decay


def _correction(beta_1: float, beta_2: float, t: Any) -> Any:
    """Adam's bias corrections √(1 − β₂^t)/(1 − β₁^t); `t` is a step, counted from 1, or an array of them."""
    return np.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)


@lru_cache(maxsize=4)
def _corrections(beta_1: float, beta_2: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
    """Bias corrections of each of `steps` steps after `taken` ones; cached, since the members of a stack share them."""
    result: np.ndarray[Any, Any] = _correction(beta_1, beta_2, np.arange(taken + 1, taken + steps + 1))
    result.flags.writeable = False
    return result


def gradient_for(network: NetworkState, gradient: Parameters) -> Parameters:
    """Return `gradient` on the backend of `network`; `cost_and_gradient` of host arrays returns one on the host.

    Raises
    ------
    ValueError
        If the gradient does not have the shape and dtype of the parameters.
    """
    wanted, given = network.parameters, gradient.flat
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        raise ValueError(
            f"gradient: expected {wanted.shape} of {wanted.dtype}, as the network's parameters, got {given.shape} of "
            f"{given.dtype}"
        )
    return gradient if network.backend.owns(given) else gradient.on(network.backend)


def rule_of(optimizer: Optimizer) -> Rule | None:
    """Describe an optimizer to the kernels of whole epochs; None if it is not one of the built-in rules."""
    if type(optimizer) not in (SGD, Adam, AdamW):
        return None
    if isinstance(optimizer, Adam):
        return Rule("adam", 0.0, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    if isinstance(optimizer, SGD) and optimizer.momentum:
        return Rule("nesterov" if optimizer.nesterov else "momentum", optimizer.momentum)
    return Rule()


def moments_of(state: dict[str, Any]) -> list[Any]:
    """List the vectors of an optimizer's state, in the order in which the kernels of whole epochs take them."""
    return [state[name] for name in ("velocity", "first_moment", "second_moment") if name in state]


class Remembered:
    """A copy of an optimizer's state and of other arrays that a step changes, to go back to.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    state : dict
        The state of the optimizer.
    **others : array
        Other arrays, such as the parameters.
    """

    def __init__(self, backend: Backend, state: dict[str, Any], **others: Any) -> None:
        def copied(value: Any) -> Any:
            return backend.copy(value) if backend.owns(value) else copy.copy(value)

        self._now = (state, others)
        self._before = [{name: copied(value) for name, value in now.items()} for now in self._now]

    def renew(self) -> None:
        """Copy everything as it is now."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(now, before)

    def restore(self) -> None:
        """Write back everything as it was when it was last copied."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(before, now)


def _copy_state(source: dict[str, Any], target: dict[str, Any]) -> None:
    """Copy a state: arrays are written into, counters are replaced."""
    for name, value in source.items():
        if isinstance(value, int):
            target[name] = value
        else:
            target[name][...] = value


def check_rate(schedule: Any, value: Any, epoch: int, history: History) -> float:
    """Check that what a schedule returned for an epoch is a learning rate, and return it as a float.

    Parameters
    ----------
    schedule : callable
        The schedule; the message names it.
    value : object
        What it returned.
    epoch : int
        The epoch, counted from 0.
    history : History
        What the epochs before recorded.

    Raises
    ------
    ScheduleError
        If the value is negative, nan or infinite.
    TypeError
        If the value is not a number.
    """
    name = getattr(schedule, "__qualname__", None) or repr(schedule)
    try:
        return check_number("learning_rate", value, least=0.0)
    except (ValueError, TypeError) as error:
        message = f"{error} from {name} for epoch {epoch + 1}"
        if isinstance(error, TypeError):
            raise TypeError(message) from None
        raise ScheduleError(message, epoch=epoch + 1, history=history) from None
