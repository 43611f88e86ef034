"""Small tables with columns of every kind, and estimators that are fitted to them in a second."""

from typing import Any

import numpy as np

import deltaprop as dp

#: Few networks and few rows: what is tested is not how well they predict.
QUICK: dict[str, Any] = {"n_members": 2, "hidden_layer_sizes": (9,), "random_state": 3, "backend": "numpy"}
COLOURS = ["red", "green", "blue"]


def made_table(rows, seed=0):
    """Return a dict of columns: numbers, few numbers, gaps, levels, many levels, dates, truth values, a constant."""
    rng = np.random.default_rng(seed)
    size = rng.normal(5, 2, rows)
    gaps = np.where(rng.random(rows) < 0.2, np.nan, rng.exponential(3, rows))
    start = np.datetime64("2021-03-01T00:00:00")
    when = start + rng.integers(0, 700 * 24, rows).astype("timedelta64[h]")
    return {
        "size": size,
        "rooms": rng.integers(1, 5, rows),
        "weight": gaps,
        "colour": [None if rng.random() < 0.1 else COLOURS[k] for k in rng.integers(0, 3, rows)],
        "street": [f"street {k}" for k in rng.integers(0, 90, rows)],
        "when": when,
        "day": [f"{d:02}.{m:02}.2020" for d, m in rng.integers([1, 1], [29, 13], (rows, 2))],
        "sold": rng.random(rows) < 0.4,
        "same": np.full(rows, 7.0),
    }


def made_labels(table, labels=("no", "perhaps", "yes")):
    """Return labels that depend on several columns."""
    score = np.asarray(table["size"]) - 5 + 2 * np.asarray(table["sold"]) + (np.asarray(table["rooms"]) - 2.5)
    return np.array(labels)[np.digitize(score, [-1.0, 1.5])[: len(score)] % len(labels)]


def made_quantities(table):
    """Return quantities that depend on several columns."""
    return 100 + 20 * (np.asarray(table["size"]) - 5) + 30 * np.asarray(table["sold"])


def fitted_classifier(rows=160, labels=("no", "perhaps", "yes"), **parameters):
    table = made_table(rows)
    return dp.TabularClassifier(**QUICK | parameters).fit(table, made_labels(table, labels))


def fitted_regressor(rows=160, **parameters):
    table = made_table(rows)
    return dp.TabularRegressor(**QUICK | parameters).fit(table, made_quantities(table))
