"""What the kernels that hold a whole epoch call activations, losses and optimizers by: their places in these lists.

The twins of ``DELTAPROP_FOR_EACH_ACTIVATION``, ``enum Loss`` and ``enum Optimizer`` in ``kernels/``.
"""

from __future__ import annotations

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
