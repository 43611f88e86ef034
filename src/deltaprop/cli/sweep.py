"""``deltaprop sweep``: cross-validates parameters of a single network, with the best so far in a live table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from deltaprop.backends import get_backend
from deltaprop.backends.array_types import HostArray
from deltaprop.cli.option_names import expect_grid
from deltaprop.cli.options import SweepOptions, TrainOptions, check_seed
from deltaprop.cli.sweep_folds import MEMORY, Fold, folds_at_once, score_candidates
from deltaprop.cli.sweep_grid import Candidate, base_options, line_of, read_grid
from deltaprop.cli.train_network import check_options, optimizer_of, widths_of, with_classes
from deltaprop.inputs.files import Dataset, load_dataset
from deltaprop.tabular.trained import Label

#: How many rows the live table has, and how often it is redrawn at most.
SHOWN, UPDATES = 10, 20
#: Candidates that are trained together at least, if there are as many.
LEAST_TOGETHER = 8


@dataclass(frozen=True)
class Found:
    """What a sweep has found.

    Parameters
    ----------
    results : str
        A CSV of all candidates, the best first.
    line : str
        The command that trains the best one.
    best : TrainOptions
        Its options.
    score : float
        Its mean score.
    is_whole : bool
        Whether all candidates were tried.
    """

    results: str
    line: str
    best: TrainOptions
    score: float
    is_whole: bool


def sweep(options: SweepOptions) -> Found:
    """Try every candidate.

    Raises
    ------
    ValueError, OSError, BackendError
        If an option or the data are bad; nothing has been trained then.
    KeyboardInterrupt
        If Ctrl-C came before any candidate was scored.
    """
    from sklearn.model_selection import KFold, ParameterGrid, ParameterSampler, StratifiedKFold

    grid = read_grid(options.grid)
    if options.jobs == 0:
        raise ValueError("--jobs: expected how many processes, or -1 for as many as there are cores, got 0")
    check_seed(options.seed)
    expect_grid(grid)
    if options.data == "-":
        raise ValueError("data: expected a file, which is read again to train the best, got standard input ('-')")
    if options.cv < 2:
        raise ValueError(f"--cv: expected at least 2 folds, got {options.cv}")
    if options.n_iter is not None and options.n_iter < 1:
        raise ValueError(f"--n-iter: expected at least 1, got {options.n_iter}")
    get_backend(options.backend)
    every: list[Candidate] = list(ParameterGrid(grid))
    if options.n_iter is not None:
        every = list(ParameterSampler(grid, min(options.n_iter, len(every)), random_state=options.seed))
    base = base_options(options)
    for candidate in every:
        chosen = replace(base, **candidate)
        check_options(chosen)
        optimizer_of(chosen)
        widths_of(chosen)
    dataset = load_dataset(options.data, options.target)
    if dataset.y is None:
        raise ValueError(f"{options.data}: expected targets to train on")
    dataset, classes = with_classes(dataset, options.task)
    assert dataset.y is not None
    _check_folds(options, dataset.y, classes)
    kind: Any = KFold if classes is None else StratifiedKFold
    splitter = kind(options.cv, shuffle=True, random_state=options.seed)
    folds = [Fold(train, test) for train, test in splitter.split(dataset.X, dataset.y)]
    rows = _scored(options, base, every, dataset, classes, folds)
    best = replace(base, **rows[0]["candidate"])
    return Found(
        _csv(rows, list(grid)), line_of(best, list(grid)), best, rows[0]["mean_score"], len(rows) == len(every)
    )


def _check_folds(options: SweepOptions, y: HostArray, classes: Any) -> None:
    """Refuse more folds than the rows allow: R² is defined from two rows on, and a fold needs a row of some class."""
    if classes is None:
        most, why = len(y) // 2, "so that each has two rows"
    else:
        most, why = int(np.unique(y, return_counts=True)[1].max()), "as many as the largest class has rows"
    if most < 2:
        raise ValueError(f"{options.data}: expected rows for two folds at least, got {len(y)} rows")
    if options.cv > most:
        raise ValueError(f"--cv: expected at most {most} folds, {why}, got {options.cv}")


def _scored(
    options: SweepOptions,
    base: TrainOptions,
    every: Sequence[Candidate],
    dataset: Dataset,
    classes: list[Label] | None,
    folds: Sequence[Fold],
) -> list[dict[str, Any]]:
    """Cross-validate the candidates and return their rows, the best first; a table shows the best so far."""
    from joblib import Parallel, delayed, effective_n_jobs

    rows: list[dict[str, Any]] = []
    parts = folds_at_once(dataset, folds, base, options.jobs)
    at_once = max(LEAST_TOGETHER, math.ceil(len(every) / UPDATES))
    # A few candidates at a time, so that the table lives. Processes begin the next ones without waiting for it.
    batches = [every[start : start + at_once] for start in range(0, len(every), at_once)]
    memory = MEMORY // effective_n_jobs(options.jobs)
    tasks = (
        delayed(score_candidates)(dataset, classes, some, [replace(base, **candidate) for candidate in batch], memory)
        for batch in batches
        for some in parts
    )
    with _table(options.progress, len(every), list(every[0])) as show:
        done = Parallel(n_jobs=options.jobs, return_as="generator")(tasks)
        with closing(done):
            for batch in batches:
                try:
                    found = list(islice(done, len(parts)))
                except KeyboardInterrupt:
                    if not rows:
                        raise
                    break
                seconds = sum(taken for _, taken in found) / len(batch)
                scores = np.concatenate([of_folds for of_folds, _ in found])
                rows += [_row(candidate, own, seconds) for candidate, own in zip(batch, scores.T.tolist(), strict=True)]
                rows.sort(key=_place, reverse=True)
                show(rows)
    return rows


def _place(row: dict[str, Any]) -> float:
    """Return what rows are sorted by: candidates that diverged come last."""
    score: float = row["mean_score"]
    return -math.inf if math.isnan(score) else score


def _row(candidate: Candidate, scores: Sequence[float], seconds: float) -> dict[str, Any]:
    return {
        "candidate": candidate,
        "mean_score": float(np.mean(scores)),
        "std_score": float(np.std(scores)),
        **{f"fold{number}": score for number, score in enumerate(scores, start=1)},
        "seconds": seconds,
    }


def _text(value: object) -> str:
    """Write a value as in the grid."""
    return str(value).replace(",", "x")


def _csv(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO()
    figures = [name for name in rows[0] if name != "candidate"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", *names, *figures])
    for rank, row in enumerate(rows, start=1):
        writer.writerow([rank, *(_text(row["candidate"][name]) for name in names), *(row[name] for name in figures)])
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

    def draw(rows: list[dict[str, Any]]) -> Table:
        table = Table(title=f"candidate {len(rows)}/{candidates}, the best so far", title_justify="left")
        for name in ("rank", *parameters, "score", "±"):
            table.add_column(name, justify="right")
        for rank, row in enumerate(rows[:SHOWN], start=1):
            own = [_text(row["candidate"][parameter]) for parameter in parameters]
            table.add_row(str(rank), *own, f"{row['mean_score']:.4f}", f"{row['std_score']:.4f}")
        return table

    with Live(draw([]), console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda rows: live.update(draw(rows), refresh=True)
