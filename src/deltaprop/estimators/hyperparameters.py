"""The common parameters of MLPClassifier and MLPRegressor, and the values they may have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions, validate_parameter_constraints

from deltaprop.backends import BACKENDS, BY_NAME_ONLY, Backend
from deltaprop.backends.choices import HiddenActivation, LossName, OutputActivation
from deltaprop.derivation.activations import HIDDEN_ACTIVATIONS, OUTPUT_ACTIVATIONS
from deltaprop.estimators.inputs import Number
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.choice import RanksArgument
from deltaprop.training.callbacks import EpochCallback

#: What scikit-learn makes a generator from.
RandomState: TypeAlias = int | np.random.RandomState | None
#: The name of a scorer of scikit-learn, or a function (estimator, X, y) -> float.
Scoring: TypeAlias = str | Callable[..., float] | None
#: Functions that are called after every epoch.
Callbacks: TypeAlias = Sequence[EpochCallback] | None
#: The weight of each class, "balanced", or both for each of several outputs.
ClassWeight: TypeAlias = Literal["balanced"] | Mapping[Any, float] | list[Any] | None
#: How the weights are found, and how the learning rate of "sgd" changes.
Solver: TypeAlias = Literal["lbfgs", "sgd", "adam"]
RateSchedule: TypeAlias = Literal["constant", "invscaling", "adaptive"]
#: The losses that have a name.
ClassLoss: TypeAlias = Literal["log_loss", "binary_cross_entropy", "squared_error"]
#: Each loss of classes by our names: for one choice among several classes, and for a yes or no (or several of them).
LOSSES_OF_CLASSES: dict[ClassLoss, tuple[LossName, LossName]] = {
    "log_loss": ("clipped_categorical_cross_entropy", "clipped_binary_cross_entropy"),
    "binary_cross_entropy": ("clipped_binary_cross_entropy", "clipped_binary_cross_entropy"),
    "squared_error": ("squared_error", "squared_error"),
}
QuantityLoss: TypeAlias = Literal["squared_error", "poisson", "huber", "absolute_error"]
#: Activations by scikit-learn's names and by ours.
ActivationName: TypeAlias = Literal["logistic", HiddenActivation]
OutputActivationName: TypeAlias = Literal["logistic", OutputActivation]
#: scikit-learn's names of activations, where they differ from ours.
SCIKIT_LEARN_NAMES = {"logistic": "sigmoid"}
#: What hidden layers may use, by either name.
ACTIVATION_NAMES = {"logistic", *HIDDEN_ACTIVATIONS}


def our_name(activation: str) -> str:
    """Return the name of an activation in `deltaprop.derivation.activations`."""
    return SCIKIT_LEARN_NAMES.get(activation, activation)


class BackendName(StrOptions):
    """A name of a backend, with or without the number of a device."""

    def is_satisfied_by(self, val: object) -> bool:
        """Return whether it is one of them; `get_backend` checks the number behind the colon."""
        return isinstance(val, str) and val.partition(":")[0] in self.options


BACKEND_NAMES = BackendName({"auto", *BACKENDS, *BY_NAME_ONLY})


#: Types of parameters whose equal values are the same to every check.
PLAIN = {bool, float, int, str, type(None)}


@lru_cache(maxsize=256)
def _names_of_parameters(cls: Any) -> tuple[str, ...]:
    return tuple(cls._get_param_names())


@lru_cache(maxsize=4096, typed=True)
def _check(cls: Any, name: str, value: object) -> None:
    """Check a parameter as scikit-learn does."""
    validate_parameter_constraints(cls._parameter_constraints, {name: value}, cls.__name__)


class Hyperparameters:
    """The parameters of an estimator; see `deltaprop.MLPClassifier` for what each of them does."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(ACTIVATION_NAMES), list, tuple],
        "solver": [StrOptions(set(get_args(Solver)))],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(get_args(RateSchedule)))],
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
        "backend": [BACKEND_NAMES, Backend],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), np.dtype, None],
        "dropout": [Number(Real, 0, 1, closed="left"), list, tuple],
        "output_activation": [StrOptions({"logistic", *OUTPUT_ACTIVATIONS}), None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "callbacks": [list, tuple, None],
        "progress": ["boolean"],
        "ranks": [StrOptions({"mpi"}), HasMethods(["Get_rank", "Get_size"]), Ranks, None],
    }

    hidden_layer_sizes: int | Sequence[int]
    solver: Solver
    alpha: float
    batch_size: int | Literal["auto"]
    learning_rate: RateSchedule
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: RandomState
    tol: float
    verbose: bool | int
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
    loss: Any  # of a type that each estimator names
    dropout: float | Sequence[float]
    output_activation: OutputActivationName | None
    scoring: Scoring
    callbacks: Callbacks
    progress: bool
    ranks: RanksArgument

    def _validate_params(self) -> None:
        """Check all parameters as scikit-learn does, which takes longer than some fits: what has passed passes again.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not what ``_parameter_constraints`` asks for.
        """
        cls: Any = type(self)
        for name in _names_of_parameters(cls):
            value = getattr(self, name)
            (_check if type(value) in PLAIN else _check.__wrapped__)(cls, name, value)

    def _store(self, parameters: dict[str, Any]) -> None:
        """Keep the arguments of a constructor as attributes, unchanged."""
        self.__dict__.update({name: value for name, value in parameters.items() if name not in ("self", "__class__")})

    def _samples_a_step(self, samples: int) -> int:
        """Return the size of a minibatch: with "auto", 200, or all samples where there are fewer."""
        return min(200 if self.batch_size == "auto" else int(self.batch_size), samples)

    def _schedule(self) -> str:
        """Return how the learning rate changes; with Adam it is constant."""
        return "constant" if self.solver == "adam" else self.learning_rate

    def _described(self) -> dict[str, Any]:
        """Return the parameters by name, for callbacks."""
        return {name: self.__dict__[name] for name in self._parameter_constraints if name != "callbacks"}

    def _say(self, line: str) -> None:
        """Print `line` to standard output where ``verbose`` asks for it."""
        if self.verbose:
            sys.stdout.write(f"{line}\n")
