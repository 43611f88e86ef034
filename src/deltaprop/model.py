"""`Network`: the public face of a multi-layer perceptron. Checks what comes in, calls the floors below."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop import backprop, derivatives, training
from deltaprop.backends import Array, Backend, backend_of, get_backend
from deltaprop.backprop import L2Scaling, Objective, Reduction, Workspace
from deltaprop.data import as_inputs, as_targets
from deltaprop.early_stopping import EarlyStopping
from deltaprop.history import History
from deltaprop.losses import LOSSES
from deltaprop.metrics import Metric, resolve_metrics
from deltaprop.model_file import Tensors, read_model, write_model
from deltaprop.network import NetworkState, check_whole_number
from deltaprop.optimizers import SGD, Optimizer
from deltaprop.parameters import Parameters
from deltaprop.training import Callback, Plan


@dataclass(frozen=True)
class ForwardPass:
    """Every quantity of a forward pass, rows being samples.

    Attributes
    ----------
    z : list of array
        z^(2) … z^(L), (m, s_l).
    a : list of array
        a^(1) … a^(L), (m, s_l); ``a[0]`` is X and ``a[l + 1]`` is g(``z[l]``).
    """

    z: list[Array]
    a: list[Array]


class Network(NetworkState):
    """A multi-layer perceptron, trained by backpropagation in matrix form.

    Parameters
    ----------
    layer_sizes : sequence of int
        Widths s_1 … s_L: inputs, hidden layers, outputs. At least two, each at least 1.
    hidden_activation : str, default "sigmoid"
        "sigmoid", "tanh", "relu", "identity", "leaky_relu", "softplus", "silu" or "gelu".
    output_activation : str, optional
        By default the one that belongs to the loss: sigmoid for binary cross-entropy, softmax for categorical, exp for
        poisson, identity for squared_error and huber. The last two go with every activation but softmax.
    loss : str, default "binary_cross_entropy"
        "squared_error", "binary_cross_entropy" (over each of K outputs), "categorical_cross_entropy", "poisson" or
        "huber". The formulas stand in `deltaprop.backprop`.
    init : str, default "glorot_uniform"
        "glorot_uniform", "normal", "scaled_normal", "lecun", "he" or "zeros".
    dtype : {"float64", "float32"}
        Of parameters and all arithmetic. Data are converted to it.
    backend : {"auto", "numpy", "cupy"} or Backend
        "auto" is CuPy where a CUDA device answers, else NumPy.
    seed : int, default 0
        Decides initialisation and shuffling; the same seed gives the same numbers on one backend.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these; the message names it, what was seen and what was expected.
    BackendError
        If the backend cannot be had here.

    Notes
    -----
    Arrays come back as the kind handed in: NumPy for NumPy (and lists, DataFrames), CuPy for CuPy. Methods that only
    read the network may be called from several threads at once.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 8, 1], backend="numpy", seed=3)
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = net.fit(X, Y, optimizer=dp.Adam(0.1), epochs=300)
    >>> [round(float(p)) for p in net.predict(X)[:, 0]]
    [0, 1, 1, 0]
    """

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(self, X: Any) -> ForwardPass:
        """z^(l+1) = W^(l) a^(l) + b^(l), a^(l+1) = g(z^(l+1)): every z and every a.

        Parameters
        ----------
        X : array_like, (m, s_1)

        Returns
        -------
        ForwardPass
            With lists ``z`` (layers 2 … L) and ``a`` (layers 1 … L, ``a[0]`` being X).

        Raises
        ------
        ValueError, TypeError
            If X has another shape, holds nan or infinity, or is no array of numbers.
        """
        inputs = self._inputs(X)
        work = Workspace(self, inputs.shape[0], backward=False)
        backprop.forward(self, inputs, work)
        return ForwardPass(z=self._like(X, work.Z), a=self._like(X, work.A))

    def predict(self, X: Any) -> Array:
        """h = a^(L), (m, s_L), for X : (m, s_1).

        Raises
        ------
        ValueError, TypeError
            As `forward`.
        """
        return self._like(X, [training.predict(self, self._inputs(X))])[0]

    # -- cost and gradient --------------------------------------------------------------------------------------

    def cost(
        self, X: Any, Y: Any, l2: float = 0.0, l2_scaling: L2Scaling = "per_sample", reduction: Reduction = "mean"
    ) -> float:
        """J(θ) over all samples.

        Parameters
        ----------
        X : array_like, (m, s_1)
        Y : array_like, (m, s_L)
            Targets; (m,) where there is one output, or (m,) whole-number class labels where there are several.
        l2 : float, default 0.0
            λ ≥ 0. Biases are never regularised.
        l2_scaling : {"per_sample", "absolute"}
            λ/(2m) Σ W² or λ/2 Σ W².
        reduction : {"mean", "sum"}
            (1/m) Σ cost or Σ cost.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If an argument is none of these; the message names it.
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets = self._data(X, Y)
        return objective.total(self, training.data_cost(self, inputs, targets), inputs.shape[0])

    def cost_and_gradient(
        self, X: Any, Y: Any, l2: float = 0.0, l2_scaling: L2Scaling = "per_sample", reduction: Reduction = "mean"
    ) -> tuple[float, Parameters]:
        """J(θ) and ∂J/∂θ over all samples, by one forward and one backward pass.

        Parameters
        ----------
        X, Y, l2, l2_scaling, reduction
            As for `cost`.

        Returns
        -------
        cost : float
        gradient : Parameters
            ∂J/∂θ in all its shapes: ``weights``, ``biases``, ``thetas`` and ``flat``.

        Raises
        ------
        ValueError, TypeError
            As `cost`.
        """
        objective = Objective(l2, l2_scaling, reduction)
        cost, gradient = derivatives.cost_and_gradient(self, *self._data(X, Y), objective)
        return cost, gradient.on(get_backend("numpy")) if self._wants_host(X) else gradient

    def deltas(self, X: Any, Y: Any) -> list[Array]:
        """δ^(2) … δ^(L), (m, s_l), one a layer: ∂cost/∂z^(l) of each sample by itself, without 1/m.

        Parameters
        ----------
        X, Y
            As for `cost`.

        Raises
        ------
        ValueError, TypeError
            As `cost`.
        """
        inputs, targets = self._data(X, Y)
        work = Workspace(self, inputs.shape[0])
        gradient = Parameters(self.backend, self.layer_sizes, self.dtype)
        cost = self.backend.zeros((), np.float64)
        backprop.forward(self, inputs, work)
        backprop.backward(self, targets, work, gradient, cost, scale=1.0, penalty=0.0)
        return self._like(X, work.delta)

    # -- training -----------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        Y: Any,
        *,
        optimizer: Optimizer | None = None,
        batch_size: int | None = 32,
        epochs: int = 10,
        l2: float = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        shuffle: bool = True,
        validation: tuple[Any, Any] | None = None,
        metrics: Sequence[str | Metric] | None = None,
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> History:
        """Train by gradient descent over minibatches: θ := θ − η ∂J/∂θ, from the parameters the network has.

        Parameters
        ----------
        X, Y
            As for `cost`.
        optimizer : SGD, Adam or AdamW, optional
            ``SGD()`` by default. Its learning rate may be a schedule.
        batch_size : int or None, default 32
            Samples a step: 1 is per sample, None is full batch. The last minibatch of an epoch may be shorter; its
            gradient is the mean over the samples it has.
        epochs : int, default 10
            Passes over the data.
        l2, l2_scaling, reduction
            As for `cost`; the m in λ/(2m) is the number of all samples, so that minibatches estimate ∇J.
        shuffle : bool, default True
            Draw a new order every epoch, from the seed and the number of epochs trained so far.
        validation : (X, Y), optional
            Data whose cost and metrics are recorded after every epoch.
        metrics : sequence of str or callable, optional
            Recorded on the validation data: "accuracy", "mean_squared_error", "mean_absolute_error", "r2", or a
            function of prediction and targets. By default accuracy for cross-entropies, else nothing.
        early_stopping : EarlyStopping, optional
            When to stop before `epochs`; the best parameters are then restored.
        callbacks : sequence of callable
            Each is given an `EpochEnd` after every epoch; one that returns True ends training.
        progress : bool, default False
            Draw a progress bar on standard error.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            If an argument is none of these. Nothing has been trained then.
        DivergenceError
            If the cost or a parameter is no longer finite; the parameters of the last good epoch are kept.
        """
        objective = Objective(l2, l2_scaling, reduction)
        inputs, targets = self._data(X, Y)
        held_out = None
        if validation is not None:
            if not isinstance(validation, (tuple, list)) or len(validation) != 2:
                raise TypeError(f"validation: expected a pair (X, Y), got {type(validation).__name__}")
            held_out = self._data(*validation, "validation X", "validation Y")
        if metrics is None:
            metrics = ("accuracy",) if held_out and LOSSES[self.loss].classifies else ()
        elif metrics and held_out is None:
            raise ValueError("metrics: expected validation data with them, got validation=None")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected SGD, Adam or AdamW, got {optimizer!r}")
        plan = Plan(
            optimizer=optimizer or SGD(),
            batch_size=None if batch_size is None else check_whole_number("batch_size", batch_size, least=1),
            epochs=check_whole_number("epochs", epochs, least=1),
            objective=objective,
            shuffle=shuffle,
            metrics=resolve_metrics(metrics),
            early_stopping=early_stopping,
            callbacks=callbacks,
            progress=progress,
        )
        if early_stopping is not None:
            self._check_early_stopping(early_stopping, plan, held_out is not None)
        return training.train(self, inputs, targets, held_out, plan)

    @staticmethod
    def _check_early_stopping(early_stopping: EarlyStopping, plan: Plan, validates: bool) -> None:
        """Find out before training whether what is to be monitored will be recorded."""
        if not isinstance(early_stopping, EarlyStopping):
            raise TypeError(f"early_stopping: expected an EarlyStopping, got {early_stopping!r}")
        early_stopping.values(History(metrics={name: [] for name in plan.metrics}))
        if early_stopping.monitor == "validation_cost" and not validates:
            raise ValueError(
                "early_stopping: expected validation data to monitor 'validation_cost', got validation=None; "
                "EarlyStopping(monitor='cost') watches the training cost"
            )

    # -- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write configuration and parameters to a safetensors file, all or nothing.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.
        """
        write_model(path, self.file_configuration(), self.file_tensors())

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str | Backend = "auto") -> Network:
        """The network that `save` wrote to `path`. No code in the file is run: there can be none.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged or no model of ours.
        BackendError
            If the backend cannot be had here.
        """
        configuration, tensors = read_model(path)
        return cls.from_file_content(str(path), configuration, tensors, backend)

    def file_configuration(self) -> dict[str, Any]:
        """What `save` writes besides the tensors: JSON types only."""
        return {"network": self.configuration, "epochs_trained": self.epochs_trained}

    def file_tensors(self) -> Tensors:
        """The tensors `save` writes: ``weights.0``, ``biases.0`` and so on."""
        pairs = (("weights", self.weights), ("biases", self.biases))
        return {f"{kind}.{l}": self.backend.to_numpy(array) for kind, arrays in pairs for l, array in enumerate(arrays)}

    @classmethod
    def from_file_content(
        cls, path: str, configuration: dict[str, Any], tensors: Tensors, backend: str | Backend = "auto"
    ) -> Network:
        """The network described by the content of a file; tensors of other names are left alone.

        Raises
        ------
        ValueError
            If the content does not describe a network; the message begins with `path`.
        """
        layers = sum(name.startswith("weights.") for name in tensors)
        try:
            described = configuration["network"]
            shapes = [tensors[f"weights.{l}"].shape for l in range(layers)]
            if [s_in for _, s_in in shapes] + [shapes[-1][0]] != described["layer_sizes"]:
                raise ValueError(f"layer_sizes {described['layer_sizes']} do not fit weights of shapes {shapes}")
            network = cls(**described | {"init": "zeros"}, backend=backend)
            network.init = described["init"]
            network.epochs_trained = operator.index(configuration["epochs_trained"])
            network.weights = [tensors[f"weights.{l}"] for l in range(layers)]
            network.biases = [tensors[f"biases.{l}"] for l in range(layers)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{path}: does not describe a network ({type(error).__name__}: {error})") from error
        if not network.backend.all_finite(network.parameters):
            raise ValueError(f"{path}: holds parameters that are not finite")
        return network

    # -- the door -----------------------------------------------------------------------------------------------

    def _inputs(self, X: Any, name: str = "X") -> Array:
        return as_inputs(X, name, columns=self.layer_sizes[0], backend=self.backend, dtype=self.dtype)

    def _data(self, X: Any, Y: Any, X_name: str = "X", Y_name: str = "Y") -> tuple[Array, Array]:
        inputs = self._inputs(X, X_name)
        loss = LOSSES[self.loss]
        targets = as_targets(
            Y,
            Y_name,
            rows=inputs.shape[0],
            columns=self.layer_sizes[-1],
            lowest=loss.lowest,
            highest=loss.highest,
            rows_sum_to_one=loss.rows_sum_to_one,
            backend=self.backend,
            dtype=self.dtype,
        )
        return inputs, targets

    def _wants_host(self, X: Any) -> bool:
        """Whether the caller handed in host data while the network lives on a device."""
        return self.backend.name != "numpy" and backend_of(X) is not self.backend

    def _like(self, X: Any, arrays: list[Array]) -> list[Array]:
        """`arrays` as the kind that `X` was."""
        return [self.backend.to_numpy(array) for array in arrays] if self._wants_host(X) else arrays

    def __repr__(self) -> str:
        configuration = self.configuration
        sizes = configuration.pop("layer_sizes")
        arguments = ", ".join(f"{name}={value!r}" for name, value in configuration.items())
        return f"Network({sizes}, {arguments}, backend={self.backend.name!r})"


def check_gradient(
    network: Network,
    X: Any,
    Y: Any,
    l2: float = 0.0,
    *,
    l2_scaling: L2Scaling = "per_sample",
    reduction: Reduction = "mean",
    tolerance: float = 1e-9,
    entries: int = 2000,
) -> derivatives.GradientCheck:
    """∂J/∂θ by backpropagation against central differences of J, entry by entry.

    Parameters
    ----------
    network : Network
        Not changed. A float32 network is checked through a float64 copy: the formulas are, not the rounding.
    X, Y, l2, l2_scaling, reduction
        As for `Network.cost`. A few samples suffice.
    tolerance : float, default 1e-9
        What the relative difference ‖analytic − numeric‖/‖analytic + numeric‖ has to stay below.
    entries : int, default 2000
        A network with more parameters is checked at so many of them, drawn with equal chance.

    Returns
    -------
    GradientCheck
        With ``relative_difference``, ``max_abs_difference``, ``passed`` and the same figures layer by layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these.
    """
    objective = Objective(l2, l2_scaling, reduction)
    entries = check_whole_number("entries", entries, least=1)
    subject = network.copy(np.float64)
    return derivatives.check_gradient(subject, *subject._data(X, Y), objective, tolerance=tolerance, entries=entries)
