"""``deltaprop sweep``: cross-validates hyper-parameters, with the best so far in a live table and everything as CSV."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deltaprop.backends.array_types import ArrayLike, Floats, HostArray
from deltaprop.cli.options import SweepOptions, hidden_sizes
from deltaprop.inputs.files import Dataset, load_dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.tabular.trained import Label, class_numbers

Candidate = dict[str, Any]
#: Options of ``train``, each with the name of the estimators' parameter.
NAMES = {
    "lr": "learning_rate_init",
    "l2": "alpha",
    "hidden": "hidden_layer_sizes",
    "epochs": "max_iter",
    "optimizer": "solver",
    "batch_size": "batch_size",
    "activation": "activation",
    "momentum": "momentum",
    "seed": "random_state",
}
WHOLE = ("epochs", "batch_size", "seed")
#: How many rows the live table has, and how often it is redrawn at most.
SHOWN, UPDATES = 10, 20


def sweep(options: SweepOptions) -> str:
    """Try every candidate and return the results as CSV, the best first.

    Raises
    ------
    ValueError, OSError, BackendError
        If an option or the data are bad; nothing has been trained then.
    """
    from deltaprop.cli.train import classes_of, scaling
    from deltaprop.estimators import MLPClassifier, MLPRegressor

    hidden = hidden_sizes(options.hidden)
    grid = dict(_parsed(text) for text in options.grid)
    if not grid:
        raise ValueError("--grid: expected at least one, such as --grid lr=0.001,0.01")
    if options.cv < 2:
        raise ValueError(f"--cv: expected at least 2 folds, got {options.cv}")
    if options.n_iter is not None and options.n_iter < 1:
        raise ValueError(f"--n-iter: expected at least 1, got {options.n_iter}")
    dataset = load_dataset(options.data, options.target)
    if dataset.y is None:
        raise ValueError(f"{options.data}: expected targets to train on")
    classes = classes_of(dataset.y, options.task)
    raw = RawRows(dataset.X)
    X = raw.scaled(*scaling(raw, options.scale, common_range=dataset.common_range), options.dtype)
    y = _targets(dataset, classes)
    kind: Any = MLPRegressor if classes is None else MLPClassifier
    base = kind(
        hidden_layer_sizes=hidden,
        max_iter=options.epochs,
        random_state=options.seed,
        backend=options.backend,
        dtype=options.dtype,
    )
    return _csv(_scored(options, grid, base, X, y, stratified=classes is not None))


def _scored(
    options: SweepOptions, grid: dict[str, list[Any]], base: Any, X: ArrayLike, y: ArrayLike, *, stratified: bool
) -> list[Candidate]:
    """Cross-validate the candidates and return their rows, the best first; a table shows the best so far."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, ParameterGrid, ParameterSampler, StratifiedKFold

    from deltaprop.estimators.sweep import SweepCV
    from deltaprop.estimators.together import batches

    folds: Any = StratifiedKFold if stratified else KFold
    splitter = folds(options.cv, shuffle=True, random_state=options.seed)
    every: list[Candidate] = list(ParameterGrid(grid))
    if options.n_iter is not None:
        every = list(ParameterSampler(grid, min(options.n_iter, len(every)), random_state=options.seed))
    rows: list[Candidate] = []
    # A few candidates at a time, so that the table lives; each part is one stack, or one a width.
    with _table(options.progress, len(every), list(grid)) as show, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many epochs as were asked for
        for part in batches(every, max(8, math.ceil(len(every) / UPDATES))):
            single = [{name: [value] for name, value in candidate.items()} for candidate in part]
            found = SweepCV(base, single, cv=splitter, refit=False, n_jobs=options.jobs).fit(X, y)
            rows += _rows(found.cv_results_, options.cv, grid)
            rows.sort(key=lambda row: -math.inf if math.isnan(row["mean_score"]) else row["mean_score"], reverse=True)
            show(rows)
    return rows


def _parsed(text: str) -> tuple[str, list[Any]]:
    """Read a parameter of the estimators and its values from text such as "lr=0.001,0.01"."""
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not values.strip():
        raise ValueError(f"--grid: expected NAME=VALUE,VALUE such as lr=0.001,0.01, got {text!r}")
    if name not in NAMES:
        raise ValueError(f"--grid: expected one of {', '.join(NAMES)}, got {name!r}")
    try:
        return NAMES[name], [_value(name, value.strip()) for value in values.split(",")]
    except ValueError:
        hint = "widths such as 32 or 64x32" if name == "hidden" else "numbers"
        raise ValueError(f"--grid: expected {hint} for {name}, got {values!r}") from None


def _value(name: str, text: str) -> Any:
    if name == "hidden":
        return tuple(int(width) for width in text.split("x") if width)
    if name in ("optimizer", "activation"):
        return text
    return int(text) if name in WHOLE else float(text)


def _targets(dataset: Dataset, classes: list[Label] | None) -> HostArray:
    """Make class numbers, or quantities scaled to spread 1, which leaves R² as it is."""
    y: ArrayLike = dataset.y
    if classes is None:
        scaled: Floats = y.astype(np.float64)
        scaled -= scaled.mean()
        scaled /= scaled.std() or 1.0
        return scaled
    return class_numbers(y, classes)


def _rows(results: dict[str, Any], splits: int, grid: dict[str, Any]) -> list[Candidate]:
    """Make a row for each candidate: its parameters by the names of the command line, and its scores."""
    option = {parameter: name for name, parameter in NAMES.items()}
    rows = []
    for c, candidate in enumerate(results["params"]):
        row: Candidate = {option[name]: _text(candidate[name]) for name in grid}
        row["mean_score"] = float(results["mean_test_score"][c])
        row["std_score"] = float(results["std_test_score"][c])
        row |= {f"fold{s + 1}": float(results[f"split{s}_test_score"][c]) for s in range(splits)}
        rows.append(row | {"seconds": float(results["mean_fit_time"][c]) * splits})
    return rows


def _text(value: object) -> object:
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def _csv(rows: list[Candidate]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["rank", *rows[0]], lineterminator="\n")
    writer.writeheader()
    for rank, row in enumerate(rows, start=1):
        writer.writerow({"rank": rank, **row})
    return text.getvalue()


@contextmanager
def _table(show: bool, candidates: int, parameters: list[str]) -> Iterator[Any]:
    """Show the best rows so far on standard error if `show` is true; yields the function to call with the rows."""
    if not show:
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    option = {parameter: name for name, parameter in NAMES.items()}

    def draw(rows: list[Candidate]) -> Table:
        table = Table(title=f"candidate {len(rows)}/{candidates}, the best so far", title_justify="left")
        for name in ("rank", *(option[parameter] for parameter in parameters), "score", "±"):
            table.add_column(name, justify="right")
        for rank, row in enumerate(rows[:SHOWN], start=1):
            own = [str(row[option[parameter]]) for parameter in parameters]
            table.add_row(str(rank), *own, f"{row['mean_score']:.4f}", f"{row['std_score']:.4f}")
        return table

    with Live(draw([]), console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda rows: live.update(draw(rows), refresh=True)
