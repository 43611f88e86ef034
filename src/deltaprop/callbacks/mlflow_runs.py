"""`MLflow`: parameters and curves in a run of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltaprop.callbacks.epoch_numbers import named_numbers
from deltaprop.callbacks.libraries import needed
from deltaprop.training.callbacks import Callback, EpochEnd, FitBegin, FitEnd, StepEnd, check_every_steps

#: MLflow takes so many parameters in one call.
PARAMETERS_A_CALL = 100
#: MLflow takes values of parameters of so many characters.
LONGEST_VALUE = 500


class MLflow(Callback):
    """Log parameters and the numbers of every epoch to MLflow.

    They go into the active run; if there is none, a run is begun with the training and ended with it, as failed if the
    training failed. Metrics have the epoch as their step; of a stack, their names are "member_0/cost" and so on.

    Parameters
    ----------
    run_name : str, optional
        The name of a run that is begun here.
    experiment : str, optional
        The experiment in which it is begun; by default MLflow's current one.
    every_steps : int, optional
        Also log "step_cost", the mean cost of the epoch so far, after every so many steps; its step counts steps.

    Attributes
    ----------
    run_id : str or None
        The run of the training that began last.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    ValueError, TypeError
        If `every_steps` is no whole number of at least 1.

    Examples
    --------
    >>> import mlflow  # doctest: +SKIP
    >>> from deltaprop.callbacks import MLflow
    >>> history = net.fit(X, Y, callbacks=[MLflow(run_name="first")])  # doctest: +SKIP
    """

    run_name: str | None
    experiment: str | None

    def __init__(
        self, run_name: str | None = None, experiment: str | None = None, every_steps: int | None = None
    ) -> None:
        needed("MLflow", "mlflow", "mlflow")
        self.run_name, self.experiment = run_name, experiment
        self.every_steps: int | None = check_every_steps("every_steps", every_steps)
        self.run_id: str | None = None
        self._own = False

    @property
    def _mlflow(self) -> Any:
        """The module; a callback that holds none can be pickled."""
        return needed("MLflow", "mlflow", "mlflow")

    def on_fit_begin(self, event: FitBegin) -> None:
        """Take the active run, or begin one; log the parameters.

        Parameters
        ----------
        event : FitBegin
            What there is to train.
        """
        mlflow = self._mlflow
        run = mlflow.active_run()
        self._own = run is None
        if run is None:
            found = None if self.experiment is None else mlflow.set_experiment(self.experiment).experiment_id
            run = mlflow.start_run(run_name=self.run_name, experiment_id=found)
        self.run_id = run.info.run_id
        self._log_parameters(event.parameters)

    def _log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters that the run does not have yet: MLflow refuses to change one."""
        mlflow = self._mlflow
        known = mlflow.get_run(self.run_id).data.params
        new = [(name, str(value)[:LONGEST_VALUE]) for name, value in parameters.items() if name not in known]
        for start in range(0, len(new), PARAMETERS_A_CALL):
            mlflow.log_params(dict(new[start : start + PARAMETERS_A_CALL]), run_id=self.run_id)

    def on_step_end(self, event: StepEnd) -> None:
        """Log the cost so far, if it is known without waiting for a device.

        Parameters
        ----------
        event : StepEnd
            How far training has come.
        """
        if event.cost is not None:
            self._mlflow.log_metric("step_cost", event.cost, step=event.step, run_id=self.run_id)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Log the numbers of the epoch.

        Parameters
        ----------
        event : EpochEnd
            How far training has come.
        """
        self._mlflow.log_metrics(named_numbers(event), step=event.epoch, run_id=self.run_id)

    def on_fit_end(self, event: FitEnd) -> None:
        """End the run, if it was begun here.

        Parameters
        ----------
        event : FitEnd
            How training ended.
        """
        if self._own:
            self._own = False
            self._mlflow.end_run("FINISHED" if event.error is None else "FAILED")
