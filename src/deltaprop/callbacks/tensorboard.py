"""`TensorBoard`: curves in event files, written by tensorboardX.

tensorboardX needs neither PyTorch nor TensorFlow, and three small packages; the writer inside the package `tensorboard`
is not public, and brings its web server along.
"""

from __future__ import annotations

import os
from typing import Any

from deltaprop.arguments import check_path
from deltaprop.callbacks.epoch_numbers import named_numbers
from deltaprop.callbacks.libraries import needed
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin, FitEnd, StepEnd, check_every_steps


class TensorBoard(Callback):
    """Write the numbers of every epoch to event files, which ``tensorboard --logdir folder`` shows.

    The tags are the names in the `History`: "cost", "validation_cost", the metrics, "learning_rate" and "seconds"; of
    a stack, "member_0/cost" and so on. Their step is the epoch. The parameters of the training are a text.

    Parameters
    ----------
    folder : path
        Where the event files go; each training writes one. The folder is made when training begins.
    every_steps : int, optional
        Also write "step_cost", the mean cost of the epoch so far, after every so many steps; its step counts steps.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.
    ValueError, TypeError
        If `every_steps` is no whole number of at least 1.

    Notes
    -----
    The files are written by tensorboardX, without PyTorch or TensorFlow.

    Examples
    --------
    >>> from deltaprop.callbacks import TensorBoard
    >>> board = TensorBoard("runs/first")  # doctest: +SKIP
    >>> history = net.fit(X, Y, callbacks=[board])  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str], every_steps: int | None = None) -> None:
        self._library = needed("TensorBoard", "tensorboardX", "tensorboardX").SummaryWriter
        self.folder: str = str(check_path("folder", folder))
        self.every_steps: int | None = check_every_steps("every_steps", every_steps)
        self._writer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_writer": None}  # a copy writes nothing to the file that is open here

    def on_fit_begin(self, event: FitBegin) -> None:
        """Open an event file.

        Parameters
        ----------
        event : FitBegin
            What there is to train.
        """
        self._writer = self._library(self.folder)
        rows = (f"| {name} | {value} |" for name, value in event.parameters.items())
        self._writer.add_text("parameters", "\n".join(("| parameter | value |", "|---|---|", *rows)), 0)

    def on_step_end(self, event: StepEnd) -> None:
        """Write the cost so far, if it is known without waiting for a device.

        Parameters
        ----------
        event : StepEnd
            How far training has come.
        """
        if event.cost is not None:
            self._writer.add_scalar("step_cost", event.cost, event.step)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Write the numbers of the epoch.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.
        """
        for tag, value in named_numbers(event).items():
            self._writer.add_scalar(tag, value, event.epoch)
        self._writer.flush()

    def on_fit_end(self, event: FitEnd) -> None:
        """Close the event file.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """
        if self._writer is not None:
            self._writer.close()
            self._writer = None
