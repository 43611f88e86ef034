"""Searches of scikit-learn whose candidates are trained together, by `SweepCV`, where the results are the same.

scikit-learn's search does everything else: it makes the candidates and the splits, collects the results and fits the
best candidate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import sklearn
from joblib.parallel import get_active_backend
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.metrics._scorer import _MultimetricScorer, _PassthroughScorer, _Scorer
from sklearn.model_selection._validation import _fit_and_score
from sklearn.neural_network import _multilayer_perceptron as perceptrons
from sklearn.pipeline import Pipeline

from deltaprop.accel.profiling import PROFILE
from deltaprop.estimators import MLPClassifier, MLPRegressor
from deltaprop.estimators.counterpart import PARAMETERS, warn_as_theirs
from deltaprop.estimators.search import Search
from deltaprop.estimators.sweep import SweepCV
from deltaprop.estimators.workers import LOCAL_BACKENDS

#: Our class for each of scikit-learn's, the functions behind its own score, and its `fit`.
OURS: dict[Any, Any] = {perceptrons.MLPClassifier: MLPClassifier, perceptrons.MLPRegressor: MLPRegressor}
OWN_SCORES: dict[Any, str] = {accuracy_score: "accuracy", r2_score: "r2"}
FIT: Callable[..., Any] = perceptrons.BaseMultilayerPerceptron.fit

Together = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def parallel_of_searches(found: Any, enabled: Callable[[], bool]) -> Any:
    """Make the class in place of ``Parallel``, which scikit-learn's searches call with all their fits."""

    class SearchParallel(found):
        """scikit-learn's ``Parallel``; the fits of a search over perceptrons are done together."""

        def __call__(self, iterable: Iterable[Together]) -> Any:
            if not enabled():
                return super().__call__(iterable)
            tasks = list(iterable)
            done = fitted_together(self, tasks)
            return super().__call__(tasks) if done is None else done

    SearchParallel.__name__, SearchParallel.__qualname__ = found.__name__, found.__qualname__
    SearchParallel.__module__ = found.__module__
    return SearchParallel


def fitted_together(parallel: Any, tasks: list[Together]) -> list[dict[str, Any]] | None:
    """Return what the tasks of a search would return, or None where scikit-learn's own way is better."""
    if len(tasks) < 2 or getattr(tasks[0][0], "function", None) is not _fit_and_score:
        return None
    _, args, options = tasks[0]
    estimator = args[0]
    if type(_perceptron_of(estimator)) not in OURS:
        return None
    search = type(options["caller"]).__name__ if "caller" in options else "search"
    reason = _refusal(parallel, tasks, estimator, options)
    if reason is not None:
        PROFILE.fell_back(search, "fit", reason)
        return None
    began = time.perf_counter()
    try:
        entries = _entries(tasks, estimator, options)
    except Exception as error:  # noqa: BLE001  (whatever it is, scikit-learn's own way finds it too, and reports it)
        PROFILE.fell_back(search, "fit", f"a fit or a score fails: {type(error).__name__}: {error}")
        return None
    PROFILE.add(search, "fit", "deltaprop, candidates together", time.perf_counter() - began)
    return entries


def _perceptron_of(estimator: Any) -> Any:
    """Return the perceptron that a search is about: the estimator itself, or the last step of a pipeline."""
    return estimator.steps[-1][1] if type(estimator) is Pipeline else estimator


def _refusal(parallel: Any, tasks: list[Together], estimator: Any, options: dict[str, Any]) -> str | None:
    """Say why the candidates of a search are not trained together."""
    _, (_, X, y), _ = tasks[0]
    if parallel.n_jobs not in (None, 1, -1):
        return f"n_jobs={parallel.n_jobs}, whose processes train by deltaprop each"
    backend = type(get_active_backend()[0]).__name__
    if backend not in LOCAL_BACKENDS:
        return f"joblib's backend is {backend}"
    if sklearn.get_config()["enable_metadata_routing"]:
        return "metadata are routed"
    if y is None or hasattr(X, "tocsr"):
        return "X is sparse, or there are no targets"
    if options.get("verbose") or options.get("error_score") == "raise":
        return "verbose, or error_score='raise'"
    if set(options.get("fit_params") or ()) - {"sample_weight"}:
        return "fit has other parameters than sample_weight"
    if any(getattr(each, "_skl_callbacks", None) for each in (estimator, options.get("caller"))):
        return "there are callbacks"
    if any(kind.fit is not FIT for kind in OURS):
        return "somebody has wrapped the fit of scikit-learn's classes"
    if not _is_plain(options["scorer"]):
        return "the scoring function may look at the estimator"
    n_splits = options["split_progress"][1]
    samples = min(len(own["train"]) for _, _, own in tasks[:n_splits])
    for _, _, own in tasks[::n_splits]:
        reason = _refusal_of_candidate(estimator, own["parameters"] or {}, samples)
        if reason is not None:
            return reason
    return None


def _is_plain(scorer: Any) -> bool:
    """Return whether a scorer looks only at predictions."""
    if type(scorer) is _MultimetricScorer:
        return all(map(_is_plain, scorer._scorers.values()))
    return isinstance(scorer, _PassthroughScorer | _Scorer)


def _refusal_of_candidate(estimator: Any, parameters: dict[str, Any], samples: int) -> str | None:
    """Say why a candidate is not trained with others, on this number of samples or more."""
    try:
        candidate = clone(estimator).set_params(**clone(parameters, safe=False))
        perceptron = _perceptron_of(candidate)
        if type(perceptron) is not type(_perceptron_of(estimator)):
            return "a candidate is another estimator"
        perceptron._validate_params()
    except (ValueError, TypeError) as error:
        return f"a candidate is refused: {error}"
    if perceptron.solver == "lbfgs" or perceptron.warm_start or perceptron.verbose:
        return "solver='lbfgs', warm_start or verbose"
    if perceptron.early_stopping:
        samples = int(samples * (1 - perceptron.validation_fraction))
    if perceptron.batch_size != "auto" and perceptron.batch_size > samples:
        return "a minibatch is larger than the samples, so that every fit warns"
    states = {name: value for name, value in candidate.get_params().items() if name.endswith("random_state")}
    if not all(isinstance(value, Integral) for value in states.values()):
        return "a random_state is not an int, so that the draws would differ"
    return None


class SearchTogether(Search):
    """A search that fits no candidate by itself, and warns as scikit-learn does: of every fit."""

    def _fit_alone(self, jobs: Sequence[Any]) -> None:
        if jobs:
            raise NotImplementedError("not all candidates can be trained together")

    def warn(self) -> None:
        """Warn of each fit that ``max_iter`` ended."""
        for job in sorted(self.ran_out, key=lambda job: job.place):
            # As scikit-learn's fits do, which change the filters for a while, so that none is taken for a repetition.
            vars(perceptrons).get("__warningregistry__", {}).clear()
            warn_as_theirs(
                f"Stochastic Optimizer: Maximum iterations ({job.estimator.max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
            )


class SweepTogether(SweepCV):
    """`SweepCV` that trains all candidates together, or raises an error."""

    _kind_of_search = SearchTogether

    def _fit_together(self, X: Any, y: Any, params: dict[str, Any]) -> bool:
        if not super()._fit_together(X, y, params):
            raise NotImplementedError("the candidates cannot be trained together")
        return True


def _entries(tasks: list[Together], estimator: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Fit and score everything by `SweepCV`; return the results in the form of scikit-learn's `_fit_and_score`."""
    _, (_, X, y), _ = tasks[0]
    n_splits = options["split_progress"][1]
    splits = [(own["train"], own["test"]) for _, _, own in tasks[:n_splits]]
    candidates = [own["parameters"] or {} for _, _, own in tasks[::n_splits]]
    sweep = SweepTogether(
        _in_ours(estimator),
        [{name: [value] for name, value in parameters.items()} for parameters in candidates],
        cv=splits,
        scoring=_scoring(options["scorer"]),
        refit=False,
        error_score="raise",
        return_train_score=options["return_train_score"],
    )
    sweep.fit(X, y, **(options.get("fit_params") or {}))
    results = sweep.cv_results_
    kinds = ("test", "train") if options["return_train_score"] else ("test",)
    names = list(options["scorer"]._scorers) if type(options["scorer"]) is _MultimetricScorer else None

    def scores(kind: str, c: int, s: int) -> Any:
        if names is None:
            return results[f"split{s}_{kind}_score"][c]
        return {name: results[f"split{s}_{kind}_{name}"][c] for name in names}

    return [
        {
            **{f"{kind}_scores": scores(kind, c, s) for kind in kinds},
            "fit_error": None,
            "n_test_samples": len(splits[s][1]),
            "fit_time": results["mean_fit_time"][c],
            "score_time": results["mean_score_time"][c],
        }
        for c in range(len(candidates))
        for s in range(n_splits)
    ]


def _in_ours(estimator: Any) -> Any:
    """Copy an unfitted estimator with our perceptron in place of scikit-learn's."""
    theirs = _perceptron_of(estimator)
    ours = OURS[type(theirs)](**{name: getattr(theirs, name) for name in PARAMETERS})
    if theirs is estimator:
        return ours
    pipeline = clone(estimator)
    pipeline.steps[-1] = (pipeline.steps[-1][0], ours)
    return pipeline


def _scoring(scorer: Any) -> Any:
    """Return what `SweepCV` is to score by: names where there are any, by which it scores many at once."""
    if type(scorer) is _MultimetricScorer:
        return {name: _scoring(own) or _own_score for name, own in scorer._scorers.items()}
    if isinstance(scorer, _PassthroughScorer):
        return None
    plain = not scorer._kwargs and scorer._sign == 1
    return OWN_SCORES.get(scorer._score_func, scorer) if plain else scorer


def _own_score(estimator: Any, X: Any, y: Any) -> float:
    """Score by the estimator's own score."""
    return float(estimator.score(X, y))
