"""The state of an optimizer and other arrays as they were, to go back to: for a step or an epoch that is undone."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

from deltaprop.backends import Backend

#: What an update rule carries from step to step: arrays and numbers by name, such as "step".
OptimizerState: TypeAlias = dict[str, Any]


class Remembered:
    """A copy of an optimizer's state and of other arrays that a step changes, to go back to.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    state : dict
        The state of the optimizer.
    **others : array
        Other arrays, such as the parameters.
    """

    def __init__(self, backend: Backend, state: OptimizerState, **others: Any) -> None:
        def copied(value: Any) -> object:
            return backend.copy(value) if backend.owns(value) else copy.copy(value)

        self._now = (state, others)
        self._before = [{name: copied(value) for name, value in now.items()} for now in self._now]

    def renew(self) -> None:
        """Copy everything as it is now."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(now, before)

    def restore(self) -> None:
        """Write back everything as it was when it was last copied."""
        for now, before in zip(self._now, self._before, strict=True):
            _copy_state(before, now)


def counters_of(backend: Backend, state: OptimizerState) -> OptimizerState:
    """Return what of an optimizer's state is no array."""
    return {name: value for name, value in state.items() if not backend.owns(value)}


def _copy_state(source: OptimizerState, target: OptimizerState) -> None:
    """Copy a state: arrays are written into, counters are replaced."""
    for name, value in source.items():
        if isinstance(value, int):
            target[name] = value
        else:
            target[name][...] = value
