"""A fitted network behind ``coefs_`` and ``intercepts_``, and the questions it answers."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray
from deltaprop.backends.choices import BackendName, FloatDType
from deltaprop.backends.device_scope import methods_on_its_device, on_its_device
from deltaprop.derivation.state import Configuration
from deltaprop.estimators.drawing import DRAWN_AS
from deltaprop.estimators.hyperparameters import ACTIVATION_NAMES, BACKEND_NAMES, ActivationName, our_name
from deltaprop.estimators.inputs import checked_inputs
from deltaprop.inputs.arrays import HostData, is_above_limit, stays_on_host, takes_much_memory
from deltaprop.network import Network
from deltaprop.ranks.copies import RanksInCopies
from deltaprop.training import evaluation


@methods_on_its_device
class FittedNetwork(RanksInCopies, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An estimator whose ``coefs_`` and ``intercepts_`` are the parameters of a network.

    Training and prediction use the network. The two lists share its memory; where they had to be copied from a device,
    they are read-only. If the arrays have been replaced, by the user or because the estimator has been unpickled, the
    network is made anew from them.
    """

    activation: ActivationName | Sequence[ActivationName]
    backend: BackendName | Backend
    dtype: FloatDType | None
    coefs_: list[AnyArray]
    intercepts_: list[AnyArray]
    n_layers_: int
    n_outputs_: int
    n_features_in_: int
    feature_names_in_: AnyArray
    out_activation_: str

    @abstractmethod
    def _network_loss(self) -> tuple[Any, str]:
        """Return the loss by our name, and the output activation by scikit-learn's."""

    @property
    @on_its_device
    def network_(self) -> Network:
        """The fitted network: the same parameters with all that `Network` can do."""
        check_is_fitted(self, "coefs_")
        return self._connect()

    def _device_scope(self) -> AbstractContextManager[object]:
        """Select the device that ``backend`` names; otherwise the device of the network, where there is one.

        A `backend` that is none is left to the check of all parameters, which comes later.
        """
        chosen, network = self.backend, self.__dict__.get("_network")
        names_device = isinstance(chosen, str) and ":" in chosen and BACKEND_NAMES.is_satisfied_by(chosen)
        if names_device or isinstance(chosen, Backend):
            return get_backend(chosen).scope()
        return nullcontext() if network is None else network.backend.scope()

    # -- coefs_ and the network ---------------------------------------------------------------------------------

    def _activations(self, hidden_layers: int) -> list[str]:
        """Return our name of the activation of each hidden layer."""
        if isinstance(self.activation, str):
            return [our_name(self.activation)] * hidden_layers
        names = list(self.activation)
        if len(names) != hidden_layers:
            raise ValueError(f"activation: expected one name, or {hidden_layers}, one a hidden layer, got {names}")
        for l, name in enumerate(names):
            if name not in ACTIVATION_NAMES:
                raise ValueError(f"activation[{l}]: expected one of {sorted(ACTIVATION_NAMES)}, got {name!r}")
        return [our_name(name) for name in names]

    def _configuration(self, X: ArrayLike, kept: AnyArray | None = None) -> Configuration:
        """Return the arguments of `Network`, except the widths, for inputs (or ``coefs_[0]``) of the kind of `X`.

        Where parameters are `kept`, their dtype is used, whatever dtype the inputs have.
        """
        typical = X if kept is None else kept
        backend, lives_on = self.backend, backend_of(X)
        if lives_on is not None and not lives_on.on_host:
            if backend != "auto" and get_backend(backend).name != lives_on.name:
                raise TypeError(
                    f"backend: expected 'auto' or {lives_on.name!r} for arrays of {lives_on.name}, got {backend!r}"
                )
            backend = lives_on if backend == "auto" else backend
        return {
            "hidden_activation": self._activations(self.n_layers_ - 2),
            "output_activation": our_name(self.out_activation_),
            "loss": self._network_loss()[0],
            "dtype": self.dtype or ("float32" if typical.dtype.name == "float32" else "float64"),
            "backend": backend,
        }

    def _connect(self, configuration: Configuration | None = None) -> Network:
        """Return the network behind ``coefs_`` and ``intercepts_``, configured as given, or as it was fitted."""
        network: Network | None = self.__dict__.get("_network")
        arrays = [*self.coefs_, *self.intercepts_]
        known = self.__dict__.get("_handed_out", ())
        same = len(arrays) == len(known) and all(map(operator.is_, arrays, known))
        if network is not None and same and (configuration is None or _is_as(network, configuration)):
            return network
        if configuration is None:
            configuration = self.__dict__.get("_fitted_configuration") or self._configuration(self.coefs_[0])
        sizes = [self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_)]
        network = Network(sizes, init="zeros", **configuration)
        network.weights = [coef.T for coef in self.coefs_]
        network.biases = list(self.intercepts_)
        self._hand_out(network, self.coefs_[0])
        return network

    def _hand_out(self, network: Network, like: AnyArray) -> None:
        """Set ``coefs_`` and ``intercepts_`` to the parameters of `network`, as arrays of the same kind as `like`."""
        self._network, on_device = network, not network.backend.on_host
        network.init = DRAWN_AS
        if on_device and not network.backend.owns(like):
            self.coefs_ = [_read_only(network.backend.to_numpy(W).T) for W in network.weights]
            self.intercepts_ = [_read_only(network.backend.to_numpy(b)) for b in network.biases]
            on_device = False
        else:
            self.coefs_ = [W.swapaxes(0, 1) for W in network.weights]
            self.intercepts_ = list(network.biases)
        self._handed_out = (*self.coefs_, *self.intercepts_)
        self._fitted_configuration = {
            "hidden_activation": network.hidden_activation,
            "output_activation": network.output_activation,
            "loss": network.loss,
            "dtype": network.dtype.name,
            "backend": network.backend.label if on_device else self.backend,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network out of a pickle, which is made anew from ``coefs_``."""
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_network", "_handed_out", "_reseeded")}

    # -- what a fitted network is asked -------------------------------------------------------------------------

    def _on_backend(self, X: ArrayLike) -> AnyArray:
        """Return checked inputs as an array of the network's backend; on NumPy, CSR stays CSR.

        Inputs that a device has no room for stay on the host, as `HostData`, and so do inputs whose conversion would
        take much memory. The full-batch solver needs all of them at once, so they are converted for it.
        """
        network = self._network
        if hasattr(X, "toarray"):
            if network.backend.on_host:
                return X.astype(network.dtype, copy=False)
            X = X.toarray()
        columns = network.layer_sizes[0] + network.layer_sizes[-1]
        if getattr(self, "solver", None) != "lbfgs" and stays_on_host(X, network.backend, columns, network.dtype):
            return HostData(np.ascontiguousarray(X, network.dtype))
        if getattr(self, "solver", None) != "lbfgs" and takes_much_memory(X, network.backend, network.dtype):
            return HostData(X)
        return network.backend.asarray(X, network.dtype)

    def _inputs(self, X: ArrayLike) -> tuple[Network, AnyArray, AnyArray]:
        """Return the network, `X` as an array of its backend, and `X` as it was checked."""
        check_is_fitted(self)
        network = self._connect()
        checked = checked_inputs(self, X, dtype=network.dtype)
        return network, self._on_backend(checked), checked

    def _like(self, array: AnyArray, X: ArrayLike) -> AnyArray:
        """Return an array of the network's backend as an array of the same kind as `X`."""
        backend = self._network.backend
        return array if backend.on_host or backend.owns(X) else backend.to_numpy(array)

    def _outputs_as_is(self, X: ArrayLike) -> HostArray | None:
        """Compute a^(L), (m, n_outputs), of inputs that no check would change; None where there have to be checks."""
        if not (type(X) is np.ndarray and "_network" in self.__dict__ and X.shape[1:] == (self.n_features_in_,)):
            return None
        if hasattr(self, "feature_names_in_") or is_above_limit(X.shape[0], self.n_outputs_, np.float64):
            return None
        return evaluation.predict_as_is(self._connect(), X)

    def _outputs(self, X: ArrayLike) -> AnyArray:
        """Compute a^(L), (m, n_outputs), as an array of the same kind as `X`."""
        ready = self._outputs_as_is(X)
        if ready is not None:
            return ready
        network, inputs, checked = self._inputs(X)
        return self._like(evaluation.predict(network, inputs), checked)

    def transform(self, X: ArrayLike, layer: int = -1) -> AnyArray:
        """Compute the activations of a hidden layer: the features that the network has learnt.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.
        layer : int, default -1
            Which hidden layer: 0 is the first, -1 the last.

        Returns
        -------
        features : array, (m, hidden_layer_sizes[layer])
            An array of the same kind as `X`.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If there is no such layer, or X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = dp.MLPClassifier((16, 5), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
        >>> clf.transform(X).shape, clf.transform(X, layer=0).shape
        ((150, 5), (150, 16))
        """
        network, inputs, checked = self._inputs(X)
        hidden, layer = len(network.layer_sizes) - 2, operator.index(layer)
        if not -hidden <= layer < hidden:
            raise ValueError(f"layer: expected a hidden layer, {-hidden} … {hidden - 1}, got {layer}")
        (features,) = evaluation.layers(network, inputs, lambda work: [work.A[1 + layer % hidden]])
        return self._like(features, checked)

    @property
    def _n_features_out(self) -> int:
        return int(self.coefs_[-1].shape[0])

    def input_gradient(self, X: ArrayLike) -> AnyArray:
        """Compute how the outputs change with the inputs, sample by sample: ∂h_k/∂x_i.

        The outputs are the predicted values of a regressor and the probabilities of a classifier; of two classes, the
        probability of ``classes_[1]``.

        Parameters
        ----------
        X : array_like, sparse matrix or DataFrame, (m, n_features)
            Inputs.

        Returns
        -------
        gradient : array, (m, n_features) where there is one output, else (m, n_outputs, n_features)
            An array of the same kind as `X`.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        ValueError
            If X is not of the kind that `fit` has seen.

        Examples
        --------
        >>> import deltaprop as dp
        >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 2.0, 3.0, 5.0]  # 3 x_1 + 2 x_2
        >>> reg = dp.MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0.0, random_state=0).fit(X, y)
        >>> reg.input_gradient([[0.5, 0.5]]).round(2).tolist()
        [[3.0, 2.0]]
        """
        network, inputs, checked = self._inputs(X)
        inputs = inputs.array if isinstance(inputs, HostData) else inputs
        slope = self._slope_of_predictions(network, inputs.toarray() if hasattr(inputs, "toarray") else inputs)
        return self._like(slope[:, 0, :] if self.n_outputs_ == 1 else slope, checked)

    def _slope_of_predictions(self, network: Network, inputs: Array) -> AnyArray:
        """Compute how the predictions change with the inputs, (m, n_outputs, n_features)."""
        return network.jacobian(inputs)


def _is_as(network: Network, configuration: Configuration) -> bool:
    """Return whether `network` is what `configuration` asks for."""
    return (
        list(network.activations) == [*configuration["hidden_activation"], configuration["output_activation"]]
        and network.loss == configuration["loss"]
        and network.dtype == np.dtype(configuration["dtype"])
        and network.backend is get_backend(configuration["backend"]).on_device(network.backend.device)
    )


def _read_only(array: HostArray) -> HostArray:
    array.flags.writeable = False
    return array
