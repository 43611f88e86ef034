"""The common part of SweepCV and HalvingSweepCV: a search of scikit-learn whose fits are trained together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import get_tags, indexable
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._set_output import _safe_set_output
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_method_params, _num_samples, check_is_fitted

from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray, Indices
from deltaprop.backends.typed_decorators import keeps_type
from deltaprop.estimators.fit_ranks import refuse_ranks
from deltaprop.estimators.inputs import on_host
from deltaprop.estimators.parallel_tasks import Tasks
from deltaprop.estimators.pipeline_jobs import PipelineJobs, has_network_last
from deltaprop.estimators.search import Search, Source
from deltaprop.estimators.search_jobs import Split, TableJobs
from deltaprop.estimators.sent_once import scattered
from deltaprop.estimators.together import KINDS
from deltaprop.reports.search_plots import plot_halving, plot_sweep
from deltaprop.reports.search_results import search_sheet
from deltaprop.training.exclusive import training_of


class StackedSearch(BaseSearchCV):
    """A search of scikit-learn in which the fits of networks are trained together.

    A class derived from it says in `_run_search` which candidates there are.
    """

    param_grid: Any
    memory_limit: int | None
    progress: bool
    _kind_of_search: ClassVar[type[Search]] = Search

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Try every candidate, and refit the best on all samples."""
        _refuse_checkpoints(self.estimator, params)
        with training_of(self):
            self._validate_params()
            refuse_ranks(f"a {type(self).__name__}", self.estimator, self.param_grid)
            if not self._fit_together(X, y, params):
                with scattered(X, y):
                    super().fit(X, y, **params)  # one fit after another
        return self

    def _fit_together(self, X: ArrayLike, y: ArrayLike | None, params: dict[str, Any]) -> bool:
        """Search, and return True; return False where no fits can be trained together."""
        if y is None or _has_callbacks(self) or not (type(self.estimator) in KINDS or has_network_last(self.estimator)):
            return False
        is_alone = type(self.estimator) in KINDS
        if is_alone and not _routing_enabled() and set(params) - {"groups", "sample_weight"}:
            return False
        X, y = indexable(X, y)
        given = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(given) if _routing_enabled() else None
        if is_alone and routed is not None and set(routed.estimator.fit) - {"sample_weight"}:
            return False
        fit_params = _without_groups(given) if routed is None else dict(routed.estimator.fit)
        weights = fit_params.get("sample_weight") if is_alone else None
        weights = None if weights is None else np.asarray(on_host(weights, "sample_weight"))
        tasks = Tasks(self.n_jobs)
        source: Source
        try:
            if is_alone:
                source = TableJobs(self.estimator, X, y, weights)
            else:
                source = self._pipeline_jobs(X, y, fit_params, tasks)
        except (ValueError, TypeError):
            return False  # every fit will say so
        self._search(source, X, y, routed or self._get_routed_params_for_fit(given), fit_params, tasks)
        return True

    def _pipeline_jobs(self, X: ArrayLike, y: ArrayLike, fit_params: dict[str, Any], tasks: Tasks) -> PipelineJobs:
        return PipelineJobs(
            self.estimator,
            X,
            y,
            fit_params,
            with_train=self.return_train_score,
            memory=self.memory_limit,
            tasks=tasks,
        )

    def _search(
        self, source: Source, X: ArrayLike, y: ArrayLike, routed: Any, fit_params: dict[str, Any], tasks: Tasks
    ) -> None:
        """Evaluate the candidates of `_run_search`, and set the attributes."""
        scorers, refit_metric = self._get_scorers()
        split_params = dict(routed.splitter.split)
        self._checked_cv_orig = check_cv(self.cv, on_host(y), classifier=is_classifier(self.estimator))
        self._check_input_parameters(X=X, y=y, split_params=split_params)
        self.n_splits_: int = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        resumable = self._resource_is(source.epochs)
        search = self._kind_of_search(self, source, X, y, routed, scorers, tasks, resumable=resumable)
        results: dict[str, Any] = {}
        entries: list[dict[str, Any]] = []
        tried: list[dict[str, Any]] = []
        added: defaultdict[str, list[Any]] = defaultdict(list)

        def evaluate(
            candidates: Any, cv: Any = None, more_results: dict[str, Any] | None = None, callback_ctx: Any = None
        ) -> dict[str, Any]:
            nonlocal results
            candidates = list(candidates)
            splits = self._splits(cv or self._checked_cv_orig, X, y, split_params)
            entries.extend(search.run(candidates, splits))
            tried.extend(candidates)
            for name, values in (more_results or {}).items():
                added[name].extend(values)
            results = self._format_results(tried, self.n_splits_, entries, added)
            return results

        self._run_with(evaluate)
        search.warn()
        self._choose_best(results, entries[0]["test_scores"], refit_metric)
        if self.refit:
            self._refit(X, y, fit_params)
        self.scorer_: Any = getattr(scorers, "_scorers", scorers)
        self.cv_results_: dict[str, Any] = results

    def _check_input_parameters(self, X: ArrayLike, y: ArrayLike, split_params: Any) -> None:
        """Check what depends on the samples: nothing here. Older versions of scikit-learn have no such method."""

    def _resource_is(self, epochs: str) -> bool:
        return bool(getattr(self, "resource", None) == epochs)

    def _run_with(self, evaluate: Callable[..., Any]) -> None:
        """Call `_run_search`, with an empty context of callbacks where this version of scikit-learn has them."""
        if "callback_ctx" in signature(self._run_search).parameters and hasattr(self, "_init_callback_context"):
            context = self._init_callback_context(max_subtasks=1).call_on_fit_task_begin(estimator=self)
            try:
                self._run_search(evaluate, callback_ctx=context)
                context.call_on_fit_task_end(estimator=self)
            finally:  # as scikit-learn's `fit` does: a fitted search holds none of it
                for name in ("_callback_fit_ctx", "_skl_callbacks_to_teardown"):
                    self.__dict__.pop(name, None)
        else:
            self._run_search(evaluate)

    def _splits(self, splitter: Any, X: ArrayLike, y: ArrayLike, params: dict[str, Any]) -> Sequence[Split]:
        """Return the rows to train on and the rows to test on, split by split."""
        m = _num_samples(X)
        splits = [(_rows(train, m), _rows(test, m)) for train, test in splitter.split(X, on_host(y), **params)]
        if len(splits) != self.n_splits_:
            raise ValueError(f"cv: expected {self.n_splits_} splits, as its get_n_splits said, got {len(splits)}")
        return splits

    def _choose_best(self, results: dict[str, Any], first_scores: Any, refit_metric: Any) -> None:
        """Set ``multimetric_`` and, where one candidate can be chosen, its index, parameters and score."""
        self.multimetric_: bool = isinstance(first_scores, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first_scores)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_: int = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_: float = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_: dict[str, Any] = results["params"][self.best_index_]

    def _refit(self, X: ArrayLike, y: ArrayLike, params: dict[str, Any]) -> None:
        """Fit the best candidate to all samples."""
        self.best_estimator_: Any = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        began = time.time()
        self.best_estimator_.fit(X, y, **params)
        self.refit_time_: float = time.time() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_: HostArray = self.best_estimator_.feature_names_in_

    @keeps_type(available_if(lambda self: hasattr(self.estimator, "transform")))
    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> AnyArray:
        """Call `fit`, then transform X with the best estimator.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs), optional
            Targets, for estimators that need them.
        **params : dict
            As for `fit`.

        Returns
        -------
        features : array, (m, n_features_out)
            The result of the best estimator's `transform`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((5,), learning_rate_init=0.03, tol=1e-2, random_state=0)
        >>> dp.SweepCV(base, {"alpha": [0.0, 1.0]}).fit_transform(X, y).shape
        (150, 5)
        """
        return self.fit(X, y, **params).transform(X)

    @keeps_type(available_if(lambda self: hasattr(self.estimator, "set_output")))
    def set_output(self, *, transform: Literal["default", "pandas", "polars"] | None = None) -> Self:
        """Choose the kind of table that `transform` returns, as a pipeline does for its steps.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default None
            The kind; None leaves it as it is.

        Returns
        -------
        self : SweepCV or HalvingSweepCV
            With an estimator, and a best estimator where there is one, that return such tables.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((5,), learning_rate_init=0.03, tol=1e-2, random_state=0)
        >>> sweep = dp.SweepCV(base, {"alpha": [0.0, 1.0]}).set_output(transform="pandas")  # needs pandas
        >>> type(sweep.fit(X, y).transform(X)).__name__
        'DataFrame'
        """
        for each in (self.estimator, getattr(self, "best_estimator_", None)):
            if each is not None:
                _safe_set_output(each, transform=transform)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = get_tags(self.estimator).transformer_tags
        return tags

    # -- what it found ------------------------------------------------------------------------------------------

    def plot(self, score: str | None = None) -> Any:
        """Draw the mean test score against every parameter that was varied, a panel each, the best one marked.

        The first panel of a `HalvingSweepCV` is the score over the resource, a line for each candidate.

        Parameters
        ----------
        score : str, optional
            Which score, where there are several; by default the one that `refit` names, or the first.

        Returns
        -------
        figure : matplotlib.figure.Figure
            Made by pyplot: ``pyplot.show()`` shows it, and a notebook does so by itself; ``.savefig("sweep.png")``
            writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra that brings it.
        ValueError
            If there is no such score.
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((5,), learning_rate_init=0.03, tol=1e-2, random_state=0)
        >>> figure = dp.SweepCV(base, {"alpha": [1e-4, 1e-2, 1.0]}).fit(X, y).plot()  # needs matplotlib
        >>> figure.savefig("sweep.png")
        """
        check_is_fitted(self, "cv_results_")
        results = self.cv_results_
        known = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
        chosen_by = self.refit if self.refit in known else known[0]
        score = chosen_by if score is None else score
        if score not in known:
            raise ValueError(f"score: expected one of {', '.join(map(repr, known))}, got {score!r}")
        mean, spread = results[f"mean_test_{score}"], results[f"std_test_{score}"]
        best = getattr(self, "best_index_", None) if score == chosen_by else None
        resource = getattr(self, "resource", None)
        if resource is None:
            return plot_sweep(results["params"], mean, spread, score, best)
        return plot_halving(results["params"], mean, spread, score, best, resource, results["n_resources"])

    def _repr_html_inner(self) -> str:
        """Return scikit-learn's diagram and, after `fit`, the best candidates."""
        return str(super()._repr_html_inner()) + self._results_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._results_html()
        return bundle

    def _results_html(self) -> str:
        if not hasattr(self, "cv_results_"):
            return ""
        best, resource = getattr(self, "best_index_", None), getattr(self, "resource", None)
        return search_sheet(self.cv_results_, self.refit, self.n_splits_, best, resource).html()


def _refuse_checkpoints(estimator: Any, params: Iterable[str]) -> None:
    """Refuse checkpoints: the fits of a search would write one file.

    Raises
    ------
    TypeError
        If `params` asks for them; the message names the argument.
    """
    step = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
    for name in params:
        if name.removeprefix(step) in ("checkpoint", "checkpoint_every", "resume"):
            raise TypeError(
                f"{name}: a search trains many networks, which one file cannot hold; expected no checkpoint, or fit "
                "best_estimator_ again with one"
            )


def check_lists(param_grid: Any, drawn_by: str) -> None:
    """Refuse distributions where every combination is tried; `drawn_by` names the argument that would draw.

    Raises
    ------
    TypeError
        If there is one.
    """
    for grid in param_grid if isinstance(param_grid, list) else [param_grid]:
        for name, value in grid.items() if isinstance(grid, dict) else ():
            if hasattr(value, "rvs"):
                raise TypeError(
                    f"param_grid: expected lists of values without {drawn_by}, got a distribution for {name!r}; "
                    f"{drawn_by} says how many candidates to draw"
                )


def _rows(chosen: Any, m: int) -> Indices:
    """Return the numbers, from 0 to m − 1, of rows that are chosen by any numbers or by a mask."""
    chosen = np.asarray(chosen)
    rows: Indices = np.arange(m)[chosen] if chosen.size else chosen
    return rows


def _without_groups(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "groups"}


def _has_callbacks(search: BaseSearchCV) -> bool:
    """Return whether scikit-learn's callbacks are set on the search or within its estimator."""
    inside = search.estimator.get_params().values() if hasattr(search.estimator, "get_params") else ()
    return any(getattr(each, "_skl_callbacks", None) for each in (search, search.estimator, *inside))
