"""What MLPClassifier and MLPRegressor share: parameters, the way from a table to a network, fitting, features."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import train_test_split
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from deltaprop import evaluation
from deltaprop.activations import HIDDEN_ACTIVATIONS, OUTPUT_ACTIVATIONS
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.estimators import full_batch, minibatches
from deltaprop.estimators.inputs import checked_inputs, on_host
from deltaprop.history import History
from deltaprop.model import Network
from deltaprop.trainer import check_dropout

#: scikit-learn's names of activations, where they differ from ours.
SCIKIT_LEARN_NAMES = {"logistic": "sigmoid"}
ACTIVATIONS = {"logistic", *HIDDEN_ACTIVATIONS}


def our_name(activation: str) -> str:
    """The name of an activation in `deltaprop.activations`."""
    return SCIKIT_LEARN_NAMES.get(activation, activation)


@dataclass
class Training:
    """What a fit trains on, as arrays of the network's backend.

    Attributes
    ----------
    network : Network
    X, Y, sample_weight : array, (m, s_1), (m, s_L) and (m,)
    dropout : tuple of float
        One a hidden layer.
    constant_costs : array, (m,), optional
        A cost of each sample, on the host, that does not depend on the network and belongs to the reported loss.
    outputs_averaged : int
        By how many outputs scikit-learn divides the cost that it watches.
    """

    network: Network
    X: Array
    Y: Array
    sample_weight: Array | None
    dropout: tuple[float, ...]
    constant_costs: np.ndarray[Any, Any] | None = None
    outputs_averaged: int = 1

    def watched(self, cost: float) -> float:
        """What stopping is decided by, from the mean cost of a sample: scikit-learn's mean over outputs."""
        return cost / self.outputs_averaged


def mean(values: np.ndarray[Any, Any] | None, weights: Any) -> float:
    """The mean of `values`, by `weights` where there are any; 0 of none."""
    return 0.0 if values is None else float(np.average(values, weights=weights))


@dataclass
class HeldOut:
    """Data that a fit is judged by after every epoch.

    Attributes
    ----------
    X, Y : array, (m, s_1) and (m, s_L)
        Of the network's backend.
    y : array
        The targets as `predict` gives them, on the host.
    sample_weight, constant_costs : array, (m,), optional
        On the host.
    """

    X: Array
    Y: Array
    y: Any
    sample_weight: Any
    constant_costs: np.ndarray[Any, Any] | None

    def record(self, mlp: MultilayerPerceptron, history: History) -> None:
        """Append the mean cost to ``validation_loss_curve_`` and the score to ``validation_scores_``."""
        network = mlp._network
        backend = network.backend
        prediction = backend.empty(self.Y.shape, network.dtype)
        weights = None if self.sample_weight is None else backend.asarray(self.sample_weight, network.dtype)
        m = self.X.shape[0] if weights is None else float(np.sum(self.sample_weight))
        cost = float(evaluation.data_cost(network, self.X, self.Y, prediction, weights)) / m
        mlp.validation_loss_curve_.append(cost + mean(self.constant_costs, self.sample_weight))
        score = float(mlp._validation_score(self, prediction))
        mlp.validation_scores_.append(score)
        history.validation_cost.append(mlp.validation_loss_curve_[-1])
        history.metrics.setdefault("score", []).append(score)
        if mlp.verbose and mlp.early_stopping:
            minibatches.say(mlp, f"Validation score: {score:f}")


class MultilayerPerceptron(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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
        "backend": [StrOptions({"auto", "numpy", "cupy"}), Backend],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), np.dtype, None],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "output_activation": [StrOptions({"logistic", *OUTPUT_ACTIVATIONS}), None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "callbacks": [list, tuple, None],
        "progress": ["boolean"],
    }

    hidden_layer_sizes: Any
    activation: Any
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
    backend: Any
    dtype: Any
    dropout: Any
    output_activation: str | None
    scoring: Any
    callbacks: Any
    progress: bool
    coefs_: list[Array]
    intercepts_: list[Array]
    loss_curve_: list[float]
    best_loss_: Any
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
    def _network_loss(self) -> tuple[Any, str]:
        """The loss by our name, and the output activation by scikit-learn's."""

    @abstractmethod
    def _targets_as_predicted(self, targets: Any) -> Any:
        """Rows of the network's targets as `predict` would give them."""

    @abstractmethod
    def _validation_score(self, held_out: HeldOut, prediction: Array) -> float:
        """The score of a^(L) on data held out."""

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

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any = None, *, incremental: bool) -> Self:
        """Train from new parameters, or from those there are under `warm_start` and where `incremental`."""
        hidden = self._hidden_layer_sizes()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y, targets = self._validate_input(X, y, incremental=incremental, reset=first)
        weights = None if sample_weight is None else _check_sample_weight(on_host(sample_weight), _rows(X))
        of_class = self._class_weights(y, incremental=incremental)
        if of_class is not None:
            weights = of_class if weights is None else weights * of_class
        self.n_outputs_ = targets.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize([X.shape[1], *hidden, self.n_outputs_], X)
            before = None
        else:
            before = self._connect(self._configuration()).parameters.copy()
            widths = [X.shape[1], *hidden, self.n_outputs_]
            if list(self._network.layer_sizes) != widths:
                raise ValueError(
                    "hidden_layer_sizes: expected the widths fitted before, with inputs and outputs "
                    f"{list(self._network.layer_sizes)}, got {widths}"
                )
        network = self._network
        if any(dropout := check_dropout(self.dropout, len(network.layer_sizes) - 2)):
            network.seed = int(self._random_state.randint(2**31 - 1))
        part, held_out = self._split(X, targets, weights, validation_data)
        if self.solver != "lbfgs":
            self._keep_records(validates=held_out is not None)
        elif any(dropout):
            raise ValueError("dropout: expected 0 with solver='lbfgs', which needs the same cost at every evaluation")
        elif held_out is not None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        train_X, train_targets, train_weights = part
        backend = network.backend
        training = Training(
            network,
            self._on_backend(train_X),
            backend.asarray(train_targets, network.dtype),
            None if train_weights is None else backend.asarray(train_weights, network.dtype),
            dropout,
            self._constant_costs(train_targets),
            self._outputs_averaged(),
        )
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
        activations = self._activations(self.n_layers_ - 2)
        # Glorot and Bengio's range, with the output layer counted to the hidden one before it.
        after = [*activations, activations[-1] if activations else our_name(str(self.activation))]
        for W, b, activation in zip(network.weights, network.biases, after, strict=True):
            s_out, s_in = W.shape
            bound = np.sqrt((2.0 if activation == "sigmoid" else 6.0) / (s_in + s_out))
            W[...] = network.backend.asarray(self._random_state.uniform(-bound, bound, (s_in, s_out)).T, network.dtype)
            b[...] = network.backend.asarray(self._random_state.uniform(-bound, bound, s_out), network.dtype)
        self._hand_out(network, X)
        if self.solver != "lbfgs":
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self._best_watched = np.inf
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_ = [] if self.early_stopping else None
            self.validation_loss_curve_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _keep_records(self, *, validates: bool) -> None:
        """Make the lists there have to be, where a fit goes on from one that kept others."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_, self.best_loss_, self._no_improvement_count = [], np.inf, 0
        if validates and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        if self.early_stopping:
            if getattr(self, "best_validation_score_", None) is None:
                self.best_validation_score_, self.best_loss_ = -np.inf, None
            if not hasattr(self, "_best_parameters"):
                self._best_parameters = self._network.parameters.copy()
        elif self.best_loss_ is None:
            self.best_loss_ = np.inf

    def _split(
        self, X: Any, targets: Any, weights: Any, validation_data: Any
    ) -> tuple[tuple[Any, Any, Any], HeldOut | None]:
        """What to train on, and what to judge by: the data handed in for that, or a share of the training data."""
        if validation_data is not None:
            return (X, targets, weights), self._held_out(validation_data)
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
        part = (X[train], targets[train], None if weights is None else weights[train])
        held_out = HeldOut(
            self._on_backend(X[validation]),
            self._network.backend.asarray(targets[validation], self._network.dtype),
            self._targets_as_predicted(targets[validation]),
            None if weights is None else weights[validation],
            self._constant_costs(targets[validation]),
        )
        return part, held_out

    def _strata(self, targets: Any) -> Any:
        """What a random split shall keep the shares of."""
        return None

    def _held_out(self, validation_data: Any) -> HeldOut:
        """`validation_data`, a pair (X, y), or a triple with sample weights, checked as the training data were."""
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise TypeError(f"validation_data: expected a pair (X, y), got {type(validation_data).__name__}")
        X, y, *weights = validation_data
        X, y, targets = self._validate_input(X, y, incremental=True, reset=False)
        weight = _check_sample_weight(on_host(weights[0]), _rows(X)) if weights and weights[0] is not None else None
        Y = self._network.backend.asarray(targets, self._network.dtype)
        labels, constants = self._targets_as_predicted(targets), self._constant_costs(targets)
        return HeldOut(self._on_backend(X), Y, labels, weight, constants)

    # -- network and coefs_ -------------------------------------------------------------------------------------

    def _activations(self, hidden_layers: int) -> list[str]:
        """Our name of the activation of each hidden layer."""
        if isinstance(self.activation, str):
            return [our_name(self.activation)] * hidden_layers
        names = list(self.activation)
        if len(names) != hidden_layers:
            raise ValueError(f"activation: expected one name, or {hidden_layers}, one a hidden layer, got {names}")
        for l, name in enumerate(names):
            if name not in ACTIVATIONS:
                raise ValueError(f"activation[{l}]: expected one of {sorted(ACTIVATIONS)}, got {name!r}")
        return [our_name(name) for name in names]

    def _configuration(self, X: Any = None) -> dict[str, Any]:
        """The arguments of `Network`, besides the widths, that the parameters and what has been fitted ask for."""
        coefs = self.__dict__.get("coefs_")
        if X is None:
            assert coefs is not None
            dtype, lives_on = coefs[0].dtype, backend_of(coefs[0])
        else:
            dtype, lives_on = X.dtype, backend_of(X)
        backend = self.backend
        if lives_on is not None and lives_on.name != "numpy":
            if backend not in ("auto", lives_on.name, lives_on):
                raise TypeError(f"backend: expected 'auto' or {lives_on.name!r} for such input, got {backend!r}")
            backend = lives_on
        return {
            "hidden_activation": self._activations(self.n_layers_ - 2) or "relu",
            "output_activation": our_name(self.out_activation_),
            "loss": self._network_loss()[0],
            "dtype": self.dtype or (dtype if dtype.name == "float32" else np.float64),
            "backend": backend,
        }

    def _connect(self, configuration: dict[str, Any] | None = None) -> Network:
        """The network whose parameters ``coefs_`` and ``intercepts_`` are, made anew where they have been replaced."""
        network: Network | None = self.__dict__.get("_network")
        arrays = [*self.coefs_, *self.intercepts_]
        known = self.__dict__.get("_handed_out", ())
        same = network is not None and len(arrays) == len(known) and all(map(_is, arrays, known))
        if same and (configuration is None or _fits(network, configuration)):
            assert network is not None
            return network
        configuration = configuration or self.__dict__.get("_fitted_configuration") or self._configuration()
        sizes = [self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_)]
        network = Network(sizes, init="zeros", **configuration)
        network.weights = [coef.T for coef in self.coefs_]
        network.biases = list(self.intercepts_)
        self._hand_out(network, self.coefs_[0])
        return network

    def _hand_out(self, network: Network, like: Any) -> None:
        """Set ``coefs_`` and ``intercepts_`` to the network's parameters, as arrays of the kind of `like`.

        They share the network's memory, or where they had to be copied from a device are read-only: the network is
        where training and prediction look.
        """
        self._network = network
        shares = network.backend.name == "numpy" or backend_of(like) is network.backend
        if shares:
            self.coefs_ = [W.T for W in network.weights]
            self.intercepts_ = list(network.biases)
        else:
            self.coefs_ = [_read_only(network.backend.to_numpy(W).T) for W in network.weights]
            self.intercepts_ = [_read_only(network.backend.to_numpy(b)) for b in network.biases]
        self._handed_out = (*self.coefs_, *self.intercepts_)
        self._fitted_configuration = {
            "hidden_activation": network.hidden_activation,
            "output_activation": network.output_activation,
            "loss": network.loss,
            "dtype": network.dtype.name,
            "backend": self.backend if backend_of(like) is not network.backend else network.backend.name,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is made anew from ``coefs_``: buffers and devices do not travel."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_network", "_handed_out")}

    # -- what a fitted network is asked -------------------------------------------------------------------------

    def _on_backend(self, X: Any) -> Array:
        """Checked inputs as an array of the network's backend; on NumPy, CSR stays CSR."""
        network = self._network
        if hasattr(X, "toarray"):
            if network.backend.name == "numpy":
                return X.astype(network.dtype, copy=False)
            X = X.toarray()
        return network.backend.asarray(X, network.dtype)

    def _inputs(self, X: Any) -> tuple[Network, Array, Any]:
        """The network, `X` checked as an array of its backend, and `X` as it was checked."""
        check_is_fitted(self)
        network = self._connect()
        checked = checked_inputs(self, X, dtype=network.dtype)
        return network, self._on_backend(checked), checked

    def _like(self, array: Array, X: Any) -> Array:
        """`array`, of the network's backend, as the kind that `X` is."""
        backend = self._network.backend
        if backend.name == "numpy" or backend_of(X) is backend:
            return array
        return backend.to_numpy(array)

    def _outputs(self, X: Any) -> Array:
        """a^(L), (m, n_outputs), of the kind of `X`."""
        network, inputs, checked = self._inputs(X)
        return self._like(evaluation.predict(network, inputs), checked)

    def transform(self, X: Any, layer: int = -1) -> Array:
        """The activations of a hidden layer: the features that the network has learnt.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
        layer : int, default -1
            Which hidden layer: 0 is the first, -1 the last.

        Returns
        -------
        array, (m, hidden_layer_sizes[layer])

        Raises
        ------
        ValueError
            If there is no such layer, or X is not as `fit` has seen it.
        """
        network, inputs, checked = self._inputs(X)
        hidden = len(network.layer_sizes) - 2
        layer = operator.index(layer)
        if not -hidden <= layer < hidden:
            raise ValueError(f"layer: expected a hidden layer, {-hidden} … {hidden - 1}, got {layer}")
        return self._like(evaluation.layer(network, inputs, lambda work: work.A[1 + layer % hidden]), checked)

    @property
    def _n_features_out(self) -> int:
        return int(self.coefs_[-1].shape[0])

    def input_gradient(self, X: Any) -> Array:
        """How the outputs change with the inputs, sample by sample: ∂h_k/∂x_i.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)

        Returns
        -------
        array
            (m, n_features) where there is one output, else (m, n_outputs, n_features). The outputs are the predicted
            values of a regressor and the probabilities of a classifier (of ``classes_[1]`` where there are two).
        """
        network, inputs, checked = self._inputs(X)
        jacobian = network.jacobian(inputs.toarray() if hasattr(inputs, "toarray") else inputs)
        return self._like(jacobian[:, 0, :] if self.n_outputs_ == 1 else jacobian, checked)

    def _custom_score(self, held_out: HeldOut) -> float:
        """What `scoring` says of the data held out."""
        scorer = check_scoring(self, self.scoring)
        names = self.__dict__.pop("feature_names_in_", None)  # the data held out are an array by now
        options = {} if held_out.sample_weight is None else {"sample_weight": held_out.sample_weight}
        try:
            return float(scorer(self, self._like(held_out.X, self.coefs_[0]), held_out.y, **options))
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


def _rows(X: Any) -> Any:
    """Something with as many rows as X that scikit-learn can count."""
    return X if isinstance(X, np.ndarray) or hasattr(X, "toarray") else np.empty((X.shape[0], 1))


def _is(one: object, other: object) -> bool:
    return one is other


def _fits(network: Network | None, configuration: dict[str, Any]) -> bool:
    """Whether `network` is what `configuration` asks for."""
    assert network is not None
    hidden = configuration["hidden_activation"]
    hidden = [hidden] * (len(network.layer_sizes) - 2) if isinstance(hidden, str) else list(hidden)
    return (
        list(network.activations) == [*hidden, configuration["output_activation"]]
        and network.loss == configuration["loss"]
        and network.dtype == np.dtype(configuration["dtype"])
        and network.backend is get_backend(configuration["backend"])
    )


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array
