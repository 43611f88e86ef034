"""Data that come in chunks, but not in shards, are trained on by several ranks as by one: the same global order."""

from typing import Any

import numpy as np
import pytest
import test_nccl
from fake_nccl import RankDevice
from test_failures import Told, errors
from test_nccl import on_device
from test_training import assert_same, assert_same_bits
from threads import outcomes, run_threads

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.epochs.chunked import ChunkedEpoch
from deltaprop.epochs.compiled_shared import CompiledSharedEpoch
from deltaprop.epochs.read_chunks import ReadChunks
from deltaprop.epochs.shared_chunks import SharedChunkedEpoch
from deltaprop.inputs import arrays
from deltaprop.ranks.base import ONE_RANK
from deltaprop.ranks.failures import RankError
from deltaprop.training import data_door

RNG = np.random.default_rng(5)
M = 203
X = RNG.integers(0, 9, (M, 5)).astype(np.int8)
LABELS = RNG.integers(0, 3, M)
world = test_nccl.world
WEIGHTS = np.where(np.arange(M) < 50, 0.0, RNG.uniform(0.5, 2.0, M))


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    """All arrays count as large; a chunk has three minibatches of ten rows, or one larger one."""
    dp.get_backend("numpy")  # not by several threads at once
    monkeypatch.setattr(arrays, "CONVERTED_LIMIT", 0)
    for module in (chunked, data_door):
        monkeypatch.setattr(module, "CHUNK_BYTES", 3 * 10 * 8 * 8)


def fitted(ranks, data=(X, LABELS), **options):
    net = dp.Network([5, 8, 3], loss="categorical_cross_entropy", backend=options.pop("backend", "numpy"), seed=4)
    defaults: dict[str, Any] = {"optimizer": dp.Adam(0.02), "batch_size": 10, "epochs": 3}
    return net, net.fit(*data, ranks=ranks, **defaults | options)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "descent": {"optimizer": dp.SGD(0.2, momentum=0.9), "l2": 0.1},
    "dropout": {"dropout": 0.3},
    "in order": {"shuffle": False},
    "weights of 0": {"sample_weight": WEIGHTS},
    "fewer rows than ranks": {"batch_size": 2, "epochs": 1},
    "a large minibatch": {"batch_size": 40},
    "held out": {"validation": 0.25, "metrics": ["accuracy", "r2"]},
    "a rule of the schedule": {"optimizer": dp.Adam(dp.StepDecay(0.05, 0.5, every=1))},
    "by steps": {"backend": "reference"},
}


@pytest.mark.parametrize("case", CASES)
def test_converted_rows(case):
    options = CASES[case]
    expected = fitted(None, **options)
    for size in (2, 3, 4):
        found = run_threads(size, lambda ranks: fitted(ranks, **options))
        assert_same_bits(found)
        assert_same(found[0], expected)


@pytest.mark.parametrize("rows", [3, 17, 300])
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("weights of 0", "held out")])
def test_batches_of_an_iterable(case, rows):
    options = CASES[case]
    batches = [(X[start : start + rows], LABELS[start : start + rows]) for start in range(0, M, rows)]
    expected = fitted(None, (batches,), **options)
    for size in (2, 3):
        found = run_threads(size, lambda ranks: fitted(ranks, (batches,), **options))
        assert_same_bits(found)
        assert_same(found[0], expected)


@pytest.mark.parametrize("case", ["plain", "descent", "dropout", "in order", "weights of 0", "fewer rows than ranks"])
@pytest.mark.parametrize("size", [2, 3])
def test_rows_that_are_uploaded_to_devices(world, case, size, monkeypatch):
    monkeypatch.setattr(RankDevice, "room", lambda self: 100)
    options = CASES[case]
    expected = fitted(None, backend="reference", **options)

    def run(ranks):
        net, history = fitted(ranks, (X.tolist(), LABELS), backend=on_device(world, ranks), **options)
        return net.backend.to_numpy(net.parameters), history

    (parameters, history), *others = run_threads(size, run)
    assert all(other.tobytes() == parameters.tobytes() for other, _ in others)
    np.testing.assert_allclose(parameters, expected[0].parameters, rtol=0, atol=1e-12)
    np.testing.assert_allclose(history.cost, expected[1].cost, rtol=1e-12)
    assert all((communicator.sums[True] > 0) == (case != "dropout") for communicator in world.made)


def test_shards_on_devices(world, tmp_path):
    """A minibatch has not the same number of a rank's rows every time."""
    data = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape), LABELS
    data[0][...] = X
    expected = fitted(ONE_RANK, data, backend="reference")

    def run(ranks):
        net, history = fitted(ranks, data, backend=on_device(world, ranks))
        return net.backend.to_numpy(net.parameters), history

    (parameters, history), (other, _) = run_threads(2, run)
    assert other.tobytes() == parameters.tobytes()
    np.testing.assert_allclose(parameters, expected[0].parameters, rtol=0, atol=1e-12)
    np.testing.assert_allclose(history.cost, expected[1].cost, rtol=1e-12)


def test_a_rank_converts_its_own_rows(monkeypatch):
    converted: dict[int, list[int]] = {}
    checked = ReadChunks._checked

    def counted(self, read):
        own = converted.setdefault(id(self), [])
        own.append(len(read.X))
        return checked(self, read)

    monkeypatch.setattr(ReadChunks, "_checked", counted)
    run_threads(4, lambda ranks: fitted(ranks, epochs=1))
    assert sum(map(sum, converted.values())) == M
    assert all(abs(sum(own) - M / 4) <= 11 for own in converted.values())  # 21 minibatches
    assert all(max(own) <= 30 for own in converted.values())


def test_one_trainer_is_made_for_all_chunks(monkeypatch):
    made = []
    before = SharedChunkedEpoch._trainer_of

    def counted(self, chunk, shares):
        known = len(self.trainers)
        train: Any = before(self, chunk, shares)
        made.append(len(self.trainers) - known)
        assert isinstance(train.__self__.whole_epoch, CompiledSharedEpoch)
        return train

    monkeypatch.setattr(SharedChunkedEpoch, "_trainer_of", counted)
    run_threads(2, fitted)
    assert sum(made) == 2  # ranks
    assert len(made) > 6


def test_a_run_without_ranks_is_what_it_was(monkeypatch):
    monkeypatch.setattr(SharedChunkedEpoch, "__init__", None)
    seen = []
    trainer = ChunkedEpoch._trainer
    monkeypatch.setattr(
        ChunkedEpoch, "_trainer", lambda self, chunk: (seen.append(len(chunk.X)), trainer(self, chunk))[1]
    )
    fitted(None, epochs=1)
    assert seen == [30] * 6 + [23]


def test_steps_are_told_of_across_chunks():
    watched, alone = [Told() for _ in range(3)], Told()
    for told in (*watched, alone):
        told.every_steps = 5
    found = run_threads(3, lambda ranks: fitted(ranks, callbacks=[watched[ranks.rank]], epochs=2))
    assert_same(found[0], fitted(None, callbacks=[alone], epochs=2))
    assert watched[0].events == alone.events
    assert "step 40" in alone.events
    assert abs(watched[0].cost - alone.cost) < 1e-12


@pytest.mark.parametrize("case", ["too many", "nan"])
def test_batches_that_are_bad_on_one_rank(case):
    class Batches:
        """From the second pass on, those of rank 1 are others."""

        def __init__(self, rank):
            self.rank, self.passes = rank, 0

        def __len__(self):
            return 7

        def __iter__(self):
            self.passes += 1
            is_bad = self.rank == 1 and self.passes == 3
            for number, rows in enumerate(np.array_split(np.arange(M), 7)):
                data = X[rows].astype(float)
                if is_bad and case == "nan" and number == 5:
                    data[:, 0] = np.nan
                yield data, LABELS[rows]
            if is_bad and case == "too many":
                yield X[:9], LABELS[:9]

    nets: list[Any] = [None, None]

    def run(ranks):
        net = nets[ranks.rank] = dp.Network([5, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
        net.fit(Batches(ranks.rank), batch_size=10, epochs=4, ranks=ranks)

    first, second = errors(outcomes(2, run))
    assert isinstance(second, ValueError)
    assert ("of batch 5" if case == "nan" else "expected 7 batches in every pass") in str(second)
    assert isinstance(first, RankError)
    assert str(second) in str(first)
    assert [net.epochs_trained for net in nets] == [1, 1]  # the second epoch is undone
    good = dp.Network([5, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
    good.fit(Batches(0), batch_size=10, epochs=1)
    assert all(abs(net.parameters - good.parameters).max() < 1e-12 for net in nets)
