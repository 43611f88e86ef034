"""The update rules in NumPy; the twin of ``kernels/shared/optimizer.cuh``.

A rule is a function of θ, its gradient, the rule's moments, the learning rate, scratch, and the rule's constants by
name. Arrays are parts of flat vectors, (…, n); θ and the moments are changed in place. Numbers are floats, or (…, 1)
arrays of one number a member. Scratch is of the shape of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats as Vector

#: One number, or one a member, (…, 1).
Number: TypeAlias = float | Vector


def sgd(theta: Vector, gradient: Vector, rate: Number, step: Vector) -> None:
    """θ := θ − η g."""
    np.multiply(gradient, rate, out=step)
    theta -= step


def momentum_sgd(
    theta: Vector, gradient: Vector, velocity: Vector, rate: Number, step: Vector, *, momentum: Number
) -> None:
    """v := μ v − η g, θ := θ + v."""
    np.multiply(gradient, rate, out=step)
    velocity *= momentum
    velocity -= step
    theta += velocity


def nesterov_sgd(
    theta: Vector,
    gradient: Vector,
    velocity: Vector,
    rate: Number,
    step: Vector,
    look_ahead: Vector,
    *,
    momentum: Number,
) -> None:
    """v := μ v − η g, θ := θ + μ v − η g."""
    np.multiply(gradient, rate, out=step)
    velocity *= momentum
    velocity -= step
    np.multiply(velocity, momentum, out=look_ahead)
    theta += look_ahead
    theta -= step


def adam(
    theta: Vector,
    gradient: Vector,
    first_moment: Vector,
    second_moment: Vector,
    rate: Number,
    spare: Vector,
    *,
    beta_1: Number,
    beta_2: Number,
    epsilon: Number,
) -> None:
    """m := β₁ m + (1 − β₁) g, v := β₂ v + (1 − β₂) g², θ := θ − η m/(√v + ε); η has the bias corrections."""
    np.multiply(gradient, 1.0 - beta_1, out=spare)
    first_moment *= beta_1
    first_moment += spare
    np.square(gradient, out=spare)
    spare *= 1.0 - beta_2
    second_moment *= beta_2
    second_moment += spare
    np.sqrt(second_moment, out=spare)
    spare += epsilon
    np.divide(first_moment, spare, out=spare)
    spare *= rate
    theta -= spare


class Update(NamedTuple):
    """An update rule.

    Attributes
    ----------
    formula : callable
        ``(θ, gradient, *moments, rate, *scratch, **constants)``.
    scratch : int
        How many arrays of scratch it takes.
    decays : bool
        Whether it knows weight decay.
    """

    formula: Callable[..., None]
    scratch: int
    decays: bool = False


#: The update rules by name.
UPDATES: dict[str, Update] = {
    "sgd": Update(sgd, 1),
    "momentum": Update(momentum_sgd, 1),
    "nesterov": Update(nesterov_sgd, 2),
    "adam": Update(adam, 1, decays=True),
}
