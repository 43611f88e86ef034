"""Predictions of few and of many rows, by us, onnxruntime, scikit-learn and PyTorch, in float32."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import deltaprop as dp

from ..timing import interleaved

#: Widths, numbers of rows, and microseconds to reach for each.
CASES = [((64, 100, 10), {1: 10, 100: 28, 10_000: 2500}), ((64, 512, 512, 10), {10_000: 36_000})]


def onnx_runtime(net: dp.Network) -> Any:
    """Return a function that predicts by onnxruntime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        net.to_onnx(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda X: session.run(None, {name: X})


def torch(net: dp.Network) -> Any:
    """Return a function that predicts by PyTorch."""
    import torch

    model = net.to_torch()

    def predict(X: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(X))

    return predict


def estimators(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Return `predict_proba` of scikit-learn's classifier and of ours, after one step."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, sizes[0])).astype(np.float32), np.arange(200) % sizes[-1]
    how: dict[str, Any] = {"hidden_layer_sizes": sizes[1:-1], "max_iter": 1, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs, ours = (kind(**how).fit(X, y) for kind in (MLPClassifier, dp.MLPClassifier))
    return {"scikit-learn": theirs.predict_proba, "deltaprop, estimator": ours.predict_proba}


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return a row a number of rows."""
    rows = []
    for sizes, goals in CASES:
        net = dp.Network(sizes, hidden_activation="relu", loss="categorical_cross_entropy", dtype="float32", seed=0)
        contestants = {"deltaprop": net.predict, "onnxruntime": onnx_runtime(net), "PyTorch": torch(net)}
        contestants |= estimators(sizes)
        for m, goal in goals.items():
            X = np.random.default_rng(1).standard_normal((m, sizes[0])).astype(np.float32)
            calls: dict[str, Any] = {name: lambda call=call, X=X: call(X) for name, call in contestants.items()}
            seconds = interleaved(dict(calls), rounds, settle=0.2)
            rows.append({"network": "-".join(map(str, sizes)), "rows": m, "seconds": seconds, "goal": goal * 1e-6})
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row of the table, in microseconds."""
    values = ", ".join(f"{name} {each['median'] * 1e6:.1f}" for name, each in row["seconds"].items())
    return f"predict {row['network']}, {row['rows']:6} rows, µs: {values} (goal {row['goal'] * 1e6:g})"
