"""`NetworkStack`: several networks of the same widths, trained at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, Unpack

from deltaprop.arguments import check_bool, check_callables, check_whole_number
from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike
from deltaprop.backends.choices import FloatDType, MetricName
from deltaprop.backends.device_scope import methods_on_its_device
from deltaprop.derivation.backprop import L2Scaling, Reduction
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import Configuration, NetworkOptions
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.errors import DivergenceError
from deltaprop.files.saved_network import SavedStack
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.lecture.shown_network import SummarizedNetwork
from deltaprop.network import Network
from deltaprop.reports.history import History
from deltaprop.training import stack_loop
from deltaprop.training.callbacks import EpochCallback
from deltaprop.training.early_stopping import EarlyStopping
from deltaprop.training.exclusive import training_of
from deltaprop.training.fit_arguments import Validation, check_early_stopping
from deltaprop.training.hold_out import check_fraction
from deltaprop.training.metrics import Metric
from deltaprop.training.scored_network import ScoredStack
from deltaprop.training.stack_arguments import (
    check_alone,
    describe_members,
    one_each,
    report,
    resolve_held_out,
    rows_held_out,
    stacked,
)
from deltaprop.training.stack_function import StackFunction
from deltaprop.training.stack_loop import StackFitPlan


@methods_on_its_device
class NetworkStack(StackFunction, SavedStack, SummarizedNetwork, ScoredStack):
    """K networks of one configuration, each with parameters of its own, trained at once.

    Its methods are the methods of `Network`, and every array that it returns has a member axis before the others: entry
    k is what ``stack[k]`` would return. Members may share samples, or each has its own, with that axis.

    Parameters
    ----------
    members : int
        K, at least 1.
    layer_sizes : sequence of int
        Widths s_1 … s_L of every member.
    seeds : int or sequence of int, optional
        One a member, or one for all; by default 0 … K − 1. Each decides its member's initialisation, shuffling and
        dropout, so that a member learns what `Network` with that seed learns alone.
    **options : dict
        The other arguments of `Network`, which all members share: hidden_activation, output_activation, loss, init,
        dtype, backend, output_error, precision, device.

    Attributes
    ----------
    parameters : array, (K, n)
        The members' flat vectors: the stack's own memory. Assigning copies into it.
    weights : list of array, (K, s_out, s_in)
        One a layer, as of `Network`.
    biases : list of array, (K, s_out)
        One a layer, as of `Network`.
    thetas : list of array, (K, s_out, 1 + s_in)
        One a layer, as of `Network`.
    seeds : list of int
        One a member.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of these; the message names it, what was seen and what was expected.
    BackendError
        If the backend cannot be had here, or has no such precision.

    See Also
    --------
    deltaprop.Network : One network.
    deltaprop.SweepCV : A search that trains its candidates as stacks.
    deltaprop.EnsembleClassifier : A stack as one estimator.

    Examples
    --------
    >>> import deltaprop as dp
    >>> stack = dp.NetworkStack(3, [2, 8, 1], backend="numpy")
    >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> histories = stack.fit(X, Y, optimizer=[dp.Adam(0.1), dp.Adam(0.2), dp.SGD(0.5)], epochs=300)
    >>> stack.predict(X).shape
    (3, 4, 1)
    >>> [round(float(p)) for p in stack[1].predict(X)[:, 0]]
    [0, 1, 1, 0]
    """

    def __init__(
        self,
        members: int,
        layer_sizes: Sequence[int],
        *,
        seeds: int | Sequence[int] | None = None,
        **options: Unpack[NetworkOptions],
    ) -> None:
        count = check_whole_number("members", members, least=1)
        for name in ("seed", "layer_sizes"):
            if name in options:
                raise TypeError(f"{name}: NetworkStack takes seeds, one a member, and widths as its second argument")
        numbers = range(count) if seeds is None else seeds
        chosen = one_each("seeds", numbers, count, lambda name, seed: check_whole_number(name, seed, least=0))
        super().__init__(chosen, layer_sizes, **options)
        self._networks: list[Network] = [self._network(k) for k in range(count)]

    def _network(self, k: int) -> Network:
        """Make a network of member k, in the same memory."""
        network = object.__new__(Network)
        state = {name: value for name, value in self.__dict__.items() if name not in ("seeds", "_networks")}
        flat = self._parameters.flat[k]
        own = Parameters(self.backend, self.layer_sizes, self.dtype, flat=flat)
        network.__dict__.update(state | {"seed": self.seeds[k], "_parameters": own})
        return network

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the members, which are made anew, and keep how long each has been trained."""
        state = {name: value for name, value in super().__getstate__().items() if name != "_networks"}
        return state | {"_trained": [network.epochs_trained for network in self]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        trained = state.pop("_trained")
        super().__setstate__(state)
        self._networks = [self._network(k) for k in range(len(self.seeds))]
        for network, epochs in zip(self, trained, strict=True):
            network.epochs_trained = epochs

    def __len__(self) -> int:
        return len(self._networks)

    def __getitem__(self, k: int) -> Network:
        """Return member k, a `Network` that shares this stack's memory: training either trains both."""
        return self._networks[k]

    def __iter__(self) -> Iterator[Network]:
        return iter(self._networks)

    @property
    def configuration(self) -> Configuration:
        """The arguments that make an equal stack: everything but the parameters and the backend."""
        configuration = {name: value for name, value in super().configuration.items() if name != "seed"}
        return {"members": len(self), **configuration, "seeds": list(self.seeds)}

    def copy(self, dtype: FloatDType | type[float] | None = None) -> Self:
        """Make an independent stack with these parameters, on the same backend.

        Parameters
        ----------
        dtype : {"float64", "float32"}, optional
            The dtype of the copy; by default the same as this stack has.

        Returns
        -------
        NetworkStack
            Its members have been trained for as many epochs.

        Raises
        ------
        ValueError
            If `dtype` is another one.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(3, [2, 4, 1])
        >>> stack.copy(dtype="float32").parameters.dtype
        dtype('float32')
        """
        result = super().copy(dtype)
        for copied, network in zip(result, self, strict=True):
            copied.init, copied.epochs_trained = network.init, network.epochs_trained
        return result

    # -- training -----------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        *,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        batch_size: int | Sequence[int | None] | None = 32,
        epochs: int = 10,
        l2: float | Sequence[float] = 0.0,
        l2_scaling: L2Scaling = "per_sample",
        reduction: Reduction = "mean",
        sample_weight: ArrayLike | None = None,
        samples: Sequence[ArrayLike] | None = None,
        shuffle: bool | Sequence[bool] = True,
        dropout: float | Sequence[float] | Sequence[Sequence[float]] = 0.0,
        validation: Validation | None = None,
        validation_samples: Sequence[ArrayLike] | None = None,
        metrics: Sequence[MetricName | Metric] | None = None,
        early_stopping: EarlyStopping | Sequence[EarlyStopping | None] | None = None,
        callbacks: Sequence[EpochCallback] = (),
        progress: bool = False,
    ) -> list[History]:
        """Train every member by gradient descent over minibatches, from the parameters it has.

        Member k learns what ``stack[k].fit`` with its own arguments would have it learn, to rounding.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `cost`.
        Y : array_like
            As of `cost`.
        optimizer : Optimizer or sequence of Optimizer, optional
            As of `Network.fit`, one for all members or a sequence of one each.
        batch_size : int, None, or sequence of int or None, default 32
            As of `Network.fit`, one for all members or a sequence of one each.
        epochs : int, default 10
            Passes over the data, for all members.
        l2 : float or sequence of float, default 0.0
            As of `Network.fit`, one for all members or a sequence of one each.
        l2_scaling : {"per_sample", "absolute"}
            As of `Network.fit`.
        reduction : {"mean", "sum"}
            As of `Network.fit`.
        sample_weight : array_like, (m,), or (K, m), optional
            One for each sample in X; a member with `samples` takes the weights of its own.
        samples : sequence of array_like of int, optional
            For each member, which rows of X and Y it is trained on (those of a fold, or of a bootstrap, where a row may
            occur more than once). By default all of them.
        shuffle : bool or sequence of bool, default True
            As of `Network.fit`, one for all members or a sequence of one each.
        dropout : float, or sequence of one entry a member, default 0.0
            Each a number, or a sequence of one for each hidden layer.
        validation : (X, Y) or float, optional
            As of `Network.fit`, shared or with the member axis. Of a fraction, every member holds out the rows that
            its own seed draws; with `samples`, pass `validation_samples` instead.
        validation_samples : sequence of array_like of int, optional
            For each member, which rows of X and Y it is validated on instead; in the cost each counts as much as its
            sample weight says.
        metrics : sequence of str or callable, optional
            As of `Network.fit`.
        early_stopping : EarlyStopping, or sequence of EarlyStopping or None, optional
            As of `Network.fit`, one for all members or a sequence of one each.
        callbacks : sequence of callable
            Each is given an `EpochEnd` whose ``network`` is the stack and whose ``history`` is the list of histories.
        progress : bool, default False
            As of `Network.fit`.

        Returns
        -------
        list of History
            One a member. If the training of a member diverged, ``diverged`` is set; the member ends with the
            parameters of its last good epoch, and the others go on.

        Raises
        ------
        ValueError, TypeError
            If an argument is not one of these; nothing has been trained then. Also if the schedules of all members
            return something that is no learning rate; each member then keeps what it has learned before.
        DivergenceError
            If every member has diverged.
        RuntimeError
            If another call is training the stack or one of its members.

        Warns
        -----
        RuntimeWarning
            If some members diverged, ended because their schedules failed, or had no number that early stopping could
            go by.

        Examples
        --------
        >>> import deltaprop as dp
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> stack = dp.NetworkStack(3, [4, 8, 3], loss="categorical_cross_entropy", hidden_activation="tanh")
        >>> rates = [dp.Adam(0.001), dp.Adam(0.01), dp.Adam(0.1)]
        >>> histories = stack.fit(X - X.mean(axis=0), y, optimizer=rates, l2=[0.0, 0.1, 0.1], epochs=10)
        >>> histories[0].cost[-1] > histories[1].cost[-1] > histories[2].cost[-1]
        True
        """
        count = len(self)
        inputs, targets = self._training_data(X, Y)
        fraction = check_fraction(validation)
        if fraction is not None:
            check_alone(samples, validation_samples)
            samples, validation_samples = rows_held_out(self._networks, inputs, targets, fraction)
            validation = None
        members = describe_members(
            self,
            inputs.shape[-2],
            optimizer=optimizer,
            batch_size=batch_size,
            l2=l2,
            l2_scaling=l2_scaling,
            reduction=reduction,
            sample_weight=sample_weight,
            samples=samples,
            dropout=dropout,
        )
        held_out, resolved = resolve_held_out(
            self._networks, validation, validation_samples, metrics, inputs, targets, sample_weight
        )
        stopping = one_each("early_stopping", early_stopping, count)
        plan = StackFitPlan(
            members=members,
            epochs=check_whole_number("epochs", epochs, least=1),
            shuffle=one_each("shuffle", shuffle, count, check_bool),
            metrics=resolved,
            early_stopping=stopping,
            callbacks=check_callables("callbacks", callbacks),
            progress=check_bool("progress", progress),
        )
        for each in stopping:
            if each is not None:
                check_early_stopping(each, resolved, held_out is not None)
        with training_of(self, *self):
            histories = stack_loop.train(self, self._networks, inputs, targets, held_out, plan)
        return report(histories)

    def fit_full_batch(
        self, X: ArrayLike, Y: ArrayLike, *, l2: float | Sequence[float] = 0.0, **options: Any
    ) -> list[History]:
        """Call `Network.fit_full_batch` for every member, one after the other.

        Parameters
        ----------
        X : array_like, (m, s_1), or (K, m, s_1)
            As of `cost`.
        Y : array_like
            As of `cost`.
        l2 : float or sequence of float, default 0.0
            As of `cost`.
        **options : dict
            The other arguments of `Network.fit_full_batch`, which all members share.

        Returns
        -------
        list of History
            One a member. If the training of a member diverged, ``diverged`` is set.

        Raises
        ------
        ValueError, TypeError
            As `Network.fit_full_batch`.
        DivergenceError
            If every member has diverged.
        RuntimeError
            If another call is training the stack.

        Warns
        -----
        RuntimeWarning
            If some members have diverged.

        Examples
        --------
        >>> import deltaprop as dp
        >>> stack = dp.NetworkStack(2, [2, 8, 1], hidden_activation="tanh", seeds=[3, 4])
        >>> X, Y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> histories = stack.fit_full_batch(X, Y, l2=[1e-3, 1e-2])
        >>> [history.converged for history in histories]
        [True, True]
        """
        histories = []
        with training_of(self):
            for net, (x, y, own_l2), _ in self._samples_of(X, Y, l2, None):
                try:
                    histories.append(net.fit_full_batch(x, y, l2=own_l2, **options))
                except DivergenceError as error:
                    error.history.diverged, error.history.message = True, str(error)
                    histories.append(error.history)
        return report(histories)

    def _training_data(self, X: ArrayLike, Y: ArrayLike) -> tuple[AnyArray, Array]:
        """Convert inputs and targets to arrays of the stack, both with the member axis or neither.

        `EncodedRows` stay as they are where the arrays of the backend are those of NumPy.
        """
        if isinstance(X, EncodedRows) and self.backend.owns(X.stored):
            return self[0]._door.encoded_data(X, Y)
        each_X, each_Y = self._each("X", X), self._targets_each(X, Y)
        shared = all(x is each_X[0] for x in each_X) and all(y is each_Y[0] for y in each_Y)
        if shared:
            return self[0]._door.data(each_X[0], each_Y[0])
        pairs = [
            net._door.data(x, y, f"X[{k}]", f"Y[{k}]")
            for k, (net, x, y) in enumerate(zip(self, each_X, each_Y, strict=True))
        ]
        return stacked([x for x, _ in pairs]), stacked([y for _, y in pairs])

    def __repr__(self) -> str:
        configuration = self.configuration
        members, sizes = configuration.pop("members"), configuration.pop("layer_sizes")
        arguments = ", ".join(f"{name}={value!r}" for name, value in configuration.items())
        return f"NetworkStack({members}, {sizes}, {arguments}, backend={self.backend.label!r})"
