"""``deltaprop explain``: both passes of a network in numbers, as tables or as a page that steps through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends import get_backend
from deltaprop.backends.array_types import AnyArray
from deltaprop.cli.options import ExplainOptions, hidden_sizes
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.losses import LOSSES, check_output_error
from deltaprop.lecture import explained_page, explanation
from deltaprop.loading import load_network
from deltaprop.network import Network

#: Options that describe a network: they do not go with a model file.
NETWORK_OPTIONS = ("layers", "activation", "output_activation", "loss", "output_error")


def explain(options: ExplainOptions) -> explanation.Explanation:
    """Explain a network of random parameters, or the one in a file, on samples that are given or random."""
    network = _network(options)
    rng = np.random.default_rng(options.seed)
    x = _rows("--x", options.x)
    if x is None:
        x = rng.standard_normal((_samples(options), network.layer_sizes[0])).round(2)
    elif "samples" in options.given and len(x) != options.samples:
        raise ValueError(f"--samples: expected {len(x)}, as --x has so many rows, got {options.samples}")
    y = _rows("--y", options.y)
    if y is None:
        y = _random_targets(network, rng, len(x))
    elif len(y) != len(x):
        raise ValueError(f"--y: expected {len(x)} rows, as many as there are samples, got {len(y)}")
    elif y.shape[1] == 1 < network.layer_sizes[-1]:
        y = _labels(y[:, 0])
    return explanation.explain(network, x, y, Objective(options.l2), learning_rate=options.lr, steps=options.steps)


def _network(options: ExplainOptions) -> Network:
    if options.model is not None:
        for name in NETWORK_OPTIONS:
            if name in options.given:
                raise ValueError(f"--{name.replace('_', '-')}: expected none beside a model file, which has its own")
        network = load_network(options.model, get_backend(options.backend))
        _check_widths(network.layer_sizes, options.model, options)
        return network
    widths = hidden_sizes(options.layers, "--layers")
    _check_widths(widths, "--layers", options)
    names: dict[str, Any] = {"hidden_activation": options.activation, "output_activation": options.output_activation}
    return Network(
        widths,
        **names | {"loss": options.loss, "backend": options.backend},
        seed=options.seed,
        output_error=check_output_error(options.output_error, options.loss),
    )


def _check_widths(widths: Sequence[int], name: str, options: ExplainOptions) -> None:
    """Refuse a network that is too large for the tables, or for the page if one is asked for."""
    if options.out is not None:
        explained_page.check_widths(widths, name)
    explanation.check_widths(widths, name)


def _samples(options: ExplainOptions) -> int:
    if not 1 <= options.samples <= explanation.MOST_SAMPLES:
        raise ValueError(f"--samples: expected 1 … {explanation.MOST_SAMPLES}, got {options.samples}")
    return options.samples


def _rows(option: str, text: str | None) -> AnyArray | None:
    """Read rows of numbers from text such as "0.5,-1;0,2"; None if there is none.

    Raises
    ------
    ValueError
        If a cell is no number, or rows have different lengths.
    """
    if text is None:
        return None
    try:
        rows = [[float(cell) for cell in row.split(",")] for row in text.split(";")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers such as 0.5,-1 with ';' between samples, got {text!r}") from None
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{option}: expected as many numbers in every sample, got {text!r}")
    return np.array(rows)


def _labels(numbers: AnyArray) -> AnyArray:
    """Take one whole number a sample for a class label; others stay, and are refused with their numbers."""
    whole = numbers.astype(int) if np.isfinite(numbers).all() else numbers
    return whole if (whole == numbers).all() else numbers


def _random_targets(network: Network, rng: np.random.Generator, samples: int) -> AnyArray:
    """Draw targets in range for the loss: classes, counts or other numbers."""
    outputs, loss = network.layer_sizes[-1], network.loss
    asked = LOSSES[loss] if isinstance(loss, str) else None
    if asked is not None and asked.rows_sum_to_one:
        return np.eye(outputs)[rng.integers(0, outputs, samples)]
    if asked is not None and asked.classifies:
        return rng.integers(0, 2, (samples, outputs)).astype(float)
    return (
        rng.poisson(2.0, (samples, outputs)).astype(float)
        if loss == "poisson"
        else rng.random((samples, outputs)).round(2)
    )
