"""What the kernels that hold a whole epoch call activations, losses and optimizers by: their places in these lists.

The twins of ``DELTAPROP_FOR_EACH_ACTIVATION``, ``struct place``, ``enum Loss`` and ``enum Optimizer`` in
``kernels/``.
"""

from __future__ import annotations

from dataclasses import dataclass

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "softplus", "silu", "gelu", "exp")
LOSSES = (
    "squared_error",
    "huber",
    "absolute_error",
    "binary_cross_entropy",
    "clipped_binary_cross_entropy",
    "categorical_cross_entropy",
    "clipped_categorical_cross_entropy",
    "poisson",
)
PLAIN, MOMENTUM, NESTEROV, ADAM = range(4)


def activation_place(name: str) -> int:
    """The place of an activation; that of softmax, which is none of one entry, is −1."""
    return -1 if name == "softmax" else ACTIVATIONS.index(name)


@dataclass
class Rule:
    """An update rule by its place, and its constants."""

    optimizer: int = PLAIN
    momentum: float = 0.0
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 0.0

    @property
    def moments(self) -> int:
        """How many vectors as long as the parameters it carries from step to step."""
        return {PLAIN: 0, ADAM: 2}.get(self.optimizer, 1)
