"""Optimizers: an update rule over the flat vector, and the state it carries from step to step."""

from __future__ import annotations

import copy
import math
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
from deltaprop.backends.places import ADAM, MOMENTUM, NESTEROV, Rule
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.schedules import Plateau, ReduceOnPlateau
from deltaprop.derivation.state import NetworkState
from deltaprop.errors import ScheduleError
from deltaprop.reports.history import History

#: A number, or a callable of the epoch (from 0) and the history so far; see `deltaprop.derivation.schedules`.
LearningRate: TypeAlias = float | Callable[[int, History], float]


@dataclass(frozen=True)
class Optimizer(ABC):
    """What `fit` needs of an optimizer: a learning rate an epoch, state made once, one update a step."""

    learning_rate: LearningRate

    def __post_init__(self) -> None:
        given: Any = self.learning_rate
        if callable(given):
            return
        if isinstance(given, bool) or not isinstance(given, Real):
            raise TypeError(f"learning_rate: expected a number or a schedule, got {given!r}")
        self._check("learning_rate", above=0.0)

    def _check(self, name: str, **limits: float) -> None:
        """Let a field be a float within limits."""
        object.__setattr__(self, name, check_number(name, getattr(self, name), **limits))

    def rate(self, epoch: int, history: History) -> float:
        """Learning rate of `epoch`, counted from 0.

        Raises
        ------
        ScheduleError, TypeError
            If a schedule returns something that is no finite number of at least 0.
        """
        if callable(self.learning_rate):
            return check_rate(self.learning_rate, self.learning_rate(epoch, history), epoch, history)
        return float(self.learning_rate)

    def follow(self, history: History) -> Callable[[int], float]:
        """The learning rate of each epoch, of a history that grows: `rate`, which `ReduceOnPlateau` need not scan."""
        schedule = self.learning_rate
        if type(schedule) is ReduceOnPlateau and type(self).rate is Optimizer.rate:
            plateau = Plateau(schedule, history)
            return lambda epoch: check_rate(schedule, plateau(epoch), epoch, history)
        return lambda epoch: self.rate(epoch, history)

    @abstractmethod
    def init(self, network: NetworkState) -> dict[str, Any]:
        """The state before the first step: named arrays as long as the flat vector, and counters."""

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
        """(steps, 2): what `apply` is to be handed for each of the steps that follow so many `taken`."""
        result = np.zeros((steps, 2))
        result[:, 0] = learning_rate
        return result

    @abstractmethod
    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
    ) -> None:
        """One step of the arrays alone, with numbers that may stand on the device; no counter is moved."""

    @abstractmethod
    def update(self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float) -> None:
        """One step: changes ``network.parameters`` and `state` in place.

        It allocates nothing where `gradient` is where the network is; one on the host is uploaded.

        Raises
        ------
        ValueError
            If `gradient` has not the shape and dtype of the parameters.
        """


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: θ := θ − η ∂J/∂θ, with momentum v := μv − η ∂J/∂θ, θ := θ + v where μ > 0.

    Parameters
    ----------
    learning_rate : float or callable, default 0.01
        η > 0, or a schedule ``(epoch, history) -> float``.
    momentum : float, default 0.0
        μ in [0, 1].
    nesterov : bool, default False
        θ := θ + μv − η ∂J/∂θ with the new v: Nesterov's momentum as Sutskever et al. (2013) write it.

    Raises
    ------
    ValueError
        If a number is out of range, or `nesterov` is asked for without momentum.
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
        """{"velocity": v} where there is momentum, else nothing."""
        parameters = network.parameters
        return {"velocity": network.backend.zeros(parameters.shape, parameters.dtype)} if self.momentum else {}

    def update(self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float) -> None:
        """θ := θ − η ∂J/∂θ, or the same with momentum."""
        self.apply(network, gradient_for(network, gradient), state, learning_rate, 0.0)

    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
    ) -> None:
        """The same; there is no decay."""
        network.backend.sgd_update(
            network.parameters, gradient.flat, state.get("velocity"), rate, self.momentum, self.nesterov
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: θ := θ − η √(1−β₂^t)/(1−β₁^t) · m/(√v + ε), m and v running means of the gradient and its square.

    The form at the end of section 2 of Kingma and Ba (2015), where the bias corrections are part of the step size.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
        η > 0, or a schedule ``(epoch, history) -> float``.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the running means, in [0, 1).
    epsilon : float, default 1e-8
        The ε-hat of the paper, > 0. Other libraries add theirs to √(v/(1−β₂^t)) instead.

    Raises
    ------
    ValueError
        If a number is out of range.
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
        """{"first_moment": m, "second_moment": v, "step": t}, all 0."""
        shape, dtype = network.parameters.shape, network.dtype
        zeros = network.backend.zeros
        return {"first_moment": zeros(shape, dtype), "second_moment": zeros(shape, dtype), "step": 0}

    def update(self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float) -> None:
        """m, v and θ in one pass."""
        self._update(network, gradient, state, learning_rate, decay=0.0)

    def _update(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float, decay: float
    ) -> None:
        gradient = gradient_for(network, gradient)
        state["step"] += 1
        correction = math.sqrt(1.0 - self.beta_2 ** state["step"]) / (1.0 - self.beta_1 ** state["step"])
        self.apply(network, gradient, state, learning_rate * correction, decay)

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
        """The learning rate with the bias corrections of each step, and no decay."""
        result = super().rates(learning_rate, taken, steps)
        result[:, 0] *= _corrections(self.beta_1, self.beta_2, taken, steps)
        return result

    def apply(
        self, network: NetworkState, gradient: Parameters, state: dict[str, Any], rate: Scalar, decay: Scalar
    ) -> None:
        """One pass; `rate` holds the bias corrections, `decay` is what is taken off the weights."""
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
    learning_rate, beta_1, beta_2, epsilon
        As for `Adam`.
    weight_decay : float, default 0.01
        λ ≥ 0. Biases are not decayed.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("weight_decay", least=0.0)

    def update(self, network: NetworkState, gradient: Parameters, state: dict[str, Any], learning_rate: float) -> None:
        """The decay, then Adam's step, in one pass."""
        self._update(network, gradient, state, learning_rate, decay=learning_rate * self.weight_decay)

    def rates(self, learning_rate: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
        """As Adam's, with the decay ηλ."""
        result = super().rates(learning_rate, taken, steps)
        result[:, 1] = learning_rate * self.weight_decay
        return result


@lru_cache(maxsize=4)
def _corrections(beta_1: float, beta_2: float, taken: int, steps: int) -> np.ndarray[Any, Any]:
    """√(1 − β₂^t)/(1 − β₁^t) of each of the steps that follow so many `taken`; members of a stack ask for the same."""
    t = np.arange(taken + 1, taken + steps + 1)
    result: np.ndarray[Any, Any] = np.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
    result.flags.writeable = False
    return result


def gradient_for(network: NetworkState, gradient: Parameters) -> Parameters:
    """`gradient` where `network` is: `cost_and_gradient` returns that of host arrays on the host.

    Raises
    ------
    ValueError
        If it has not the shape and dtype of the parameters.
    """
    wanted, given = network.parameters, gradient.flat
    dtype = gradient.backend.dtype_of(given)
    if given.shape != wanted.shape or dtype != network.dtype:
        raise ValueError(
            f"gradient: expected {tuple(wanted.shape)} of {network.dtype}, as the network's parameters, got "
            f"{tuple(given.shape)} of {dtype}"
        )
    return gradient if network.backend.owns(given) else gradient.on(network.backend)


def rule_of(optimizer: Optimizer) -> Rule | None:
    """What the kernels of whole epochs call an optimizer; None for one that is none of ours."""
    if type(optimizer) not in (SGD, Adam, AdamW):
        return None
    if isinstance(optimizer, Adam):
        return Rule(ADAM, 0.0, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    if isinstance(optimizer, SGD) and optimizer.momentum:
        return Rule(NESTEROV if optimizer.nesterov else MOMENTUM, optimizer.momentum)
    return Rule()


def moments_of(state: dict[str, Any]) -> list[Any]:
    """The vectors of an optimizer's state, in the order in which those kernels take them."""
    return [state[name] for name in ("velocity", "first_moment", "second_moment") if name in state]


class Remembered:
    """The state of an optimizer, and other arrays that a step changes, as they were: a copy to go back to.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    state : dict
    **others : array
    """

    def __init__(self, backend: Backend, state: dict[str, Any], **others: Any) -> None:
        def copied(value: Any) -> Any:
            return backend.copy(value) if backend.owns(value) else copy.copy(value)

        self._now = (state, others)
        self._before = [{name: copied(value) for name, value in now.items()} for now in self._now]

    def renew(self) -> None:
        """As it is now."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(now, before)

    def restore(self) -> None:
        """Let it be as it was."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(before, now)


def _copy_state(source: dict[str, Any], target: dict[str, Any]) -> None:
    """Arrays are written into, counters replaced."""
    for name, value in source.items():
        if isinstance(value, int):
            target[name] = value
        else:
            target[name][...] = value


def check_rate(schedule: Any, value: Any, epoch: int, history: History) -> float:
    """What a schedule has returned for an epoch, counted from 0, if it is a learning rate.

    Raises
    ------
    ScheduleError
        If it is negative, nan or infinite.
    TypeError
        If it is no number.
    """
    name = getattr(schedule, "__qualname__", None) or repr(schedule)
    try:
        return check_number("learning_rate", value, least=0.0)
    except (ValueError, TypeError) as error:
        message = f"{error} from {name} for epoch {epoch + 1}"
        if isinstance(error, TypeError):
            raise TypeError(message) from None
        raise ScheduleError(message, epoch=epoch + 1, history=history) from None
