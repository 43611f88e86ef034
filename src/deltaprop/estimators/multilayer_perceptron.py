"""The common part of MLPClassifier and MLPRegressor: from a table to a network, and how it is fitted."""

from __future__ import annotations

import operator
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self, cast

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils.validation import _check_sample_weight

from deltaprop.arguments import check_callables, check_dropout
from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.backends.device_scope import methods_on_its_device, on_its_device
from deltaprop.errors import callers_level
from deltaprop.estimators import exchange, full_batch
from deltaprop.estimators.autologging import fit_context as fit_context
from deltaprop.estimators.autologging import recorded
from deltaprop.estimators.class_targets import ClassTargets
from deltaprop.estimators.drawing import Reseeded, draw_parameters, split_rows
from deltaprop.estimators.fit_checkpoint import FitCheckpoint
from deltaprop.estimators.fit_data import NOT_FINITE, CheckedData, HeldOut, Training, check_weights
from deltaprop.estimators.fit_ranks import ranks_of, same_beginning
from deltaprop.estimators.fit_tasks import CallbackSupport, FitTasks
from deltaprop.estimators.fitted_network import FittedNetwork
from deltaprop.estimators.hyperparameters import Hyperparameters, our_name
from deltaprop.estimators.inputs import on_host, take
from deltaprop.estimators.minibatches import MinibatchFit
from deltaprop.estimators.onnx_export import OnnxExport
from deltaprop.estimators.records import Records
from deltaprop.inputs.arrays import HostData, divisible
from deltaprop.inputs.sources import converted_rows
from deltaprop.network import Network
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import ending_all_on_failure, failing_together, known_to_all
from deltaprop.training.agreement import same_generator
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.exclusive import training_of


@methods_on_its_device
class MultilayerPerceptron(CallbackSupport, OnnxExport, Hyperparameters, FittedNetwork):
    """The common part of the two estimators, which derive from it."""

    n_iter_: int
    loss_: float
    best_loss_: Any
    loss_curve_: list[float]
    best_validation_score_: Any
    validation_scores_: Any
    validation_loss_curve_: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if MultilayerPerceptron in cls.__bases__:  # what derives from the two inherits their methods
            recorded(cls)

    # -- where the two estimators differ ------------------------------------------------------------------------

    @abstractmethod
    def _validate_input(self, X: ArrayLike, y: ArrayLike, *, incremental: bool, reset: bool) -> CheckedData:
        """Return X and y, checked, and the network's targets, (m, n_outputs), on the host."""

    @abstractmethod
    def _targets_as_predicted(self, targets: AnyArray) -> AnyArray:
        """Return rows of the network's targets in the form in which `predict` returns them."""

    @abstractmethod
    def _validation_score(self, held_out: HeldOut, prediction: Array | None) -> float:
        """Score a^(L) on data held out; without `prediction`, compute it block by block."""

    def _constant_costs(self, targets: AnyArray) -> Floats | None:
        """Return the part of each sample's cost that does not depend on the network, (m,), or None."""
        return None

    def _outputs_averaged(self) -> int:
        """Return the number of outputs by which scikit-learn divides the cost that it watches."""
        return 1

    def _class_weights(self, y: ArrayLike, *, incremental: bool) -> AnyArray:
        """Return a weight for each sample from its class, (m,), or None."""
        return None

    # -- fitting ------------------------------------------------------------------------------------------------

    @on_its_device
    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike,
        validation_data: Any = None,
        *,
        incremental: bool,
        checkpoints: tuple[Any, int, bool] = (None, 1, False),
    ) -> Self:
        """Train from new parameters; with `warm_start` or `incremental`, from the present ones.

        What is found in `checkpoints`, which are their path, the epochs between them and whether to resume, replaces
        these.
        """
        ranks = ranks_of(self)
        with ending_all_on_failure(ranks):
            self._fit_by_ranks(ranks, (X, y, sample_weight), validation_data, checkpoints, incremental=incremental)
        return self

    def _fit_by_ranks(
        self, ranks: Ranks, data: Any, validation_data: Any, checkpoints: tuple[Any, int, bool], *, incremental: bool
    ) -> None:
        """Do what `_fit` does. Every rank comes here with the same data; what is drawn is the same on all."""
        X, y, sample_weight = data
        with failing_together(ranks):
            keeper = FitCheckpoint.of(self, *checkpoints, ranks)
            hidden = self._hidden_layer_sizes()
            self._activations(len(hidden))
            dropout = check_dropout(self.dropout, len(hidden))
            self._check_combinations(dropout, incremental)
            first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
            tells = ranks.is_first and not incremental
            tasks = FitTasks.of(self, X, y, sample_weight) if tells else []
            callbacks: list[EpochCallback] = [*(self.callbacks or ()), *tasks] if ranks.is_first else []
            X, y, targets = self._validate_input(X, y, incremental=incremental, reset=first)
            weights = self._weights(X, y, sample_weight, incremental)
            self.n_outputs_: int = targets.shape[1]
            self._random_state = self._generator(incremental=incremental)
        self._random_state = same_generator(ranks, self._random_state, self.random_state)
        with failing_together(ranks):
            before = self._begin([X.shape[1], *hidden, self.n_outputs_], X, first=first)
            network = self._network
            if any(dropout):
                network.seed = int(self._random_state.randint(2**31 - 1))
            if keeper is not None:
                self._random_state = keeper.begin(self._random_state, network)
        self._random_state = same_beginning(ranks, self._random_state, self.random_state, network)
        with failing_together(ranks):
            part, held_out = self._split(X, targets, weights, validation_data)
            training = self._training(*part, dropout)
        with ExitStack() as busy:
            with failing_together(ranks):
                busy.enter_context(training_of(network))
            if self.solver == "lbfgs":
                self._train_by_full_batch(training, held_out, callbacks)
            else:
                how: dict[str, Any] = {"incremental": incremental, "keeper": keeper, "ranks": ranks}
                self._train_by_minibatches(training, held_out, callbacks, how)
        if not network.backend.all_finite(network.parameters):
            if before is not None:
                network.parameters = before
            raise known_to_all(ValueError(NOT_FINITE))
        self._hand_out(network, X)

    def _generator(self, *, incremental: bool) -> np.random.RandomState:
        """Make the generator of random numbers; `partial_fit` begins with the same seed again and again."""
        if not incremental or type(self.random_state) is not int:
            return cast("np.random.RandomState", check_random_state(self.random_state))
        kept = self.__dict__.get("_reseeded")
        if kept is None or kept.seed != self.random_state:
            kept = self._reseeded = Reseeded(self.random_state)
        return kept.again()

    def _check_combinations(self, dropout: Sequence[float], incremental: bool) -> None:
        """Refuse parameters that exclude each other."""
        check_callables("callbacks", self.callbacks or ())
        if any(dropout) and self.solver == "lbfgs":
            raise ValueError("dropout: expected 0 with solver='lbfgs', which needs the same cost at every evaluation")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")

    def _weights(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike, incremental: bool) -> AnyArray:
        """Return the weight of each sample times the weight of its class, on the host; None where all count alike."""
        weights = checked_weights(sample_weight, X)
        of_class = self._class_weights(y, incremental=incremental)
        if of_class is None:
            return weights
        weights = divisible(of_class if weights is None else weights * of_class, "class_weight")
        if not incremental:
            check_weights(weights)
        return weights

    def _begin(self, widths: list[int], X: ArrayLike, *, first: bool) -> Array | None:
        """Make a network of these widths, or go on with the present one; return a copy of its present parameters."""
        if first:
            self._initialize(widths, X)
            return None
        kept = self._connect(self._configuration(X, kept=self.coefs_[0]))
        before = kept.backend.copy(kept.parameters)
        fitted = list(self._network.layer_sizes)
        if fitted != widths:
            self._keep_widths(fitted, widths)
        return before

    def _keep_widths(self, fitted: list[int], asked: list[int]) -> None:
        """Warn that training goes on with the widths fitted before, or raise an error where scikit-learn fails too."""
        if self.solver == "lbfgs" or len(fitted) != len(asked) or fitted[-1] != asked[-1]:
            raise ValueError(
                f"hidden_layer_sizes: expected the widths fitted before, with inputs and outputs {fitted}, got {asked}"
            )
        warnings.warn(
            f"hidden_layer_sizes: training goes on with the widths fitted before, {fitted[1:-1]}, as scikit-learn's "
            f"does; for {asked[1:-1]}, fit with warm_start=False",
            UserWarning,
            stacklevel=callers_level(),
        )

    def _training(self, X: ArrayLike, targets: AnyArray, weights: AnyArray, dropout: tuple[float, ...]) -> Training:
        """Make the data of a fit from checked samples."""
        network, backend = self._network, self._network.backend
        inputs, Y = self._placed(X, targets)
        if backend.on_host and isinstance(inputs, HostData):
            inputs = Y = converted_rows(inputs, Y, backend, network.dtype)
        return Training(
            network,
            inputs,
            Y,
            None if weights is None else backend.asarray(weights, network.dtype),
            dropout,
            self._constant_costs(targets),
            self._outputs_averaged(),
        )

    def _train_by_full_batch(
        self, training: Training, held_out: HeldOut | None, callbacks: Sequence[EpochCallback]
    ) -> None:
        if held_out is not None:
            self.validation_scores_, self.validation_loss_curve_ = held_out.scores, held_out.costs
        result, self.n_iter_, self.loss_ = full_batch.train(self, training, held_out, callbacks)
        full_batch.warn_unless_converged(result, self.n_iter_, self.max_iter)

    def _train_by_minibatches(
        self,
        training: Training,
        held_out: HeldOut | None,
        callbacks: Sequence[EpochCallback],
        how: dict[str, Any],
    ) -> None:
        """Train, and keep the records as attributes, also if training ends by an exception."""
        records = Records.of(self, self.__dict__, validates=held_out is not None)

        def publish() -> None:
            records.leave_in(self)

        fit = MinibatchFit(self, training, held_out, records, self._random_state, publish, callbacks, **how)
        try:
            fit.run()
        finally:
            publish()

    def _hidden_layer_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        try:
            sizes = list(map(operator.index, sizes)) if isinstance(sizes, Iterable) else [operator.index(sizes)]
        except TypeError:
            raise TypeError(f"hidden_layer_sizes: expected whole numbers, got {sizes!r}") from None
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _initialize(self, layer_sizes: Sequence[int], X: ArrayLike) -> None:
        """Make a network, draw its parameters as scikit-learn does, and begin new records."""
        self.n_layers_: int = len(layer_sizes)
        self.n_iter_ = self.t_ = 0
        self.out_activation_: str = self._network_loss()[1]
        network = Network(layer_sizes, init="zeros", **self._configuration(X))
        for name in ("_optimizer", "_best_parameters", "validation_loss_curve_", "validation_scores_"):
            self.__dict__.pop(name, None)
        draw_parameters(self._random_state, network.own, self._drawn_for())
        self._hand_out(network, X)
        if self.solver != "lbfgs":
            Records.of(self, {}, validates=False).leave_in(self)

    def _drawn_for(self) -> list[str]:
        """Return for each layer the activation that decides the range of its parameters.

        scikit-learn draws the output layer for the activation of the last hidden layer.
        """
        activations = self._activations(self.n_layers_ - 2)
        return [*activations, activations[-1] if activations else our_name(str(self.activation))]

    def _split(
        self, X: ArrayLike, targets: AnyArray, weights: AnyArray, validation_data: Any
    ) -> tuple[tuple[AnyArray, AnyArray, AnyArray], HeldOut | None]:
        """Return the data to train on, and the data that judge it: those given, or a share of the training data."""
        if validation_data is not None:
            return (X, targets, weights), self._given_validation(validation_data)
        if not self.early_stopping or self.solver == "lbfgs":
            return (X, targets, weights), None
        train, validation = split_rows(self._random_state, X.shape[0], self.validation_fraction, self._strata(targets))
        part = (take(X, train), targets[train], None if weights is None else weights[train])
        check_weights(part[2])
        held_weights = None if weights is None else weights[validation]
        return part, self._hold_out(take(X, validation), targets[validation], held_weights)

    def _strata(self, targets: AnyArray) -> AnyArray:
        """Return the classes whose shares a random split keeps, or None."""
        return None

    def _given_validation(self, validation_data: Any) -> HeldOut:
        """Check `validation_data`, (X, y) or (X, y, sample_weight), as the training data were checked."""
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise TypeError(f"validation_data: expected a pair (X, y), got {type(validation_data).__name__}")
        X, y, *weights = validation_data
        X, _, targets = self._validate_input(X, y, incremental=True, reset=False)
        return self._hold_out(X, targets, checked_weights(weights[0] if weights else None, X))

    def _hold_out(self, X: ArrayLike, targets: AnyArray, sample_weight: ArrayLike) -> HeldOut:
        """Make the data that judge a fit from checked samples."""
        labels, constants = self._targets_as_predicted(targets), self._constant_costs(targets)
        return HeldOut(*self._placed(X, targets), labels, sample_weight, constants, self._validation_score)

    def _placed(self, X: ArrayLike, targets: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return checked inputs as `_on_backend` does, and their targets in the same place."""
        network, inputs = self._network, self._on_backend(X)
        in_steps_on_host = network.backend.on_host and self.solver != "lbfgs" and not hasattr(X, "toarray")
        if in_steps_on_host and isinstance(targets, ClassTargets):
            inputs = inputs if isinstance(inputs, HostData) else HostData(inputs)
            return inputs, HostData(targets.numbers, targets.shape[1], targets.one_hot)
        if isinstance(inputs, HostData):
            return inputs, HostData(np.ascontiguousarray(targets, network.dtype))
        return inputs, network.backend.asarray(targets, network.dtype)

    # -- scikit-learn's own -------------------------------------------------------------------------------------

    @classmethod
    def from_sklearn(cls, fitted: Any, **options: Any) -> Self:
        """Make an estimator of ours from scikit-learn's of the same name: it predicts the same, and goes on the same.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier or MLPRegressor
            A fitted estimator. It is not changed, and shares no memory.
        **options : dict
            Parameters that scikit-learn's does not have: ``backend``, ``dtype`` and so on.

        Returns
        -------
        estimator : MLPClassifier or MLPRegressor
            Optimizer, records and random state come along, so that `partial_fit` goes on as it would have there.

        Raises
        ------
        TypeError
            If `fitted` is another estimator.
        NotFittedError
            If it is not fitted.

        See Also
        --------
        to_sklearn : The other way round.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> theirs = MLPClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
        >>> ours = dp.MLPClassifier.from_sklearn(theirs)
        >>> bool(np.allclose(ours.predict_proba(X), theirs.predict_proba(X)))
        True
        """
        return cast("Self", exchange.from_sklearn(cls, fitted, options))

    def to_sklearn(self) -> Any:
        """Make scikit-learn's estimator of the same name from this one, for where deltaprop is not installed.

        Parameters that it does not have and that concern training alone (``class_weight``, ``dropout``, ``scoring``,
        ``callbacks``, ``backend``, ``ranks``) are left behind.

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            It shares no memory with this one.

        Raises
        ------
        NotFittedError
            If this one is not fitted.
        ValueError
            If scikit-learn has no such activation, loss or output activation.

        See Also
        --------
        from_sklearn : The other way round.

        Examples
        --------
        >>> import numpy as np
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> ours = dp.MLPClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
        >>> theirs = ours.to_sklearn()
        >>> type(theirs).__module__.split(".")[0], bool(np.allclose(ours.predict_proba(X), theirs.predict_proba(X)))
        ('sklearn', True)
        """
        return exchange.to_sklearn(self)

    # -- what scikit-learn asks ---------------------------------------------------------------------------------

    def _custom_score(self, held_out: HeldOut) -> float:
        """Score the data held out by the scorer that `scoring` names."""
        scorer = check_scoring(self, self.scoring)
        names = self.__dict__.pop("feature_names_in_", None)  # the data held out are an array by now
        options = {} if held_out.sample_weight is None else {"sample_weight": held_out.sample_weight}
        try:
            # On the host, as the targets are: scikit-learn compares the predictions with them.
            X = held_out.X.array if isinstance(held_out.X, HostData) else self._network.backend.to_numpy(held_out.X)
            return float(scorer(self, X, held_out.y, **options))
        finally:
            if names is not None:
                self.feature_names_in_ = names

    def _is_stochastic(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags = TransformerTags()
        return tags


def checked_weights(sample_weight: ArrayLike, X: ArrayLike) -> AnyArray:
    """Check the sample weights as scikit-learn does, on the host; None where there are none."""
    if sample_weight is None:
        return None
    # X may be on a device: scikit-learn needs only its dtype and its number of rows.
    given = on_host(sample_weight, "sample_weight")
    checked = _check_sample_weight(given, np.empty((X.shape[0], 1), X.dtype))
    return divisible(checked, "sample_weight", np.asarray(given, np.float64))
