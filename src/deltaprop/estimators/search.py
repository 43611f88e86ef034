"""The search of a SweepCV: which candidates are trained together, and the scores of all of them."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _fit_and_score, _score, _warn_or_raise_about_fit_failures
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from deltaprop.backends.array_types import ArrayLike, Indices
from deltaprop.derivation.state import StackState
from deltaprop.epochs.task import RefusedError
from deltaprop.errors import callers_level
from deltaprop.estimators.drawing import Stream
from deltaprop.estimators.fit_data import NO_SCORE, NOT_FINITE
from deltaprop.estimators.inputs import on_host
from deltaprop.estimators.member_fits import MemberFit, MemberRecords
from deltaprop.estimators.member_training import predict_members
from deltaprop.estimators.together import EstimatorGroup, Table, batches, can_be_together, group_key, with_parameters
from deltaprop.reports.progress import sweep_bar

Split: TypeAlias = tuple[Indices, Indices]
#: Places in a split.
TRAIN, TEST = 0, 1
#: By the numbers of candidate and split, what scikit-learn's `_fit_and_score` returns.
Entries: TypeAlias = dict[tuple[int, int], dict[str, Any]]
#: Scorings that are the estimator's own score, which is computed for many members at once.
OWN_SCORES = {"classifier": (None, "accuracy"), "regressor": (None, "r2")}


@dataclass
class Job:
    """One fit of the search: a candidate on a split.

    Attributes
    ----------
    candidate, split : int
        Their numbers.
    estimator : MLPClassifier, MLPRegressor or dict
        The estimator with the candidate's parameters; for a fit by itself, the parameters to set.
    """

    candidate: int
    split: int
    estimator: Any

    def alone(self) -> Job:
        """Return the same job as a fit by itself."""
        return replace(self, estimator=self.estimator.get_params())


class Search:
    """The fits of one call of `SweepCV.fit`.

    Parameters
    ----------
    sweep : SweepCV
        The estimator whose parameters are used; it is not changed.
    table : Table
        `X` and `y`, as checked once for all fits.
    X, y
        As they were given: fits one after another, and scorers, get their rows.
    splits : sequence of (array of int, array of int)
        The rows to train on and those to test on.
    routed : Bunch
        Which fit parameters are for the estimator's `fit`, and which for the scorer.
    scorers : callable
        What `_fit_and_score` calls for the scores.
    """

    def __init__(
        self,
        sweep: BaseSearchCV,
        table: Table,
        X: ArrayLike,
        y: ArrayLike,
        splits: Sequence[Split],
        routed: Any,
        scorers: Any,
    ) -> None:
        self.sweep, self.table, self.X, self.y, self.splits = sweep, table, X, y, splits
        self.fit_params, self.score_params = (
            {name: np.asarray(on_host(value, name)) for name, value in params.items() if value is not None}
            for params in (routed.estimator.fit, routed.scorer.score)
        )
        self.scorers = scorers
        self.alike = [table.is_seen_alike(train) for train, _ in splits]
        kind = "classifier" if is_classifier(sweep.estimator) else "regressor"
        self.own_score = isinstance(sweep.scoring, str | None) and sweep.scoring in OWN_SCORES[kind]
        self.ran_out = self.unscored = self.fits = 0

    def run(self, candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Fit and score every candidate on every split; an entry for each, in the order of `GridSearchCV`."""
        total = len(candidates) * len(self.splits)
        if not total:
            raise ValueError("cv, param_grid: expected splits and candidates, got none")
        together, alone = self._sort(candidates)
        out: Entries = {}
        with sweep_bar(self.sweep.progress, total, len(self.splits)) as bar:
            for jobs in together:
                self._fit_group(jobs, out, bar)
            self._fit_alone(alone, out, bar)
        results = [out[c, s] for c in range(len(candidates)) for s in range(len(self.splits))]
        _warn_or_raise_about_fit_failures(results, self.sweep.error_score)
        _fill_in(results, self.sweep.error_score)
        self._warn()
        return results

    def _sort(self, candidates: Sequence[dict[str, Any]]) -> tuple[list[list[Job]], list[Job]]:
        """Divide the fits into those that are trained together, group by group, and those trained one by one."""
        base = clone(self.sweep.estimator)
        base._validate_params()
        known: dict[tuple[str, int], Any] = {}
        groups: dict[Any, list[Job]] = {}
        alone: list[Job] = []
        for c, parameters in enumerate(candidates):
            try:
                estimator = with_parameters(base, parameters, known)
            except (ValueError, TypeError):
                alone += [Job(c, s, parameters) for s in range(len(self.splits))]
                continue
            jobs = groups.setdefault(group_key(estimator), []) if can_be_together(estimator) else None
            for s, alike in enumerate(self.alike):
                if jobs is not None and alike:
                    jobs.append(Job(c, s, estimator))
                else:
                    alone.append(Job(c, s, parameters))
        return [jobs for jobs in groups.values() if jobs], alone

    # -- together -----------------------------------------------------------------------------------------------

    def _fit_group(self, jobs: list[Job], out: Entries, bar: Any) -> None:
        """Train and score candidates whose networks have the same widths."""
        try:
            group = EstimatorGroup(self.table, jobs[0].estimator)
        except (ValueError, TypeError):
            self._fit_alone([job.alone() for job in jobs], out, bar)
            return
        parts = batches(jobs, self._at_once(group, len(jobs)))
        for part, result in zip(parts, self._fit_parts(group, parts), strict=True):
            if result is None:
                self._fit_alone([job.alone() for job in part], out, bar)
                continue
            entries, ran_out, unscored = result
            for job, entry in zip(part, entries, strict=True):
                out[job.candidate, job.split] = entry
            self.ran_out, self.unscored = self.ran_out + ran_out, self.unscored + unscored
            self.fits += len(part)
            bar.done(len(part), self._best(out))

    def _at_once(self, group: EstimatorGroup, fits: int) -> int:
        """Return how many fits one process trains together."""
        processes, limit = effective_n_jobs(self.sweep.n_jobs), self.sweep.memory_limit
        at_once = group.at_once(None if limit is None else limit // processes)
        if processes > 1:
            at_once = min(at_once, -(-fits // processes))
        if self.sweep.progress:  # a bar that moves; the scores are the same
            at_once = min(at_once, max(len(self.splits), -(-fits // 20)))
        return int(at_once)

    def _fit_parts(self, group: EstimatorGroup, parts: Sequence[Sequence[Job]]) -> Iterable[Any]:
        """Call `fit_part` for each part, in as many processes as `n_jobs` asks for."""
        if effective_n_jobs(self.sweep.n_jobs) == 1 or len(parts) == 1:
            return (fit_part(self, group, part) for part in parts)
        parallel = Parallel(n_jobs=self.sweep.n_jobs)
        done: Iterable[Any] = parallel(delayed(fit_part)(self, group, part) for part in parts)
        return done

    def prepare(self, group: EstimatorGroup, jobs: Sequence[Job]) -> tuple[list[int], list[MemberFit], dict[int, str]]:
        """Prepare the fits of some jobs.

        Returns
        -------
        places : list of int
            Which of the jobs can be trained.
        fits : list of MemberFit
            The fits of these.
        failures : dict of int to str
            For each of the other jobs, the error.
        """
        weights: dict[int, Any] = {}
        streams: dict[Any, Stream] = {}
        places, fits, failures = [], [], {}
        for place, job in enumerate(jobs):
            train = self.splits[job.split][TRAIN]
            try:
                if job.split not in weights:
                    weights[job.split] = group.weights(train, self.fit_params.get("sample_weight"))
                fit = group.fit(job.estimator, job.split, train, weights[job.split], streams)
            except ValueError:
                if self.sweep.error_score == "raise":
                    raise
                failures[place] = traceback.format_exc()
            else:
                places.append(place)
                fits.append(fit)
        return places, fits, failures

    def score_members(
        self, group: EstimatorGroup, jobs: Sequence[Job], stack: StackState, records: MemberRecords, side: int
    ) -> list[Any]:
        """Score each member on the rows that it was trained on (`side` is TRAIN) or tested on (TEST)."""
        scores: list[Any] = [None] * len(jobs)
        for s in sorted({job.split for job in jobs}):
            rows = self.splits[s][side]
            which = np.array([k for k, job in enumerate(jobs) if job.split == s and records.finite[k]], np.int64)
            if not which.size:
                continue
            params = {name: value[rows] for name, value in self.score_params.items()}
            weights = params.get("sample_weight")
            if self.own_score and group.has_score(len(rows), weights):
                on_backend = group.backend.asarray(rows, np.int64)
                outputs = predict_members(stack, which, group.X[on_backend])
                values = group.score(outputs, self.table.targets[rows], weights)
                for k, value in zip(which.tolist(), values.tolist(), strict=True):
                    scores[k] = value
                continue
            X, y = _safe_indexing(self.X, rows), _safe_indexing(self.y, rows)
            for k in which.tolist():
                fitted = group.as_fitted(jobs[k].estimator, group.network(stack.parameters[k]), records, k)
                scores[k] = _score(fitted, X, y, self.scorers, params, self.sweep.error_score)
        return scores

    def failed(self, error: str) -> dict[str, Any]:
        """Return the entry of a fit that has failed, without its times."""
        score = self.sweep.error_score
        names = getattr(self.scorers, "_scorers", None)
        kinds = ("test_scores", "train_scores") if self.sweep.return_train_score else ("test_scores",)
        return {"fit_error": error} | {kind: dict.fromkeys(names, score) if names else score for kind in kinds}

    def _best(self, out: Entries) -> str:
        """Return the best mean score of the candidates that are done, as text for the progress bar."""
        if not self.sweep.progress:
            return ""
        of_candidate: dict[int, list[Any]] = {}
        for (candidate, _), entry in out.items():
            of_candidate.setdefault(candidate, []).append(entry["test_scores"])
        whole = [own for own in of_candidate.values() if len(own) == len(self.splits)]
        means = [float(np.mean(own)) for own in whole if not any(isinstance(score, dict) for score in own)]
        finite = [mean for mean in means if np.isfinite(mean)]
        return f"best {max(finite):.4f}" if finite else ""

    # -- one after another --------------------------------------------------------------------------------------

    def _fit_alone(self, jobs: Sequence[Job], out: Entries, bar: Any) -> None:
        """Fit each candidate on the splits that are left, by scikit-learn's own function."""
        sweep = self.sweep
        of_candidate: dict[int, list[Job]] = {}
        for job in jobs:
            of_candidate.setdefault(job.candidate, []).append(job)
        parallel = Parallel(n_jobs=sweep.n_jobs, pre_dispatch=sweep.pre_dispatch)
        for own in of_candidate.values():
            entries = parallel(
                delayed(_fit_and_score)(
                    clone(sweep.estimator),
                    self.X,
                    self.y,
                    scorer=self.scorers,
                    train=self.splits[job.split][TRAIN],
                    test=self.splits[job.split][TEST],
                    verbose=sweep.verbose,
                    parameters=job.estimator,
                    fit_params=self.fit_params,
                    score_params=self.score_params,
                    return_train_score=sweep.return_train_score,
                    return_n_test_samples=True,
                    return_times=True,
                    error_score=sweep.error_score,
                )
                for job in own
            )
            for job, entry in zip(own, entries, strict=True):
                out[job.candidate, job.split] = entry
            self.fits += len(own)
            bar.done(len(own), self._best(out))

    # -- warnings -----------------------------------------------------------------------------------------------

    def _warn(self) -> None:
        if self.ran_out:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations reached by {self.ran_out} of {self.fits} fits, and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=callers_level(),
            )
        if self.unscored:
            warnings.warn(
                f"{NO_SCORE} (in {self.unscored} of {self.fits} fits)", UserWarning, stacklevel=callers_level()
            )


def fit_part(
    search: Search, group: EstimatorGroup, jobs: Sequence[Job]
) -> tuple[list[dict[str, Any]], int, int] | None:
    """Train and score some fits of a group; return None where the device cannot train them together.

    Returns
    -------
    entries : list of dict
        For each job, what scikit-learn's `_fit_and_score` returns.
    ran_out, unscored : int
        How many ran out of epochs, and how many had no score to stop early by.
    """
    began = time.perf_counter()
    places, fits, failures = search.prepare(group, jobs)
    scores: dict[str, list[Any]] = {"test_scores": []}
    fitted = scored = began
    ran_out = unscored = 0
    if fits:
        trained = [jobs[place] for place in places]
        with group.backend.scope():
            stack = group.stack(len(fits))
            try:
                records = group.train(stack, fits, go_on=not search.own_score)
            except RefusedError:
                return None
            fitted = time.perf_counter()
            scores["test_scores"] = search.score_members(group, trained, stack, records, TEST)
            scored = time.perf_counter()
            if search.sweep.return_train_score:
                scores["train_scores"] = search.score_members(group, trained, stack, records, TRAIN)
        if not records.finite.all() and search.sweep.error_score == "raise":
            raise ValueError(NOT_FINITE)
        failures |= {
            place: f"ValueError: {NOT_FINITE}"
            for place, finite in zip(places, records.finite, strict=True)
            if not finite
        }
        ran_out, unscored = int(records.ran_out.sum()), records.unscored
    times = {"fit_time": (fitted - began) / len(jobs), "score_time": (scored - fitted) / len(jobs)}
    of_place = {place: {kind: own[k] for kind, own in scores.items()} for k, place in enumerate(places)}
    entries = [
        {
            **times,
            "n_test_samples": len(search.splits[job.split][TEST]),
            **(search.failed(failures[place]) if place in failures else {"fit_error": None} | of_place[place]),
        }
        for place, job in enumerate(jobs)
    ]
    return entries, ran_out, unscored


def _fill_in(entries: list[dict[str, Any]], error_score: Any) -> None:
    """Give the failed fits scores of the same names as the others have."""
    for kind in ("test_scores", "train_scores"):
        names = next((list(e[kind]) for e in entries if isinstance(e.get(kind), dict)), None)
        for entry in entries:
            if names and not isinstance(entry[kind], dict):
                entry[kind] = dict.fromkeys(names, error_score)
