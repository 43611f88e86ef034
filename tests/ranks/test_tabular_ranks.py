"""Several ranks share the members of a tabular estimator: the bits of one rank, on all of them."""

import copy
import pickle
import re
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from threads import ThreadRanks, outcomes, run_threads

import deltaprop as dp
from deltaprop.ranks.base import ALONE
from deltaprop.ranks.failures import RankError
from deltaprop.tabular.fit_ranks import silent_unless_first

RNG = np.random.default_rng(11)
M = 90
NUMBERS = RNG.normal(size=(M, 2))
TABLE: dict[str, Any] = {
    "length": np.where(np.arange(M) % 11 == 0, np.nan, NUMBERS[:, 0]),
    "width": NUMBERS[:, 1],
    "wood": np.array(["ash", "elm", "oak"])[RNG.integers(0, 3, M)],
}
LABELS = np.where(NUMBERS.sum(axis=1) + RNG.normal(scale=0.3, size=M) > 0, "yes", "no")
VALUES = NUMBERS @ [1.0, -2.0] + (TABLE["wood"] == "oak")
WEIGHTS = np.where(np.arange(M) % 7 == 0, 0.0, RNG.uniform(0.5, 2.0, M))


def classifier(ranks, **options):
    defaults: dict[str, Any] = {"n_members": 5, "hidden_layer_sizes": 6, "random_state": 3, "backend": "numpy"}
    return dp.TabularClassifier(ranks=ranks, **defaults | options)


def regressor(ranks, **options):
    defaults: dict[str, Any] = {"n_members": 5, "hidden_layer_sizes": 6, "random_state": 3, "backend": "numpy"}
    return dp.TabularRegressor(ranks=ranks, **defaults | options)


def assert_as_alone(found, alone):
    """Every rank holds all networks, with the bits of one rank, and what follows from them."""
    for each in found:
        assert each.stack_.parameters.tobytes() == alone.stack_.parameters.tobytes()
        assert [net.epochs_trained for net in each.stack_] == [net.epochs_trained for net in alone.stack_]
        assert each.stack_.seeds == alone.stack_.seeds
        np.testing.assert_array_equal(each.member_weights_, alone.member_weights_)
        np.testing.assert_array_equal(each.oof_predictions_, alone.oof_predictions_)
        assert each.oof_score_ == alone.oof_score_
        assert getattr(each, "temperature_", None) == getattr(alone, "temperature_", None)
        np.testing.assert_array_equal(each.predict(TABLE), alone.predict(TABLE))
        np.testing.assert_array_equal(each.feature_importances_, alone.feature_importances_)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("members", [1, 2, 5, 16])
def test_as_one_rank(size, members):
    """With 16 members there are two kinds; with 1 or 2, some ranks have none."""
    found = run_threads(size, lambda ranks: classifier(ranks, n_members=members).fit(TABLE, LABELS))
    assert_as_alone(found, classifier(None, n_members=members).fit(TABLE, LABELS))


def test_quantities_and_weights():
    found = run_threads(3, lambda ranks: regressor(ranks).fit(TABLE, VALUES, WEIGHTS))
    alone = regressor(None).fit(TABLE, VALUES, WEIGHTS)
    assert_as_alone(found, alone)
    for each in found:
        own, expected = (model.predict(TABLE, return_interval=0.8)[1] for model in (each, alone))
        np.testing.assert_array_equal(own, expected)


def test_classes_that_count_alike():
    found = run_threads(2, lambda ranks: classifier(ranks, class_weight="balanced").fit(TABLE, LABELS))
    assert_as_alone(found, classifier(None, class_weight="balanced").fit(TABLE, LABELS))


def test_every_rank_trains_members_of_its_own(monkeypatch):
    """Rank r of R trains members r, r + R …"""
    trained: dict[int, list[int]] = {}
    local, fit = threading.local(), dp.NetworkStack.fit

    def told(self, *arguments, **options):
        trained.setdefault(local.rank, []).extend(self.seeds)
        return fit(self, *arguments, **options)

    def run(ranks):
        local.rank = ranks.rank
        return classifier(ranks).fit(TABLE, LABELS)

    monkeypatch.setattr(dp.NetworkStack, "fit", told)
    seeds = run_threads(2, run)[0].stack_.seeds
    assert trained == {0: seeds[::2], 1: seeds[1::2]}


def test_rank_0_draws():
    generators = [np.random.RandomState(seed) for seed in (5, 6)]
    found = run_threads(2, lambda ranks: classifier(ranks, random_state=generators[ranks.rank]).fit(TABLE, LABELS))
    own = np.random.RandomState(5)
    assert_as_alone(found, classifier(None, random_state=own).fit(TABLE, LABELS))
    assert {generator.randint(2**31) for generator in generators} == {own.randint(2**31)}


def test_within_a_time_limit_all_have_the_same_members():
    found = run_threads(3, lambda ranks: classifier(ranks, time_limit=1.0).fit(TABLE, LABELS))
    assert len({each.stack_.parameters.tobytes() for each in found}) == 1
    assert len({each.temperature_ for each in found}) == 1
    assert len(found[0].stack_) == 5


@pytest.mark.parametrize(("rank", "members"), [(0, 5), (1, 5), (1, 16)])
def test_a_callback_of_any_rank_ends_training(rank, members):
    """Both kinds of members are trained, unless the training of the first has been ended."""

    def run(ranks):
        told: list[int] = []

        def stop(event):
            told.append(event.epoch)
            return ranks.rank == rank and event.epoch == 4

        model = classifier(ranks, n_members=members)
        model._callbacks = [stop]
        return model.fit(TABLE, LABELS), told

    (first, told), (second, told_second) = run_threads(2, run)
    assert told == told_second == [1, 2, 3, 4]
    assert first.stack_.parameters.tobytes() == second.stack_.parameters.tobytes()
    assert len(first.stack_) == (5 if members == 5 else 8)
    assert max(net.epochs_trained for net in first.stack_) == 4


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_fault_in_training_ends_all(kind):
    def run(ranks):
        def fail(event):
            if ranks.rank == 1 and event.epoch == 3:
                raise kind("on rank 1")

        model = classifier(ranks)
        model._callbacks = [fail]
        model.fit(TABLE, LABELS)

    first, second, third = outcomes(3, run)
    assert isinstance(second.error, kind)
    for other in (first, third):
        assert isinstance(other.error, kind if kind is KeyboardInterrupt else RankError)
        assert str(other.error) == ("" if kind is KeyboardInterrupt else f"rank 1 failed: {kind.__name__}: on rank 1")
    assert [each.aborted for each in (first, second, third)] == [False] * 3


def test_a_fault_before_training_ends_all():
    first, second = outcomes(2, lambda ranks: classifier(ranks).fit(TABLE, LABELS if ranks.is_first else LABELS[:5]))
    assert "rank 1 failed: ValueError" in str(first.error)
    assert isinstance(second.error, ValueError)
    assert [first.aborted, second.aborted] == [False, False]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("n_members", lambda model: model.set_params(n_members=6)),
        ("random_state", lambda model: model.set_params(random_state=4)),
        ("label_smoothing", lambda model: model.set_params(label_smoothing=0.1)),
        ("sample_weight or class_weight", lambda model: model.set_params(class_weight={"yes": 3.0})),
    ],
)
def test_parameters_have_to_be_the_same(what, change):
    def run(ranks):
        model = classifier(ranks)
        (change(model) if ranks.rank else model).fit(TABLE, LABELS)

    for outcome in outcomes(2, run):
        assert isinstance(outcome.error, ValueError)
        assert str(outcome.error).startswith(f"ranks: expected the same {what} on every rank, got ")


@pytest.mark.parametrize(
    ("what", "table", "y"), [("X", TABLE | {"width": -NUMBERS[:, 1]}, LABELS), ("y", TABLE, LABELS[::-1])]
)
def test_data_have_to_be_the_same(what, table, y):
    for outcome in outcomes(2, lambda ranks: classifier(ranks).fit(*((table, y) if ranks.rank else (TABLE, LABELS)))):
        assert isinstance(outcome.error, ValueError)
        assert str(outcome.error).startswith(f"ranks: expected the same {what} on every rank, got ")


def diverging(monkeypatch, which):
    """Have members with these seeds begin with parameters that are not finite after the first step."""
    fit = dp.NetworkStack.fit

    def spoilt(self, *arguments, **options):
        for net in self:
            if which(net.seed):
                net.parameters[...] = 1e30
        return fit(self, *arguments, **options)

    monkeypatch.setattr(dp.NetworkStack, "fit", spoilt)


@pytest.mark.parametrize("lost", [slice(0, 5, 2), slice(1, 3)], ids=["all of rank 0", "one of each"])
def test_members_that_diverge_are_told_of_with_their_numbers(monkeypatch, lost):
    """Threads cannot have warnings of their own, so that what is reported stands for them."""
    seeds = regressor(None).fit(TABLE, VALUES).stack_.seeds
    diverging(monkeypatch, set(seeds[lost]).__contains__)
    numbers = list(range(5))[lost]
    with pytest.warns(RuntimeWarning, match=re.escape(f"members {numbers} of 5 diverged; the first: ")):
        alone = regressor(None).fit(TABLE, VALUES)
    reported: list[list[int]] = []

    def report(histories):
        reported.append([k for k, history in enumerate(histories) if history.diverged])
        assert all(history.message for history in histories)
        return histories

    monkeypatch.setattr("deltaprop.tabular.dealt_members.report", report)
    found = run_threads(2, lambda ranks: regressor(ranks).fit(TABLE, VALUES))
    assert reported == [numbers] * 2
    assert {each.stack_.parameters.tobytes() for each in found} == {alone.stack_.parameters.tobytes()}


def test_rank_0_alone_warns():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rank in (0, 1, 2):
            with silent_unless_first(ThreadRanks(rank, [None] * 3, threading.Barrier(3))):
                warnings.warn(f"on rank {rank}", UserWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == ["on rank 0"]


def test_all_members_diverge(monkeypatch):
    diverging(monkeypatch, lambda seed: True)
    found = outcomes(2, lambda ranks: regressor(ranks).fit(TABLE, VALUES))
    assert [type(each.error) for each in found] == [dp.DivergenceError] * 2
    assert {str(each.error).partition(" diverged")[0] for each in found} == {"members [0, 1, 2, 3, 4] of 5"}
    assert [each.aborted for each in found] == [False, False]


class Communicator(threading.local):
    """It has the methods of a communicator, and cannot be pickled either."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1


def test_the_parameter(tmp_path):
    model = classifier("mpi")
    assert clone(model).get_params()["ranks"] == "mpi"
    with pytest.raises(ValueError, match="'ranks' parameter"):
        classifier("mpich").fit(TABLE, LABELS)
    fitted = classifier(ALONE).fit(TABLE, LABELS)
    assert fitted.ranks is ALONE
    assert pickle.loads(pickle.dumps(fitted.set_params(ranks="mpi"))).ranks == "mpi"
    assert isinstance(copy.deepcopy(fitted.set_params(ranks=Communicator())).ranks, Communicator)
    fitted.set_params(ranks="mpi").save(tmp_path / "model.safetensors")
    again: Any = dp.load(tmp_path / "model.safetensors")
    assert again.ranks is None  # where it is loaded, there may be no others
    np.testing.assert_array_equal(again.predict(TABLE), fitted.predict(TABLE))


def test_a_search_refuses_ranks():
    with pytest.raises(ValueError, match="ranks: expected None in a SweepCV, which trains many networks"):
        dp.SweepCV(classifier("mpi"), {"label_smoothing": [0.0, 0.1]}, cv=2).fit(NUMBERS, LABELS)
