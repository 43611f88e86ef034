"""The public face: every name that users import or get, and the methods that this package defines on them."""

import inspect
import runpy
from functools import cached_property
from pathlib import Path

import deltaprop as dp
from deltaprop import accel, callbacks
from deltaprop.accel.profiling import Profile
from deltaprop.backends.base import Backend
from deltaprop.derivation.parameters import Parameters
from deltaprop.doctor.report import Check, Report, Stage
from deltaprop.errors import ScheduleError
from deltaprop.estimators.onnx_converters import register
from deltaprop.lecture.accumulation import Accumulation
from deltaprop.lecture.explanation import Explanation, Section
from deltaprop.lecture.gradient_check import GradientCheck, LayerCheck
from deltaprop.lecture.summary import LayerSummary, Summary
from deltaprop.tabular.column_roles import ColumnRole
from deltaprop.tabular.trained import Trained
from deltaprop.training.evaluation import ForwardPass

PUBLIC = {f"deltaprop.{name}": getattr(dp, name) for name in dp.__all__ if name != "__version__"}
PUBLIC |= {f"deltaprop.callbacks.{name}": getattr(callbacks, name) for name in callbacks.__all__}
PUBLIC |= {f"deltaprop.accel.{name}": getattr(accel, name) for name in accel.__all__}
PUBLIC |= {"deltaprop.estimators.onnx_converters.register": register}
#: Classes without a public name that public functions return, raise, or pass to callbacks.
RETURNED = (
    Accumulation,
    Backend,
    Check,
    ColumnRole,
    Explanation,
    ForwardPass,
    GradientCheck,
    LayerCheck,
    LayerSummary,
    Parameters,
    Profile,
    Report,
    ScheduleError,
    Section,
    Stage,
    Summary,
    Trained,
)
OBJECTS = PUBLIC | {f"{cls.__module__}.{cls.__qualname__}": cls for cls in RETURNED}
CLASSES = {path: each for path, each in OBJECTS.items() if inspect.isclass(each)}
_SHOWN = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "_extensions" / "shown_members.py"))
#: Methods that the package calls need no example: those that the reference lists as such, and, in its usual lists, calls
#: of schedules and the methods of callbacks.
CALLED_BY_THE_PACKAGE = {"__call__", *_SHOWN["CALLED_BY_TRAINING"]}
BEGINNINGS_OF_SUCH_NAMES = ("on_", *_SHOWN["CALLED_BY_FILES"])
function_of = _SHOWN["function_of"]


def methods(cls):
    """Return the names of the public methods and properties that this package defines for users, and of a call."""
    only = _SHOWN["ONLY"].get(f"{cls.__module__}.{cls.__qualname__}")
    for name, member in inspect.getmembers_static(cls):
        is_public = (name == "__call__" or not name.startswith("_")) and (only is None or name in only)
        if is_public and (getattr(function_of(member), "__module__", None) or "").startswith("deltaprop."):
            yield name


PATHS = OBJECTS | {f"{path}.{name}": getattr(cls, name) for path, cls in CLASSES.items() for name in methods(cls)}


def needs_example(path):
    """Return whether the docstring has to have an example: of classes and functions, and methods that users call.

    Properties are described in a sentence, and the classes that are only returned by one example each.
    """
    if path in OBJECTS:
        return True
    owner, _, name = path.rpartition(".")
    is_property = isinstance(inspect.getattr_static(PATHS[owner], name), property | cached_property)
    called_by_us = name in CALLED_BY_THE_PACKAGE or name.startswith(BEGINNINGS_OF_SUCH_NAMES)
    return owner in PUBLIC and not is_property and not called_by_us
