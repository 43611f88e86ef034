"""``deltaprop gradcheck``: checks the gradient of a network with random parameters, on random data."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.derivation.losses import LOSSES, check_output_error
from deltaprop.lecture.gradient_check import GradientCheck
from deltaprop.network import Network
from deltaprop.network_function import check_gradient


def gradcheck(
    layers: tuple[int, ...],
    activation: str,
    output_activation: str | None,
    loss: str,
    l2: float,
    samples: int,
    seed: int,
    backend: str,
    output_error: str,
) -> GradientCheck:
    """Check the gradient of a network with the parameters of `seed`, on random data in range for the loss."""
    names: dict[str, Any] = {"hidden_activation": activation, "output_activation": output_activation, "loss": loss}
    names["backend"] = backend
    network = Network(
        layers,
        **names,
        seed=seed,
        output_error=check_output_error(output_error, loss),
    )
    if samples < 1:
        raise ValueError(f"--samples: expected at least 1, got {samples}")
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, network.layer_sizes[0]))
    outputs = network.layer_sizes[-1]
    Y = rng.random((samples, outputs))  # in range for every loss
    if LOSSES[loss].rows_sum_to_one:
        Y /= Y.sum(axis=1, keepdims=True)
    return check_gradient(network, X, Y, l2=l2)
