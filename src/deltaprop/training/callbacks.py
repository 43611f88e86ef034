"""Callbacks: when they are called while a network trains, what they are told, and what they may answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deltaprop.arguments import check_whole_number
from deltaprop.derivation.state import NetworkState
from deltaprop.reports.history import History


@dataclass(frozen=True)
class FitBegin:
    """What `Callback.on_fit_begin` is told.

    Parameters
    ----------
    network : NetworkState
        The network that will be trained.
    epochs : int
        How many epochs were asked for (iterations at most).
    history : History
        Empty, unless training goes on from a checkpoint.
    parameters : mapping of str to object
        The arguments of `fit`, with the configuration of the network; for an estimator, its parameters.
    try_rates : callable or None
        Given learning rates, it trains a copy of the network by one minibatch at each of them, in turn, and returns the
        cost of each minibatch before its step. None where training has no minibatches of one network.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import Callback
    >>> class Report(Callback):
    ...     def on_fit_begin(self, event):
    ...         print(event.network.layer_sizes, event.epochs, event.parameters["batch_size"])
    >>> history = dp.Network([1, 1]).fit([[0.0], [1.0]], [0, 1], epochs=3, callbacks=[Report()])
    (1, 1) 3 2
    """

    network: NetworkState
    epochs: int
    history: History
    parameters: Mapping[str, Any]
    try_rates: Callable[[Sequence[float]], list[float]] | None = None


@dataclass(frozen=True)
class EpochBegin:
    """What `Callback.on_epoch_begin` is told.

    Parameters
    ----------
    network : NetworkState
        The network being trained.
    epoch : int
        The epoch that begins, counted from 1.
    epochs : int
        How many epochs were asked for.
    history : History
        The epochs before.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import Callback
    >>> class Report(Callback):
    ...     def on_epoch_begin(self, event):
    ...         print(f"epoch {event.epoch} of {event.epochs}, {event.history.epochs} behind")
    >>> history = dp.Network([1, 1]).fit([[0.0], [1.0]], [0, 1], epochs=2, callbacks=[Report()])
    epoch 1 of 2, 0 behind
    epoch 2 of 2, 1 behind
    """

    network: NetworkState
    epoch: int
    epochs: int
    history: History


@dataclass(frozen=True)
class StepEnd:
    """What `Callback.on_step_end` is told.

    Parameters
    ----------
    network : NetworkState
        The network being trained.
    epoch : int
        The epoch that is under way, counted from 1.
    epochs : int
        How many epochs were asked for.
    history : History
        The epochs before.
    step : int
        The step that ended, counted from 1 over all epochs of this training.
    cost : float or None
        The mean cost of the samples of this epoch so far, without penalty; None on a device, where reading it would
        make the device wait.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import Callback
    >>> class Report(Callback):
    ...     every_steps = 3
    ...
    ...     def on_step_end(self, event):
    ...         print("epoch", event.epoch, "step", event.step)
    >>> X, Y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    >>> history = dp.Network([1, 1]).fit(X, Y, batch_size=1, epochs=2, callbacks=[Report()])
    epoch 1 step 3
    epoch 2 step 6
    """

    network: NetworkState
    epoch: int
    epochs: int
    history: History
    step: int
    cost: float | None


@dataclass(frozen=True)
class EpochEnd:
    """What a callback is told after every epoch of `fit`, and after every iteration of `fit_full_batch`.

    Parameters
    ----------
    network : NetworkState
        The network being trained; reading it changes nothing.
    epoch : int
        The epoch (iteration) that ended, counted from 1.
    epochs : int
        How many epochs were asked for (iterations at most).
    history : History
        Everything recorded so far, this epoch included.

    Examples
    --------
    >>> import deltaprop as dp
    >>> def stop_at_half(event):  # any function of an EpochEnd is a callback; True ends training
    ...     return event.epoch >= event.epochs / 2
    >>> dp.Network([1, 1]).fit([[0.0], [1.0]], [0, 1], epochs=10, callbacks=[stop_at_half]).epochs
    5
    """

    network: NetworkState
    epoch: int
    epochs: int
    history: History


@dataclass(frozen=True)
class FitEnd:
    """What `Callback.on_fit_end` is told.

    Parameters
    ----------
    network : NetworkState
        The network as training leaves it.
    epochs : int
        How many epochs were asked for (iterations at most).
    history : History
        All epochs; its ``message`` says why training ended.
    error : BaseException or None
        What ended training, if it did not end by itself.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import Callback
    >>> class Report(Callback):
    ...     def on_fit_end(self, event):
    ...         print(event.history.epochs, event.error)
    >>> history = dp.Network([1, 1]).fit([[0.0], [1.0]], [0, 1], epochs=3, callbacks=[Report()])
    3 None
    """

    network: NetworkState
    epochs: int
    history: History
    error: BaseException | None


#: Called after every epoch; True ends training.
EpochCallback: TypeAlias = Callable[[EpochEnd], bool | None]


class Callback:
    """Base class of callbacks that are called at more points than the end of an epoch.

    A subclass overrides the methods it needs. While a stack trains, ``event.network`` is the stack and
    ``event.history`` the list of the histories of its members.

    Attributes
    ----------
    every_steps : int or None
        After every so many steps `on_step_end` is called; None for never. It is read when training begins. The numbers
        of a training do not depend on it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import Callback
    >>> class Count(Callback):
    ...     every_steps = 2
    ...     told = 0
    ...
    ...     def on_step_end(self, event):
    ...         self.told += 1
    >>> count, net = Count(), dp.Network([1, 1], loss="squared_error", backend="numpy")
    >>> history = net.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], batch_size=1, epochs=4, callbacks=[count])
    >>> count.told
    6
    """

    every_steps: int | None = None

    def on_fit_begin(self, event: FitBegin) -> bool | None:
        """Do nothing; it is called before the first epoch.

        Parameters
        ----------
        event : FitBegin
            What there is to train.

        Returns
        -------
        bool or None
            True ends training before it begins.
        """
        return None

    def on_epoch_begin(self, event: EpochBegin) -> None:
        """Do nothing; it is called before every epoch, but before no iteration of full-batch training.

        Parameters
        ----------
        event : EpochBegin
            Which epoch begins.
        """

    def on_step_end(self, event: StepEnd) -> None:
        """Do nothing; it is called after every `every_steps` steps. A stack does not call it.

        Parameters
        ----------
        event : StepEnd
            How far training has come.
        """

    def on_epoch_end(self, event: EpochEnd) -> bool | None:
        """Do nothing; it is called after every epoch, and after every iteration of full-batch training.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.

        Returns
        -------
        bool or None
            True ends training.
        """
        return None

    def on_fit_end(self, event: FitEnd) -> None:
        """Do nothing; it is called when training has ended, also if it ended by an exception.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """

    def __call__(self, event: EpochEnd) -> bool | None:
        """Call `on_epoch_end`, as a plain function would be called.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.

        Returns
        -------
        bool or None
            True ends training.
        """
        return self.on_epoch_end(event)


def tell(callbacks: Iterable[EpochCallback], event: EpochEnd) -> bool:
    """Call every callback, also those after one that ends training; return whether one does."""
    return True in [callback(event) for callback in callbacks]


def check_every_steps(name: str, every_steps: Any) -> int | None:
    """Return ``every_steps`` of a callback, if it is None or a whole number of at least 1.

    Raises
    ------
    ValueError, TypeError
        If it is anything else; the message begins with `name`.
    """
    return None if every_steps is None else check_whole_number(name, every_steps, least=1)
