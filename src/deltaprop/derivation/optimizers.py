"""The optimizers by name: SGD, Adam and AdamW, each an update rule over the flat vector."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from deltaprop.arguments import check_bool
from deltaprop.backends.array_types import AnyArray, Floats
from deltaprop.backends.base import Scalar
from deltaprop.backends.kernel_names import Rule
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import LearningRate, Optimizer

#: Steps whose bias corrections are computed together.
STEPS_AT_ONCE = 256


#: Describes a rule once: `BuiltIn.apply` asks for it in every step.
@lru_cache(maxsize=256)
def _rule(name: str, *, descends: bool = False, **constants: float) -> Rule:
    return Rule(name, constants, descends)


class BuiltIn(Optimizer):
    """An update rule that every backend and every way of training knows: base class of those in this file.

    A rule of this file stands in ``kernels/shared/optimizer.cuh`` and in ``backends/numpy/optimizer.py``, under one
    name.
    """

    @abstractmethod
    def _described(self) -> Rule:
        """Describe this rule by its name and its constants."""

    @property
    @abstractmethod
    def _moments(self) -> tuple[str, ...]:
        """Names of the vectors in the state, in the order in which the rule takes them."""

    def _zeros(self, network: NetworkState) -> OptimizerState:
        """Make the vectors of the state before the first step."""
        parameters = network.parameters
        return {name: network.backend.zeros(parameters.shape, parameters.dtype) for name in self._moments}

    def rule(self) -> Rule | None:
        """Describe this rule to the ways of training that do without `apply`.

        Returns
        -------
        Rule or None
            None for a class that is derived from one of this file: its `rates` or `apply` may do something else.
        """
        return self._described() if type(self).__module__ == __name__ else None

    def apply(
        self, network: NetworkState, gradient: Parameters, state: OptimizerState, rate: Scalar, decay: Scalar
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
            The learning rate, for Adam with the bias corrections.
        decay : float or array, ()
            The share by which the step shrinks the weights; 0 without weight decay.

        Raises
        ------
        ValueError
            If `state` is another rule's.
        """
        parameters, moments = network.parameters, moments_of(self, state)
        network.backend.update(self._described(), parameters, gradient.flat, moments, rate, decay, network.n_weights)


@dataclass(frozen=True)
class SGD(BuiltIn):
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

    See Also
    --------
    Adam : Steps of a size of its own for each parameter.
    Optimizer : How to write a rule of your own.

    References
    ----------
    .. [1] Ilya Sutskever, James Martens, George Dahl and Geoffrey Hinton, "On the importance of initialization and
       momentum in deep learning", 2013.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([1, 1], loss="squared_error", init="zeros", seed=0)
    >>> history = net.fit([[1.0]], [3.0], optimizer=dp.SGD(0.5), epochs=3)
    >>> [round(cost, 6) for cost in history.cost]  # W and b begin at 0: the first cost is ½ (0 − 3)²
    [4.5, 0.0, 0.0]
    >>> dp.SGD(dp.StepDecay(0.1, every=20), momentum=0.9, nesterov=True).momentum
    0.9
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

    def init(self, network: NetworkState) -> OptimizerState:
        """Make the state before the first step.

        Parameters
        ----------
        network : Network
            The network to train.

        Returns
        -------
        dict
            {"velocity": v} with v = 0 if there is momentum, else empty.

        Examples
        --------
        >>> import deltaprop as dp
        >>> net = dp.Network([2, 3, 1])
        >>> dp.SGD(0.1).init(net)
        {}
        >>> dp.SGD(0.1, momentum=0.9).init(net)["velocity"].shape  # 2·3 + 3·1 weights and 3 + 1 biases
        (13,)
        """
        return self._zeros(network)

    @property
    def _moments(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _described(self) -> Rule:
        if not self.momentum:
            return _rule("sgd", descends=True)
        return _rule("nesterov" if self.nesterov else "momentum", momentum=self.momentum)


@dataclass(frozen=True)
class Adam(BuiltIn):
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

    See Also
    --------
    AdamW : The same with decoupled weight decay.
    SGD : Gradient descent with or without momentum.

    References
    ----------
    .. [1] Diederik P. Kingma and Jimmy Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 8, 1], seed=3)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=dp.Adam(0.1), epochs=300)
    >>> history.cost[-1] < 0.05
    True
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

    def init(self, network: NetworkState) -> OptimizerState:
        """Make the state before the first step.

        Parameters
        ----------
        network : Network
            The network to train.

        Returns
        -------
        dict
            {"first_moment": m, "second_moment": v, "step": t}, all 0.

        Examples
        --------
        >>> import deltaprop as dp
        >>> state = dp.Adam().init(dp.Network([2, 3, 1]))
        >>> sorted(state), state["step"]
        (['first_moment', 'second_moment', 'step'], 0)
        """
        return self._zeros(network) | {"step": 0}

    @property
    def _moments(self) -> tuple[str, ...]:
        return "first_moment", "second_moment"

    def rates(self, learning_rate: float, taken: int, steps: int) -> Floats:
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

        Examples
        --------
        >>> import deltaprop as dp
        >>> dp.Adam(0.001).rates(0.001, taken=0, steps=2)[:, 0].round(8).tolist()
        [0.00031623, 0.00023532]
        """
        result = np.empty((steps, 2))
        np.multiply(_corrections(self.beta_1, self.beta_2, taken, steps), learning_rate, out=result[:, 0])
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

    def _described(self) -> Rule:
        return _rule("adam", beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)


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

    See Also
    --------
    Adam : The same without weight decay.

    References
    ----------
    .. [1] Ilya Loshchilov and Frank Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 8, 1], seed=3)
    >>> before = float(abs(net.flat_weights).sum())
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=dp.AdamW(0.01, weight_decay=5.0), epochs=100)
    >>> float(abs(net.flat_weights).sum()) < before  # so much decay outweighs the gradient
    True
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


def _corrections(beta_1: float, beta_2: float, taken: int, steps: int) -> Floats:
    """Bias corrections of each of `steps` steps after `taken` ones; cached, since the members of a stack share them."""
    start = taken - taken % STEPS_AT_ONCE
    if taken + steps <= start + STEPS_AT_ONCE:
        return _of_few(beta_1, beta_2, start, STEPS_AT_ONCE)[taken - start : taken - start + steps]
    return _of_many(beta_1, beta_2, taken, steps)


def _computed(beta_1: float, beta_2: float, taken: int, steps: int) -> Floats:
    with np.errstate(under="ignore"):  # β^t comes down to 0
        result: Floats = _correction(beta_1, beta_2, np.arange(taken + 1, taken + steps + 1))
    result.flags.writeable = False
    return result


#: Kept: epochs of few steps take a few corrections at a time, and the members of a stack share them. Of long epochs the
#: last alone is kept, for it may be large.
_of_few, _of_many = lru_cache(maxsize=1024)(_computed), lru_cache(maxsize=1)(_computed)


def moments_of(optimizer: Optimizer, state: OptimizerState) -> tuple[AnyArray, ...]:
    """List the vectors of a built-in rule's state, in the order in which the rule takes them.

    Raises
    ------
    ValueError
        If the state is another rule's.
    """
    names = optimizer._moments if isinstance(optimizer, BuiltIn) else ()
    try:
        return tuple([state[name] for name in names])
    except KeyError:
        kind = type(optimizer).__name__
        raise ValueError(f"state: expected {list(names)} in it, as {kind}.init makes it, got {list(state)}") from None
