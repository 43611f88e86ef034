"""Helpers that the tests of `deltaprop doctor` share."""

from typing import Any

import pytest

from deltaprop.doctor import Check
from deltaprop.doctor.record import Record


@pytest.fixture
def no_device(monkeypatch):
    """Hide the CUDA device, if there is one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def heard(stage, backend):
    """Run a stage in this process and return its checks."""
    events: list[Any] = []
    stage(backend, Record(events.append))
    return [Check(*what) for kind, what in events if kind == "check"]
