"""The fits of a search: candidates whose networks have the same widths are trained together, the others one by one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection._validation import _fit_and_score, _warn_or_raise_about_fit_failures
from sklearn.utils.parallel import Parallel, delayed

from deltaprop.backends.array_types import AnyArray, ArrayLike
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import NO_SCORE
from deltaprop.estimators.inputs import on_host
from deltaprop.estimators.pipeline_jobs import key_of
from deltaprop.estimators.search_jobs import TEST, TRAIN, Job, Place, Split
from deltaprop.estimators.search_lines import Lines
from deltaprop.estimators.search_part import Outcome, Part
from deltaprop.estimators.search_scoring import Scoring
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
    resumable : bool
        Whether candidates will come again with more epochs, and are trained on from where they are.
    """

    sweep: Any
    source: Source
    y: ArrayLike
    ran_out: list[Job]
    unscored: int
    fits: int
    resumable: bool

    def __init__(
        self, sweep: Any, source: Source, X: ArrayLike, y: ArrayLike, routed: Any, scorers: Any, *, resumable: bool
    ) -> None:
        self.sweep, self.source, self.X, self.y = sweep, source, X, y
        self.scoring: Scoring = Scoring(sweep, X, y, scorers, routed.scorer.score)
        self.fit_params: dict[Any, AnyArray] = {
            name: on_host(value, name) for name, value in routed.estimator.fit.items() if value is not None
        }
        self.resumable = resumable and effective_n_jobs(sweep.n_jobs) == 1
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
            for jobs in self.source.together(candidates, splits, self._done, alone):
                groups: dict[Any, list[Job]] = {}
                keys: dict[int, Any] = {}  # of an estimator, which the fits of all splits share and keep alive
                for job in sorted(jobs, key=lambda job: job.place):
                    own = id(job.estimator)
                    if own not in keys:
                        keys[own] = group_key(job.estimator)
                    groups.setdefault(keys[own], []).append(job)
                for of_group in groups.values():
                    self._fit_group(of_group)
            self._fit_alone(alone)
        results = [self._done[c, s] for c in range(len(candidates)) for s in range(len(splits))]
        _warn_or_raise_about_fit_failures(results, self.sweep.error_score)
        _fill_in(results, self.sweep.error_score)
        return results

    # -- together -----------------------------------------------------------------------------------------------

    def _fit_group(self, jobs: list[Job]) -> None:
        """Train and score candidates on one table whose networks have the same widths."""
        try:
            group = EstimatorGroup(jobs[0].fold.table, jobs[0].estimator)
        except (ValueError, TypeError):
            self._fit_alone(jobs)
            return
        parts = batches(jobs, self._at_once(group, len(jobs)))
        for part, outcome in zip(parts, self._fit_parts(group, parts), strict=True):
            if outcome is None:
                self._fit_alone(part)
                continue
            self._record(part, outcome)
            if outcome.part is not None:
                self._keep(outcome.part)

    def _record(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        for job, entry in zip(jobs, outcome.entries, strict=True):
            self._done[job.place] = entry
            self._lines.done(job, entry)
        ended = (job for job, ran_out in zip(jobs, outcome.ran_out, strict=True) if ran_out)
        # Their samples are needed no more.
        self.ran_out += (Job(job.candidate, job.split, job.parameters, job.estimator) for job in ended)
        self.unscored += outcome.unscored
        self.fits += len(jobs)
        self._bar.done(len(jobs), self._best())

    def _at_once(self, group: EstimatorGroup, fits: int) -> int:
        """Return how many fits one process trains together."""
        processes, limit = effective_n_jobs(self.sweep.n_jobs), self.sweep.memory_limit
        at_once = group.at_once(None if limit is None else limit // processes)
        if processes > 1:
            at_once = min(at_once, -(-fits // processes))
        if self.sweep.progress:  # a bar that moves; the scores are the same
            at_once = min(at_once, max(len(self.scoring.splits), -(-fits // 20)))
        return int(at_once)

    def _fit_parts(self, group: EstimatorGroup, parts: Sequence[Sequence[Job]]) -> Iterable[Any]:
        """Call `fit_part` for each part, in as many processes as `n_jobs` asks for."""
        if effective_n_jobs(self.sweep.n_jobs) == 1 or len(parts) == 1:
            return (self._fit_part(group, part) for part in parts)
        for job in (job for part in parts for job in part):
            self._lines.begun(job)
        parallel = Parallel(n_jobs=self.sweep.n_jobs)
        done: Iterable[Any] = parallel(delayed(fit_part)(self.scoring, group, part) for part in parts)
        return done

    def _fit_part(self, group: EstimatorGroup, part: Sequence[Job]) -> Outcome | None:
        for job in part:
            self._lines.begun(job)
        return fit_part(self.scoring, group, part, resumable=self.resumable)

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

    # -- one after another --------------------------------------------------------------------------------------

    def _fit_alone(self, jobs: Sequence[Job]) -> None:
        """Fit each candidate on the splits that are left, by scikit-learn's own function."""
        sweep, splits, lines = self.sweep, self.scoring.splits, self._lines
        of_candidate: dict[int, list[Job]] = {}
        for job in sorted(jobs, key=lambda job: job.place):
            of_candidate.setdefault(job.candidate, []).append(job)
        parallel = Parallel(n_jobs=sweep.n_jobs, pre_dispatch=sweep.pre_dispatch)
        for own in of_candidate.values():
            entries = parallel(
                delayed(_fit_and_score)(
                    clone(sweep.estimator),
                    self.X,
                    self.y,
                    scorer=self.scoring.scorers,
                    train=splits[job.split][TRAIN],
                    test=splits[job.split][TEST],
                    verbose=sweep.verbose,
                    parameters=job.parameters,
                    fit_params=self.fit_params,
                    score_params=self.scoring.params,
                    return_train_score=sweep.return_train_score,
                    return_n_test_samples=True,
                    return_times=True,
                    split_progress=(job.split, lines.splits),
                    candidate_progress=(job.candidate, lines.candidates),
                    error_score=sweep.error_score,
                )
                for job in own
            )
            for job, entry in zip(own, entries, strict=True):
                self._done[job.place] = entry
            self.fits += len(own)
            self._bar.done(len(own), self._best())

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
