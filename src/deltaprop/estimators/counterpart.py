"""`Counterpart`: an estimator of ours that does the work of scikit-learn's, which keeps its class and attributes.

scikit-learn's own code has checked the data, drawn the parameters and begun the records before any of this is called.
"""

from __future__ import annotations

import dis
import inspect
import operator
import threading
import warnings
from collections.abc import Callable
from threading import RLock
from typing import Any

import numpy as np
import sklearn.neural_network._multilayer_perceptron as perceptrons
from scipy.optimize import OptimizeResult
from sklearn.utils.optimize import _check_optimize_result

from deltaprop.backends.array_types import AnyArray, Floats, Indices
from deltaprop.derivation.parameters import Parameters
from deltaprop.errors import BackendError
from deltaprop.estimators import full_batch
from deltaprop.estimators.classifier import MLPClassifier
from deltaprop.estimators.exchange import (
    flat_of,
    rule_of,
    shared_layers,
    tell_optimizer,
    their_optimizer,
)
from deltaprop.estimators.fit_data import HeldOut, Training, has_weight
from deltaprop.estimators.hyperparameters import our_name
from deltaprop.estimators.minibatches import MinibatchFit
from deltaprop.estimators.records import Records
from deltaprop.estimators.regressor import MLPRegressor
from deltaprop.estimators.step_rule import StepRule
from deltaprop.inputs.arrays import divisible
from deltaprop.network import Network
from deltaprop.reports.progress import Progress
from deltaprop.training import evaluation
from deltaprop.training.exclusive import training_of

#: The parameters that scikit-learn's two classes share with ours.
PARAMETERS = (*perceptrons.BaseMultilayerPerceptron._parameter_constraints, "loss")
#: Attributes of scikit-learn's that ours has under the same name and with the same meaning.
DESCRIPTION = ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "_label_binarizer", "classes_")
#: Records that a fit goes on from.
RECORDS = (
    "best_loss_",
    "best_validation_score_",
    "validation_scores_",
    "_no_improvement_count",
    "t_",
    "loss_",
    "loss_curve_",
)
#: What preparing a training may raise, where scikit-learn's own code may have no objection, or another one.
REFUSED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, BackendError)


class NotPreparedError(Exception):
    """Ours cannot train this; the estimator is as it was."""


class Counterpart:
    """Our estimator and network for one estimator of scikit-learn.

    On the host, the arrays in its ``coefs_``, in ``intercepts_`` and in its optimizer share the memory of the network
    and of our optimizer. So nothing is copied between two calls of ``partial_fit``, and an array that is changed in
    place changes the predictions. From a device they are copies, which are compared.

    Parameters
    ----------
    theirs : MLPClassifier or MLPRegressor
        scikit-learn's, with ``coefs_``.
    dtype : {"float32", "float64"}
        What to compute in.

    Raises
    ------
    AttributeError, TypeError, ValueError
        If its attributes do not make a network.

    Attributes
    ----------
    network : Network
    lock : RLock
        Held while the network is trained.
    way : str
        How the last training was done.
    """

    way: str

    def __init__(self, theirs: Any, dtype: str) -> None:
        ours = MLPClassifier if isinstance(theirs, perceptrons.MLPClassifier) else MLPRegressor
        self.ours: Any = ours()
        self.lock: RLock = threading.RLock()
        self.way = ""
        self._rule: StepRule | None = None
        self._told: list[Any] = []
        self._describe(theirs)
        coefs = theirs.coefs_
        if len(coefs) != theirs.n_layers_ - 1:
            raise ValueError(f"coefs_: expected {theirs.n_layers_ - 1} arrays, one a layer, got {len(coefs)}")
        names: dict[str, Any] = {
            "hidden_activation": [our_name(theirs.activation)] * (len(coefs) - 1),
            "output_activation": our_name(theirs.out_activation_),
            "loss": self.ours._network_loss()[0],
            "dtype": dtype,
        }
        self.network: Network = Network(
            [coefs[0].shape[0], *(coef.shape[1] for coef in coefs)],
            **names,
            init="zeros",
            backend="auto",
        )
        self.ours._network = self.network
        self.network.weights = [coef.T for coef in coefs]
        self.network.biases = list(theirs.intercepts_)
        self._arrays: tuple[AnyArray, ...] = (*coefs, *theirs.intercepts_)
        self._shared = False

    @property
    def where(self) -> str:
        """The backend that computes."""
        return str(self.network.backend.label)

    def _describe(self, theirs: Any) -> None:
        """Take over the parameters of `theirs`, and what it knows of its data."""
        own = vars(theirs)
        self.ours.__dict__ |= {name: getattr(theirs, name) for name in PARAMETERS}
        self.ours.__dict__ |= {name: own[name] for name in DESCRIPTION if name in own}

    def agrees_with(self, theirs: Any) -> bool:
        """Return whether `theirs` would compute with the same parameters and activations."""
        arrays, network = (*theirs.coefs_, *theirs.intercepts_), self.network
        hidden = our_name(theirs.activation)
        return (
            len(arrays) == len(self._arrays)
            and all(map(operator.is_, arrays, self._arrays))
            and (self._shared or self._has_values(arrays))
            and theirs.n_layers_ == len(network.layer_sizes)
            and network.activations[-1] == our_name(theirs.out_activation_)
            and all(name == hidden for name in network.activations[:-1])
        )

    def _has_values(self, arrays: tuple[AnyArray, ...]) -> bool:
        """Return whether the parameters of the network are those in `arrays`."""
        backend = self.network.backend
        own = Parameters(
            backend, self.network.layer_sizes, self.network.dtype, flat=backend.to_numpy(self.network.parameters)
        )
        ours: list[AnyArray] = [*(W.swapaxes(0, 1) for W in own.weights), *own.biases]
        return all(np.array_equal(array, one) for array, one in zip(arrays, ours, strict=True))

    def _show(self, theirs: Any) -> None:
        """Have ``coefs_`` and ``intercepts_`` of `theirs` be the parameters of the network."""
        if not (self._shared and all(map(operator.is_, (*theirs.coefs_, *theirs.intercepts_), self._arrays))):
            theirs.coefs_, theirs.intercepts_ = shared_layers(self.network, self.network.parameters)
            self._arrays = (*theirs.coefs_, *theirs.intercepts_)
            self._shared = self.network.backend.on_host

    # -- predictions --------------------------------------------------------------------------------------------

    def outputs(self, X: AnyArray) -> AnyArray:
        """Compute a^(L), (m, n_outputs), on the host, for checked inputs: an array, or CSR."""
        with self.network.backend.scope():
            outputs: AnyArray = self.ours._like(evaluation.predict(self.network, self.ours._on_backend(X)), X)
            return outputs

    # -- training -----------------------------------------------------------------------------------------------

    def fit_by_minibatches(
        self, theirs: Any, X: AnyArray, y: AnyArray, sample_weight: Floats | None, *, incremental: bool
    ) -> None:
        """Train `theirs` on checked data, (m, n_features) and (m, n_outputs), and leave in it what its own code would.

        That is so too if training ends by an exception.

        Raises
        ------
        NotPreparedError
            Before anything is trained. No random number has been drawn.
        """
        goes_on = incremental and hasattr(theirs, "_optimizer")
        with self.lock, training_of(self.network), self.network.backend.scope():
            drawn = theirs._random_state.get_state()
            try:
                fit = self._prepared(theirs, X, y, sample_weight, goes_on=goes_on, incremental=incremental)
            except REFUSED as error:
                theirs._random_state.set_state(drawn)
                raise NotPreparedError(str(error)) from error
            try:
                fit.run()
            finally:
                self.way = fit.way
                if not goes_on:
                    theirs._optimizer = their_optimizer(theirs, fit.rule, theirs.coefs_ + theirs.intercepts_)
                self._leave_in(theirs, fit.records, fit.rule)

    def _prepared(
        self,
        theirs: Any,
        X: AnyArray,
        y: AnyArray,
        sample_weight: Floats | None,
        *,
        goes_on: bool,
        incremental: bool,
    ) -> TheirFit:
        """Make everything that a training by minibatches needs."""
        self._describe(theirs)
        ours = self.ours
        ours._random_state = theirs._random_state
        kept = {name: value for name, value in vars(theirs).items() if name in RECORDS}
        if kept.get("best_loss_") is not None:
            kept["_best_watched"] = kept["best_loss_"]
        if goes_on:
            kept["_optimizer"] = self._rule if self._told_last(theirs._optimizer) else self._rule_of(theirs)
        if theirs.early_stopping:
            kept["_best_parameters"] = self._best_parameters(theirs)
        part, held_out = ours._split(X, y, weights_of(sample_weight), None)
        if held_out is not None and not has_weight(held_out.sample_weight):
            raise ValueError("all samples held out have the weight 0")
        training = ours._training(*part, (0.0,) * (theirs.n_layers_ - 2))
        records = Records.of(ours, kept, validates=held_out is not None)
        # An explicit size of the minibatches is an integer of NumPy's there, which makes a loss of float32 a float64.
        kind = type_of_loss(X, y, sample_weight) if theirs.batch_size == "auto" else np.float64
        return TheirFit(ours, training, held_out, records, kind, part[2], incremental=incremental)

    def _leave_in(self, theirs: Any, records: Records, rule: StepRule) -> None:
        """Write the records, the parameters and the optimizer into `theirs`."""
        stopping = records.stopping
        theirs.n_iter_, theirs.t_ = records.n_iter, records.t
        theirs.loss_curve_ = records.loss_curve
        theirs._no_improvement_count = int(stopping.worse_epochs)
        if records.loss is not None:
            theirs.loss_ = records.loss
        if stopping.early_stopping:
            theirs.validation_scores_, theirs.best_validation_score_ = records.validation_scores, stopping.best_score
        else:
            theirs.best_loss_ = stopping.best_loss
        self._show(theirs)
        if stopping.early_stopping:
            theirs._best_coefs, theirs._best_intercepts = theirs.coefs_, theirs.intercepts_
        tell_optimizer(theirs._optimizer, rule, lambda flat: shared_layers(self.network, flat))
        self._rule, self._told = rule, _state_of(theirs._optimizer)

    def _told_last(self, optimizer: Any) -> bool:
        """Return whether scikit-learn's optimizer is as our last training left it."""
        state = _state_of(optimizer)
        return len(state) == len(self._told) and all(
            a is b or (isinstance(a, int | float) and a == b) for a, b in zip(state, self._told, strict=True)
        )

    def _rule_of(self, theirs: Any) -> StepRule:
        with self.network.backend.scope():
            return rule_of(theirs._optimizer, self.network)

    def _best_parameters(self, theirs: Any) -> Any:
        """Return the best parameters so far; after early stopping they are the present ones, in the same memory."""
        if all(map(operator.is_, theirs._best_coefs, theirs.coefs_)):
            return self.network.parameters
        return flat_of(self.network, theirs._best_coefs, theirs._best_intercepts)

    def fit_by_full_batch(self, theirs: Any, X: AnyArray, y: AnyArray, sample_weight: Floats | None) -> OptimizeResult:
        """Train `theirs` by L-BFGS on checked data, show it the parameters, and return scipy's result.

        Raises
        ------
        NotPreparedError
            Before anything is trained.
        """
        network, self.way = self.network, "full batch"
        with self.lock, training_of(network), network.backend.scope():
            try:
                self._describe(theirs)
                training = self.ours._training(X, y, weights_of(sample_weight), (0.0,) * (theirs.n_layers_ - 2))
            except REFUSED as error:
                raise NotPreparedError(str(error)) from error
            try:
                return full_batch.train(self.ours, training, None, ())[0]
            finally:
                self._show(theirs)


class TheirFit(MinibatchFit):
    """A training by minibatches whose losses, scores and warnings are those of scikit-learn's own code."""

    loss_type: Callable[[float], Any]
    outputs: int

    def __init__(
        self,
        ours: Any,
        training: Training,
        held_out: HeldOut | None,
        records: Records,
        loss_type: Callable[[float], Any],
        sample_weight: Floats | None,
        *,
        incremental: bool,
    ) -> None:
        self.loss_type, self.outputs = loss_type, training.outputs_averaged
        self.weighs = None if sample_weight is None or sample_weight.all() else sample_weight != 0
        training.outputs_averaged = 1  # `_train` has divided already
        state = ours._random_state
        super().__init__(ours, training, held_out, records, state, lambda: None, (), incremental=incremental)

    @property
    def way(self) -> str:
        """How an epoch is trained."""
        if self.trainer.chunked is not None:
            return "chunks"
        epoch = self.trainer.whole_epoch
        return "step by step" if epoch is None else type(epoch).__name__.removesuffix("Epoch").lower()

    def warn(self, message: str, category: type[Warning] = UserWarning) -> None:
        """Warn at a line of scikit-learn's: filters name its module."""
        warn_as_theirs(message, category)

    def _is_lost(self) -> bool:
        return False  # scikit-learn goes on to the last epoch

    def order_next(self) -> Indices:
        """Return the order of the next epoch.

        Raises
        ------
        ZeroDivisionError
            If all samples of a minibatch have the weight 0, as scikit-learn's code raises it.
        """
        order = super().order_next()
        if self.weighs is not None:
            size = self.mlp._samples_a_step(self.samples)
            if not np.logical_or.reduceat(self.weighs[order], np.arange(0, self.samples, size)).all():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")  # a minibatch has no mean
        return order

    def _train(self, progress: Progress) -> tuple[float, float]:
        cost, decay = super()._train(progress)
        return self.loss_type(cost / self.outputs), self.loss_type(decay)

    def _watch_score(self) -> None:
        super()._watch_score()
        if np.isnan(self.records.validation_scores[-1]):
            self.records.stopping.worse_epochs = 0

    def _restore_best(self) -> None:
        if self.records.best_parameters is not None:
            self.network.parameters = self.records.best_parameters


def warn_as_theirs(message: str, category: type[Warning]) -> None:
    """Warn of something at the line of scikit-learn's perceptrons that warns of it."""
    _call_at_their_line("_fit_stochastic", message[:20], warnings.warn, message, category)


def their_number_of_iterations(result: OptimizeResult, max_iter: int) -> int:
    """Return the number of iterations of L-BFGS; warn at scikit-learn's line if it has not converged."""
    check = _check_optimize_result
    return int(_call_at_their_line("_fit_lbfgs", check.__name__, check, "lbfgs", result, max_iter))


def _call_at_their_line(method: str, name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function from the line of scikit-learn's perceptrons that makes the same call.

    So filters of warnings find the module and the line that they know, and the registry of that module is used.

    Parameters
    ----------
    method : str
        The method of scikit-learn's that makes the call.
    name : str
        A name or the beginning of a text in that line.
    function : callable
        What to call, with `args`.
    """
    there = inspect.unwrap(getattr(perceptrons.BaseMultilayerPerceptron, method)).__code__
    line, seen = there.co_firstlineno, False
    for step in dis.get_instructions(there):
        seen = seen or str(step.argval).startswith(name)
        if seen and step.opname.startswith("CALL"):
            line = (step.positions and step.positions.lineno) or line
            break
    code = compile("function(*args)", there.co_filename, "eval")
    code = code.replace(co_firstlineno=line, co_name=there.co_name, co_qualname=there.co_qualname)
    return eval(code, vars(perceptrons), {"function": function, "args": args})


def type_of_loss(X: AnyArray, y: AnyArray, sample_weight: Floats | None) -> Callable[[float], Any]:
    """Return the type of the losses that scikit-learn's own code computes."""
    if y.dtype.kind != "f":
        return np.float64
    kinds = [array.dtype for array in (X, y, sample_weight) if array is not None]
    return np.result_type(*kinds).type


def weights_of(sample_weight: Floats | None) -> Floats | None:
    """Return checked sample weights in the form in which ours takes them.

    Raises
    ------
    ValueError
        If no weight is a normal number, or the reciprocal of their sum is not one.
    """
    return None if sample_weight is None else divisible(sample_weight, "sample_weight")


def _state_of(optimizer: Any) -> list[Any]:
    """Return scikit-learn's optimizer and everything in it that a training changes."""
    lists = [array for name in ("ms", "vs", "velocities") for array in getattr(optimizer, name, ())]
    return [optimizer, *lists, float(optimizer.learning_rate), getattr(optimizer, "t", 0)]
