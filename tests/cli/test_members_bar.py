"""The bar over the training of members: how much is done, although some stop early."""

import re

import pytest

import deltaprop as dp
from deltaprop.cli.members_bar import MembersBar, clock
from deltaprop.training.callbacks import EpochEnd


def history(epochs, message="all 10 epochs done"):
    return dp.History(validation_cost=[1.0] * epochs, cost=[1.0] * epochs, message=message, seconds=[0.1] * epochs)


def moved(bar, epoch, histories):
    bar.epoch(EpochEnd(None, epoch, 10, histories))  # type: ignore[arg-type]
    return bar.display.tasks[0]


def test_members_that_stop_count_as_done():
    bar = MembersBar(4, None, lambda: False)
    assert moved(bar, 1, [history(1)] * 4).completed == pytest.approx(0.1)
    stopped = history(2, "stopped early after epoch 2")
    task = moved(bar, 2, [history(2), history(2), stopped, stopped])
    assert task.completed == pytest.approx((0.2 + 0.2 + 1 + 1) / 4)
    assert task.fields["figures"].startswith("2 of 4 train")
    task = moved(bar, 3, [history(3), stopped, stopped, stopped])  # the second stopped without a message of its own
    assert task.completed == pytest.approx((0.3 + 3) / 4)
    assert re.fullmatch(r"at most \d+:\d\d left", task.fields["left"])


def test_a_time_limit_and_an_interrupt_are_shown(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deltaprop.cli.members_bar.time.perf_counter", lambda: now[0])
    bar = MembersBar(1, 5.0, lambda: True)
    now[0] = 104.0
    task = moved(bar, 1, [history(1)])
    assert task.completed == pytest.approx(0.8)  # 4 of 5 seconds, though only 1 of 10 epochs
    assert task.fields["left"] == "at most 0:01 left"  # rather than nine epochs of 4 s
    assert task.description == "ending"


def test_clock():
    assert [clock(seconds) for seconds in (0.4, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]
