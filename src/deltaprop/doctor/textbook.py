"""Trains sample by sample, as a book prints backpropagation, in float64; it shares no arithmetic with the engine.

The network has sigmoid layers under a softmax with the categorical cross-entropy, J = 1/m Σ cost + λ/(2m) Σ W².
`tests/reference.py` is another such loop. They stay apart: that one is not installed, this one lies in the package that
it checks, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.derivation.optimizers import SGD, Adam, AdamW
from deltaprop.derivation.update_rule import Optimizer

Vector: TypeAlias = HostArray


def trained(
    weights: list[Vector],
    biases: list[Vector],
    X: Vector,
    y: Vector,
    orders: Sequence[Vector],
    batch: int,
    l2: float,
    optimizer: Optimizer,
) -> list[float]:
    """Train weights and biases in place, an epoch for each of `orders`; return the cost J of each epoch."""
    m, costs, step = len(X), [], 0
    theta = [*weights, *biases]
    first, second = ([np.zeros_like(x) for x in theta] for _ in range(2))
    for order in orders:
        cost = 0.0
        for start in range(0, m, batch):
            rows = order[start : start + batch]
            gradient = [np.zeros_like(x) for x in theta]
            for i in rows:
                cost += _add_gradient(weights, biases, X[i], int(y[i]), gradient)
            gradient = [g / len(rows) for g in gradient]
            for g, W in zip(gradient, weights, strict=False):
                g += l2 / m * W
            step += 1
            for k, (x, g) in enumerate(zip(theta, gradient, strict=True)):
                _update(x, g, first[k], second[k], step, optimizer, is_weight=k < len(weights))
        costs.append(cost / m + l2 / (2 * m) * sum(float((W**2).sum()) for W in weights))
    return costs


def _add_gradient(weights: list[Vector], biases: list[Vector], x: Vector, label: int, gradient: list[Vector]) -> float:
    """Add ∂cost/∂W and ∂cost/∂b of one sample to `gradient`; return the cost."""
    a = [x]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        a.append(1 / (1 + np.exp(-(W @ a[-1] + b))))
    z = weights[-1] @ a[-1] + biases[-1]
    h = np.exp(z) / np.exp(z).sum()
    delta = h.copy()
    delta[label] -= 1
    for l in reversed(range(len(weights))):
        gradient[l] += np.outer(delta, a[l])
        gradient[len(weights) + l] += delta
        delta = (weights[l].T @ delta) * a[l] * (1 - a[l])
    return float(-np.log(h[label]))


def _update(
    x: Vector, g: Vector, first: Vector, second: Vector, step: int, optimizer: Optimizer, *, is_weight: bool
) -> None:
    """θ := θ − η g, or the step of momentum, Nesterov's gradient, Adam or AdamW, as the papers print it."""
    eta = float(optimizer.learning_rate)  # type: ignore[arg-type]
    if isinstance(optimizer, SGD):
        first[...] = optimizer.momentum * first - eta * g
        x += optimizer.momentum * first - eta * g if optimizer.nesterov else first
    elif isinstance(optimizer, Adam):
        first[...] = optimizer.beta_1 * first + (1 - optimizer.beta_1) * g
        second[...] = optimizer.beta_2 * second + (1 - optimizer.beta_2) * g**2
        if isinstance(optimizer, AdamW) and is_weight:
            x -= eta * optimizer.weight_decay * x
        # As at the end of section 2 of Kingma and Ba (2015): ε is added to √v before v is corrected.
        m, v = first / (1 - optimizer.beta_1**step), second / (1 - optimizer.beta_2**step)
        x -= eta * m / (np.sqrt(v) + optimizer.epsilon / np.sqrt(1 - optimizer.beta_2**step))
