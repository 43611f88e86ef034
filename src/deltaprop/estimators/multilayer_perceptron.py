"""What MLPClassifier and MLPRegressor share: parameters, the way from a table to a network, fitting, features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import train_test_split
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

from deltaprop.arguments import check_callables
from deltaprop.backends import BACKENDS, BY_NAME_ONLY, Array, Backend
from deltaprop.backends.device_scope import methods_on_its_device, on_its_device
from deltaprop.derivation.activations import OUTPUT_ACTIVATIONS
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs.trainer import check_dropout
from deltaprop.estimators import exchange, full_batch, minibatches
from deltaprop.estimators.class_targets import ClassTargets
from deltaprop.estimators.fit_data import HeldOut, Training, check_weights
from deltaprop.estimators.fitted_network import ACTIVATIONS, FittedNetwork, our_name
from deltaprop.estimators.inputs import Number, on_host, take
from deltaprop.inputs.arrays import HostData, divisible
from deltaprop.inputs.sources import converted_rows
from deltaprop.network import Network
from deltaprop.training.exclusive import training_of


class BackendName(StrOptions):
    """A name of a backend, with or without the number of a device."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one of them; `get_backend` judges what stands behind the colon."""
        return isinstance(val, str) and val.partition(":")[0] in self.options


@methods_on_its_device
class MultilayerPerceptron(FittedNetwork):
    """The common part of the two estimators; made for being derived from."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(ACTIVATIONS), list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "backend": [BackendName({"auto", *BACKENDS, *BY_NAME_ONLY}), Backend],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), np.dtype, None],
        "dropout": [Number(Real, 0, 1, closed="left"), list, tuple],
        "output_activation": [StrOptions({"logistic", *OUTPUT_ACTIVATIONS}), None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "callbacks": [list, tuple, None],
        "progress": ["boolean"],
    }

    hidden_layer_sizes: Any
    solver: str
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    loss: Any
    dropout: Any
    output_activation: str | None
    scoring: Any
    callbacks: Any
    progress: bool
    loss_curve_: list[float]
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any
    validation_loss_curve_: Any
    #: The lowest loss so far as `Training.watched` has it.
    _best_watched: float = np.inf

    def _store(self, parameters: dict[str, Any]) -> None:
        """Keep the arguments of a constructor, as they are, under their names."""
        self.__dict__.update({name: value for name, value in parameters.items() if name not in ("self", "__class__")})

    # -- what the two estimators differ in ----------------------------------------------------------------------

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Any, Any]:
        """X checked, y but for its shape as it was given, and the network's targets, (m, n_outputs), on the host."""

    @abstractmethod
    def _targets_as_predicted(self, targets: Any) -> Any:
        """Rows of the network's targets as `predict` would give them."""

    @abstractmethod
    def _validation_score(self, held_out: HeldOut, prediction: Array | None) -> float:
        """The score of a^(L), of all samples or as it is found, on data held out."""

    def _constant_costs(self, targets: Any) -> np.ndarray[Any, Any] | None:
        """The cost of each sample, (m,), that does not depend on the network, where the loss has such a term."""
        return None

    def _outputs_averaged(self) -> int:
        """By how many outputs scikit-learn divides the cost that it watches."""
        return 1

    def _class_weights(self, y: Any, *, incremental: bool) -> Any:
        """A weight for each sample from its class, (m,), or None."""
        return None

    # -- fitting ------------------------------------------------------------------------------------------------

    @on_its_device
    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any = None, *, incremental: bool) -> Self:
        """Train from new parameters, or from those there are under `warm_start` and where `incremental`."""
        hidden = self._hidden_layer_sizes()
        self._activations(len(hidden))
        dropout = check_dropout(self.dropout, len(hidden))
        check_callables("callbacks", self.callbacks or ())
        if any(dropout) and self.solver == "lbfgs":
            raise ValueError("dropout: expected 0 with solver='lbfgs', which needs the same cost at every evaluation")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y, targets = self._validate_input(X, y, incremental=incremental, reset=first)
        weights = _weights(sample_weight, X)
        of_class = self._class_weights(y, incremental=incremental)
        if of_class is not None:
            weights = divisible(of_class if weights is None else weights * of_class, "class_weight")
            if not incremental:
                check_weights(weights)
        self.n_outputs_ = targets.shape[1]
        self._random_state = check_random_state(self.random_state)
        widths, before = [X.shape[1], *hidden, self.n_outputs_], None
        if first:
            self._initialize(widths, X)
        else:
            kept = self._connect(self._configuration(X, kept=self.coefs_[0]))
            before = kept.backend.copy(kept.parameters)
            if list(self._network.layer_sizes) != widths:
                raise ValueError(
                    "hidden_layer_sizes: expected the widths fitted before, with inputs and outputs "
                    f"{list(self._network.layer_sizes)}, got {widths}"
                )
        network = self._network
        if any(dropout):
            network.seed = int(self._random_state.randint(2**31 - 1))
        part, held_out = self._split(X, targets, weights, validation_data)
        if self.solver != "lbfgs":
            self._keep_records(validates=held_out is not None)
        elif held_out is not None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        train_X, train_targets, train_weights = part
        backend = network.backend
        inputs, train_Y = self._placed(train_X, train_targets)
        if backend.on_host and isinstance(inputs, HostData):
            inputs = train_Y = converted_rows(inputs, train_Y, network.backend, network.dtype)
        training = Training(
            network,
            inputs,
            train_Y,
            None if train_weights is None else backend.asarray(train_weights, network.dtype),
            dropout,
            self._constant_costs(train_targets),
            self._outputs_averaged(),
        )
        with training_of(network):
            if self.solver == "lbfgs":
                full_batch.train(self, training, held_out)
            else:
                minibatches.train(self, training, held_out, incremental=incremental)
        if not backend.all_finite(network.parameters):
            if before is not None:
                network.parameters = before
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        self._hand_out(network, X)
        return self

    def _hidden_layer_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _initialize(self, layer_sizes: Sequence[int], X: Any) -> None:
        """A network with parameters drawn as scikit-learn draws them, and empty records."""
        self.n_layers_ = len(layer_sizes)
        self.n_iter_ = self.t_ = 0
        self.out_activation_ = self._network_loss()[1]
        network = Network(layer_sizes, init="zeros", **self._configuration(X))
        for name in ("_optimizer", "_best_parameters", "validation_loss_curve_", "validation_scores_"):
            self.__dict__.pop(name, None)
        draw_parameters(self._random_state, network.own, self._drawn_for())
        self._hand_out(network, X)
        if self.solver != "lbfgs":
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self._best_watched = np.inf
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_ = [] if self.early_stopping else None
            self.validation_loss_curve_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _drawn_for(self) -> list[str]:
        """For each layer the activation its parameters are drawn for: the output layer counts to the last hidden."""
        activations = self._activations(self.n_layers_ - 2)
        return [*activations, activations[-1] if activations else our_name(str(self.activation))]

    def _keep_records(self, *, validates: bool) -> None:
        """Make the lists there have to be, where a fit goes on from one that kept others."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_, self.best_loss_, self._no_improvement_count = [], np.inf, 0
        if validates and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        if self.early_stopping:
            best = getattr(self, "best_validation_score_", None)
            if best is None or np.isnan(best):
                self.best_validation_score_, self.best_loss_ = -np.inf, None
                self.__dict__.pop("_best_parameters", None)
        elif self.best_loss_ is None:
            self.best_loss_ = np.inf

    def _split(
        self, X: Any, targets: Any, weights: Any, validation_data: Any
    ) -> tuple[tuple[Any, Any, Any], HeldOut | None]:
        """What to train on, and what to judge by: the data handed in for that, or a share of the training data."""
        if validation_data is not None:
            return (X, targets, weights), self._handed_in(validation_data)
        if not self.early_stopping or self.solver == "lbfgs":
            return (X, targets, weights), None
        train, validation = train_test_split(
            np.arange(X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(targets),
        )
        if len(validation) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        part = (take(X, train), targets[train], None if weights is None else weights[train])
        check_weights(part[2])
        held_weights = None if weights is None else weights[validation]
        return part, self._hold_out(take(X, validation), targets[validation], held_weights)

    def _strata(self, targets: Any) -> Any:
        """What a random split shall keep the shares of."""
        return None

    def _handed_in(self, validation_data: Any) -> HeldOut:
        """`validation_data`, a pair (X, y), or a triple with sample weights, checked as the training data were."""
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise TypeError(f"validation_data: expected a pair (X, y), got {type(validation_data).__name__}")
        X, y, *weights = validation_data
        X, _, targets = self._validate_input(X, y, incremental=True, reset=False)
        return self._hold_out(X, targets, _weights(weights[0] if weights else None, X))

    def _hold_out(self, X: Any, targets: Any, sample_weight: Any) -> HeldOut:
        """Checked samples as what a fit is judged by."""
        labels, constants = self._targets_as_predicted(targets), self._constant_costs(targets)
        return HeldOut(*self._placed(X, targets), labels, sample_weight, constants)

    def _placed(self, X: Any, targets: Any) -> tuple[Any, Any]:
        """Checked inputs as of `_on_backend`, and their targets where these are."""
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
        """The estimator of ours in the state of scikit-learn's of the same name: what it predicts, and how it goes on.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier or MLPRegressor
            A fitted one. It is not changed, and shares nothing.
        **options
            Parameters that scikit-learn's does not have: ``backend``, ``dtype`` and so on.

        Returns
        -------
        MLPClassifier or MLPRegressor
            Optimizer, records and random state come along, so that `partial_fit` goes on as it would have there.

        Raises
        ------
        TypeError
            If `fitted` is another estimator.
        NotFittedError
            If it is not fitted.
        """
        return cast("Self", exchange.from_sklearn(cls, fitted, options))

    def to_sklearn(self) -> Any:
        """scikit-learn's estimator of the same name in the state of this one; for where deltaprop is not installed.

        Parameters that it does not have and that concern training alone (``class_weight``, ``dropout``, ``scoring``,
        ``callbacks``, ``backend``) are left behind.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            It shares nothing with this one.

        Raises
        ------
        NotFittedError
            If this one is not fitted.
        ValueError
            If scikit-learn has no such activation, loss or output activation.
        """
        return exchange.to_sklearn(self)

    # -- what scikit-learn asks ---------------------------------------------------------------------------------

    def _custom_score(self, held_out: HeldOut) -> float:
        """What `scoring` says of the data held out."""
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


def draw_parameters(rng: Any, parameters: Parameters, activations: Sequence[str]) -> None:
    """Draw weights and biases as scikit-learn draws them: uniform in Glorot and Bengio's range, in its order."""
    backend, dtype = parameters.backend, parameters.flat.dtype
    for W, b, activation in zip(parameters.weights, parameters.biases, activations, strict=True):
        s_out, s_in = W.shape
        bound = np.sqrt((2.0 if activation == "sigmoid" else 6.0) / (s_in + s_out))
        W[...] = backend.asarray(rng.uniform(-bound, bound, (s_in, s_out)).T, dtype)
        b[...] = backend.asarray(rng.uniform(-bound, bound, s_out), dtype)


def _weights(sample_weight: Any, X: Any) -> Any:
    """The sample weights as scikit-learn checks them, on the host, or None where there are none."""
    if sample_weight is None:
        return None
    # Of X, which it may find on a device, it is shown the dtype and the number of rows.
    given = on_host(sample_weight, "sample_weight")
    checked = _check_sample_weight(given, np.empty((X.shape[0], 1), X.dtype))
    return divisible(checked, "sample_weight", np.asarray(given, np.float64))
