"""The tasks of a search that run in workers: parts of groups, and fits by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone
from sklearn.model_selection._validation import _fit_and_score

from deltaprop.backends.array_types import AnyArray
from deltaprop.estimators.pipeline_folds import Unprepared, one_table, prepare
from deltaprop.estimators.search_jobs import TEST, TRAIN, Fold, Job, Place
from deltaprop.estimators.search_part import Outcome, Part
from deltaprop.estimators.search_scoring import Scoring
from deltaprop.estimators.together import EstimatorGroup, Table, batches
from deltaprop.estimators.workers import Workers

#: Parts for each worker at least; there are fewer than twice as many, of a group. Workers that have done theirs take
#: those of others.
PARTS_A_WORKER = 4


@dataclass(eq=False)
class Parts:
    """What all parts of a search need.

    Attributes
    ----------
    scoring : Scoring
    folds : list of Fold
        Those that the jobs name by their numbers.
    """

    scoring: Scoring
    folds: list[Fold]

    @classmethod
    def of(cls, scoring: Scoring, parts: Sequence[Sequence[Job]]) -> tuple[Parts, list[list[Job]]]:
        """Return what the parts need, and their jobs with the numbers of their folds."""
        numbers: dict[int, int] = {}
        folds: list[Fold] = []
        for job in (job for part in parts for job in part):
            if numbers.setdefault(id(job.fold), len(folds)) == len(folds):
                folds.append(job.fold)
        numbered = [[replace(job, fold=numbers[id(job.fold)]) for job in part] for part in parts]
        return cls(scoring, folds), numbered


def fit_part_there(parts: Parts, jobs: Sequence[Job]) -> Outcome | None:
    """Train and score some fits of a group; return None where the device cannot train them together."""
    jobs = [replace(job, fold=parts.folds[job.fold]) for job in jobs]
    group = EstimatorGroup(jobs[0].fold.table, jobs[0].estimator)
    return Part(parts.scoring, group, jobs).fit(resumable=False)


@dataclass(eq=False)
class Splits:
    """What all parts of a search over a pipeline need, where the steps before the network are fitted in the worker.

    Attributes
    ----------
    scoring : Scoring
    unprepared : Unprepared
    whole : Table
        The targets of all samples.
    memory : int
        Bytes that the networks trained at once may take.
    """

    scoring: Scoring
    unprepared: Unprepared
    whole: Table
    memory: int


def fit_split_there(
    splits: Splits, steps: dict[str, Any], jobs: Sequence[Job]
) -> list[tuple[Sequence[Place], Outcome | None]]:
    """Fit the steps before the network on one split, and train and score networks of the same widths.

    Returns
    -------
    outcomes : list of (sequence of (int, int), Outcome or None)
        The places of some jobs and their outcome; None where they cannot be trained together.
    """
    prepared = prepare(splits.unprepared, steps, jobs[0].split)
    places = [job.place for job in jobs]
    if prepared is None:
        return [(places, None)]
    (fold,) = one_table(splits.whole, [prepared], splits.unprepared.splits)
    try:
        group = EstimatorGroup(fold.table, jobs[0].estimator)
    except (ValueError, TypeError):
        return [(places, None)]
    parts = batches([replace(job, fold=fold) for job in jobs], group.at_once(splits.memory))
    return [([job.place for job in part], Part(splits.scoring, group, part).fit(resumable=False)) for part in parts]


def fits_at_once(sizes: Sequence[tuple[int, int]], workers: Workers, memory: int) -> Iterator[int]:
    """Give, for each group, how many of its fits are trained together in one task.

    Parameters
    ----------
    sizes : sequence of (int, int)
        For each group, how many fits it has, and the bytes that one takes.
    workers : Workers
    memory : int
        Bytes that all tasks which share a memory may take.
    """
    whole = sum(fits * size for fits, size in sizes)
    for _, size in sizes:
        at_once = workers.memory(memory) // size
        if not workers.here:
            at_once = min(at_once, whole // (PARTS_A_WORKER * workers.count * size))
        yield max(1, at_once)


@dataclass(eq=False)
class Alone:
    """What all fits by themselves need.

    Attributes
    ----------
    estimator : estimator
        The one whose parameters are searched.
    scoring : Scoring
    fit_params : dict
        What `fit` gets besides.
    verbose : int
    candidates : int
        How many there are.
    """

    estimator: Any
    scoring: Scoring
    fit_params: dict[Any, AnyArray]
    verbose: int
    candidates: int


def fit_alone(alone: Alone, place: Place, parameters: dict[str, Any]) -> dict[str, Any]:
    """Fit and score a candidate on a split, by scikit-learn's own function."""
    scoring, (candidate, split) = alone.scoring, place
    entry: dict[str, Any] = _fit_and_score(
        clone(alone.estimator),
        scoring.X,
        scoring.y,
        scorer=scoring.scorers,
        train=scoring.splits[split][TRAIN],
        test=scoring.splits[split][TEST],
        verbose=alone.verbose,
        parameters=parameters,
        fit_params=alone.fit_params,
        score_params=scoring.params,
        return_train_score=TRAIN in scoring.sides,
        return_n_test_samples=True,
        return_times=True,
        split_progress=(split, len(scoring.splits)),
        candidate_progress=(candidate, alone.candidates),
        error_score=scoring.error_score,
    )
    return entry
