"""The optimizer of an estimator with its state and its learning rate, as `partial_fit` keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.array_types import AnyArray
from deltaprop.derivation.optimizers import SGD, Adam
from deltaprop.derivation.remembered import OptimizerState
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.epochs.task import WholeEpoch
from deltaprop.estimators.hyperparameters import Hyperparameters


class StepRule:
    """SGD or Adam with the state that it carries from one `partial_fit` to the next.

    Parameters
    ----------
    optimizer : Optimizer
    network : NetworkState
        The network that it trains.
    schedule : {"constant", "invscaling", "adaptive"}
        How the learning rate changes. Adam's is constant.
    power_t : float
        Exponent of "invscaling".

    Attributes
    ----------
    learning_rate : float
        The learning rate of the next epoch.
    state : dict
        Velocity, or moments and step count.
    way : WholeEpoch or None
        What the last `partial_fit` has trained with, for the next one.
    """

    learning_rate: float
    optimizer: Optimizer
    schedule: str
    power_t: float
    initial_rate: float
    way: WholeEpoch | None = None

    def __init__(self, optimizer: Optimizer, network: NetworkState, schedule: str, power_t: float) -> None:
        self.optimizer, self.schedule, self.power_t = optimizer, schedule, power_t
        self.initial_rate = self.learning_rate = float(optimizer.learning_rate)  # type: ignore[arg-type]
        self.state: OptimizerState = optimizer.init(network)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {name: value for name, value in self.__dict__.items() if name != "way"}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Copy the state into memory of its own: restored arrays may be mapped from a file, or shared with others."""
        self.__dict__.update(attributes)
        self.state = {
            name: np.array(value, subok=False) if isinstance(value, np.ndarray) else value
            for name, value in self.state.items()
        }

    def go_on_with(self, network: NetworkState) -> None:
        """Convert the state to the network's dtype and backend: the network may have been made anew in another one.

        Raises
        ------
        ValueError
            If a vector of the state is not as long as the parameters.
        """
        parameters, backend = network.parameters, network.backend
        for name, value in self.state.items():
            if isinstance(value, int):
                continue
            if value.shape != parameters.shape:
                raise ValueError(
                    f"{name}: expected an optimizer's state of shape {parameters.shape}, as the parameters have, got "
                    f"{value.shape}"
                )
            if not (backend.owns(value) and value.dtype == network.dtype):
                own = backend.empty(parameters.shape, network.dtype)
                own[...] = backend.asarray(value, network.dtype)
                self.state[name] = own

    def epoch_ended(self, samples_seen: int) -> None:
        """Set the learning rate of the next epoch, after this number of samples in all."""
        if self.schedule == "invscaling":
            self.learning_rate = inverse_scaled(self.initial_rate, samples_seen, self.power_t)


def inverse_scaled(initial_rate: Any, samples_seen: Any, power_t: Any) -> AnyArray:
    """Compute η/(t + 1)^p after t samples, for one fit or for many."""
    return initial_rate / (samples_seen + 1) ** power_t


def optimizer_of(mlp: Hyperparameters) -> Optimizer:
    """Make the optimizer that an estimator's parameters ask for."""
    if mlp.solver == "adam":
        return Adam(mlp.learning_rate_init, mlp.beta_1, mlp.beta_2, mlp.epsilon)
    return SGD(mlp.learning_rate_init, mlp.momentum, mlp.nesterovs_momentum and mlp.momentum > 0)


def step_rule(mlp: Hyperparameters, network: NetworkState) -> StepRule:
    """Make the rule that an estimator's parameters ask for."""
    return StepRule(optimizer_of(mlp), network, mlp._schedule(), mlp.power_t)
