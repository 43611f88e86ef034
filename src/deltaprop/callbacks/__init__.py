"""Ready-made callbacks: they write what a training records to files and to trackers of experiments.

Names are loaded when they are first used. A library that a callback needs is imported when the callback is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltaprop.callbacks.csv_logger import CSVLogger as CSVLogger
    from deltaprop.callbacks.learning_rate_finder import LearningRateFinder as LearningRateFinder
    from deltaprop.callbacks.mlflow_runs import MLflow as MLflow
    from deltaprop.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
    from deltaprop.callbacks.tensorboard import TensorBoard as TensorBoard
    from deltaprop.callbacks.wandb_runs import WandB as WandB
    from deltaprop.training.callbacks import Callback as Callback
    from deltaprop.training.callbacks import EpochBegin as EpochBegin
    from deltaprop.training.callbacks import EpochEnd as EpochEnd
    from deltaprop.training.callbacks import FitBegin as FitBegin
    from deltaprop.training.callbacks import FitEnd as FitEnd
    from deltaprop.training.callbacks import StepEnd as StepEnd

_HOMES = {
    "training.callbacks": ("Callback", "EpochBegin", "EpochEnd", "FitBegin", "FitEnd", "StepEnd"),
    "callbacks.csv_logger": ("CSVLogger",),
    "callbacks.learning_rate_finder": ("LearningRateFinder",),
    "callbacks.mlflow_runs": ("MLflow",),
    "callbacks.model_checkpoint": ("ModelCheckpoint",),
    "callbacks.tensorboard": ("TensorBoard",),
    "callbacks.wandb_runs": ("WandB",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "CSVLogger",
    "Callback",
    "EpochBegin",
    "EpochEnd",
    "FitBegin",
    "FitEnd",
    "LearningRateFinder",
    "MLflow",
    "ModelCheckpoint",
    "StepEnd",
    "TensorBoard",
    "WandB",
]

if not TYPE_CHECKING:  # a checker then knows the names above, and no others

    def __getattr__(name):
        if name not in _HOME_OF:
            raise AttributeError(f"module 'deltaprop.callbacks' has no attribute {name!r}")
        value = getattr(import_module(f"deltaprop.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
