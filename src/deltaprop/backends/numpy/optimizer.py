"""The updates in NumPy; the twin of ``kernels/cuda/sgd.cu`` and ``kernels/cuda/adam.cu``.

Arrays are parts of flat vectors, (…, n), and are changed in place. Numbers are floats, or (…, 1) arrays of one number a
member. Scratch is of the shape of the parameters.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats as Vector

#: One number, or one a member, (…, 1).
Number: TypeAlias = float | Vector


def sgd(theta: Vector, gradient: Vector, learning_rate: Number, step: Vector) -> None:
    """θ := θ − η g."""
    np.multiply(gradient, learning_rate, out=step)
    theta -= step


def momentum_sgd(
    theta: Vector, gradient: Vector, velocity: Vector, learning_rate: Number, momentum: Number, step: Vector
) -> None:
    """v := μ v − η g, θ := θ + v."""
    np.multiply(gradient, learning_rate, out=step)
    velocity *= momentum
    velocity -= step
    theta += velocity


def nesterov_sgd(
    theta: Vector,
    gradient: Vector,
    velocity: Vector,
    learning_rate: Number,
    momentum: Number,
    step: Vector,
    look_ahead: Vector,
) -> None:
    """v := μ v − η g, θ := θ + μ v − η g."""
    np.multiply(gradient, learning_rate, out=step)
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
    step_size: Number,
    beta_1: Number,
    beta_2: Number,
    epsilon: Number,
    spare: Vector,
) -> None:
    """m := β₁ m + (1 − β₁) g, v := β₂ v + (1 − β₂) g², θ := θ − step_size · m/(√v + ε)."""
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
    spare *= step_size
    theta -= spare
