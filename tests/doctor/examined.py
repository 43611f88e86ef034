"""What the tests of `deltaprop doctor` share."""

from typing import Any

import pytest

from deltaprop.doctor import Check
from deltaprop.doctor.record import Record


@pytest.fixture
def no_device(monkeypatch):
    """Nor is there where there is one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def heard(stage, backend):
    """The checks of a stage that is run in this process."""
    events: list[Any] = []
    stage(backend, Record(events.append))
    return [Check(*what) for kind, what in events if kind == "check"]
