"""The progress bar of `fit`: of members that stop early the rest counts as done, and it ends where it ends."""

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.reports.progress import Bar, epochs_left, has_stopped, progress_bar


def history(epochs: int, message: str = "all 10 epochs done") -> dp.History:
    return dp.History(validation_cost=[1.0] * epochs, cost=[2.0] * epochs, message=message, seconds=[0.1] * epochs)


STOPPED = history(2, "stopped early after epoch 2")


def test_what_has_stopped() -> None:
    assert not has_stopped(history(3), 3)
    assert has_stopped(history(2), 3)
    assert has_stopped(history(3, "stopped early after epoch 3"), 3)
    diverged = history(3)
    diverged.diverged = True
    assert has_stopped(diverged, 3)
    assert epochs_left([history(3), STOPPED, diverged], 3, 10) == [7, 0, 0]


def test_members_that_stop_count_as_done() -> None:
    """Of 10 epochs of 100 and 50 samples, two members."""
    bar = Bar(10, 150, "epoch")
    (task,) = bar.display.tasks
    assert task.total == 1500
    bar.samples(150)
    bar.members([history(1), history(1)], [100, 50], 1)
    assert task.completed == 150
    assert task.fields["figures"].startswith("2 of 2 train  cost 2.0000")
    bar.samples(150)
    bar.members([STOPPED, history(2)], [100, 50], 2)
    assert task.completed == 1500 - 8 * 50
    assert task.fields["figures"].startswith("1 of 2 train")
    bar.samples(50)
    bar.members([STOPPED, history(3)], [100, 50], 3)
    assert task.completed == 1500 - 7 * 50
    assert task.fields["epoch"] == "3/10"
    bar.finish()
    assert task.completed == 1500


def test_a_fit_that_fails_does_not_end_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(Bar, "finish", lambda bar: ends.append(1))
    with pytest.raises(KeyboardInterrupt), progress_bar(True, 3, 5):
        raise KeyboardInterrupt
    assert not ends
    with progress_bar(True, 3, 5):
        pass
    assert ends == [1]


@pytest.mark.parametrize("ended_by", ["early stopping", "a callback"])
def test_the_bar_of_a_stack_ends_where_training_ends(ended_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of pure noise are overfitted at once; both members stop long before the last epoch."""
    shown: list[tuple[float, float]] = []
    finish = Bar.finish

    def finished(bar: Any) -> None:
        before = bar.display.tasks[0].completed
        finish(bar)
        shown.append((before, bar.display.tasks[0].completed))

    monkeypatch.setattr(Bar, "finish", finished)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 1))
    stack = dp.NetworkStack(2, [3, 8, 1], loss="squared_error", backend="numpy")
    histories = stack.fit(
        X[:40],
        y[:40],
        optimizer=dp.Adam(0.05),
        epochs=1000,
        validation=(X[40:], y[40:]),
        early_stopping=dp.EarlyStopping(2) if ended_by == "early stopping" else None,
        callbacks=[(lambda event: event.epoch == 5)] if ended_by == "a callback" else [],
        progress=True,
    )
    assert all(each.epochs < 1000 for each in histories)
    ((before, after),) = shown
    assert before == (40_000 * 2 if ended_by == "early stopping" else 5 * 40 * 2)
    assert after == 40_000 * 2
