"""Which estimators can be fitted together, and on what: a table checked once, groups of networks of the same widths."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import type_of_target

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.optimizers import Optimizer
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import StackState
from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.drawing import Stream
from deltaprop.estimators.fit_data import check_weights, has_weight
from deltaprop.estimators.member_fits import MemberFit, MemberRecords
from deltaprop.estimators.member_training import MemberTraining, Score
from deltaprop.estimators.objective import MinibatchObjective
from deltaprop.estimators.regressor import MLPRegressor
from deltaprop.estimators.step_rule import optimizer_of
from deltaprop.inputs.arrays import divisible
from deltaprop.network import Network

#: What can be fitted together.
KINDS = (MLPClassifier, MLPRegressor)
#: Bytes that the members of one stack may take where nobody says otherwise.
MEMORY = 2**30


def can_be_together(estimator: Any) -> bool:
    """Whether an estimator, as its parameters are, is one that can be fitted beside others."""
    return (
        type(estimator) in KINDS
        and estimator.solver in ("adam", "sgd")
        and isinstance(estimator.loss, str)
        and np.isscalar(estimator.dropout)
        and estimator.dropout == 0
        and not (estimator.warm_start or estimator.callbacks or estimator.verbose or estimator.progress)
        and not (estimator.early_stopping and estimator.scoring is not None)
    )


def with_parameters(estimator: Any, parameters: dict[str, Any], known: dict[tuple[str, int], Any]) -> Any:
    """A copy of `estimator` with other values of some parameters, checked as a fit checks them.

    Values that have been found good are kept in `known`, for candidates share them.

    Raises
    ------
    ValueError, TypeError
        As `set_params` and `fit` would.
    """
    unknown = [name for name in parameters if name not in estimator._parameter_constraints]
    if unknown:
        return copy.copy(estimator).set_params(**parameters)  # which says what is wrong
    result = copy.copy(estimator)
    result.__dict__.update(parameters)
    new = {name: value for name, value in parameters.items() if (name, id(value)) not in known}
    if new:
        constraints = {name: estimator._parameter_constraints[name] for name in new}
        validate_parameter_constraints(constraints, new, caller_name=type(estimator).__name__)
        known |= {(name, id(value)): value for name, value in new.items()}
    return result


@dataclass
class Table:
    """Samples and targets, checked as a fit checks them.

    Attributes
    ----------
    template : MLPClassifier or MLPRegressor
        As it is once it has seen them.
    X : array, (m, n_features)
    targets : array, (m, n_outputs)
        On the host.
    y : array
        As `validate_data` leaves it.
    """

    template: Any
    X: Any
    targets: np.ndarray[Any, Any]
    y: Any

    @classmethod
    def of(cls, estimator: Any, X: Any, y: Any) -> Table:
        """The table `X`, `y`, as `estimator` would see it."""
        template = copy.copy(estimator)
        for name in [name for name in template.__dict__ if name.endswith("_") or name.startswith("_")]:
            del template.__dict__[name]
        X, y, targets = template._validate_input(X, y, incremental=False, reset=True)
        template.n_outputs_ = targets.shape[1]
        return cls(template, X, np.asarray(targets), y)

    def is_seen_alike(self, rows: np.ndarray[Any, Any]) -> bool:
        """Whether a fit on some rows alone makes the same targets of them as one on all."""
        if not isinstance(self.template, MLPClassifier):
            return len(rows) > 0
        if self.y.ndim == 2:
            return bool(type_of_target(self.y[rows]) == type_of_target(self.y))
        columns = self.targets[rows].any(axis=0)  # which classes occur
        return bool(columns.all() and (len(columns) > 1 or not self.targets[rows].all()))

    def configured(self, estimator: Any) -> Any:
        """A copy of `estimator` that has seen the table."""
        result = copy.copy(self.template)
        result.__dict__.update({name: estimator.__dict__[name] for name in estimator._parameter_constraints})
        hidden = result._hidden_layer_sizes()
        result.n_layers_ = len(hidden) + 2
        result._activations(len(hidden))
        result.out_activation_ = result._network_loss()[1]
        return result

    def widths(self, configured: Any) -> list[int]:
        """s_1 … s_L of an estimator that has seen the table."""
        return [self.X.shape[1], *configured._hidden_layer_sizes(), configured.n_outputs_]


def group_key(estimator: Any) -> Any:
    """What estimators have to have in common for their networks to make a stack."""
    activation = estimator.activation
    hidden = estimator.hidden_layer_sizes
    return (
        tuple(hidden) if np.iterable(hidden) else (hidden,),
        activation if isinstance(activation, str) else tuple(activation),
        estimator.loss,
        estimator.output_activation,
        str(estimator.dtype),
        estimator.backend if isinstance(estimator.backend, str) else id(estimator.backend),
        str(estimator.class_weight) if isinstance(estimator, MLPClassifier) else None,
    )


class Group:
    """Estimators whose networks make a stack, on one table.

    Parameters
    ----------
    table : Table
    estimator : MLPClassifier or MLPRegressor
        One of them: in what makes them a group, all are like it.
    """

    def __init__(self, table: Table, estimator: Any) -> None:
        self.table, self.configured = table, table.configured(estimator)
        self.widths = table.widths(self.configured)
        self.configuration = self.configured._configuration(table.X)
        self._of_estimator: dict[int, tuple[Any, Optimizer, Objective]] = {}
        empty = StackState([0], self.widths, init="zeros", **self.configuration)
        self.backend, self.dtype = empty.backend, empty.dtype
        with self.backend.scope():
            self.X: Array = self.backend.asarray(table.X, self.dtype)
            self.Y: Array = self.backend.asarray(table.targets, self.dtype)
        self.n_parameters = int(empty.parameters.shape[1])

    def stack(self, count: int) -> StackState:
        """A stack of so many members, parameters 0."""
        return StackState([0] * count, self.widths, init="zeros", **self.configuration)

    def fit(
        self,
        estimator: Any,
        key: Any,
        rows: np.ndarray[Any, Any],
        sample_weight: np.ndarray[Any, Any] | None,
        streams: dict[Any, Stream],
    ) -> MemberFit:
        """The fit of `estimator` on `rows`, which `key` stands for.

        Equal ones that are trained at once share their random numbers: those of each are kept in `streams`.

        Raises
        ------
        ValueError
            If the rows cannot be split for early stopping, or all weigh nothing.
        """
        state = estimator.random_state
        if state is None:  # drawn from the generator that everybody shares, so never the same
            state = np.random.mtrand._rand
            stream_key: Any = object()
        else:
            stream_key = (key, state if isinstance(state, int) else id(state), estimator.early_stopping)
            if estimator.early_stopping:
                stream_key = (*stream_key, estimator.validation_fraction)
        stream = streams.get(stream_key)
        if stream is None:
            host = Parameters(_host(), self.widths, self.dtype)
            if estimator.random_state is None:
                state = np.random.RandomState(state.randint(2**31 - 1))
            stream = Stream(state, host, self.configured._drawn_for(), rows)
            if estimator.early_stopping:
                stream.hold_out(estimator.validation_fraction, self.configured._strata(self.table.targets))
            streams[stream_key] = stream
        check_weights(None if sample_weight is None else sample_weight[stream.rows])
        known = self._of_estimator.get(id(estimator))
        if known is None:  # the estimator is kept so that its number stays its own
            known = self._of_estimator[id(estimator)] = (
                estimator,
                optimizer_of(estimator),
                MinibatchObjective(l2=estimator.alpha),
            )
        return MemberFit(estimator, stream, known[1], known[2], sample_weight)

    def weights(self, rows: np.ndarray[Any, Any], sample_weight: Any) -> np.ndarray[Any, Any] | None:
        """What each row of the table counts in a fit on some `rows`, (m,), where they do not count alike."""
        weights = (
            None
            if sample_weight is None
            else divisible(np.asarray(sample_weight, self.dtype), "sample_weight", sample_weight)
        )
        of_class = self.configured._class_weights(self.table.y[rows], incremental=False)
        if of_class is None:
            return weights
        everywhere = np.zeros(len(self.table.targets), self.dtype)
        everywhere[rows] = divisible(of_class if weights is None else weights[rows] * of_class, "class_weight")
        return everywhere

    def train(self, stack: StackState, fits: Sequence[MemberFit], *, go_on: bool) -> MemberRecords:
        """Train the members of `stack`, one for each of `fits`; see `MemberTraining`."""
        with self.backend.scope():
            return MemberTraining(
                stack,
                self.X,
                self.Y,
                fits,
                outputs_averaged=self.configured._outputs_averaged(),
                constant_costs=self.configured._constant_costs(self.table.targets),
                score=self.score,
                go_on=go_on,
            ).run()

    def network(self, parameters: Array) -> Network:
        """A network with a copy of these parameters."""
        network = Network(self.widths, init="zeros", **self.configuration)
        network.parameters = parameters
        return network

    def as_fitted(self, estimator: Any, network: Network, records: MemberRecords, k: int) -> Any:
        """The estimator that fit k by itself would have made, over `network`."""
        fitted = self.table.configured(estimator)
        with self.backend.scope():
            fitted._hand_out(network, self.table.X)
            records.hand_over(k, fitted, network)
        return fitted

    def at_once(self, memory: int | None) -> int:
        """How many members there is memory for: parameters, moments, and the best so far."""
        return max(1, (memory or MEMORY) // (5 * self.n_parameters * self.dtype.itemsize))

    def has_score(self, samples: int, weights: np.ndarray[Any, Any] | None) -> bool:
        """Whether `score` is defined for so many samples, and these weights of theirs."""
        return has_weight(weights) and samples >= (2 if isinstance(self.table.template, MLPRegressor) else 1)

    @property
    def score(self) -> Score:
        """That of an estimator's `score`: accuracy or R²."""
        if isinstance(self.table.template, MLPRegressor):
            return r2
        return subset_accuracy if self.table.y.ndim == 2 else accuracy


def _host() -> Any:
    from deltaprop.backends import get_backend

    return get_backend("numpy")


def accuracy(outputs: Any, targets: Any, weights: Any) -> np.ndarray[Any, Any]:
    """The share of samples whose class is the one predicted, by weight, (k,)."""
    if targets.shape[1] == 1:
        right = (outputs[..., 0] > 0.5) == (targets[:, 0] > 0.5)
    else:
        right = outputs.argmax(axis=-1) == targets.argmax(axis=-1)
    return np.average(right, axis=-1, weights=weights)


def subset_accuracy(outputs: Any, targets: Any, weights: Any) -> np.ndarray[Any, Any]:
    """The share of samples all of whose labels are predicted right, by weight, (k,)."""
    right = ((outputs > 0.5) == (targets > 0.5)).all(axis=-1)
    return np.average(right, axis=-1, weights=weights)


def r2(outputs: Any, targets: Any, weights: Any) -> np.ndarray[Any, Any]:
    """The coefficient of determination of each output, and the mean over them, (k,); nan where one is not finite."""
    outputs, targets = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    w = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    mean = np.average(targets, axis=0, weights=w)
    spread = (w[:, None] * (targets - mean) ** 2).sum(axis=0)
    error = (w[:, None] * (targets - outputs) ** 2).sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(spread != 0, 1.0 - error / spread, np.where(error == 0, 1.0, 0.0))
    each[~np.isfinite(outputs).all(axis=(-1, -2))] = np.nan
    result: np.ndarray[Any, Any] = each.mean(axis=-1)
    return result


def batches(items: Sequence[Any], at_once: int) -> list[Sequence[Any]]:
    """`items` in parts of about the same size, none of more than `at_once`."""
    count = -(-len(items) // at_once)
    size = -(-len(items) // count)
    return [items[start : start + size] for start in range(0, len(items), size)]
