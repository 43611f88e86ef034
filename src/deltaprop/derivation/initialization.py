"""Random initialisation of weights and biases, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from deltaprop.backends.array_types import Floats

Layer: TypeAlias = tuple[Floats, Floats]
Generator: TypeAlias = np.random.Generator


def glorot_uniform(rng: Generator, s_in: int, s_out: int) -> Layer:
    """Uniform in (−ε, ε), ε = √6/√(s_in + s_out), weights and biases alike: the course's Θ initialisation."""
    epsilon = np.sqrt(6.0 / (s_in + s_out))
    return rng.uniform(-epsilon, epsilon, (s_out, s_in)), rng.uniform(-epsilon, epsilon, s_out)


def scikit_learn(rng: Generator, s_in: int, s_out: int, activation: str = "relu") -> Layer:
    """Uniform in (−ε, ε), weights and biases alike, as scikit-learn draws them; see `scikit_learn_range`."""
    epsilon = scikit_learn_range(s_in, s_out, activation)
    return rng.uniform(-epsilon, epsilon, (s_out, s_in)), rng.uniform(-epsilon, epsilon, s_out)


def scikit_learn_range(s_in: int, s_out: int, activation: str) -> float:
    """Return ε = √6/√(s_in + s_out), or √2/√(s_in + s_out) for the sigmoid."""
    return float(np.sqrt((2.0 if activation == "sigmoid" else 6.0) / (s_in + s_out)))


def normal(rng: Generator, s_in: int, s_out: int) -> Layer:
    """N(0, 1) for weights and biases: Nielsen's first, large initialisation."""
    return rng.standard_normal((s_out, s_in)), rng.standard_normal(s_out)


def scaled_normal(rng: Generator, s_in: int, s_out: int) -> Layer:
    """N(0, 1)/√s_in for weights, N(0, 1) for biases: Nielsen's second initialisation."""
    return rng.standard_normal((s_out, s_in)) / np.sqrt(s_in), rng.standard_normal(s_out)


def lecun(rng: Generator, s_in: int, s_out: int) -> Layer:
    """N(0, 1/s_in) for weights, 0 for biases (LeCun et al., Efficient BackProp, 1998)."""
    return rng.standard_normal((s_out, s_in)) / np.sqrt(s_in), np.zeros(s_out)


def he(rng: Generator, s_in: int, s_out: int) -> Layer:
    """N(0, 2/s_in) for weights, 0 for biases: made for relu (He et al., 2015)."""
    return rng.standard_normal((s_out, s_in)) * np.sqrt(2.0 / s_in), np.zeros(s_out)


def debug_initialize(rng: Generator, s_in: int, s_out: int) -> Layer:
    """Θ = sin(1 … n)/10, (s_out, 1 + s_in), filled column by column: the course's fixed values for checking gradients.

    The bias is column 0 of Θ; `rng` is not asked.
    """
    theta = np.sin(np.arange(1, s_out * (1 + s_in) + 1)).reshape((s_out, 1 + s_in), order="F") / 10
    return theta[:, 1:], theta[:, 0]


def zeros(rng: Generator, s_in: int, s_out: int) -> Layer:
    """0 everywhere: for networks whose parameters are assigned afterwards."""
    return np.zeros((s_out, s_in)), np.zeros(s_out)


INITIALIZATIONS: dict[str, Callable[[Generator, int, int], Layer]] = {
    function.__name__: function
    for function in (glorot_uniform, scikit_learn, normal, scaled_normal, lecun, he, debug_initialize, zeros)
}


def draw_layers(name: str, rng: Generator, layer_sizes: Sequence[int], activations: Sequence[str]) -> list[Layer]:
    """Draw weights and biases of every layer.

    Parameters
    ----------
    name : str
        A key of `INITIALIZATIONS`.
    rng : Generator
        Draws them, in the order of the layers.
    layer_sizes : sequence of int
        s_1 … s_L.
    activations : sequence of str
        One a layer behind the inputs. scikit-learn draws the output layer for the activation of the last hidden layer.
    """
    sizes = list(pairwise(layer_sizes))
    if name != scikit_learn.__name__:
        return [INITIALIZATIONS[name](rng, s_in, s_out) for s_in, s_out in sizes]
    hidden = list(activations[:-1])
    drawn_for = [*hidden, *(hidden[-1:] or ["relu"])]
    return [scikit_learn(rng, s_in, s_out, g) for (s_in, s_out), g in zip(sizes, drawn_for, strict=True)]


def check_initialization(name: str) -> str:
    """`name`, if it is known.

    Raises
    ------
    ValueError
        If it is not; the message lists those that are.
    """
    if name not in INITIALIZATIONS:
        raise ValueError(f"init: unknown initialisation {name!r}; known are {', '.join(map(repr, INITIALIZATIONS))}")
    return name
