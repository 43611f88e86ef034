"""The mixture: the share of each kind, which rows hold it out, and the stack of both."""

from typing import Any

import numpy as np
import pytest
from small_tables import QUICK, QuickClassifier, QuickRegressor

from deltaprop.inputs.encoded_rows import Binned
from deltaprop.tabular.coarse_bins import coarser
from deltaprop.tabular.mixture import best_share
from deltaprop.tabular.recipe import Deadline


def steps_and_waves(rows: int = 400) -> tuple[dict[str, Any], Any]:
    """Make a quantity with many steps in one column, and a slope in another."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(0, 1, rows), rng.normal(size=rows)
    return {"x": x, "z": z}, np.sign(np.sin(40 * x)) + z


def test_the_share_of_least_squares() -> None:
    """For Σ w (s·a + (1 − s)·b − y)² there is a closed form."""
    rng = np.random.default_rng(1)
    y, w = rng.normal(size=(200, 1)), rng.uniform(1, 2, 200)
    a, b = y + rng.normal(size=y.shape), y + 0.7 * rng.normal(size=y.shape)
    rows = np.arange(50, 200)
    a[:50] = np.nan  # rows that nobody holds out

    def cost(outputs: Any, which: Any) -> float:
        return float(np.average((outputs[:, 0] - y[which, 0]) ** 2, weights=w[which]))

    difference, residual = (a - b)[rows, 0], (y - b)[rows, 0]
    exact = (w[rows] * difference * residual).sum() / (w[rows] * difference**2).sum()
    assert 0.1 < exact < 0.9
    odds = best_share(a, b, rows, cost, 0) / (1 - best_share(a, b, rows, cost, 0))
    assert odds**0.5 == pytest.approx(exact / (1 - exact), rel=1e-2)
    assert best_share(y, b, rows, cost, 0) > 0.995
    assert best_share(a, y, rows, cost, 0) < 0.005
    assert best_share(a, b, rows[:0], cost, 0) == 0.5


@pytest.mark.parametrize("members", [1, 8, 15, 16, 17])
def test_weights_and_means_of_members(members: int) -> None:
    table, y = steps_and_waves()
    model = QuickRegressor(**QUICK | {"n_members": members}).fit(table, y)
    weights = model.member_weights_
    assert len(weights) == len(model.stack_) == members
    assert weights.sum() == pytest.approx(1)
    first = members if members < 16 else members - members // 2
    assert len(set(weights[:first].tolist())) == 1
    assert len(set(weights[first:].tolist())) <= 1
    # The prediction is the mean with these weights, and the others do not tell the bins within a coarse bin apart.
    rows = model.encoding_.encode(model._checked_table(table), np.dtype(np.float32))
    outputs = np.array([network.predict(rows) for network in model.stack_], np.float64)[:, :, 0]
    values = model._targets.values(
        np.array([sum(w * o for w, o in zip(weights, row, strict=True)) for row in outputs.T])
    )
    np.testing.assert_allclose(model.predict(table), values, rtol=1e-6)
    fine, coarse = rows.encoding, coarser(rows.encoding, 8)
    assert fine.width > coarse.width
    binned = fine.pieces[1]
    assert isinstance(binned, Binned)
    for k, W in enumerate(np.asarray(model.stack_.weights[0], np.float64)):
        slopes = W[:, 1:33] / np.diff(binned.edges)  # of each unit, in each of the bins of x
        equal = np.ptp(slopes.reshape(-1, 8, 4), axis=2).max() < 1e-4 * np.abs(slopes).max()
        assert equal == (k >= first)


@pytest.mark.parametrize("members", [2, 8, 16])
def test_rows_held_out_are_mixed(members: int) -> None:
    rng = np.random.default_rng(0)
    table = {"x": rng.uniform(0, 1, 400), "z": rng.normal(size=400)}
    y = np.sin(12 * table["x"]) + table["z"] + 2 * rng.normal(size=400)
    model = QuickRegressor(**QUICK | {"n_members": members}).fit(table, y)
    rows = model.encoding_.encode(model._checked_table(table), np.dtype(np.float32))
    each = np.stack([network.predict(rows)[:, 0] for network in model.stack_])
    own, others = each[:8], each[8:]
    share = model.member_weights_[:8].sum()
    assert members < 16 or 0.02 < share < 0.98  # so that it shows whether outputs were mixed
    found = model._targets.scaled(model.oof_predictions_)[:, 0]
    known = ~np.isnan(found)
    assert known.sum() == (100 if members == 2 else 400)
    # Each row has the output of the one that holds out its fold, or a mean of it and of the other one that does.
    alone = np.isclose(own, found, rtol=1e-5, atol=1e-6).any(axis=0)
    mixed = np.isclose(share * own[: len(others)] + (1 - share) * others, found, rtol=1e-5, atol=1e-6).any(axis=0)
    assert (mixed if members == 16 else alone)[known].all()
    assert (alone if members == 16 else mixed).sum() <= 10  # a few by chance


def test_both_kinds_on_a_device(device: Any) -> None:
    """The others are widened on the host, and lie on the device then."""
    table, y = steps_and_waves(48)
    model, on_host = (
        QuickRegressor(**QUICK | {"n_members": 16, "backend": b}).fit(table, y) for b in (device, "numpy")
    )
    assert model.stack_.backend is device
    np.testing.assert_allclose(model.member_weights_, on_host.member_weights_, atol=1e-3)
    np.testing.assert_allclose(model.predict(table), on_host.predict(table), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(model.feature_importances_, on_host.feature_importances_, rtol=1e-2, atol=1e-3)
    assert 0.01 < 8 * on_host.member_weights_[8] < 0.99


def test_networks_without_bins_are_of_one_kind() -> None:
    rng = np.random.default_rng(0)
    table = {"text": rng.choice(list("abc"), 90).tolist(), "whole": rng.integers(0, 5, 90)}
    model = QuickClassifier(**QUICK | {"n_members": 16}).fit(table, rng.choice(["yes", "no"], 90))
    assert model.member_weights_.tolist() == [1 / 16] * 16


def test_a_callback_that_ends_training_ends_it_for_all() -> None:
    told: list[int] = []

    class Ended(QuickRegressor):
        _callbacks = [lambda event: told.append(event.epoch) or event.epoch == 3]  # noqa: RUF012

    table, y = steps_and_waves()
    model = Ended(**QUICK | {"n_members": 16}).fit(table, y)
    assert told == [1, 2, 3]
    assert model.member_weights_.tolist() == [1 / 8] * 8
    assert np.isfinite(model.predict(table)).all()


@pytest.mark.parametrize(("members", "first"), [(16, 8), (17, 9)])
def test_others_that_all_diverge_are_left_out(members: int, first: int) -> None:
    """Their loss is no reason to be without the first."""
    stacks: list[Any] = []

    def spoil(event: Any) -> bool:
        if event.network not in stacks:
            stacks.append(event.network)
        if len(stacks) == 2 and event.epoch == 2:
            event.network.parameters = np.full(event.network.parameters.shape, np.nan)
        return False

    class Spoilt(QuickRegressor):
        _callbacks = [spoil]  # noqa: RUF012

    table, y = steps_and_waves()
    with pytest.warns(RuntimeWarning, match="the members that see few bins are left out: .* diverged"):
        model = Spoilt(**QUICK | {"n_members": members}).fit(table, y)
    assert model.member_weights_.tolist() == [1 / first] * first
    np.testing.assert_array_equal(
        model.predict(table), QuickRegressor(**QUICK | {"n_members": first}).fit(table, y).predict(table)
    )


def test_each_kind_has_its_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    class Noted(Deadline):
        def __init__(self, recipe: Any, at: float) -> None:
            super().__init__(recipe, at)
            limits.append(at)

    monkeypatch.setattr("deltaprop.tabular.members.Deadline", Noted)
    table, y = steps_and_waves()
    QuickRegressor(**QUICK | {"n_members": 17, "time_limit": 100.0}).fit(table, y)
    first, second = limits
    assert 42 < second - first < 52  # 8 of 17, a little less for what follows training
