"""MLPRegressor: scikit-learn's estimator of that name, with additions that its users have asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from deltaprop.backends import Array, Backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.backends.choices import BackendName, FloatDType
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.backends.typed_decorators import keeps_type
from deltaprop.derivation.losses import PairOfFunctions
from deltaprop.estimators import hyperparameters as hp
from deltaprop.estimators import member_scores
from deltaprop.estimators.fit_data import CheckedData, HeldOut
from deltaprop.estimators.inputs import checked_data, on_host
from deltaprop.estimators.multilayer_perceptron import MultilayerPerceptron, fit_context
from deltaprop.training.exclusive import training_of


@methods_on_its_device
class MLPRegressor(RegressorMixin, MultilayerPerceptron):
    """A multi-layer perceptron for quantities: scikit-learn's estimator of that name, by deltaprop's engine.

    Parameters up to `max_fun` are scikit-learn's, with its defaults, and lead to its numbers: in float64 on NumPy, the
    same ``coefs_`` to rounding. Those after it are additions whose defaults change nothing.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "huber", "absolute_error"} or (cost, gradient), default "squared_error"
        ½ ‖h − y‖²; half the Poisson deviance with an exponential output, for y ≥ 0; the Huber loss with its bend at 1;
        ``|h − y|``. Or two functions of the outputs and the targets, (m, n_outputs) each, of the kind that the backend
        computes with: the cost, (m,) or (m, n_outputs), and its gradient ∂cost/∂h, (m, n_outputs).
    hidden_layer_sizes : int or sequence of int, default (100,)
        Widths of the hidden layers; ``()`` is a network without any.
    activation : str or sequence of str, default "relu"
        The activation of all hidden layers, or one for each: "identity", "logistic" (or "sigmoid"), "tanh", "relu",
        "leaky_relu", "softplus", "silu" or "gelu".
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        Adam or stochastic gradient descent over minibatches, or L-BFGS over all samples.
    alpha : float, default 0.0001
        The factor of the l2 penalty, α/2 Σ W² divided by the size of the minibatch (of the training set with "lbfgs").
        With sample weights, it is divided by their sum instead.
    batch_size : int or "auto", default "auto"
        Samples a step; "auto" is 200, or all where there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        How the learning rate of "sgd" changes: it stays η, is η/(t + 1)^power_t after t samples, or is divided by 5
        whenever training would otherwise stop.
    learning_rate_init : float, default 0.001
        The learning rate η that "sgd" and "adam" begin with.
    power_t : float, default 0.5
        The exponent of "invscaling".
    max_iter : int, default 200
        Epochs at most; iterations at most with "lbfgs".
    shuffle : bool, default True
        Draw a new order of the samples every epoch.
    random_state : int, RandomState or None, default None
        Draws the initial parameters, the validation split and the orders of the samples.
    tol : float, default 1e-4
        Training stops after more than `n_iter_no_change` epochs in a row that did not improve the loss (or the
        validation score) by `tol`; with "lbfgs", once no entry of the gradient exceeds it.
    verbose : bool or int, default False
        Print the loss of every epoch to standard output.
    warm_start : bool, default False
        Let `fit` go on from the parameters there are.
    momentum : float, default 0.9
        The momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default True
        Use Nesterov's momentum with "sgd".
    early_stopping : bool, default False
        Hold out a share of the training data, stop by its score, and restore the best parameters. A score that is nan
        counts as no improvement; where there is no other, the parameters of the last epoch are kept.
    validation_fraction : float, default 0.1
        The share of the training data that early stopping holds out.
    beta_1 : float, default 0.9
        The decay of Adam's first moment, in [0, 1).
    beta_2 : float, default 0.999
        The decay of Adam's second moment, in [0, 1).
    epsilon : float, default 1e-8
        The number that Adam adds to the denominator.
    n_iter_no_change : int, default 10
        See `tol`; with ``numpy.inf`` training never stops early.
    max_fun : int, default 15000
        Evaluations of the loss at most, with "lbfgs".
    dropout : float or sequence of float, default 0.0
        The probability that a unit of the hidden layers is left out of a step, in [0, 1): one for all hidden layers or
        one for each. It is not supported by "lbfgs".
    output_activation : str or None, default None
        The activation of the output; by default the one that goes with the loss.
    scoring : str, callable or None, default None
        The score that early stopping watches, as in scikit-learn's model selection; by default `score`.
    callbacks : sequence of callable or None, default None
        Each is called with a `deltaprop.training.callbacks.EpochEnd` after every epoch; one that returns True ends
        training.
    progress : bool, default False
        Draw a progress bar on standard error, or in a notebook below the cell.
    ranks : "mpi", mpi4py communicator or None, default None
        The processes that train this network together, as of `Network.fit`, with the same data; rank 0 draws, and calls
        callbacks and `scoring`. Not for "lbfgs", searches and ensembles. Pickles leave a communicator behind.
    backend : {"auto", "numpy", "cupy", "cupy:N"} or Backend, default "auto"
        Where to compute. "auto" is CuPy where a CUDA device answers, else NumPy; "cupy:1" is the second CUDA device.
    dtype : {"float32", "float64"} or None, default None
        The dtype of the parameters and of all arithmetic; by default the one X has if it is one of these, else float64.

    Attributes
    ----------
    coefs_ : list of array, (n_in, n_out)
        Weights, one array a layer: the transposed W^(l). NumPy arrays, or CuPy arrays where X was one.
    intercepts_ : list of array, (n_out,)
        Biases, one array a layer.
    network_ : Network
        The network with these parameters, and all that `deltaprop.Network` can do.
    loss_ : float
        The loss of the last epoch.
    best_loss_ : float or None
        The lowest loss of all epochs; None with early stopping.
    loss_curve_ : list of float
        One loss an epoch; not with "lbfgs".
    validation_scores_ : list of float or None
        One score an epoch, where there are validation data.
    validation_loss_curve_ : list of float or None
        One loss of the validation data an epoch, where there are such data.
    best_validation_score_ : float or None
        The highest score, with early stopping; nan where the score was nan in every epoch.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Samples trained on in all.
    n_layers_ : int
        Layers, the inputs and the outputs included.
    n_outputs_ : int
        Outputs of the network.
    out_activation_ : str
        The activation of the output, by scikit-learn's name.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Names of the columns of X; only where they had names.

    See Also
    --------
    MLPClassifier : The same for classes.
    deltaprop.Network : The engine, with the names of the derivation.

    Notes
    -----
    X may be a NumPy array, a list, a pandas or polars DataFrame, a CSR or CSC matrix, or an array on a CUDA device of
    any library that speaks DLPack or ``__cuda_array_interface__``; what is on a device is used where it is.

    For several outputs, scikit-learn reports the squared error as the mean over them while its gradient is the gradient
    of the sum; here ``loss_``, ``best_loss_`` and ``loss_curve_`` are that sum, and training stops where scikit-learn's
    does.

    Examples
    --------
    >>> from deltaprop import MLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = MLPRegressor(solver="lbfgs", max_iter=1000, alpha=1.0, random_state=0).fit(X, y / 100)
    >>> reg.score(X, y / 100) > 0.5
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions(set(get_args(hp.QuantityLoss))), tuple],
    }

    def __init__(
        self,
        loss: hp.QuantityLoss | PairOfFunctions = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: hp.ActivationName | Sequence[hp.ActivationName] = "relu",
        *,
        solver: hp.Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: hp.RateSchedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: hp.RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        output_activation: hp.OutputActivationName | None = None,
        scoring: hp.Scoring = None,
        callbacks: hp.Callbacks = None,
        progress: bool = False,
        ranks: Any = None,
        backend: BackendName | Backend = "auto",
        dtype: FloatDType | None = None,
    ) -> None:
        self._store(locals())

    # -- fitting ------------------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
        resume: bool = False,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs)
            Quantities to predict.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Scored after every epoch into ``validation_scores_`` and ``validation_loss_curve_``; with `early_stopping`,
            in place of a share of the training data.
        checkpoint : path, optional
            Where to write, after every `checkpoint_every` epochs and at the end, all that a fit by "adam" or "sgd"
            depends on: a model file, which `Network.load` reads as well. Each fit needs a file of its own.
        checkpoint_every : int, default 1
            Epochs.
        resume : bool, default False
            Go on from the checkpoint where there is one, else from the start. On NumPy, the result is the one, to the
            bit, that an uninterrupted fit would have; `max_iter` may be more than before. What the estimator has
            learned before, with `warm_start`, is replaced.

        Returns
        -------
        self : MLPRegressor
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or the parameters are no longer finite. Also if the
            checkpoint is damaged, or of other data, other parameters or more epochs; nothing has been changed then.
        OSError
            If a checkpoint cannot be written or read.
        RuntimeError, BackendError
            If another call is training the estimator; with `ranks`, if another rank fails, or MPI cannot be had.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` ended training.
        UserWarning
            If the validation score was nan in every epoch.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> reg = dp.MLPRegressor(hidden_layer_sizes=(16,), learning_rate_init=0.03, tol=1e-3, random_state=0)
        >>> reg = reg.fit(X[:350], y[:350] / 100, validation_data=(X[350:], y[350:] / 100))
        >>> len(reg.validation_loss_curve_) == reg.n_iter_, [W.shape for W in reg.coefs_]
        (True, [(10, 16), (16, 1)])
        """
        with training_of(self):
            checkpoints = (checkpoint, checkpoint_every, resume)
            return self._fit(X, y, sample_weight, validation_data, incremental=False, checkpoints=checkpoints)

    @keeps_type(available_if(lambda estimator: estimator._is_stochastic()))
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train one epoch over the data given, from the parameters there are; not with solver "lbfgs".

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs)
            Quantities to predict.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.

        Returns
        -------
        self : MLPRegressor
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            As `fit`; also with early stopping.

        Examples
        --------
        >>> import deltaprop as dp
        >>> reg = dp.MLPRegressor(hidden_layer_sizes=(), solver="sgd", learning_rate_init=0.1, random_state=0)
        >>> for epoch in range(500):
        ...     reg = reg.partial_fit([[-1.0], [0.0], [1.0]], [-1.0, 1.0, 3.0])
        >>> reg.predict([[2.0]]).round(2).tolist()  # 2 x + 1
        [5.0]
        """
        with training_of(self):
            return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: ArrayLike, y: ArrayLike, *, incremental: bool, reset: bool) -> CheckedData:
        X, y = checked_data(self, X, y, dtype=self.dtype, reset=reset, y_numeric=True)
        if self.loss == "poisson" and np.any(y < 0):
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': it needs y >= 0.")
        return X, y, y.reshape(len(y), -1)

    def _network_loss(self) -> tuple[Any, str]:
        if isinstance(self.loss, tuple) and any(isinstance(each, Integral) for each in self.loss):
            raise ValueError(
                f"loss: expected a name or a pair of callables (cost, gradient), got {self.loss!r}; hidden_layer_sizes "
                "comes after loss, so pass it by its name"
            )
        return self.loss, self.output_activation or ("exp" if self.loss == "poisson" else "identity")

    def _outputs_averaged(self) -> int:
        return self.n_outputs_ if self.loss == "squared_error" else 1

    def _constant_costs(self, targets: AnyArray) -> Floats | None:
        # scikit-learn reports half the Poisson deviance: h − y log h, minus its lowest value.
        return np.asarray((xlogy(targets, targets) - targets).sum(axis=1)) if self.loss == "poisson" else None

    def _targets_as_predicted(self, targets: AnyArray) -> AnyArray:
        return targets[:, 0] if self.n_outputs_ == 1 else targets

    # -- predictions --------------------------------------------------------------------------------------------

    def _validation_score(self, held_out: HeldOut, prediction: Array | None) -> float:
        if self.scoring is not None:
            return self._custom_score(held_out)
        assert prediction is not None
        if not self._network.backend.all_finite(prediction):
            return float("nan")
        predicted = self._targets_as_predicted(self._network.backend.to_numpy(prediction))
        if len(predicted) < 2:  # there it is nan, with a warning
            return float(r2_score(held_out.y, predicted, sample_weight=held_out.sample_weight))
        columns = len(predicted), -1
        of_one = predicted.reshape(1, *columns), np.asarray(held_out.y).reshape(columns), held_out.sample_weight
        return float(member_scores.r2(*of_one)[0])

    def predict(self, X: ArrayLike) -> AnyArray:
        """Predict the value of each sample.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        values : array, (m,) or (m, n_outputs)
            An array of the same kind as `X`.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> reg = dp.MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0.0, random_state=0)
        >>> reg = reg.fit([[-1.0], [0.0], [1.0]], [-1.0, 1.0, 3.0])
        >>> reg.predict([[2.0]]).round(3).tolist()  # 2 x + 1
        [5.0]
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the coefficient of determination R², by weight.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_outputs)
            Quantities to predict.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.

        Returns
        -------
        score : float
            R², at most 1: the mean over the outputs.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if the data are not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> reg = dp.MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0.0, random_state=0)
        >>> reg = reg.fit([[-1.0], [0.0], [1.0]], [-1.0, 1.0, 3.0])
        >>> round(reg.score([[2.0], [3.0]], [5.0, 7.0]), 3)
        1.0
        """
        return float(
            r2_score(on_host(y, "y"), on_host(self.predict(X)), sample_weight=on_host(sample_weight, "sample_weight"))
        )
