"""SweepCV: a grid or random search in which candidates of the same widths are trained together, all folds at once."""

from __future__ import annotations

import copy
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _fit_and_score, _score, _warn_or_raise_about_fit_failures
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, check_is_fitted

from deltaprop.derivation.state import StackState
from deltaprop.epochs.task import RefusedError
from deltaprop.errors import callers_level
from deltaprop.estimators.fit_data import NO_SCORE
from deltaprop.estimators.inputs import Number, on_host
from deltaprop.estimators.member_fits import MemberFit, Records, Stream, predict_members
from deltaprop.estimators.together import KINDS, Group, Table, batches, can_be_together, group_key, with_parameters
from deltaprop.reports.plotting import plot_sweep
from deltaprop.reports.progress import sweep_bar
from deltaprop.training.exclusive import training_of

Split = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
#: Scorings that are the estimator's own score, which is computed for many members at once.
OWN_SCORES = {"classifier": (None, "accuracy"), "regressor": (None, "r2")}
#: What a fit that ends in such parameters says.
NOT_FINITE = (
    "ValueError: Solver produced non-finite parameter weights. The input data may contain large values and need to be "
    "preprocessed."
)


@dataclass
class Job:
    """One fit of the search: a candidate on a split."""

    candidate: int
    split: int
    estimator: Any


class SweepCV(BaseSearchCV):
    """Search over hyper-parameters by cross-validation, hundreds of small networks at a time.

    scikit-learn's `GridSearchCV` and `RandomizedSearchCV` in one, with their attributes and, on the same splits and
    seeds, their scores. Candidates whose networks have the same widths make a stack (see `deltaprop.NetworkStack`), all
    folds of all of them being trained at once; other widths make other stacks. What cannot be trained so (another
    estimator, a pipeline, ``solver="lbfgs"``, dropout, callbacks, sparse inputs) is fitted one after another.

    Parameters
    ----------
    estimator : estimator
        `MLPClassifier`, `MLPRegressor`, or any other.
    param_grid : dict or list of dict
        Parameters to try, by name: lists of values and, with `n_iter`, distributions.
    n_iter : int, optional
        How many candidates to draw; by default every combination is tried.
    cv : int, splitter or iterable, default 5
    scoring : str, callable, list, dict or None
    refit : bool, str or callable, default True
        As of `GridSearchCV`.
    n_jobs : int, optional
        Processes, by joblib and whichever backend `joblib.parallel_config` chooses; by default 1, in which as many
        threads as the machine has work on different members.
    memory_limit : int, optional
        Bytes that the networks trained at once may take, in all processes; 2³⁰ by default.
    random_state : int, RandomState or None
        What candidates are drawn by.
    error_score : "raise" or number, default nan
        What a fit that fails scores, and one whose scorer raises an exception, with a warning; the others go on.
    return_train_score : bool, default False
    progress : bool, default False
        Draw a progress bar over candidates on standard error.
    verbose, pre_dispatch
        As of `GridSearchCV`, where fits are done one after another.

    Attributes
    ----------
    cv_results_ : dict of array
        As of `GridSearchCV`. ``mean_fit_time`` is the share of a fit in the time of all that were trained with it.
    best_estimator_, best_score_, best_params_, best_index_, n_splits_, refit_time_, scorer_, multimetric_
        As of `GridSearchCV`.

    See Also
    --------
    deltaprop.NetworkStack, deltaprop.EnsembleClassifier

    Examples
    --------
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = {"alpha": [0.0, 1e-2], "learning_rate_init": [0.01, 0.03]}
    >>> sweep = dp.SweepCV(dp.MLPClassifier((16,), tol=1e-3, random_state=0), grid).fit(X, y)
    >>> len(sweep.cv_results_["params"]), round(float(sweep.best_score_), 1)
    (4, 1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSearchCV._parameter_constraints,
        "param_grid": [dict, list],
        "n_iter": [Number(Integral, 1, None, closed="left"), None],
        "memory_limit": [Number(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "progress": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_iter: int | None = None,
        cv: Any = None,
        scoring: Any = None,
        refit: Any = True,
        n_jobs: int | None = None,
        memory_limit: int | None = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        progress: bool = False,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid, self.n_iter, self.memory_limit = param_grid, n_iter, memory_limit
        self.random_state, self.progress = random_state, progress

    # -- the search ---------------------------------------------------------------------------------------------

    def _candidates(self) -> list[dict[str, Any]]:
        if self.n_iter is None:
            return list(ParameterGrid(self.param_grid))
        return list(ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state))

    def _run_search(self, evaluate_candidates: Callable[..., Any], **options: Any) -> None:
        """One after another: what `BaseSearchCV.fit` calls."""
        evaluate_candidates(self._candidates())

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Try every candidate, and refit the best on all samples.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
        y : array_like, (m,) or (m, n_outputs)
        **params
            ``groups`` for the splitter, ``sample_weight`` and whatever else the estimator's `fit` takes.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or every fit has failed.

        Warns
        -----
        FitFailedWarning
            If some fits failed (a network whose parameters are no longer finite, say).
        UserWarning
            If a scorer raised an exception, or early stopping had no validation score but nan to go by.
        UndefinedMetricWarning
            If a score is not defined on a split, as R² of one sample.
        ConvergenceWarning
            If ``max_iter`` ended some.
        """
        with training_of(self):
            return self._fit(X, y, params)

    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        self._validate_params()
        if y is None or set(params) - {"groups", "sample_weight"} or type(self.estimator) not in KINDS:
            return self._fit_one_by_one(X, y, params)
        X, y = indexable(X, y)
        given = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(given)
        given.pop("groups", None)
        groups = routed.splitter.split.get("groups")
        try:
            table = Table.of(self.estimator, X, y)
        except (ValueError, TypeError):
            return self._fit_one_by_one(X, y, params)  # where every fit will say so
        if hasattr(table.X, "toarray"):
            return self._fit_one_by_one(X, y, params)
        scorers, refit_metric = self._get_scorers()
        splitter = check_cv(self.cv, on_host(y), classifier=is_classifier(self.estimator))
        splits: list[Split] = [
            (np.asarray(train), np.asarray(test)) for train, test in splitter.split(X, on_host(y), groups)
        ]
        self.n_splits_ = splitter.get_n_splits(X, y, groups)
        if len(splits) != self.n_splits_:
            raise ValueError(f"cv: expected {self.n_splits_} splits, as it said there would be, got {len(splits)}")
        candidates = self._candidates()
        search = _Search(self, table, X, y, splits, routed, scorers)
        out = search.run(candidates)
        results = self._format_results(candidates, self.n_splits_, out)
        first = out[0]["test_scores"]
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        if self.refit:
            self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            began = time.time()
            self.best_estimator_.fit(X, y, **given)
            self.refit_time_ = time.time() - began
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.cv_results_ = results
        return self

    def _fit_one_by_one(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        """As `GridSearchCV` does it."""
        super().fit(X, y, **params)
        return self

    @available_if(lambda self: hasattr(self.estimator, "transform"))
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """`fit`, then what the best estimator's `transform` makes of X."""
        return self.fit(X, y, **params).transform(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = get_tags(self.estimator).transformer_tags
        return tags

    # -- seeing it ----------------------------------------------------------------------------------------------

    def plot(self, score: str | None = None) -> Any:
        """Draw the mean test score against every parameter that was varied, a panel each, the best one marked.

        Parameters
        ----------
        score : str, optional
            Which, where there are several; by default the one refitted by, or the first.

        Returns
        -------
        matplotlib.figure.Figure
            Made by pyplot; ``.savefig("sweep.png")`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that brings it.
        ValueError
            If there is no such score.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "cv_results_")
        results = self.cv_results_
        known = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
        if score is None:
            score = self.refit if self.refit in known else known[0]
        if score not in known:
            raise ValueError(f"score: expected one of {', '.join(map(repr, known))}, got {score!r}")
        mean, spread = results[f"mean_test_{score}"], results[f"std_test_{score}"]
        return plot_sweep(results["params"], mean, spread, score)


class _Search:
    """One call of `SweepCV.fit`: what all its fits have in common."""

    def __init__(
        self,
        sweep: SweepCV,
        table: Table,
        X: Any,
        y: Any,
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
        """What `_fit_and_score` says of every candidate on every split, in the order of `GridSearchCV`."""
        out: dict[tuple[int, int], dict[str, Any]] = {}
        together: dict[Any, list[Job]] = {}
        alone: list[Job] = []
        base = clone(self.sweep.estimator)
        base._validate_params()
        known: dict[tuple[str, int], Any] = {}
        for c, parameters in enumerate(candidates):
            try:
                estimator = with_parameters(base, parameters, known)
            except (ValueError, TypeError):
                alone += [Job(c, s, parameters) for s in range(len(self.splits))]
                continue
            jobs = together.setdefault(group_key(estimator), []) if can_be_together(estimator) else None
            for s, alike in enumerate(self.alike):
                if jobs is not None and alike:
                    jobs.append(Job(c, s, estimator))
                else:
                    alone.append(Job(c, s, parameters))
        total = len(candidates) * len(self.splits)
        if not total:
            raise ValueError("cv, param_grid: expected splits and candidates, got none")
        with sweep_bar(self.sweep.progress, total, len(self.splits)) as bar:
            for jobs in together.values():
                if jobs:
                    self._fit_group(jobs, out, bar)
            self._fit_alone(alone, out, bar)
        results = [out[c, s] for c in range(len(candidates)) for s in range(len(self.splits))]
        _warn_or_raise_about_fit_failures(results, self.sweep.error_score)
        _fill_in(results, self.sweep.error_score)
        self._warn()
        return results

    # -- together -----------------------------------------------------------------------------------------------

    def _fit_group(self, jobs: list[Job], out: dict[tuple[int, int], dict[str, Any]], bar: Any) -> None:
        """Train and score candidates whose networks have the same widths."""
        try:
            group = Group(self.table, jobs[0].estimator)
        except (ValueError, TypeError):
            self._fit_alone([Job(j.candidate, j.split, _parameters(j)) for j in jobs], out, bar)
            return
        processes = _processes(self.sweep.n_jobs)
        limit = self.sweep.memory_limit
        at_once = group.at_once(None if limit is None else limit // processes)
        if processes > 1:
            at_once = min(at_once, -(-len(jobs) // processes))
        if self.sweep.progress:  # a bar that moves; the scores are the same
            at_once = min(at_once, max(len(self.splits), -(-len(jobs) // 20)))
        parts = batches(jobs, at_once)
        parallel = Parallel(n_jobs=self.sweep.n_jobs) if processes > 1 and len(parts) > 1 else None
        if parallel is None:
            done: Iterable[Any] = (_fit_part(self, group, part) for part in parts)
        else:
            light = copy.copy(self)
            done = parallel(delayed(_fit_part)(light, group, part) for part in parts)
        for part, result in zip(parts, done, strict=True):
            if result is None:
                self._fit_alone([Job(j.candidate, j.split, _parameters(j)) for j in part], out, bar)
                continue
            entries, ran_out, unscored = result
            for job, entry in zip(part, entries, strict=True):
                out[job.candidate, job.split] = entry
            self.ran_out, self.unscored = self.ran_out + ran_out, self.unscored + unscored
            self.fits += len(part)
            bar.done(len(part), self._best(out))

    def prepare(self, group: Group, jobs: Sequence[Job]) -> tuple[list[int], list[MemberFit], dict[int, str]]:
        """The places of the jobs that can be trained, their fits, and for the places of the others what is wrong."""
        weights: dict[int, Any] = {}
        streams: dict[Any, Stream] = {}
        places, fits, failures = [], [], {}
        for place, job in enumerate(jobs):
            train = self.splits[job.split][0]
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
        self, group: Group, jobs: Sequence[Job], stack: StackState, records: Records, rows_of: int
    ) -> list[Any]:
        """The scores of each member on the rows it was trained on (0) or tested on (1)."""
        scores: list[Any] = [None] * len(jobs)
        for s in sorted({job.split for job in jobs}):
            rows = self.splits[s][rows_of]
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
        """The entry of a fit that has failed, but for its times."""
        score = self.sweep.error_score
        names = getattr(self.scorers, "_scorers", None)
        kinds = ("test_scores", "train_scores") if self.sweep.return_train_score else ("test_scores",)
        return {"fit_error": error} | {kind: dict.fromkeys(names, score) if names else score for kind in kinds}

    def _best(self, out: dict[tuple[int, int], dict[str, Any]]) -> str:
        """The best mean score of a candidate all of whose splits are done, where scores are single numbers."""
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

    def _fit_alone(self, jobs: Sequence[Job], out: dict[tuple[int, int], dict[str, Any]], bar: Any) -> None:
        """By scikit-learn's own function, each candidate on the splits that are left."""
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
                    train=self.splits[job.split][0],
                    test=self.splits[job.split][1],
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

    # -- what is to be said afterwards --------------------------------------------------------------------------

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


def _fit_part(search: _Search, group: Group, jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], int, int] | None:
    """Train and score some of a group.

    What `_fit_and_score` says of each, how many ran out of epochs, and how many had no score to stop early by. None
    where the device cannot train them together.
    """
    sweep = search.sweep
    began = time.perf_counter()
    places, fits, failures = search.prepare(group, jobs)
    trained, ran_out, unscored = [jobs[place] for place in places], 0, 0
    scores: dict[str, list[Any]] = {"test_scores": []}
    fitted = began
    if fits:
        with group.backend.scope():
            stack = group.stack(len(fits))
            try:
                records = group.train(stack, fits, go_on=not search.own_score)
            except RefusedError:
                return None
            fitted = time.perf_counter()
            scores["test_scores"] = search.score_members(group, trained, stack, records, 1)
            scored = time.perf_counter()
            if sweep.return_train_score:
                scores["train_scores"] = search.score_members(group, trained, stack, records, 0)
        failures |= {place: NOT_FINITE for place, finite in zip(places, records.finite, strict=True) if not finite}
        if NOT_FINITE in failures.values() and sweep.error_score == "raise":
            raise ValueError(NOT_FINITE.removeprefix("ValueError: "))
        ran_out, unscored = int(records.ran_out.sum()), records.unscored
    of_place = {place: {kind: own[k] for kind, own in scores.items()} for k, place in enumerate(places)}
    entries = [
        {
            "fit_time": (fitted - began) / len(jobs),
            "score_time": (scored - fitted) / len(jobs) if fits else 0.0,
            "n_test_samples": len(search.splits[job.split][1]),
            **(search.failed(failures[place]) if place in failures else {"fit_error": None} | of_place[place]),
        }
        for place, job in enumerate(jobs)
    ]
    return entries, ran_out, unscored


def _fill_in(entries: list[dict[str, Any]], error_score: Any) -> None:
    """Where scores have several names, those of a fit or a scorer that failed have them too."""
    for kind in ("test_scores", "train_scores"):
        names = next((list(e[kind]) for e in entries if isinstance(e.get(kind), dict)), None)
        for entry in entries:
            if names and not isinstance(entry[kind], dict):
                entry[kind] = dict.fromkeys(names, error_score)


def _parameters(job: Job) -> Any:
    return job.estimator.get_params()


def _processes(n_jobs: int | None) -> int:
    """How many workers joblib would have."""
    return int(effective_n_jobs(n_jobs))
