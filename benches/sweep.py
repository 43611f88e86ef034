"""Times a grid search with 5 folds: SweepCV, scikit-learn's GridSearchCV, and ours one network after another.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benches.sweep [--json FILE]

The same grid, folds, seeds and data. In float64 and few enough steps the mean test scores are the same, which is
checked; in more steps, and in float32, rounding grows at the larger learning rates. scikit-learn's search has as many
processes as there are cores, started beforehand; SweepCV is one process with as many threads. Searches take turns, and
the medians are compared.
"""

import argparse
import datetime
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale

import deltaprop as dp

from .machine import machine
from .timing import interleaved

DIGITS = {"alpha": np.logspace(-5, 0, 8).tolist(), "learning_rate_init": np.logspace(-4, -1, 5).tolist()}
WINE = {"alpha": np.logspace(-5, 0, 10).tolist(), "learning_rate_init": np.logspace(-4, -1, 10).tolist()}


def cases() -> Iterator[tuple[Any, ...]]:
    """Return (name, X, y, parameters of the estimator, grid)."""
    X, y = load_digits(return_X_y=True)
    for dtype in ("float64", "float32"):
        for batch_size in ("auto", 32):
            how = {"hidden_layer_sizes": (32,), "max_iter": 30, "batch_size": batch_size}
            yield (
                f"digits, 40 × 5 of 32 units, batches of {200 if batch_size == 'auto' else 32}, {dtype}",
                ((X / 16).astype(dtype)),
                y,
                how,
                DIGITS,
            )
    X, y = load_wine(return_X_y=True)
    how = {"hidden_layer_sizes": (16,), "max_iter": 15}
    yield "wine, 100 × 5 of 16 units, float64", scale(X), y, how, WINE


def compare(what, X, y, how, grid, rounds):
    """Measure a row of the table."""
    found, how = {}, how | {"random_state": 0}

    def search(name, kind, estimator, **options):
        found[name] = kind(estimator, grid, cv=5, **options).fit(X, y)

    calls = {
        "scikit-learn": lambda: search("scikit-learn", GridSearchCV, MLPClassifier(**how), n_jobs=os.cpu_count()),
        "one by one": lambda: search("one by one", GridSearchCV, dp.MLPClassifier(**how, backend="numpy")),
        "SweepCV": lambda: search("SweepCV", dp.SweepCV, dp.MLPClassifier(**how, backend="numpy")),
    }
    seconds = interleaved(calls, rounds, settle=0.2)
    scores = {name: result.cv_results_["mean_test_score"] for name, result in found.items()}
    difference = float(np.abs(scores["SweepCV"] - scores["scikit-learn"]).max())
    if X.dtype == np.float64 and how.get("batch_size", "auto") == "auto" and difference > 1e-12:
        raise AssertionError(f"{what}: mean test scores differ by {difference}")
    medians = {name: each["median"] for name, each in seconds.items()}
    return {
        "search": what,
        "seconds": seconds,
        "against_scikit_learn": medians["scikit-learn"] / medians["SweepCV"],
        "against_one_by_one": medians["one by one"] / medians["SweepCV"],
        "largest_difference_of_mean_test_scores": difference,
        "best_score": float(found["SweepCV"].best_score_),
        "best_score_of_scikit_learn": float(found["scikit-learn"].best_score_),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # warnings of the processes that joblib starts
    rows = []
    for what, X, y, how, grid in cases():
        row = compare(what, X, y, how, grid, arguments.rounds)
        rows.append(row)
        us, one, them = (row["seconds"][name]["median"] for name in ("SweepCV", "one by one", "scikit-learn"))
        print(
            f"{row['search']:56} {us:7.3f} s  scikit-learn {them:7.2f} s {row['against_scikit_learn']:6.2f}  "
            f"one by one {one:7.2f} s {row['against_one_by_one']:6.2f}  best {row['best_score']:.4f} "
            f"{row['best_score_of_scikit_learn']:.4f}",
            flush=True,
        )
    if arguments.json:
        result = {
            "command": "python -m benches.sweep",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine("scikit-learn", "scipy", "joblib"),
            "searches": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
