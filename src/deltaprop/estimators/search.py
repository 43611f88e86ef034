"""The fits of a search: candidates whose networks have the same widths are trained together, the others one by one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures

from deltaprop.backends.array_types import AnyArray, ArrayLike
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import NO_SCORE
from deltaprop.estimators.inputs import on_host
from deltaprop.estimators.parallel_tasks import Tasks
from deltaprop.estimators.pipeline_jobs import PipelineJobs, key_of
from deltaprop.estimators.search_jobs import Job, Place, Split
from deltaprop.estimators.search_lines import Lines
from deltaprop.estimators.search_part import Outcome, Part
from deltaprop.estimators.search_scoring import Scoring
from deltaprop.estimators.search_tasks import (
    Alone,
    Parts,
    Splits,
    fit_alone,
    fit_part_there,
    fit_split_there,
    fits_at_once,
)
from deltaprop.estimators.together import MEMORY, EstimatorGroup, batches, group_key
from deltaprop.reports.progress import sweep_bar

#: By the numbers of candidate and split, what scikit-learn's `_fit_and_score` returns.
Entries: TypeAlias = dict[Place, dict[str, Any]]


class Source(Protocol):
    """Where the fits come from: `TableJobs` or `PipelineJobs`."""

    epochs: str

    def together(
        self, candidates: Sequence[dict[str, Any]], splits: Sequence[Split], done: Container[Place], alone: list[Job]
    ) -> Iterator[list[Job]]:
        """Give the fits that can be trained together, table by table; append the others to `alone`."""


class Search:
    """The fits of one call of `SweepCV.fit` or `HalvingSweepCV.fit`.

    Parameters
    ----------
    sweep : SweepCV or HalvingSweepCV
        The estimator whose parameters are used; it is not changed.
    source : TableJobs or PipelineJobs
    X, y
        As they were given: fits one after another, and scorers, get their rows.
    routed : Bunch
        Which fit parameters are for the estimator's `fit`, and which for the scorer.
    scorers : callable
        What `_fit_and_score` calls for the scores.
    tasks : Tasks
        Runs what goes to workers.
    resumable : bool
        Whether candidates will come again with more epochs, and are trained on from where they are.
    """

    sweep: Any
    source: Source
    tasks: Tasks
    ran_out: list[Job]
    unscored: int
    fits: int
    resumable: bool

    def __init__(
        self,
        sweep: Any,
        source: Source,
        X: ArrayLike,
        y: ArrayLike,
        routed: Any,
        scorers: Any,
        tasks: Tasks,
        *,
        resumable: bool,
    ) -> None:
        self.sweep, self.source, self.tasks = sweep, source, tasks
        self.scoring: Scoring = Scoring(sweep, X, y, scorers, routed.scorer.score)
        self.fit_params: dict[Any, AnyArray] = {
            name: on_host(value, name) for name, value in routed.estimator.fit.items() if value is not None
        }
        self.resumable = resumable and tasks.workers.here
        self.unscored = self.fits = self._kept_bytes = 0
        #: The fits that ``max_iter`` ended.
        self.ran_out = []
        #: Where the fits are that may be trained on: by parameters and split, a part and the number there.
        self._kept: dict[Any, tuple[Part, int]] = {}
        self._done: Entries = {}
        self._lines = Lines(0, 0, 0)
        self._bar: Any = None

    def run(self, candidates: Sequence[dict[str, Any]], splits: Sequence[Split]) -> list[dict[str, Any]]:
        """Fit and score every candidate on every split; an entry for each, in the order of `GridSearchCV`."""
        total = len(candidates) * len(splits)
        if not total:
            raise ValueError("cv, param_grid: expected splits and candidates, got none")
        self.scoring.splits, self._done = splits, {}
        self._lines = Lines(self.sweep.verbose, len(candidates), len(splits))
        self._lines.total()
        alone: list[Job] = []
        with sweep_bar(self.sweep.progress, total, len(splits)) as self._bar:
            self._train_on(candidates, splits)
            if self.tasks.workers.elsewhere and isinstance(self.source, PipelineJobs):
                self._fit_with_steps(self.source, candidates, alone)
            else:
                for jobs in self.source.together(candidates, splits, self._done, alone):
                    self._fit_together(_groups(jobs), alone)
            self._fit_alone(alone)
        results = [self._done[c, s] for c in range(len(candidates)) for s in range(len(splits))]
        _warn_or_raise_about_fit_failures(results, self.sweep.error_score)
        _fill_in(results, self.sweep.error_score)
        return results

    # -- together -----------------------------------------------------------------------------------------------

    def _fit_together(self, groups: Sequence[list[Job]], alone: list[Job]) -> None:
        """Train and score groups of fits, each on one table; append those that cannot be so to `alone`."""
        if self.tasks.workers.here:
            for jobs in groups:
                group = _group(jobs, alone)
                if group is not None:
                    (at_once,) = self._at_once([(len(jobs), group.bytes_a_member)])
                    for part in batches(jobs, at_once):
                        self._begin(part)
                        self._end(part, fit_part(self.scoring, group, part, resumable=self.resumable), alone)
            return
        sizes: list[tuple[int, int]] = []
        ready: list[list[Job]] = []
        scoring = self.scoring
        for jobs in groups:
            group = _group(jobs, alone)  # asked for its size, and let go of: it may hold copies of the samples
            if group is not None:
                if not ready:
                    scoring = self.scoring.as_sent(group)
                sizes.append((len(jobs), group.bytes_a_member))
                ready.append(jobs)
        parts = [own for jobs, count in zip(ready, self._at_once(sizes), strict=True) for own in batches(jobs, count)]
        common, numbered = Parts.of(scoring, parts)
        for part in parts:
            self._begin(part)
        outcomes = self.tasks.run(fit_part_there, common, [(own,) for own in numbered])
        for part, outcome in zip(parts, outcomes, strict=True):
            self._end(part, outcome, alone)

    def _fit_with_steps(self, source: PipelineJobs, candidates: Sequence[dict[str, Any]], alone: list[Job]) -> None:
        """Train and score fits in workers that fit the steps before the network, too."""
        splits = self.scoring.splits
        groups = list(source.groups(candidates, splits, self._done, alone))
        counts = self._at_once([(len(jobs), size) for _, jobs, size in groups])
        parts = [
            (steps, part)
            for (steps, jobs, _), count in zip(groups, counts, strict=True)
            for part in batches(jobs, count)
        ]
        for _, part in parts:
            self._begin(part)
        memory = self.tasks.workers.memory(self.sweep.memory_limit or MEMORY)
        common = Splits(self.scoring, source.unprepared(splits), source.whole, memory)
        for (_, part), outcomes in zip(parts, self.tasks.run(fit_split_there, common, parts), strict=True):
            jobs = {job.place: job for job in part}
            for places, outcome in outcomes:
                self._end([jobs[place] for place in places], outcome, alone)

    def _at_once(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """Return how many fits of each group one task trains together; for each group, its fits and their bytes."""
        found = list(fits_at_once(sizes, self.tasks.workers, self.sweep.memory_limit or MEMORY))
        if self.sweep.progress:  # a bar that moves; the scores are the same
            splits = len(self.scoring.splits)
            found = [min(own, max(splits, -(-fits // 20))) for own, (fits, _) in zip(found, sizes, strict=True)]
        return found

    def _begin(self, part: Sequence[Job]) -> None:
        for job in part:
            self._lines.begun(job)

    def _end(self, part: Sequence[Job], outcome: Outcome | None, alone: list[Job]) -> None:
        if outcome is None:
            alone += map(_without_samples, part)
            return
        self._record(part, outcome)
        if outcome.part is not None:
            self._keep(outcome.part)

    def _record(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        for job, entry in zip(jobs, outcome.entries, strict=True):
            self._done[job.place] = entry
            self._lines.done(job, entry)
        ended = (job for job, ran_out in zip(jobs, outcome.ran_out, strict=True) if ran_out)
        self.ran_out += map(_without_samples, ended)
        self.unscored += outcome.unscored
        self.fits += len(jobs)
        self._bar.done(len(jobs), self._best())

    # -- trained on ---------------------------------------------------------------------------------------------

    def _keep(self, part: Part) -> None:
        """Keep the fits of a part, so that they can be trained on, while the memory allows it."""
        if self._kept_bytes + part.bytes > (self.sweep.memory_limit or MEMORY):
            return
        self._kept_bytes += part.bytes
        for number, job in enumerate(part.jobs):
            self._kept[self._key(job.parameters, job.split)] = part, number

    def _key(self, parameters: dict[str, Any], split: int) -> Any:
        return key_of({name: value for name, value in parameters.items() if name != self.source.epochs}), split

    def _train_on(self, candidates: Sequence[dict[str, Any]], splits: Sequence[Split]) -> None:
        """Train on what is kept: the candidates that are left, with their new number of epochs."""
        of_part: dict[Part, dict[int, Job]] = {}
        for c, parameters in enumerate(candidates if self._kept else ()):
            for s in range(len(splits)):
                kept = self._kept.get(self._key(parameters, s))
                if kept is not None:
                    part, number = kept
                    of_part.setdefault(part, {})[number] = _renewed(
                        part.jobs[number], c, parameters, parameters[self.source.epochs]
                    )
        for part, jobs in of_part.items():
            for job in jobs.values():
                self._lines.begun(job)
            outcome = part.train_on(jobs)
            if outcome is not None:
                self._record(list(jobs.values()), outcome)

    def _best(self) -> str:
        """Return the best mean score of the candidates that are done, as text for the progress bar."""
        if not self.sweep.progress:
            return ""
        of_candidate: dict[int, list[Any]] = {}
        for (candidate, _), entry in self._done.items():
            of_candidate.setdefault(candidate, []).append(entry["test_scores"])
        whole = [own for own in of_candidate.values() if len(own) == len(self.scoring.splits)]
        means = [float(np.mean(own)) for own in whole if not any(isinstance(score, dict) for score in own)]
        finite = [mean for mean in means if np.isfinite(mean)]
        return f"best {max(finite):.4f}" if finite else ""

    # -- one by one ---------------------------------------------------------------------------------------------

    def _fit_alone(self, jobs: Sequence[Job]) -> None:
        """Fit each candidate on the splits that are left, by scikit-learn's own function."""
        sweep = self.sweep
        jobs = sorted(jobs, key=lambda job: job.place)
        common = Alone(sweep.estimator, self.scoring, self.fit_params, sweep.verbose, self._lines.candidates)
        arguments = [(job.place, job.parameters) for job in jobs]
        for job, entry in zip(jobs, self.tasks.run(fit_alone, common, arguments, sweep.pre_dispatch), strict=True):
            self._done[job.place] = entry
            self.fits += 1
            self._bar.done(1, self._best())

    # -- warnings -----------------------------------------------------------------------------------------------

    def warn(self) -> None:
        """Warn of the fits that ``max_iter`` ended, and of those without a score to stop early by."""
        if self.ran_out:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations reached by {len(self.ran_out)} of {self.fits} fits, and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=callers_level(),
            )
        if self.unscored:
            warnings.warn(
                f"{NO_SCORE} (in {self.unscored} of {self.fits} fits)", UserWarning, stacklevel=callers_level()
            )


def fit_part(
    scoring: Scoring, group: EstimatorGroup, jobs: Sequence[Job], *, resumable: bool = False
) -> Outcome | None:
    """Train and score some fits of a group; return None where the device cannot train them together."""
    return Part(scoring, group, jobs).fit(resumable=resumable)


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Divide fits into groups whose networks make a stack on one table."""
    groups: dict[Any, list[Job]] = {}
    keys: dict[int, Any] = {}  # of an estimator, which the fits of all splits share and keep alive
    for job in sorted(jobs, key=lambda job: job.place):
        own = id(job.estimator)
        if own not in keys:
            keys[own] = group_key(job.estimator)
        groups.setdefault((id(job.fold.table), keys[own]), []).append(job)
    return list(groups.values())


def _group(jobs: Sequence[Job], alone: list[Job]) -> EstimatorGroup | None:
    """Make the group of these fits; if they cannot be trained together, append them to `alone` and return None."""
    try:
        return EstimatorGroup(jobs[0].fold.table, jobs[0].estimator)
    except (ValueError, TypeError):
        alone += map(_without_samples, jobs)
        return None


def _without_samples(job: Job) -> Job:
    """Return the job as it is kept when its samples are needed no more."""
    return replace(job, fold=None)


def _renewed(job: Job, candidate: int, parameters: dict[str, Any], max_iter: int) -> Job:
    """Return a job under its new number, with more epochs."""
    estimator = copy.copy(job.estimator).set_params(max_iter=max_iter)
    return replace(job, candidate=candidate, parameters=parameters, estimator=estimator)


def _fill_in(entries: list[dict[str, Any]], error_score: Any) -> None:
    """Give the failed fits scores of the same names as the others have."""
    for kind in ("test_scores", "train_scores"):
        names = next((list(e[kind]) for e in entries if isinstance(e.get(kind), dict)), None)
        for entry in entries:
            if names and not isinstance(entry[kind], dict):
                entry[kind] = dict.fromkeys(names, error_score)
