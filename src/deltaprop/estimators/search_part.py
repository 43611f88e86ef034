"""A part of a search: some fits that are trained together, and their entries in the results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deltaprop.backends.array_types import Floats
from deltaprop.epochs.task import RefusedError
from deltaprop.estimators.drawing import Stream
from deltaprop.estimators.fit_data import NOT_FINITE
from deltaprop.estimators.member_fits import MemberFit, MemberRecords
from deltaprop.estimators.member_training import MemberTraining
from deltaprop.estimators.search_jobs import TEST, Job
from deltaprop.estimators.search_scoring import KINDS_OF_SCORES, Scoring
from deltaprop.estimators.together import EstimatorGroup


@dataclass
class Outcome:
    """What a part of a search found.

    Attributes
    ----------
    entries : list of dict
        For each job, what scikit-learn's `_fit_and_score` returns.
    ran_out : list of bool
        For each job, whether it ran out of epochs.
    unscored : int
        How many fits had no score to stop early by.
    part : Part or None
        The part itself, where its fits may be trained on.
    """

    entries: list[dict[str, Any]]
    ran_out: list[bool]
    unscored: int
    part: Part | None = None


@dataclass(eq=False)
class Part:
    """Fits of one group that are trained together.

    Attributes
    ----------
    scoring : Scoring
    group : EstimatorGroup
    jobs : sequence of Job
    training : MemberTraining or None
        None before `fit`, and where there is nothing to train.
    members : dict of int to int
        For the number of a job, the number of its member.
    failures : dict of int to str
        For the number of a job that cannot be trained, the error.
    """

    scoring: Scoring
    group: EstimatorGroup
    jobs: Sequence[Job]
    training: MemberTraining | None = None
    members: dict[int, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The memory that it takes, while it is kept."""
        arrays = (self.group.table.X, self.group.table.targets)
        return self.group.bytes_a_member * len(self.members) + sum(array.nbytes for array in arrays)

    def fit(self, *, resumable: bool) -> Outcome | None:
        """Train and score the fits; return None where the device cannot train them together.

        With `resumable`, they may be trained on later.
        """
        began = time.perf_counter()
        fits = self._fits()
        with self.group.backend.scope():
            try:
                if fits:
                    stack = self.group.stack(len(fits))
                    self.training = self.group.training(stack, fits, go_on=not self.scoring.own_score)
                    self.training.resumable = resumable
                    self.training.run()
            except RefusedError:
                return None
            outcome = self._outcome(dict(enumerate(self.jobs)), began)
        return replace(outcome, part=self if resumable else None)

    def train_on(self, jobs: dict[int, Job]) -> Outcome | None:
        """Train some of the fits on, to a larger ``max_iter``; return None where the device cannot.

        Parameters
        ----------
        jobs : dict of int to Job
            By the number of the fit, the same candidate with another ``max_iter``.
        """
        began = time.perf_counter()
        with self.group.backend.scope():
            try:
                if self.training is not None:
                    self.training.train_on(
                        {self.members[n]: job.estimator for n, job in jobs.items() if n in self.members}
                    )
            except RefusedError:
                return None
            return replace(self._outcome(jobs, began), part=self)

    def _fits(self) -> list[MemberFit]:
        """Prepare the fits that can be trained, and record the errors of the others.

        Raises
        ------
        ValueError
            If one cannot, and ``error_score="raise"``.
        """
        weights: dict[int, Floats | None] = {}
        streams: dict[Any, Stream] = {}
        fits: list[MemberFit] = []
        for number, job in enumerate(self.jobs):
            fold, key = job.fold, id(job.fold)
            try:
                if key not in weights:
                    weights[key] = self.group.weights(fold.rows, fold.sample_weight)
                fit = self.group.fit(job.estimator, key, fold.rows, weights[key], streams)
            except ValueError:
                if self.scoring.error_score == "raise":
                    raise
                self.failures[number] = traceback.format_exc()
            else:
                self.members[number] = len(fits)
                fits.append(fit)
        return fits

    def _outcome(self, jobs: dict[int, Job], began: float) -> Outcome:
        """Score the fits of these jobs."""
        fitted = scored = time.perf_counter()
        failures, scores = dict(self.failures), dict[int, dict[str, Any]]()
        ran_out, unscored = set[int](), 0
        if self.training is not None:
            records = self.training.records
            member_of = {n: self.members[n] for n in jobs if n in self.members}
            scores, scored = self._scores({k: jobs[n] for n, k in member_of.items()}, records)
            not_finite = [n for n, k in member_of.items() if not records.finite[k]]
            if not_finite and self.scoring.error_score == "raise":
                raise ValueError(NOT_FINITE)
            failures |= dict.fromkeys(not_finite, f"ValueError: {NOT_FINITE}")
            ran_out = {n for n, k in member_of.items() if records.ran_out[k]}
            unscored = int(records.is_unscored[list(member_of.values())].sum())
        times = {"fit_time": (fitted - began) / len(jobs), "score_time": (scored - fitted) / len(jobs)}
        entries = [
            {
                **times,
                "n_test_samples": len(self.scoring.splits[job.split][TEST]),
                **(
                    self.scoring.failed(failures[n]) if n in failures else {"fit_error": None} | scores[self.members[n]]
                ),
            }
            for n, job in jobs.items()
        ]
        return Outcome(entries, [n in ran_out for n in jobs], unscored)

    def _scores(self, jobs: dict[int, Job], records: MemberRecords) -> tuple[dict[int, dict[str, Any]], float]:
        """Return the scores of members, by kind, and when the test scores were done."""
        assert self.training is not None
        scores: dict[int, dict[str, Any]] = {k: {} for k in jobs}
        scored = 0.0
        for side in self.scoring.sides:
            own = self.scoring.members(self.group, jobs, self.training.stack, records, side)
            for k, value in own.items():
                scores[k][KINDS_OF_SCORES[side]] = value
            scored = time.perf_counter() if side == TEST else scored
        return scores, scored
