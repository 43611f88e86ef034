"""Multi-layer perceptrons by backpropagation in matrix form, on NumPy and on CUDA GPUs.

Names are loaded when they are first used, so that ``import deltaprop`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from deltaprop import forks as _forks  # noqa: F401  (it registers what a fork needs)

#: The one place of the version: the build reads it here, without importing anything.
__version__ = "0.1.0"

if TYPE_CHECKING:
    from deltaprop.backends import available_backends as available_backends
    from deltaprop.backends import get_backend as get_backend
    from deltaprop.derivation.activations import sigmoid as sigmoid
    from deltaprop.derivation.activations import sigmoid_grad as sigmoid_grad
    from deltaprop.derivation.optimizers import SGD as SGD
    from deltaprop.derivation.optimizers import Adam as Adam
    from deltaprop.derivation.optimizers import AdamW as AdamW
    from deltaprop.derivation.schedules import CosineDecay as CosineDecay
    from deltaprop.derivation.schedules import ExponentialDecay as ExponentialDecay
    from deltaprop.derivation.schedules import InverseScaling as InverseScaling
    from deltaprop.derivation.schedules import ReduceOnPlateau as ReduceOnPlateau
    from deltaprop.derivation.schedules import StepDecay as StepDecay
    from deltaprop.derivation.update_rule import Optimizer as Optimizer
    from deltaprop.doctor import check_backend as check_backend
    from deltaprop.errors import BackendError as BackendError
    from deltaprop.errors import DivergenceError as DivergenceError
    from deltaprop.estimators import MLPClassifier as MLPClassifier
    from deltaprop.estimators import MLPRegressor as MLPRegressor
    from deltaprop.estimators.ensemble import EnsembleClassifier as EnsembleClassifier
    from deltaprop.estimators.ensemble import EnsembleRegressor as EnsembleRegressor
    from deltaprop.estimators.halving import HalvingSweepCV as HalvingSweepCV
    from deltaprop.estimators.sweep import SweepCV as SweepCV
    from deltaprop.lecture.accumulation import accumulate as accumulate
    from deltaprop.loading import load as load
    from deltaprop.network import Network as Network
    from deltaprop.network_function import check_gradient as check_gradient
    from deltaprop.reports.history import History as History
    from deltaprop.stack import NetworkStack as NetworkStack
    from deltaprop.tabular.classifier import TabularClassifier as TabularClassifier
    from deltaprop.tabular.regressor import TabularRegressor as TabularRegressor
    from deltaprop.training.early_stopping import EarlyStopping as EarlyStopping

_HOMES = {
    "lecture.accumulation": ("accumulate",),
    "derivation.activations": ("sigmoid", "sigmoid_grad"),
    "backends": ("available_backends", "get_backend"),
    "doctor": ("check_backend",),
    "training.early_stopping": ("EarlyStopping",),
    "errors": ("BackendError", "DivergenceError"),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "estimators.ensemble": ("EnsembleClassifier", "EnsembleRegressor"),
    "estimators.halving": ("HalvingSweepCV",),
    "estimators.sweep": ("SweepCV",),
    "network_function": ("check_gradient",),
    "reports.history": ("History",),
    "loading": ("load",),
    "network": ("Network",),
    "derivation.optimizers": ("SGD", "Adam", "AdamW"),
    "derivation.update_rule": ("Optimizer",),
    "derivation.schedules": ("CosineDecay", "ExponentialDecay", "InverseScaling", "ReduceOnPlateau", "StepDecay"),
    "stack": ("NetworkStack",),
    "tabular.classifier": ("TabularClassifier",),
    "tabular.regressor": ("TabularRegressor",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
#: Type checkers and editors read this list: it has to be written out.
__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BackendError",
    "CosineDecay",
    "DivergenceError",
    "EarlyStopping",
    "EnsembleClassifier",
    "EnsembleRegressor",
    "ExponentialDecay",
    "HalvingSweepCV",
    "History",
    "InverseScaling",
    "MLPClassifier",
    "MLPRegressor",
    "Network",
    "NetworkStack",
    "Optimizer",
    "ReduceOnPlateau",
    "StepDecay",
    "SweepCV",
    "TabularClassifier",
    "TabularRegressor",
    "__version__",
    "accumulate",
    "available_backends",
    "check_backend",
    "check_gradient",
    "get_backend",
    "load",
    "sigmoid",
    "sigmoid_grad",
]

#: Public modules, imported when they are first used as `deltaprop.accel` and so on.
_MODULES = ("accel", "callbacks")

if not TYPE_CHECKING:  # a checker then knows the names above, and no others

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f"deltaprop.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module 'deltaprop' has no attribute {name!r}")
        value = getattr(import_module(f"deltaprop.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
