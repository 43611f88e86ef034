"""Helpers of these tests: run something with scikit-learn's own code and with ours, and compare everything."""

from contextlib import contextmanager

import numpy as np

from deltaprop import accel
from deltaprop.accel.profiling import PROFILE


@contextmanager
def accelerated():
    """Install ours for a block, and begin a new profile."""
    PROFILE.clear()
    accel.install()
    try:
        yield PROFILE
    finally:
        accel.uninstall()


def both_ways(run):
    """Return the results of `run` by scikit-learn's own code and by ours, and the profile of ours."""
    assert not accel.enabled()
    theirs = run()
    with accelerated() as profile:
        ours = run()
    return theirs, ours, profile


def workers_of(profile):
    """Return who did the work, by class and method."""
    return {(kind, method): who for kind, method, who in profile.calls}


def are_close(a, b, tolerance):
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    inexact = a.dtype.kind == "f"
    return np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True) if inexact else np.array_equal(a, b)


def differences(a, b, tolerance, path=""):
    """Yield every place where two results differ: types, names of attributes, shapes, dtypes, numbers."""
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__}, {type(b).__name__}"
    elif isinstance(a, np.ndarray):
        if not are_close(a, b, tolerance):
            yield f"{path}: {a.dtype} {a}, {b.dtype} {b}"
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{path}: {len(a)} entries, {len(b)} entries"
        for i, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from differences(one, other, tolerance, f"{path}[{i}]")
    elif isinstance(a, np.random.RandomState):
        if repr(a.get_state(legacy=False)) != repr(b.get_state(legacy=False)):
            yield f"{path}: another state"
    elif hasattr(a, "__dict__"):
        if set(vars(a)) != set(vars(b)):
            yield f"{path}: attributes {sorted(set(vars(a)) ^ set(vars(b)))}"
        for name in vars(a).keys() & vars(b).keys():
            yield from differences(vars(a)[name], vars(b)[name], tolerance, f"{path}.{name}")
    elif isinstance(a, float):
        if not np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
            yield f"{path}: {a}, {b}"
    elif a != b:
        yield f"{path}: {a}, {b}"
