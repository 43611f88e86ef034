"""`ModelCheckpoint`: the network is saved after epochs, or after the best ones."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

from deltaprop.arguments import check_bool, check_choice, check_path, check_whole_number
from deltaprop.callbacks.epoch_numbers import numbers_before, numbers_of
from deltaprop.reports.history import History
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin
from deltaprop.training.early_stopping import HIGHER_IS_BETTER, Mode

#: Numbers that "auto" takes as better the higher they are; "score" is the validation score of an estimator.
HIGHER = (*HIGHER_IS_BETTER, "score")


class ModelCheckpoint(Callback):
    """Save the network after every epoch, or whenever it is better than before.

    The file is what `Network.save` writes: a whole one, or the one before. `Network.load` reads it. To go on with a
    training that was killed, use ``fit(checkpoint=…, resume=True)`` instead: it keeps the optimizer as well.

    Parameters
    ----------
    path : path
        The file. ``{epoch}`` in it becomes the number of the epoch, and the names of the recorded numbers become these:
        "net-{epoch:03d}-{validation_cost:.4f}.safetensors".
    monitor : str, optional
        Which number says how good an epoch is: "cost", "validation_cost" or a metric. By default "validation_cost"
        where it is recorded, else "cost".
    mode : {"auto", "min", "max"}
        Whether lower or higher values are better. "auto" takes lower ones, but higher ones of "accuracy", "r2" and
        "score".
    save_best_only : bool, default False
        Save an epoch only if it is better than all before.
    every_epochs : int, default 1
        Look at every so many epochs only.

    Attributes
    ----------
    best : float or None
        The best value of `monitor`.
    best_epoch : int or None
        Its epoch.
    saved : str or None
        The file written last.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of these.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import deltaprop as dp
    >>> from deltaprop.callbacks import ModelCheckpoint
    >>> net = dp.Network([1, 1], loss="squared_error", backend="numpy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keep = ModelCheckpoint(pathlib.Path(folder, "best.safetensors"), monitor="cost", save_best_only=True)
    ...     history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, callbacks=[keep])
    ...     best = dp.Network.load(keep.saved, backend="numpy")
    >>> keep.best == min(history.cost), best.layer_sizes
    (True, (1, 1))
    """

    path: str
    monitor: str | None
    mode: Any

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        mode: Mode = "auto",
        save_best_only: bool = False,
        every_epochs: int = 1,
    ) -> None:
        self.path, self.monitor, self.mode = str(check_path("path", path)), monitor, check_choice("mode", mode, Mode)
        self.save_best_only: bool = check_bool("save_best_only", save_best_only)
        self.every_epochs: int = check_whole_number("every_epochs", every_epochs, least=1)
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.saved: str | None = None

    def on_fit_begin(self, event: FitBegin) -> None:
        """Forget the best epoch of another training; where this one goes on from a checkpoint, find its best so far.

        Parameters
        ----------
        event : FitBegin
            What there is to train.

        Raises
        ------
        TypeError
            If a stack is trained, whose members have a best epoch each.
        FileNotFoundError
            If there is no such folder.
        """
        if not isinstance(event.history, History):
            raise TypeError("ModelCheckpoint: expected one network, got a stack, whose members have a best epoch each")
        folder = Path(self.path).parent
        if not set("{}") & set(str(folder)) and not folder.is_dir():
            raise FileNotFoundError(f"path: expected a folder that is there, got {str(folder)!r}")
        self.best = self.best_epoch = self.saved = None
        for epoch, numbers in numbers_before(event.history):
            if epoch % self.every_epochs == 0:
                self._is_best(numbers, epoch)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Save the network, if it is to be saved.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.

        Raises
        ------
        ValueError
            If `monitor` or `path` names a number that is not recorded, or the loss is a pair of functions.
        OSError
            If the file cannot be written; one that was there stays whole.
        """
        if event.epoch % self.every_epochs:
            return
        numbers = numbers_of(event.history)
        is_best = self._is_best(numbers, event.epoch)
        if is_best or not self.save_best_only:
            network: Any = event.network
            path = self._path(numbers, event.epoch)
            network.save(path)
            self.saved = path

    def _is_best(self, numbers: dict[str, float], epoch: int) -> bool:
        """Look whether an epoch is better than all before, and remember it if it is."""
        name = self.monitor or ("validation_cost" if "validation_cost" in numbers else "cost")
        if name not in numbers:
            raise ValueError(f"monitor: expected one of {', '.join(map(repr, numbers))}, got {name!r}")
        higher = name in HIGHER if self.mode == "auto" else self.mode == "max"
        better, value = operator.gt if higher else operator.lt, numbers[name]
        if math.isnan(value) or not (self.best is None or better(value, self.best)):
            return False
        self.best, self.best_epoch = value, epoch
        return True

    def _path(self, numbers: dict[str, float], epoch: int) -> str:
        try:
            return self.path.format(**({"epoch": epoch} | numbers))
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            known = ", ".join(["epoch", *numbers])
            raise ValueError(f"path: expected a name with fields of {known}, got {self.path!r} ({error})") from error
