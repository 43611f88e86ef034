"""``deltaprop gradcheck``: the gradient of a network with random parameters, on random data."""

from __future__ import annotations

import numpy as np

from deltaprop.model import Network, check_gradient


def gradcheck(
    layers: tuple[int, ...],
    activation: str,
    output_activation: str | None,
    loss: str,
    l2: float,
    samples: int,
    seed: int,
    backend: str,
) -> tuple[list[str], bool]:
    """The lines to print, and whether the gradient passed."""
    network = Network(
        layers,
        hidden_activation=activation,
        output_activation=output_activation,
        loss=loss,
        backend=backend,
        seed=seed,
    )
    if samples < 1:
        raise ValueError(f"--samples: expected at least 1, got {samples}")
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, network.layer_sizes[0]))
    outputs = network.layer_sizes[-1]
    Y = rng.random((samples, outputs))  # in range for every loss
    if loss == "categorical_cross_entropy":
        Y /= Y.sum(axis=1, keepdims=True)
    check = check_gradient(network, X, Y, l2=l2)
    lines = [f"{'layer':<12} {'entries':>8} {'relative difference':>20} {'largest difference':>20}  at"]
    lines += [
        f"{layer.name:<12} {layer.entries:>8} {layer.relative_difference:>20.3e} {layer.max_abs_difference:>20.3e}"
        f"  {list(layer.worst)}"
        for layer in check.layers
    ]
    verdict = "passed" if check.passed else "FAILED"
    lines.append(
        f"{verdict}: relative difference {check.relative_difference:.3e}, tolerance {check.tolerance:.0e}, "
        f"{check.entries} entries" + (f", {check.at_kinks} left out at kinks" if check.at_kinks else "")
    )
    return lines, check.passed
