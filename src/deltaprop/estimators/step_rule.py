"""The optimizer of an estimator as it stands between two epochs: its state and its learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.derivation.optimizers import SGD, Adam, Optimizer
from deltaprop.derivation.state import NetworkState

#: Where "adaptive" gives up.
SMALLEST_LEARNING_RATE = 1e-6


class StepRule:
    """SGD or Adam with what it carries from `partial_fit` to `partial_fit`.

    Parameters
    ----------
    optimizer : Optimizer
    network : NetworkState
        Whose parameters it will move.
    schedule : {"constant", "invscaling", "adaptive"}
        How the learning rate goes on from `learning_rate`. Adam's is constant.
    power_t : float
        Exponent of "invscaling".

    Attributes
    ----------
    learning_rate : float
        Of the next epoch.
    state : dict
        Velocity, or moments and step count.
    """

    def __init__(self, optimizer: Optimizer, network: NetworkState, schedule: str, power_t: float) -> None:
        self.optimizer, self.schedule, self.power_t = optimizer, schedule, power_t
        self.initial_rate = self.learning_rate = float(optimizer.learning_rate)  # type: ignore[arg-type]
        self.state: dict[str, Any] = optimizer.init(network)

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """With the state in memory of its own: what is restored may be mapped from a file, or somebody else's."""
        self.__dict__.update(attributes)
        self.state = {
            name: np.array(value, subok=False) if isinstance(value, np.ndarray) else value
            for name, value in self.state.items()
        }

    def go_on_with(self, network: NetworkState) -> None:
        """Let the state be in the network's dtype, on its backend: it may have been made anew in another since.

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
        """η/(t + 1)^p after t samples, under "invscaling"."""
        if self.schedule == "invscaling":
            self.learning_rate = self.initial_rate / (samples_seen + 1) ** self.power_t

    def may_go_on(self) -> bool:
        """After epochs without improvement: under "adaptive", go on with η/5 while η is not too small."""
        if self.schedule != "adaptive" or self.learning_rate <= SMALLEST_LEARNING_RATE:
            return False
        self.learning_rate /= 5.0
        return True


def optimizer_of(mlp: Any) -> Optimizer:
    """The optimizer that an estimator's parameters ask for."""
    if mlp.solver == "adam":
        return Adam(mlp.learning_rate_init, mlp.beta_1, mlp.beta_2, mlp.epsilon)
    return SGD(mlp.learning_rate_init, mlp.momentum, mlp.nesterovs_momentum and mlp.momentum > 0)


def step_rule(mlp: Any, network: NetworkState) -> StepRule:
    """The rule that an estimator's parameters ask for."""
    schedule = "constant" if mlp.solver == "adam" else mlp.learning_rate
    return StepRule(optimizer_of(mlp), network, schedule, mlp.power_t)
