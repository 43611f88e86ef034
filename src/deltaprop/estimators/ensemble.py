"""EnsembleClassifier and EnsembleRegressor: several networks with other seeds, with bagging or without, in one."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from deltaprop.backends.array_types import AnyArray, ArrayLike, Indices
from deltaprop.epochs.task import RefusedError
from deltaprop.errors import callers_level
from deltaprop.estimators.autologging import fit_context, recorded
from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.drawing import DRAWN_AS, Stream
from deltaprop.estimators.fit_data import NO_SCORE
from deltaprop.estimators.fit_ranks import refuse_ranks
from deltaprop.estimators.hyperparameters import RandomState
from deltaprop.estimators.inputs import Number, checked_inputs, on_host
from deltaprop.estimators.multilayer_perceptron import checked_weights
from deltaprop.estimators.onnx_export import OnnxExport
from deltaprop.estimators.regressor import MLPRegressor
from deltaprop.estimators.together import EstimatorGroup, Table, can_be_together
from deltaprop.network import Network
from deltaprop.stack import NetworkStack
from deltaprop.training.exclusive import training_of


class Ensemble(OnnxExport, BaseEstimator):
    """The common part of the two estimators, which derive from it."""

    estimator: Any
    n_estimators: int
    bootstrap: bool
    max_samples: float
    random_state: RandomState
    estimators_samples_: list[Indices]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_estimators": [Number(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "max_samples": [Number(Real, 0, 1, closed="right")],
        "random_state": ["random_state"],
    }
    #: The estimator whose ensemble this is.
    _kind: ClassVar[Any]

    stack_: NetworkStack
    seeds_: list[int]
    n_outputs_: int
    n_features_in_: int
    feature_names_in_: AnyArray
    _members: list[Any]
    #: A member as it is before training; it knows the classes.
    _template: Any

    def __init__(
        self,
        estimator: Any = None,
        n_estimators: int = 10,
        *,
        bootstrap: bool = False,
        max_samples: float = 1.0,
        random_state: RandomState = None,
    ) -> None:
        self.estimator, self.n_estimators, self.bootstrap = estimator, n_estimators, bootstrap
        self.max_samples, self.random_state = max_samples, random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train all members.

        Parameters
        ----------
        X : array_like or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs)
            Targets.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.

        Returns
        -------
        self : EnsembleClassifier or EnsembleRegressor
            The fitted ensemble.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or the parameters of a member are no longer finite.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` ended the training of some.
        UserWarning
            If every validation score that early stopping could go by was nan.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((8,), learning_rate_init=0.03, tol=1e-2)
        >>> ensemble = dp.EnsembleClassifier(base, n_estimators=3, max_samples=0.8, random_state=0).fit(X, y)
        >>> ensemble.stack_.parameters.shape, [len(rows) for rows in ensemble.estimators_samples_]
        ((3, 67), [120, 120, 120])
        """
        base = self._kind() if self.estimator is None else clone(self.estimator)
        if type(base) is not self._kind:
            raise TypeError(f"estimator: expected {self._kind.__name__}, got {type(base).__name__}")
        base._validate_params()
        refuse_ranks(f"an {type(self).__name__}", base)
        table = Table.of(base, X, y)
        if hasattr(table.X, "toarray"):
            raise TypeError(f"X: expected a dense array, got a sparse {type(table.X).__name__}; pass X.toarray()")
        weights = checked_weights(sample_weight, table.X)
        rng = check_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=self.n_estimators).tolist()
        members = [copy.copy(base) for _ in seeds]
        for member, seed in zip(members, seeds, strict=True):
            member.random_state = seed
        group = EstimatorGroup(table, base)
        configuration = {name: value for name, value in group.configuration.items() if name != "backend"}
        stack = NetworkStack(
            self.n_estimators, group.widths, seeds=seeds, init="zeros", backend=group.backend, **configuration
        )
        stack.init = DRAWN_AS
        samples = self._draw_samples(rng, len(table.targets))
        with training_of(self):
            together = self._train_together(group, stack, members, samples, weights) if can_be_together(base) else None
            members = together or self._train_alone(group, stack, members, samples, X, y, weights)
        self.seeds_, self.estimators_samples_, self.stack_ = seeds, samples, stack
        self._template, self._members = group.configured, members
        for name in ("n_features_in_", "feature_names_in_", "classes_", "n_outputs_"):
            self.__dict__.pop(name, None)
            if hasattr(table.template, name):
                setattr(self, name, getattr(table.template, name))
        self.loss_: float = float(np.mean([member.loss_ for member in members]))
        return self

    def _draw_samples(self, rng: np.random.RandomState, m: int) -> list[Indices]:
        """Draw for each member the rows that it is trained on."""
        count = max(1, round(self.max_samples * m))
        if self.bootstrap:
            return [rng.randint(m, size=count) for _ in range(self.n_estimators)]
        every = np.arange(m)
        return [every if count == m else rng.permutation(m)[:count] for _ in range(self.n_estimators)]

    @staticmethod
    def _train_together(
        group: EstimatorGroup,
        stack: NetworkStack,
        members: list[Any],
        samples: list[Indices],
        weights: AnyArray,
    ) -> list[Any] | None:
        """Train all members at once; return fitted estimators over `stack`, or None where the device refuses."""
        streams: dict[Any, Stream] = {}
        fits = [
            group.fit(member, k, rows, group.weights(rows, weights), streams)
            for k, (member, rows) in enumerate(zip(members, samples, strict=True))
        ]
        try:
            records, count = group.train(stack, fits, go_on=True), len(fits)
        except RefusedError:
            return None
        if not records.finite.all():
            raise ValueError(
                "Solver produced non-finite parameter weights in "
                f"{int((~records.finite).sum())} of {count} members. The input data may contain large values and "
                "need to be preprocessed."
            )
        if records.ran_out.any():
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations reached by {int(records.ran_out.sum())} of {count} "
                "members, and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=callers_level(),
            )
        if records.unscored:
            warnings.warn(
                f"{NO_SCORE} (in {records.unscored} of {count} members)", UserWarning, stacklevel=callers_level()
            )
        return [
            group.as_fitted(member, network, records, k)
            for k, (member, network) in enumerate(zip(members, stack, strict=True))
        ]

    @staticmethod
    def _train_alone(
        group: EstimatorGroup,
        stack: NetworkStack,
        members: list[Any],
        samples: list[Indices],
        X: ArrayLike,
        y: ArrayLike,
        weights: AnyArray,
    ) -> list[Any]:
        """Train the members one after another; a sample counts as often as it has been drawn."""
        fitted = []
        for network, member, rows in zip(stack, members, samples, strict=True):
            times = np.bincount(rows, minlength=len(on_host(y))).astype(float)
            everywhere = bool((times == 1).all()) and weights is None
            alone = clone(member)
            alone.fit(X, y, sample_weight=None if everywhere else times if weights is None else times * weights)
            with group.backend.scope():
                network.parameters, network.epochs_trained = alone.network_.parameters, alone.network_.epochs_trained
                alone._hand_out(network, group.table.X)
            fitted.append(alone)
        return fitted

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore members that share the memory of the stack, except those fitted to something else since."""
        super().__setstate__(state)
        if "stack_" not in self.__dict__:
            return
        with self.stack_.backend.scope():
            for member, network in zip(self._members, self.stack_, strict=True):
                if "_network" not in member.__dict__ and _has_parameters_of(member, network):
                    member._hand_out(network, member.coefs_[0])

    # -- predictions of the members -----------------------------------------------------------------------------

    @property
    def estimators_(self) -> list[Any]:
        """The members as fitted estimators, whose networks share the memory of ``stack_``."""
        check_is_fitted(self, "stack_")
        return list(self._members)

    def _outputs(self, X: ArrayLike) -> AnyArray:
        """Compute a^(L) of every member, (K, m, n_outputs), as an array of the same kind as X."""
        check_is_fitted(self, "stack_")
        checked = checked_inputs(self, X, dtype=self.stack_.dtype)
        return self.stack_.predict(checked.toarray() if hasattr(checked, "toarray") else checked)


def _has_parameters_of(member: Any, network: Network) -> bool:
    own = [*(coef.T for coef in member.coefs_), *member.intercepts_]
    there = [*network.weights, *network.biases]
    return len(own) == len(there) and all(
        np.array_equal(on_host(array), network.backend.to_numpy(other)) for array, other in zip(own, there, strict=True)
    )


class EnsembleClassifier(ClassifierMixin, Ensemble):
    """Several `MLPClassifier` with seeds of their own, trained at once; probabilities are the means of theirs.

    Networks of one kind that begin with other parameters make other mistakes: together they are right more often than
    one alone, and their disagreement shows where they are not sure.

    Parameters
    ----------
    estimator : MLPClassifier or None, default None
        The estimator whose parameters all members have, except for ``random_state``; by default ``MLPClassifier()``.
    n_estimators : int, default 10
        How many members.
    bootstrap : bool, default False
        Train each member on samples drawn with replacement: bagging (Breiman, 1996). Without, members differ in their
        seeds alone (Lakshminarayanan et al., 2017), and in their samples where `max_samples` is below 1.
    max_samples : float, default 1.0
        The share of the samples that each member is trained on, in (0, 1].
    random_state : int, RandomState or None, default None
        Draws the members' seeds and samples.

    Attributes
    ----------
    stack_ : NetworkStack
        The members' networks.
    estimators_ : list of MLPClassifier
        The members as fitted estimators over the same memory.
    estimators_samples_ : list of array of int
        The rows that each member was trained on.
    seeds_ : list of int
        The ``random_state`` of each member.
    classes_ : array, (n_classes,)
        Class labels; of multilabel targets, their numbers.
    loss_ : float
        The mean of the members' losses.
    n_outputs_ : int
        Outputs of each network.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Names of the columns of X; only where they had names.

    See Also
    --------
    EnsembleRegressor : The same for quantities.
    deltaprop.NetworkStack : The networks that are trained at once.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> base = dp.MLPClassifier((16,), learning_rate_init=0.03, tol=1e-3)
    >>> ensemble = dp.EnsembleClassifier(base, n_estimators=5, random_state=0).fit(X, y)
    >>> ensemble.predict_proba(X).shape, ensemble.score(X, y) > 0.9
    ((150, 3), True)
    """

    classes_: AnyArray
    _kind = MLPClassifier

    def predict_proba(self, X: ArrayLike) -> AnyArray:
        """Predict the probability of each class: the mean over members.

        Parameters
        ----------
        X : array_like or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        probabilities : array, (m, n_classes)
            In the order of ``classes_``, an array of the same kind as `X`.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((16,), learning_rate_init=0.03, tol=1e-3)
        >>> ensemble = dp.EnsembleClassifier(base, n_estimators=3, random_state=0).fit(X, y)
        >>> each = [member.predict_proba(X) for member in ensemble.estimators_]
        >>> bool(np.allclose(ensemble.predict_proba(X), np.mean(each, axis=0)))
        True
        """
        outputs = self._outputs(X)
        template = self._template
        total = sum(template._probabilities(own) for own in outputs)
        return total / len(self.stack_)

    def predict(self, X: ArrayLike) -> AnyArray:
        """Predict the most probable class by the mean probabilities; of multilabel targets, labels above one half.

        Parameters
        ----------
        X : array_like or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        labels : array, (m,) or (m, n_labels)
            A NumPy array.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> base = dp.MLPClassifier((16,), learning_rate_init=0.03, tol=1e-3)
        >>> ensemble = dp.EnsembleClassifier(base, n_estimators=3, random_state=0).fit(X, y)
        >>> ensemble.predict(X[:3]).tolist()
        [0, 0, 0]
        """
        probabilities = on_host(self.predict_proba(X))
        if self._template._label_binarizer.y_type_.startswith("multilabel"):
            return (probabilities > 0.5).astype(int)
        return self.classes_[probabilities.argmax(axis=1)]


class EnsembleRegressor(RegressorMixin, Ensemble):
    """Several `MLPRegressor` with seeds of their own, trained at once; the prediction is the mean of theirs.

    Networks of one kind that begin with other parameters make other mistakes: together they are nearer to the truth
    than one alone, and their spread shows where they are not sure.

    Parameters
    ----------
    estimator : MLPRegressor or None, default None
        The estimator whose parameters all members have, except for ``random_state``; by default ``MLPRegressor()``.
    n_estimators : int, default 10
        How many members.
    bootstrap : bool, default False
        Train each member on samples drawn with replacement: bagging (Breiman, 1996). Without, members differ in their
        seeds alone (Lakshminarayanan et al., 2017), and in their samples where `max_samples` is below 1.
    max_samples : float, default 1.0
        The share of the samples that each member is trained on, in (0, 1].
    random_state : int, RandomState or None, default None
        Draws the members' seeds and samples.

    Attributes
    ----------
    stack_ : NetworkStack
        The members' networks.
    estimators_ : list of MLPRegressor
        The members as fitted estimators over the same memory.
    estimators_samples_ : list of array of int
        The rows that each member was trained on.
    seeds_ : list of int
        The ``random_state`` of each member.
    loss_ : float
        The mean of the members' losses.
    n_outputs_ : int
        Outputs of each network.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Names of the columns of X; only where they had names.

    See Also
    --------
    EnsembleClassifier : The same for classes.
    deltaprop.NetworkStack : The networks that are trained at once.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> base = dp.MLPRegressor(hidden_layer_sizes=(16,), learning_rate_init=0.03, tol=1e-3)
    >>> ensemble = dp.EnsembleRegressor(base, bootstrap=True, random_state=0).fit(X, y / 100)
    >>> mean, spread = ensemble.predict(X, return_std=True)
    >>> mean.shape, bool((spread > 0).all())
    ((442,), True)
    """

    _kind = MLPRegressor

    def predict(self, X: ArrayLike, return_std: bool = False) -> AnyArray:
        """Predict the mean of the members' predictions and, where asked for, how far they are apart.

        Parameters
        ----------
        X : array_like or DataFrame, (m, n_features)
            Inputs.
        return_std : bool, default False
            Also return the standard deviation over members.

        Returns
        -------
        mean : array, (m,) or (m, n_outputs)
            An array of the same kind as `X`.
        std : array, (m,) or (m, n_outputs)
            Only with `return_std`.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> base = dp.MLPRegressor(hidden_layer_sizes=(16,), learning_rate_init=0.03, tol=1e-3)
        >>> ensemble = dp.EnsembleRegressor(base, n_estimators=3, random_state=0).fit(X, y / 100)
        >>> mean, spread = ensemble.predict(X[:5], return_std=True)
        >>> mean.shape, spread.shape
        ((5,), (5,))
        """
        outputs = self._outputs(X)
        outputs = outputs[..., 0] if outputs.shape[-1] == 1 else outputs
        mean = outputs.mean(axis=0)
        return (mean, outputs.std(axis=0)) if return_std else mean


recorded(EnsembleClassifier)
recorded(EnsembleRegressor)
