"""HalvingSweepCV: successive halving, in which candidates that are left go on training from where they are."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _num_samples

from deltaprop.backends.array_types import ArrayLike
from deltaprop.estimators.autologging import recorded, telling_fit
from deltaprop.estimators.hyperparameters import RandomState
from deltaprop.estimators.inputs import Number
from deltaprop.estimators.stacked_search import StackedSearch, check_lists


class HalvingSweepCV(BaseSuccessiveHalving, StackedSearch):
    """Search over hyper-parameters by successive halving, hundreds of small networks at a time.

    scikit-learn's `HalvingGridSearchCV` and `HalvingRandomSearchCV` in one, with their attributes and, on the same
    splits and seeds, their scores. All candidates get a small amount of a resource; the best of them get `factor` times
    as much, and so on. The fits of an iteration are trained together, as in `SweepCV`. Where the resource is the number
    of epochs, ``resource="max_iter"``, candidates that are left are not trained anew: they go on from where they are,
    without those that have lost.

    Parameters
    ----------
    estimator : estimator
        An `MLPClassifier`, an `MLPRegressor`, a pipeline that ends in one, or any other estimator.
    param_grid : dict or list of dict
        Parameters to try, by name: lists of values and, with `n_candidates`, distributions.
    n_candidates : int, "exhaust" or None, default None
        How many candidates to draw; by default every combination is tried. With "exhaust", as many as let the last
        iteration use as much as possible; `min_resources` has to be another then.
    factor : int or float, default 3
        By how much the resource grows from one iteration to the next, and the number of candidates falls; above 1.
    resource : str, default "n_samples"
        The resource: "n_samples", or a parameter of the estimator whose values are positive integers, such as
        ``"max_iter"``, or ``"mlp__max_iter"`` in a pipeline.
    max_resources : int or "auto", default "auto"
        The most of the resource that a candidate gets; by default all samples. Another resource needs a number.
    min_resources : int, "exhaust" or "smallest", default "exhaust"
        How much of the resource a candidate gets at first. By default, as much as lets the last iteration use as much
        as possible; "smallest" is twice the number of splits, for each class, of samples, and 1 of another resource.
    aggressive_elimination : bool, default False
        Whether the first iterations are all with the least of the resource, until so few candidates are left that the
        last iteration has no more than `factor`.
    cv : int, splitter, iterable or None, default 5
        How to split the samples, as in `SweepCV`. It has to make the same splits every time.
    scoring : str, callable or None, default None
        The score; by default the estimator's own.
    refit : bool or callable, default True
        Whether to fit the best candidate to all samples.
    n_jobs : int or None, default None
        Processes, as in `SweepCV`. With more than one, candidates are trained anew in every iteration.
    memory_limit : int or None, default None
        Bytes that the networks trained at once may take, in all processes of this machine, or in each worker of a
        cluster; by default 2³⁰. The networks that are kept to be trained on, and the samples that the steps of a
        pipeline have transformed, may take as many each. Networks that are not kept are trained anew.
    random_state : int, RandomState or None, default None
        Draws the candidates and the samples of an iteration.
    error_score : "raise" or number, default nan
        The score of a fit that fails, and of a scorer that raises an exception, with a warning; the others go on.
    return_train_score : bool, default True
        Whether to score the samples trained on as well.
    progress : bool, default False
        Draw a progress bar over the candidates of each iteration on standard error, or in a notebook below the cell.
    verbose : int, default 0
        How much is printed, as in `HalvingGridSearchCV`: above 0, the iterations; above 1, a line for each fit.

    Attributes
    ----------
    n_resources_ : list of int
        The resource of a candidate, iteration by iteration.
    n_candidates_ : list of int
        The number of candidates, iteration by iteration.
    n_remaining_candidates_ : int
        How many candidates are left after the last iteration.
    max_resources_ : int
        The most that a candidate may get.
    min_resources_ : int
        What a candidate gets in the first iteration.
    n_iterations_ : int
        How many iterations there were.
    n_possible_iterations_ : int
        How many there may be without using more than ``max_resources_``.
    n_required_iterations_ : int
        How many it takes until fewer than `factor` candidates are tried.
    cv_results_ : dict of array
        The results of all candidates of all iterations, with columns ``iter`` and ``n_resources``.
    best_estimator_ : estimator
        The best candidate of the last iteration, fitted to all samples; with `refit`.
    best_score_ : float
        Its mean score over the splits.
    best_params_ : dict
        Its parameters.
    best_index_ : int
        Its place in ``cv_results_``.
    n_splits_ : int
        How many splits there were.
    refit_time_ : float
        Seconds that fitting the best candidate to all samples took.
    scorer_ : callable
        The scorer.
    multimetric_ : bool
        Whether there are several scores; always False.
    classes_ : array, (n_classes,)
        Class labels of the best estimator, where it has any.
    n_features_in_ : int
        Columns of X, where the best estimator knows them.
    feature_names_in_ : array of str
        Names of the columns of X; only where they had names.

    See Also
    --------
    deltaprop.SweepCV : Every candidate with the whole of the resource.

    Notes
    -----
    Candidates that go on have the scores of candidates that are trained anew from the same seed, because nothing before
    the last epoch depends on ``max_iter``. With ``random_state=None``, a candidate keeps its random numbers from one
    iteration to the next.

    Examples
    --------
    >>> import warnings
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = {"alpha": [0.0, 1e-2, 1.0], "learning_rate_init": [0.003, 0.01, 0.03]}
    >>> sweep = dp.HalvingSweepCV(dp.MLPClassifier((16,), random_state=0), grid, resource="max_iter", max_resources=90)
    >>> with warnings.catch_warnings(action="ignore"):  # it warns of candidates that could have gone on
    ...     sweep = sweep.fit(X, y)
    >>> sweep.n_resources_, sweep.n_candidates_
    ([10, 30, 90], [9, 3, 1])
    """

    param_grid: Any
    n_candidates: int | Literal["exhaust"] | None
    memory_limit: int | None
    progress: bool
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSuccessiveHalving._parameter_constraints,
        "param_grid": [dict, list],
        "factor": [Number(Real, 1, None, closed="neither")],
        "n_candidates": [Number(Integral, 1, None, closed="left"), StrOptions({"exhaust"}), None],
        "memory_limit": [Number(Integral, 1, None, closed="left"), None],
        "progress": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        n_candidates: int | Literal["exhaust"] | None = None,
        factor: float = 3,
        resource: str = "n_samples",
        max_resources: int | Literal["auto"] = "auto",
        min_resources: int | Literal["exhaust", "smallest"] = "exhaust",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: bool | Callable[..., int] = True,
        n_jobs: int | None = None,
        memory_limit: int | None = None,
        random_state: RandomState = None,
        error_score: Literal["raise"] | float = np.nan,
        return_train_score: bool = True,
        progress: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
            max_resources=max_resources,
            min_resources=min_resources,
            resource=resource,
            factor=factor,
            aggressive_elimination=aggressive_elimination,
        )
        self.param_grid, self.n_candidates = param_grid, n_candidates
        self.memory_limit, self.progress = memory_limit, progress

    def _generate_candidate_params(self) -> Any:
        """Return the candidates of the first iteration; `_run_search` calls this."""
        if self.n_candidates is None:
            check_lists(self.param_grid, "n_candidates")
            return ParameterGrid(self.param_grid)
        drawn = self.max_resources_ // self.min_resources_ if self.n_candidates == "exhaust" else self.n_candidates
        return ParameterSampler(self.param_grid, drawn, random_state=self.random_state)

    def _check_input_parameters(self, X: ArrayLike, y: ArrayLike, split_params: Any) -> None:
        """Check what depends on the samples; `fit` calls this."""
        if self.n_candidates == self.min_resources == "exhaust":
            raise ValueError(
                "n_candidates, min_resources: expected 'exhaust' for one of them at most, got it for both; each "
                "depends on the other"
            )
        if self.resource == "n_samples" and self.max_resources != "auto" and self.max_resources > _num_samples(X):
            raise ValueError(f"max_resources: expected at most {_num_samples(X)} samples, got {self.max_resources}")
        super()._check_input_parameters(X, y, split_params)

    @telling_fit
    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Try the candidates, fewer and fewer with more and more of the resource, and refit the best on all samples.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs), optional
            Targets, for estimators that need them.
        **params : dict
            ``groups`` for the splitter, ``sample_weight`` and whatever else the estimator's `fit` takes.

        Returns
        -------
        self : HalvingSweepCV
            The fitted search.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or every fit of an iteration has failed.

        Warns
        -----
        FitFailedWarning
            If some fits failed (a network whose parameters are no longer finite, say).
        UserWarning
            If a scorer raised an exception, or every validation score that early stopping could go by was nan.
        UndefinedMetricWarning
            If a score is not defined on a split, as R² of one sample.
        ConvergenceWarning
            If ``max_iter`` ended some.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from scipy.stats import loguniform
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((8,), learning_rate_init=0.03, tol=1e-2, random_state=0)
        >>> sweep = dp.HalvingSweepCV(base, {"alpha": loguniform(1e-4, 1.0)}, n_candidates=6, cv=3, random_state=0)
        >>> sweep = sweep.fit(X, y)
        >>> sweep.n_candidates_, sweep.n_resources_
        ([6, 2], [50, 150])
        """
        super().fit(X, y, **params)
        return self


recorded(HalvingSweepCV, is_search=True)
