"""Estimators that are fitted together: a table that is checked once, and groups of networks of the same widths."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import type_of_target

from deltaprop.backends import Array, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, DType, Floats, HostArray, Indices
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import StackState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.drawing import Stream
from deltaprop.estimators.fit_data import check_weights, has_weight
from deltaprop.estimators.member_fits import MemberFit, MemberRecords
from deltaprop.estimators.member_scores import Score, accuracy, r2, subset_accuracy
from deltaprop.estimators.member_training import MemberTraining
from deltaprop.estimators.objective import MinibatchObjective
from deltaprop.estimators.regressor import MLPRegressor
from deltaprop.estimators.step_rule import optimizer_of
from deltaprop.inputs.arrays import divisible
from deltaprop.network import Network

if TYPE_CHECKING:
    from deltaprop.backends.base import Backend

#: What can be fitted together.
KINDS = (MLPClassifier, MLPRegressor)
#: What scikit-learn keeps in an estimator besides its parameters: the metadata that it requests, the tables it returns.
SETTINGS = ("_metadata_request", "_sklearn_output_config")
#: Bytes that the members of one stack may take by default.
MEMORY = 2**30
#: How often a member's parameters are held: with its moments, its gradient and its best parameters.
COPIES = 5


def can_be_together(estimator: Any) -> bool:
    """Return whether an estimator with these parameters can be fitted together with others."""
    return (
        type(estimator) in KINDS
        and estimator.solver in ("adam", "sgd")
        and isinstance(estimator.loss, str)
        and np.isscalar(estimator.dropout)
        and estimator.dropout == 0
        and not (estimator.warm_start or estimator.callbacks or estimator.verbose or estimator.progress)
        and not (estimator.early_stopping and estimator.scoring is not None)
        and not getattr(estimator, "_skl_callbacks", None)
    )


def with_parameters(estimator: Any, parameters: dict[str, Any], known: dict[tuple[str, int], Any]) -> Any:
    """Copy `estimator` with other values of some parameters, checked as a fit checks them.

    Candidates share values: those that have been checked are kept in `known`.

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
        An estimator that has seen them.
    X : array, (m, n_features)
        Checked inputs.
    targets : array, (m, n_outputs)
        The network's targets, on the host.
    y : array
        Checked targets in the form in which they were given.
    """

    template: Any
    X: ArrayLike
    targets: HostArray
    y: ArrayLike

    @classmethod
    def of(cls, estimator: Any, X: ArrayLike, y: ArrayLike) -> Table:
        """Check `X` and `y` as a fit of `estimator` would."""
        template = copy.copy(estimator)
        for name in [name for name in template.__dict__ if name.endswith("_") or name.startswith("_")]:
            del template.__dict__[name]
        X, y, targets = template._validate_input(X, y, incremental=False, reset=True)
        template.n_outputs_ = targets.shape[1]
        return cls(template, X, np.asarray(targets), y)

    def is_seen_alike(self, rows: Indices) -> bool:
        """Return whether a fit on these rows alone would make the same targets of them as a fit on all rows."""
        if len(rows) == 0 or not isinstance(self.template, MLPClassifier):
            return len(rows) > 0
        if self.y.ndim == 2:
            return bool(type_of_target(self.y[rows]) == type_of_target(self.y))
        columns: AnyArray = self.targets[rows].any(axis=0)  # which classes occur
        return bool(columns.all() and (len(columns) > 1 or not self.targets[rows].all()))

    def configured(self, estimator: Any) -> Any:
        """Copy `estimator` as it is once it has seen the table."""
        result = copy.copy(self.template)
        own = (*estimator._parameter_constraints, *SETTINGS)
        result.__dict__.update({name: estimator.__dict__[name] for name in own if name in estimator.__dict__})
        hidden = result._hidden_layer_sizes()
        result.n_layers_ = len(hidden) + 2
        result._activations(len(hidden))
        result.out_activation_ = result._network_loss()[1]
        return result

    def widths(self, configured: Any) -> list[int]:
        """Return the widths s_1 … s_L of an estimator that has seen the table."""
        return [self.X.shape[1], *configured._hidden_layer_sizes(), configured.n_outputs_]


def group_key(estimator: Any) -> Any:
    """Return the key of a group: estimators with the same key have networks that make a stack."""
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


class EstimatorGroup:
    """Estimators whose networks make a stack, on one table.

    Parameters
    ----------
    table : Table
        Their common samples.
    estimator : MLPClassifier or MLPRegressor
        One of the group; all have the same `group_key`.
    """

    table: Table
    configured: Any
    backend: Backend
    dtype: DType

    def __init__(self, table: Table, estimator: Any) -> None:
        self.table, self.configured = table, table.configured(estimator)
        self.widths: list[int] = table.widths(self.configured)
        self.configuration: Any = self.configured._configuration(table.X)
        self._of_estimator: dict[int, tuple[Any, Optimizer, Objective]] = {}
        self._optimizers: dict[Optimizer, Optimizer] = {}  # equal ones are one, whose rates are computed once
        empty = StackState([0], self.widths, init="zeros", **self.configuration)
        self.backend, self.dtype = empty.backend, empty.dtype
        with self.backend.scope():
            self.X: Array = self.backend.asarray(table.X, self.dtype)
            self.Y: Array = self.backend.asarray(table.targets, self.dtype)
        self.n_parameters: int = int(empty.parameters.shape[1])

    def stack(self, count: int) -> StackState:
        """Make a stack of `count` members with parameters 0."""
        return StackState([0] * count, self.widths, init="zeros", **self.configuration)

    def fit(
        self,
        estimator: Any,
        key: Any,
        rows: Indices,
        sample_weight: Floats | None,
        streams: dict[Any, Stream],
    ) -> MemberFit:
        """Prepare the fit of `estimator` on `rows`; equal rows have the same `key`.

        Fits on the same rows with the same ``random_state`` share their random numbers, which are kept in `streams`.

        Raises
        ------
        ValueError
            If the rows cannot be split for early stopping, or all weigh nothing.
        """
        state = estimator.random_state
        if state is None:  # NumPy's global generator, which never gives the same numbers again
            state = np.random.mtrand._rand
            stream_key: Any = object()
        else:
            stream_key = (key, state if isinstance(state, int) else id(state), estimator.early_stopping)
            if estimator.early_stopping:
                stream_key = (*stream_key, estimator.validation_fraction)
        stream = streams.get(stream_key)
        if stream is None:
            host = Parameters(get_backend("numpy"), self.widths, self.dtype)
            if estimator.random_state is None:
                state = np.random.RandomState(state.randint(2**31 - 1))
            stream = Stream(state, host, self.configured._drawn_for(), rows)
            if estimator.early_stopping:
                stream.hold_out(estimator.validation_fraction, self.configured._strata(self.table.targets))
            streams[stream_key] = stream
        check_weights(None if sample_weight is None else sample_weight[stream.rows])
        known = self._of_estimator.get(id(estimator))
        if known is None:  # the estimator is kept alive, so that no other gets its id
            optimizer = optimizer_of(estimator)
            known = self._of_estimator[id(estimator)] = (
                estimator,
                self._optimizers.setdefault(optimizer, optimizer),
                MinibatchObjective(l2=estimator.alpha),
            )
        return MemberFit(estimator, stream, known[1], known[2], sample_weight)

    def weights(self, rows: Indices, sample_weight: ArrayLike) -> Floats | None:
        """Return the weight of each row of the table in a fit on some `rows`, (m,); None where all count alike."""
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
            return self.training(stack, fits, go_on=go_on).run()

    def training(self, stack: StackState, fits: Sequence[MemberFit], *, go_on: bool) -> MemberTraining:
        """Make the training of the members of `stack`, one for each of `fits`."""
        return MemberTraining(
            stack,
            self.X,
            self.Y,
            fits,
            outputs_averaged=self.configured._outputs_averaged(),
            constant_costs=self.configured._constant_costs(self.table.targets),
            score=self.score,
            go_on=go_on,
        )

    def network(self, parameters: Array) -> Network:
        """Make a network with a copy of these parameters."""
        network = Network(self.widths, init="zeros", **self.configuration)
        network.parameters = parameters
        return network

    def as_fitted(self, estimator: Any, network: Network, records: MemberRecords, k: int) -> Any:
        """Make the estimator that fit k by itself would have made, with `network`."""
        fitted = self.table.configured(estimator)
        with self.backend.scope():
            fitted._hand_out(network, self.table.X)
            records.hand_over(k, fitted, network)
        return fitted

    def at_once(self, memory: int | None) -> int:
        """Return how many members fit into the memory."""
        return max(1, (memory or MEMORY) // self.bytes_a_member)

    @property
    def bytes_a_member(self) -> int:
        """The memory that a member takes, with its moments and its best parameters."""
        return COPIES * self.n_parameters * self.dtype.itemsize

    def has_score(self, samples: int, weights: Floats | None) -> bool:
        """Return whether `score` is defined for this number of samples and their weights."""
        return has_weight(weights) and samples >= (2 if isinstance(self.table.template, MLPRegressor) else 1)

    @property
    def score(self) -> Score:
        """The function behind an estimator's `score`, for many members: accuracy or R²."""
        if isinstance(self.table.template, MLPRegressor):
            return r2
        return subset_accuracy if self.table.y.ndim == 2 else accuracy


def batches(items: Sequence[Any], at_once: int) -> list[Sequence[Any]]:
    """Divide `items` into parts of about the same size, of `at_once` at most."""
    count = -(-len(items) // at_once)
    size = -(-len(items) // count)
    return [items[start : start + size] for start in range(0, len(items), size)]
