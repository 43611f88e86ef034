"""MLPClassifier: scikit-learn's estimator of that name, with additions that its users have asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from deltaprop.backends import Array, Backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray
from deltaprop.backends.choices import BackendName, FloatDType
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.backends.typed_decorators import keeps_type
from deltaprop.estimators import class_targets
from deltaprop.estimators import hyperparameters as hp
from deltaprop.estimators.class_targets import ClassTargets
from deltaprop.estimators.fit_data import CheckedData, HeldOut
from deltaprop.estimators.inputs import checked_data, on_host
from deltaprop.estimators.multilayer_perceptron import MultilayerPerceptron, fit_context
from deltaprop.estimators.probabilities import divided_slope, log_probabilities, log_probabilities_from_z, probabilities
from deltaprop.inputs.arrays import is_above_limit
from deltaprop.network import Network
from deltaprop.training import evaluation
from deltaprop.training.exclusive import training_of


@methods_on_its_device
class MLPClassifier(ClassifierMixin, MultilayerPerceptron):
    """A multi-layer perceptron for classes: scikit-learn's estimator of that name, by deltaprop's engine.

    Parameters up to `max_fun` are scikit-learn's, with its defaults, and lead to its numbers: in float64 on NumPy, the
    same ``coefs_`` to rounding. Those after it are additions whose defaults change nothing.

    Parameters
    ----------
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
    loss : {"log_loss", "binary_cross_entropy", "squared_error"}, default "log_loss"
        "log_loss" is cross-entropy: with softmax for one of several classes, with the logistic function otherwise. The
        others have a logistic output for each class; `predict_proba` then gives each of several classes the share of
        its output in their sum.
    class_weight : dict, "balanced" or None, default None
        How much the samples of each class count; `sample_weight` is multiplied by it.
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
    classes_ : array, (n_classes,)
        Class labels; of multilabel targets, their numbers.
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
    MLPRegressor : The same for quantities.
    deltaprop.Network : The engine, with the names of the derivation.

    Notes
    -----
    X may be a NumPy array, a list, a pandas or polars DataFrame, a CSR or CSC matrix, or an array on a CUDA device of
    any library that speaks DLPack or ``__cuda_array_interface__``; what is on a device is used where it is.

    Examples
    --------
    >>> from deltaprop import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = MLPClassifier(solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.97
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **MultilayerPerceptron._parameter_constraints,
        "loss": [StrOptions(set(hp.LOSSES_OF_CLASSES))],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    def __init__(
        self,
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
        loss: hp.ClassLoss = "log_loss",
        class_weight: hp.ClassWeight = None,
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
        sample_weight: Any = None,
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
        y : array_like, (m,) or (m, n_labels)
            Class labels of any kind, or for multilabel targets a matrix of 0 and 1.
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
        self : MLPClassifier
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
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = dp.MLPClassifier((16,), learning_rate_init=0.03, tol=1e-3, random_state=0, early_stopping=True)
        >>> clf = clf.fit(X, y)
        >>> clf.n_iter_ < 200, [W.shape for W in clf.coefs_]
        (True, [(4, 16), (16, 3)])
        """
        with training_of(self):
            checkpoints = (checkpoint, checkpoint_every, resume)
            return self._fit(X, y, sample_weight, validation_data, incremental=False, checkpoints=checkpoints)

    @keeps_type(available_if(lambda estimator: estimator._is_stochastic()))
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch over the data given, from the parameters there are; not with solver "lbfgs".

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_labels)
            Class labels of any kind, or for multilabel targets a matrix of 0 and 1.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.
        classes : array_like, (n_classes,), optional
            All labels that will ever occur; needed in the first call.

        Returns
        -------
        self : MLPClassifier
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            As `fit`; also if there are labels not among `classes`, or with early stopping.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = dp.MLPClassifier((16,), learning_rate_init=0.03, random_state=0)
        >>> for epoch in range(3):
        ...     clf = clf.partial_fit(X, y, classes=[0, 1, 2])
        >>> clf.t_, len(clf.loss_curve_)  # samples trained on, and epochs
        (450, 3)
        """
        y = on_host(y, "y")
        with training_of(self):
            if _check_partial_fit_first_call(self, classes):
                labels = y if type_of_target(y).startswith("multilabel") else classes
                self._label_binarizer = LabelBinarizer().fit(labels)
            return self._fit(X, y, sample_weight, incremental=True)

    def _validate_input(self, X: ArrayLike, y: ArrayLike, *, incremental: bool, reset: bool) -> CheckedData:
        X, y = checked_data(self, X, y, dtype=self.dtype, reset=reset)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer, targets = class_targets.of_new(y)
            self.classes_: HostArray = self._label_binarizer.classes_
            return X, y, targets
        return X, y, class_targets.of_seen(self._label_binarizer, y, self.classes_, incremental=incremental)

    def _network_loss(self) -> tuple[str, str]:
        of_several = self._label_binarizer.y_type_ == "multiclass"
        loss = hp.LOSSES_OF_CLASSES[self.loss][0 if of_several else 1]
        default = "softmax" if loss == "clipped_categorical_cross_entropy" else "logistic"
        return loss, self.output_activation or default

    def _class_weights(self, y: ArrayLike, *, incremental: bool) -> AnyArray:
        return class_targets.weights_of_classes(self.class_weight, y, incremental=incremental)

    def _strata(self, targets: AnyArray) -> AnyArray:
        return targets if self.n_outputs_ == 1 else None

    def _targets_as_predicted(self, targets: AnyArray) -> AnyArray:
        if isinstance(targets, ClassTargets):
            return self._label_binarizer.classes_[targets.numbers]
        return self._label_binarizer.inverse_transform(targets)

    # -- predictions --------------------------------------------------------------------------------------------

    def _labels(self, outputs: AnyArray) -> AnyArray:
        """Return the labels that belong to a^(L), (m, n_outputs) on the host."""
        return class_targets.labels_of(self._label_binarizer, outputs)

    def _validation_score(self, held_out: HeldOut, prediction: Array | None) -> float:
        if self.scoring is not None:
            return self._custom_score(held_out)
        if prediction is None:
            predicted = self._label_binarizer.classes_[evaluation.largest(self._network, held_out.X)]
        else:
            predicted = self._labels(self._network.backend.to_numpy(prediction))
        return class_targets.accuracy(held_out.y, predicted, held_out.sample_weight)

    def predict(self, X: ArrayLike) -> AnyArray:
        """Predict the most probable class of each sample; of multilabel targets, every label more probable than not.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        labels : array, (m,) or (m, n_labels)
            An array of the same kind as `X`, if it can hold the labels, else a NumPy array.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["equal", "different", "different", "equal"]
        >>> clf = dp.MLPClassifier((8,), activation="tanh", solver="lbfgs", random_state=3).fit(X, y)
        >>> clf.predict(X).tolist()
        ['equal', 'different', 'different', 'equal']
        """
        if (ready := self._outputs_as_is(X)) is not None:
            return self._labels(ready)
        network, inputs, checked = self._inputs(X)
        of_classes = network.backend.on_host and self._label_binarizer.y_type_ == "multiclass"
        if of_classes and is_above_limit(checked.shape[0], self.n_outputs_, network.dtype):
            return self._label_binarizer.classes_[evaluation.largest(network, inputs)]
        outputs = self._like(evaluation.predict(network, inputs), checked)
        return class_targets.labels_like(self._labels(on_host(outputs)), outputs)

    def predict_proba(self, X: ArrayLike) -> AnyArray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
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
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = dp.MLPClassifier((), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
        >>> clf.predict_proba(X[:2]).round(1).tolist()
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
        """
        return self._probabilities(self._outputs(X))

    def _probabilities(self, outputs: AnyArray) -> AnyArray:
        return probabilities(outputs, divided=self._divides())

    def _divides(self) -> bool:
        """Return whether the probabilities of several classes are the outputs divided by their sum."""
        return self._label_binarizer.y_type_ == "multiclass" and self.out_activation_ != "softmax"

    def _slope_of_predictions(self, network: Network, inputs: Array) -> AnyArray:
        slope = super()._slope_of_predictions(network, inputs)
        return divided_slope(slope, network.predict(inputs)) if self._divides() else slope

    def predict_log_proba(self, X: ArrayLike) -> AnyArray:
        """Predict the logarithm of each probability, which is never −inf: for a small one, it is computed from z.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        logarithms : array, (m, n_classes)
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
        >>> clf = dp.MLPClassifier((), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
        >>> bool(np.isfinite(clf.predict_log_proba(1000 * X)).all())  # where some probabilities are 0
        True
        """
        network, inputs, checked = self._inputs(X)
        both = evaluation.layers(network, inputs, lambda work: [work.A[-1], work.Z[-1]])
        outputs, z = (self._like(array, checked) for array in both)
        p = self._probabilities(outputs)
        if network.loss == "squared_error":
            return log_probabilities(p)
        return log_probabilities_from_z(p, z, softmax=network.output_activation == "softmax", divided=self._divides())

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of samples, by weight, whose labels are predicted right: all labels, of multilabel targets.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        y : array_like, (m,) or (m, n_labels)
            Class labels of any kind, or for multilabel targets a matrix of 0 and 1.
        sample_weight : array_like, (m,), optional
            How much each sample counts; by default all count 1.

        Returns
        -------
        score : float
            The accuracy, from 0 to 1.

        Raises
        ------
        NotFittedError, ValueError
            If `fit` has not been called; if the data are not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> clf = dp.MLPClassifier((8,), activation="tanh", solver="lbfgs", random_state=3).fit(X, y)
        >>> clf.score(X, y), clf.score(X, [0, 1, 1, 1])
        (1.0, 0.75)
        """
        y, weight = on_host(y, "y"), on_host(sample_weight, "sample_weight")
        return class_targets.accuracy(y, on_host(self.predict(X)), weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
