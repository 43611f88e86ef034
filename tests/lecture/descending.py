"""What a page has to show: the per-sample loop's numbers at every step of plain gradient descent, written as text."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import reference

from deltaprop import Network

#: The shares by which two numbers may differ that are the same to six digits.
CLOSE: dict[str, Any] = {"rtol": 6e-6, "atol": 1e-13}


def unpacked(page: str) -> dict[str, Any]:
    """Read the numbers of a page back."""
    found = re.search(r'<script type="text/plain" id="packed">([A-Za-z0-9+/=]+)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return content


def matrix(text: str) -> Any:
    """Read a matrix as a page holds it."""
    return np.array([[float(cell) for cell in row.split(" ")] for row in text.split(";")])


def descent(net: Network, X, Y, steps, learning_rate, **options) -> list[dict[str, Any]]:
    """Every quantity of training steps 0 … `steps`, and the parameters after each, by the loop over samples."""
    W, b = ([net.backend.to_numpy(each).astype(float) for each in arrays] for arrays in (net.weights, net.biases))
    found = []
    for _ in range(steps + 1):
        J, D_W, D_b, deltas = reference.cost_and_gradient(W, b, net.activations, net.loss, X, Y, **options)
        passes = [reference.forward(W, b, net.activations, x) for x in X]
        layers = range(len(W))
        a = [np.array([a[l] for _, a in passes]) for l in range(len(W) + 1)]
        z = [np.array([z[l] for z, _ in passes]) for l in layers]
        one = np.ones((len(X), 1))
        step = {
            "J": J,
            "costs": [reference.sample_cost(net.loss, h, y) for h, y in zip(a[-1], Y, strict=True)],
            "Theta": [np.column_stack([b[l], W[l]]) for l in layers],
            "z": z,
            "a": a,
            "slope": [
                None if g == "softmax" else reference.ACTIVATIONS[g][1](z[l]) for l, g in enumerate(net.activations)
            ],
            "delta": deltas,
            "Delta": [deltas[l].T @ np.hstack([one, a[l]]) for l in layers],
            "D": [np.column_stack([D_b[l], D_W[l]]) for l in layers],
        }
        W = [W[l] - learning_rate * D_W[l] for l in layers]
        b = [b[l] - learning_rate * D_b[l] for l in layers]
        step["after"] = [np.column_stack([b[l], W[l]]) for l in layers]
        found.append(step)
    return found
