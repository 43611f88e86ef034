"""SweepCV: a grid or random search in which candidates of the same widths are trained together, all folds at once."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.model_selection._search import BaseSearchCV

from deltaprop.backends.array_types import ArrayLike
from deltaprop.estimators.autologging import recorded, telling_fit
from deltaprop.estimators.hyperparameters import RandomState
from deltaprop.estimators.inputs import Number
from deltaprop.estimators.stacked_search import StackedSearch, check_lists


class SweepCV(StackedSearch):
    """Search over hyper-parameters by cross-validation, hundreds of small networks at a time.

    scikit-learn's `GridSearchCV` and `RandomizedSearchCV` in one, with their attributes and, on the same splits and
    seeds, their scores. Candidates whose networks have the same widths make a stack (see `deltaprop.NetworkStack`), all
    folds of all of them being trained at once; other widths make other stacks. In a pipeline whose last step is such
    an estimator, the steps before it are fitted once a fold, for all candidates that agree on their parameters (on a
    cluster, once a task). What cannot be trained so (another estimator, ``solver="lbfgs"``, dropout, callbacks, sparse
    inputs) is fitted one after another.

    Parameters
    ----------
    estimator : estimator
        An `MLPClassifier`, an `MLPRegressor`, a pipeline that ends in one, or any other estimator.
    param_grid : dict or list of dict
        Parameters to try, by name: lists of values and, with `n_iter`, distributions.
    n_iter : int or None, default None
        How many candidates to draw; by default every combination is tried.
    cv : int, splitter, iterable or None, default None
        How to split the samples, as in `GridSearchCV`; by default into 5 folds.
    scoring : str, callable, list, dict or None, default None
        The score, or several by name, as in `GridSearchCV`; by default the estimator's own.
    refit : bool, str or callable, default True
        Whether to fit the best candidate to all samples, and which score or function chooses it, as in `GridSearchCV`.
    n_jobs : int or None, default None
        Processes, by joblib and whichever backend `joblib.parallel_config` chooses; by default 1, in which as many
        threads as the machine has work on different members. The workers of a Dask cluster are sent the data once.
    memory_limit : int or None, default None
        Bytes that the networks trained at once may take, in all processes of this machine, or in each worker of a
        cluster; by default 2³⁰. The samples that the steps of a pipeline have transformed may take as many.
    random_state : int, RandomState or None, default None
        Draws the candidates.
    error_score : "raise" or number, default nan
        The score of a fit that fails, and of a scorer that raises an exception, with a warning; the others go on.
    return_train_score : bool, default False
        Whether to score the samples trained on as well.
    progress : bool, default False
        Draw a progress bar over candidates on standard error, or in a notebook below the cell.
    verbose : int, default 0
        How much is printed, as in `GridSearchCV`: above 0, how many fits there are; above 1, a line for each; above 2,
        with its score.
    pre_dispatch : int or str, default "2*n_jobs"
        How many such fits are sent to processes ahead of time, as in `GridSearchCV`.

    Attributes
    ----------
    cv_results_ : dict of array
        The results of all candidates, as in `GridSearchCV`. ``mean_fit_time`` is the share of a fit in the time of all
        that were trained with it.
    best_estimator_ : estimator
        The best candidate, fitted to all samples; with `refit`.
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
    scorer_ : callable or dict
        The scorer, or the scorers by name.
    multimetric_ : bool
        Whether there are several scores.
    classes_ : array, (n_classes,)
        Class labels of the best estimator, where it has any.
    n_features_in_ : int
        Columns of X, where the best estimator knows them.
    feature_names_in_ : array of str
        Names of the columns of X; only where they had names.

    See Also
    --------
    deltaprop.NetworkStack : The networks that are trained at once.
    deltaprop.EnsembleClassifier : Several networks as one estimator.

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

    param_grid: Any
    n_iter: int | None
    memory_limit: int | None
    random_state: RandomState
    progress: bool
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
        refit: bool | str | Callable[..., int] = True,
        n_jobs: int | None = None,
        memory_limit: int | None = None,
        random_state: RandomState = None,
        error_score: Literal["raise"] | float = np.nan,
        return_train_score: bool = False,
        progress: bool = False,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
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

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None) -> None:
        """Evaluate all candidates; `fit` calls this."""
        if self.n_iter is None:
            check_lists(self.param_grid, "n_iter")
        candidates = (
            ParameterGrid(self.param_grid)
            if self.n_iter is None
            else ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
        )
        if callback_ctx is None:
            evaluate_candidates(candidates)
            return
        total = len(candidates) * self.n_splits_
        search = callback_ctx.subcontext(task_name="search", max_subtasks=total, sequential_subtasks=False)
        search.call_on_fit_task_begin(estimator=self)
        evaluate_candidates(candidates, callback_ctx=search)
        search.call_on_fit_task_end(estimator=self)

    @telling_fit
    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Try every candidate, and refit the best on all samples.

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
        self : SweepCV
            The fitted search.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or every fit has failed.

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
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> X, y = load_iris(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), dp.MLPClassifier((8,), tol=1e-2, random_state=0))
        >>> sweep = dp.SweepCV(model, {"mlpclassifier__learning_rate_init": [1e-3, 0.03]}, cv=3).fit(X, y)
        >>> sweep.best_params_, sweep.cv_results_["mean_test_score"].shape
        ({'mlpclassifier__learning_rate_init': 0.03}, (2,))
        """
        return super().fit(X, y, **params)


recorded(SweepCV, is_search=True)
