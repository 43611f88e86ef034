"""Plain gradient descent on a copy of the network, with every number of every step: what a page steps through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.state import NetworkState
from deltaprop.lecture.passes import Matrix, Passes, both_passes

#: A page has no more training steps.
MOST_STEPS = 50


@dataclass(frozen=True)
class Descent:
    """The steps of plain gradient descent, Θ := Θ − η D.

    Parameters
    ----------
    passes : list of Passes
        Of each training step: those over the network as it was, then those after each update.
    after : list of array, (s_{l+1}, 1 + s_l)
        Where the update of the last of them leads.
    is_finite : bool
        Whether all steps that were asked for are there; False where J or a parameter overflowed before.
    """

    passes: list[Passes]
    after: list[Matrix]
    is_finite: bool


class Start:
    """Copies of a network's parameters and of some samples, from which a descent can be computed later.

    Parameters
    ----------
    network : NetworkState
        It is never changed, and what becomes of it later does not matter.
    X : array, (m, s_1)
        A trusted array of the network's backend.
    Y : array, (m, s_L)
        The same for the targets.
    objective : Objective
        Which J is meant.
    learning_rate : float
        η.
    steps : int
        How many updates.
    """

    def __init__(
        self, network: NetworkState, X: Array, Y: Array, objective: Objective, learning_rate: float, steps: int
    ) -> None:
        copy = network.backend.copy
        self.network: NetworkState = network.over(copy(network.parameters))
        self.X: Array = copy(X)
        self.Y: Array = copy(Y)
        self.objective: Objective = objective
        self.learning_rate: float = learning_rate
        self.steps: int = steps

    def descend(self) -> Descent:
        """Compute all steps; it stops before a number that is not finite."""
        backend = self.network.backend
        with backend.scope(), np.errstate(all="ignore"):
            network = self.network.over(backend.copy(self.network.parameters))
            found: list[Passes] = []
            while True:
                passes, gradient = both_passes(network, self.X, self.Y, self.objective)
                if found and not _is_finite(passes):
                    return Descent(found, passes.Theta, is_finite=False)
                found.append(passes)
                network.parameters[...] -= self.learning_rate * gradient
                if len(found) > self.steps:
                    return Descent(found, [backend.to_numpy(theta) for theta in network.thetas], is_finite=True)


def _is_finite(passes: Passes) -> bool:
    return math.isfinite(passes.cost) and all(np.isfinite(each).all() for each in (*passes.Theta, *passes.D))
