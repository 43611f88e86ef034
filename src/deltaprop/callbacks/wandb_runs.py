"""`WandB`: parameters and curves in a run of Weights & Biases."""

from __future__ import annotations

from typing import Any

from deltaprop.callbacks.epoch_numbers import named_numbers
from deltaprop.callbacks.libraries import needed
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin, FitEnd, StepEnd, check_every_steps


class WandB(Callback):
    """Log parameters and the numbers of every epoch to Weights & Biases.

    They go into the active run; if there is none, a run is begun with the training and ended with it, with exit code 1
    if the training failed. Curves are drawn over "epoch"; of a stack, their names are "member_0/cost" and so on.

    Parameters
    ----------
    project : str, optional
        As of `wandb.init`, for a run that is begun here.
    name : str, optional
        The name of that run.
    every_steps : int, optional
        Also log "step_cost", the mean cost of the epoch so far, after every so many steps, over "training_step".
    **options : dict
        Other arguments of `wandb.init`: ``mode="offline"`` writes to a folder that ``wandb sync`` uploads.

    Raises
    ------
    ImportError
        If wandb is not installed.
    ValueError, TypeError
        If `every_steps` is no whole number of at least 1.

    Examples
    --------
    >>> from deltaprop.callbacks import WandB
    >>> history = net.fit(X, Y, callbacks=[WandB("iris", mode="offline")])  # doctest: +SKIP
    """

    project: str | None
    name: str | None
    options: dict[str, Any]

    def __init__(
        self, project: str | None = None, name: str | None = None, every_steps: int | None = None, **options: Any
    ) -> None:
        needed("WandB", "wandb", "wandb")
        self.project, self.name, self.options = project, name, options
        self.every_steps: int | None = check_every_steps("every_steps", every_steps)
        self._run: Any = None
        self._own = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run": None, "_own": False}  # a copy logs nothing to the run that is active here

    def on_fit_begin(self, event: FitBegin) -> None:
        """Take the active run, or begin one; log the parameters.

        Parameters
        ----------
        event : FitBegin
            What there is to train.
        """
        wandb = needed("WandB", "wandb", "wandb")
        self._own = wandb.run is None
        self._run = wandb.init(project=self.project, name=self.name, **self.options) if self._own else wandb.run
        plain = {name: value if isinstance(value, PLAIN) else str(value) for name, value in event.parameters.items()}
        self._run.config.update(plain, allow_val_change=True)
        self._run.define_metric("*", step_metric="epoch")
        if self.every_steps is not None:
            self._run.define_metric("step_cost", step_metric="training_step")

    def on_step_end(self, event: StepEnd) -> None:
        """Log the cost so far, if it is known without waiting for a device.

        Parameters
        ----------
        event : StepEnd
            How far training has come.
        """
        if event.cost is not None:
            self._run.log({"step_cost": event.cost, "training_step": event.step})

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Log the numbers of the epoch.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.
        """
        self._run.log({"epoch": event.epoch} | named_numbers(event))

    def on_fit_end(self, event: FitEnd) -> None:
        """End the run, if it was begun here.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """
        run, self._run = self._run, None
        if run is not None and self._own:
            run.finish(exit_code=0 if event.error is None else 1)


#: Values that a configuration holds as they are; others are written as text.
PLAIN = (bool, int, float, str, list, type(None))
