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
    histories = [history(1)] * 4
    assert moved(bar, 1, histories).completed == pytest.approx(0.1)
    stopped = history(2, "stopped early after epoch 2")
    histories[:] = [history(2), history(2), stopped, stopped]
    task = moved(bar, 2, histories)
    assert task.completed == pytest.approx((0.2 + 0.2 + 1 + 1) / 4)
    assert task.fields["figures"].startswith("2 of 4 train")
    histories[:] = [history(3), stopped, stopped, stopped]  # the second stopped without a message of its own
    task = moved(bar, 3, histories)
    assert task.completed == pytest.approx((0.3 + 3) / 4)
    assert re.fullmatch(r"at most \d+:\d\d left", task.fields["left"])


def test_members_that_are_trained_after_others(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deltaprop.cli.members_bar.time.perf_counter", lambda: now[0])
    interrupted: list[bool] = []
    bar = MembersBar(5, None, lambda: bool(interrupted))
    first, second = [history(1)] * 3, [history(1)] * 2
    now[0] += 6
    task = moved(bar, 1, first)
    assert task.completed == pytest.approx(3 * 0.1 / 5)
    assert task.fields["left"] == "at most 1:34 left"  # 2 s a member and epoch: nine epochs of three, ten of two
    assert task.fields["figures"].startswith("3 of 5 train")
    assert task.description == "networks 1 to 3: epoch 1/10"
    now[0] += 4
    task = moved(bar, 1, second)
    assert task.completed == pytest.approx((3 + 2 * 0.1) / 5)
    assert task.fields["left"] == "at most 0:36 left"
    assert task.description == "networks 4 to 5: epoch 1/10"
    interrupted.append(True)
    bar = MembersBar(5, None, lambda: bool(interrupted))
    now[0] += 6
    assert moved(bar, 1, first).fields["left"] == "at most 0:54 left"  # no others will follow


def test_members_to_come_are_as_fast_as_many_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deltaprop.cli.members_bar.time.perf_counter", lambda: now[0])
    bar = MembersBar(4, None, lambda: False)
    now[0] += 2
    histories = [history(1)] * 2
    moved(bar, 1, histories)  # one second a member and epoch
    histories[:] = [history(2), history(2, "stopped early after epoch 2")]
    now[0] += 2
    moved(bar, 2, histories)
    histories[:] = [history(3), history(2, "stopped early after epoch 2")]
    now[0] += 2  # one alone takes as long as two
    task = moved(bar, 3, histories)
    assert task.description == "networks 1 to 2: epoch 3/10"
    assert task.fields["left"] == "at most 0:34 left"  # seven epochs of one, and ten of two, of 2 s each


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
