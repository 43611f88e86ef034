"""What follows from the measurements: normalised errors, ranks, and how long fits took."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.stats import rankdata

#: Measurements of a contestant on a split.
METRICS = ("error", "log_loss")


def measure(split: Any, prediction: Any) -> dict[str, float]:
    """Compute the share of wrong classes and the log loss, or the root mean squared error twice."""
    y = split.y_test
    if not split.classifies:
        rmse = float(np.sqrt(np.mean((np.ravel(prediction) - y) ** 2)))
        return {"error": rmse, "log_loss": rmse}
    p = np.clip(np.asarray(prediction, float), 1e-15, 1.0)
    p /= p.sum(axis=1, keepdims=True)
    wrong, log_loss = np.mean(p.argmax(axis=1) != y), -np.mean(np.log(p[np.arange(len(y)), y]))
    return {"error": float(wrong), "log_loss": float(log_loss)}


def normalised(runs: list[dict[str, Any]], metric: str) -> dict[str, dict[str, list[float]]]:
    """Put each metric on a scale on which 0 is the best contestant of its split and 1 the constant prediction.

    Returns
    -------
    dict
        By contestant, by table: one number a split.
    """
    by_split: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for run in runs:
        by_split[run["table"], run["seed"]][run["contestant"]] = run[metric]
    result: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (table, _), values in by_split.items():
        best, worst = min(v for name, v in values.items() if name != "constant"), values["constant"]
        for name, value in values.items():
            result[name][table].append((value - best) / (worst - best))
    return result


def summarise(runs: list[dict[str, Any]], tables: list[str]) -> list[dict[str, Any]]:
    """Average over tables and splits: a row a contestant, the best first; only those that were there on every split."""
    kept = [run for run in runs if run["table"] in tables]
    splits = {(run["table"], run["seed"]) for run in kept}
    scales = {metric: normalised(kept, metric) for metric in METRICS}
    names = [n for n in scales["error"] if n != "constant" and sum(r["contestant"] == n for r in kept) == len(splits)]
    ranks = _ranks(kept, names)
    rows = []
    for name in names:
        row: dict[str, Any] = {"contestant": name, "mean_rank": float(np.mean(ranks[name]))}
        for metric in METRICS:
            row[f"normalised_{metric}"] = float(np.mean([np.mean(v) for v in scales[metric][name].values()]))
        row["median_seconds"] = float(np.median([run["seconds"] for run in kept if run["contestant"] == name]))
        rows.append(row)
    return sorted(rows, key=lambda row: row["normalised_log_loss"])


def _ranks(runs: list[dict[str, Any]], names: list[str]) -> dict[str, list[float]]:
    """Rank the contestants of each split by log loss; 1 is the best."""
    by_split: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for run in runs:
        by_split[run["table"], run["seed"]][run["contestant"]] = run["log_loss"]
    ranks: dict[str, list[float]] = defaultdict(list)
    for values in by_split.values():
        for name, rank in zip(names, rankdata([values[name] for name in names]), strict=True):
            ranks[name].append(float(rank))
    return ranks
