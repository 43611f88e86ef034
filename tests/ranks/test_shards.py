"""Data on disk are shared out in shards: any number of ranks has the same run, and each reads only its own."""

import ast
import pickle
import threading
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from test_failures import errors
from test_sharding import Sized, slices_of
from test_training import assert_same, assert_same_bits
from threads import outcomes, run_threads

import deltaprop as dp
from deltaprop.epochs import chunked
from deltaprop.epochs.interruption import Interruption
from deltaprop.inputs import shards, sources
from deltaprop.inputs.parts import FolderParts
from deltaprop.ranks.base import ALONE, ONE_RANK
from deltaprop.ranks.failures import RankError
from deltaprop.training.checkpoint import read_checkpoint

RNG = np.random.default_rng(11)
M = 211
X = RNG.standard_normal((M, 5))
LABELS = RNG.integers(0, 3, M)
WEIGHTS = np.where(np.arange(M) < 30, 0.0, RNG.uniform(0.5, 2.0, M))


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    """A chunk has some 40 rows, a window six, and at most 60 shards are made of rows."""
    dp.get_backend("numpy")  # not by several threads at once
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 40 * 8 * 8)
    monkeypatch.setattr(shards, "CHUNK_BYTES", 6 * 6 * 8)
    monkeypatch.setattr(shards, "MOST_SHARDS", 60)
    lock, parse = threading.Lock(), ast.literal_eval

    def one_by_one(text):
        with lock:
            return parse(text)

    # NumPy parses headers by it. Python 3.11's fails now and then in several threads at once; ranks are processes.
    monkeypatch.setattr(ast, "literal_eval", one_by_one)


def as_map(path, dtype=np.float64, kind=np.memmap, data=X):
    written = np.memmap(path / "X", dtype, "w+", shape=data.shape)
    written[...] = data
    written.flush()
    return kind(path / "X", dtype, "r", shape=data.shape), LABELS


def as_converted(path):
    return as_map(path, np.float32)


def as_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {f"f{j}": X[:, j] for j in range(X.shape[1])} | {"kind": LABELS}
    parquet.write_table(pyarrow.table(columns), path / "data.parquet", row_group_size=10)
    return path / "data.parquet", None


def as_folder(path, data=X):
    """Files of 3 to 15 rows."""
    bounds = np.cumsum([0, *(3 + number % 13 for number in range(24))])
    for number, (first, last) in enumerate(pairwise(np.minimum(bounds * M // bounds[-1], M))):
        np.savez(path / f"part{number:02}.npz", X=data[first:last], y=LABELS[first:last])
    return path, None


FORMS = {"map": as_map, "converted map": as_converted, "parquet": as_parquet, "folder": as_folder}


def fitted(ranks, data, **options):
    net = dp.Network([5, 8, 3], loss="categorical_cross_entropy", backend=options.pop("backend", "numpy"), seed=4)
    defaults: dict[str, Any] = {"optimizer": dp.Adam(0.02), "batch_size": 16, "epochs": 3}
    return net, net.fit(*data, ranks=ranks, **defaults | options)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout, l2": {"dropout": 0.3, "l2": 0.1},
    "in order": {"shuffle": False},
    "small minibatches": {"batch_size": 2, "epochs": 1},
    "few minibatches": {"batch_size": 150},
    "validated": {"validation": (X[:40], LABELS[:40]), "metrics": ["accuracy", "r2"]},
    "by steps": {"backend": "reference"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_as_one_rank(form, case, tmp_path):
    data, options = FORMS[form](tmp_path), CASES[case]
    expected = fitted(ONE_RANK, data, **options)
    for size in (2, 3, 4):
        found = run_threads(size, lambda ranks: fitted(ranks, data, **options))
        assert_same_bits(found)
        assert_same(found[0], expected)


@pytest.mark.parametrize("options", [{"sample_weight": WEIGHTS}, {"validation": 0.2}], ids=lambda o: next(iter(o)))
@pytest.mark.parametrize("form", ["map", "converted map"])
def test_weights_and_held_out_rows_of_a_memory_map(form, options, tmp_path):
    data = FORMS[form](tmp_path)
    expected = fitted(ONE_RANK, data, **options)
    found = run_threads(3, lambda ranks: fitted(ranks, data, **options))
    assert_same_bits(found)
    assert_same(found[0], expected)


def test_a_memory_map_in_its_order_is_that_of_a_run_without_ranks(tmp_path):
    data = as_map(tmp_path)
    found = run_threads(3, lambda ranks: fitted(ranks, data, shuffle=False))
    assert_same(found[0], fitted(None, data, shuffle=False))
    full = run_threads(3, lambda ranks: fitted(ranks, data, batch_size=None))
    assert_same(full[0], fitted(None, data, batch_size=None))


@pytest.mark.parametrize("form", ["map", "folder"])
def test_against_minibatches_written_out(form, tmp_path):
    """Plain descent over the rows that the formula and the generators name."""
    data = FORMS[form](tmp_path)
    net, _ = run_threads(2, lambda ranks: fitted(ranks, data, optimizer=dp.SGD(0.2), epochs=2))[0]
    alone = dp.Network([5, 8, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
    for epoch in range(2):
        rows_of = rows_of_map(epoch) if form == "map" else rows_of_folder(epoch)
        for minibatch in slices_of([len(rows) for rows in rows_of], 16):
            rows = [rows_of[s][i] for s, i in minibatch]
            alone.fit(X[rows], LABELS[rows], optimizer=dp.SGD(0.2), batch_size=None, epochs=1)
    np.testing.assert_allclose(net.parameters, alone.parameters, rtol=0, atol=1e-12)


def rows_of_map(epoch):
    bounds = [M * s // 60 for s in range(61)]
    generators = (np.random.default_rng((4, 1, epoch, s)) for s in range(60))
    return [
        first + rng.permutation(last - first) for rng, (first, last) in zip(generators, pairwise(bounds), strict=True)
    ]


def rows_of_folder(epoch):
    """24 files are 24 shards; a window has six rows."""
    bounds = np.cumsum([0, *(3 + number % 13 for number in range(24))])
    bounds = np.minimum(bounds * M // bounds[-1], M)
    found = []
    for s, (first, last) in enumerate(pairwise(bounds.tolist())):
        rng = np.random.default_rng((4, 1, epoch, s))
        assert rng.permutation(1) == [0]  # the order of the only file
        starts = [*range(first, last, 6), last]
        found.append(np.concatenate([a + rng.permutation(b - a) for a, b in pairwise(starts)]))
    return found


class Counted(np.memmap):
    """It notes which rows a thread asks for."""

    asked: ClassVar[dict[int, list[int]]] = {}

    def __getitem__(self, which):
        rows = which.tolist() if isinstance(which, np.ndarray) else list(range(*which.indices(len(self))))
        self.asked.setdefault(threading.get_ident(), []).extend(rows)
        return np.asarray(super().__getitem__(which))


@pytest.mark.parametrize("validation", [None, 0.25])
def test_a_rank_reads_its_own_rows_of_a_memory_map(validation, tmp_path, monkeypatch):
    monkeypatch.setattr(Counted, "asked", {})
    X_on_disk, labels = as_map(tmp_path, kind=Counted)
    monkeypatch.setattr("deltaprop.training.agreement.ROWS_COMPARED", 4)

    def run(ranks):
        fitted(ranks, (X_on_disk, labels), validation=validation)
        return Counted.asked[threading.get_ident()]

    read = run_threads(3, run)
    compared = 4 * (1 if validation is None else 2)
    if validation is None:
        for rank, rows in enumerate(read):
            first, last = M * (20 * rank) // 60, M * (20 * rank + 20) // 60
            assert sorted(rows[compared:]) == sorted(3 * list(range(first, last)))
    else:  # those held out are checked, and looked at after every epoch
        held = round(0.25 * M)
        counts = sorted(len(rows) - compared for rows in read)
        assert all(abs(count - (3 * (M - held) + 4 * held) / 3) < 12 for count in counts)


def test_a_rank_reads_its_own_rows_of_validation_data(tmp_path, monkeypatch):
    monkeypatch.setattr(Counted, "asked", {})
    on_disk, labels = as_map(tmp_path, kind=Counted)

    def run(ranks):
        found = fitted(ranks, (X, LABELS), validation=(on_disk, labels))
        return Counted.asked[threading.get_ident()], found

    rows, found = zip(*run_threads(3, run), strict=True)
    assert_same(found[0], fitted(None, (X, LABELS), validation=(X, LABELS)))
    for rank, read in enumerate(rows):
        own = list(range(M * rank // 3, M * (rank + 1) // 3))
        assert sorted(set(read[len(own) + 64 :])) == own  # after the check, and the rows that ranks compare
        assert len(read) == 4 * len(own) + 64
    on_disk = np.memmap(tmp_path / "X", np.float64, "r+", shape=X.shape)
    on_disk[200, 2] = np.inf
    second = errors(outcomes(2, lambda ranks: fitted(ranks, (X, LABELS), validation=(on_disk, labels))))[1]
    assert "validation X: expected finite numbers in float64, got inf at validation X[200, 2]" in str(second)
    with pytest.raises(ValueError, match=r"validation Y: expected shape \(211, 3\) or \(211,\)"):
        fitted(ONE_RANK, (X, LABELS), validation=(on_disk, labels[:9]))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_rank_reads_its_own_files(size, tmp_path, monkeypatch):
    asked: dict[int, list[int]] = {}
    part = FolderParts.part

    def counted(self, number):
        asked.setdefault(threading.get_ident(), []).append(number)
        return part(self, number)

    def run(ranks):
        fitted(ranks if size > 1 else ONE_RANK, data)
        return asked[threading.get_ident()]

    data = as_folder(tmp_path)
    monkeypatch.setattr(FolderParts, "part", counted)
    for rank, numbers in enumerate(run_threads(size, run)):
        assert sorted(numbers) == sorted(3 * list(range(24 * rank // size, 24 * (rank + 1) // size)))


def test_a_rank_holds_windows_and_not_files(tmp_path, monkeypatch):
    """Of four parts of 1000 rows in small pieces, it holds a window of each."""
    held = most = 0

    class Pieces(Sized):
        def part(self, number):
            nonlocal held, most
            for start in range(0, 1000, 10):
                held += 10
                most = max(most, held)
                yield X[np.arange(start, start + 10) % M], LABELS[np.arange(start, start + 10) % M]

    taken = sources._window

    def counted(source, pieces, *arguments):
        nonlocal held
        window = taken(source, pieces, *arguments)
        held -= len(window.X)
        return window

    monkeypatch.setattr(sources, "_window", counted)
    monkeypatch.setattr(shards, "CHUNK_BYTES", 50 * 6 * 8)
    fitted(ONE_RANK, (Pieces([1000] * 4, 5), None), epochs=1)
    assert most <= 4 * (50 + 10)


def test_killed_and_resumed_on_other_numbers_of_ranks(tmp_path):
    for form, make in FORMS.items():
        folder = tmp_path / form
        folder.mkdir()
        data, path = make(folder), tmp_path / f"{form}.safetensors"
        expected = fitted(ONE_RANK, data, epochs=5)
        for epochs, size in ((1, 3), (2, 1), (4, 4), (5, 2)):
            how = {"epochs": epochs, "checkpoint": path, "resume": True}
            found = run_threads(size, lambda ranks: fitted(ranks if ranks.size > 1 else ONE_RANK, data, **how))  # noqa: B023
            assert_same_bits(found)
            assert read_checkpoint(path)[1].position.epoch == epochs
        assert_same(found[0], expected)


@pytest.mark.parametrize("form", ["map", "folder"])
def test_a_signal_inside_an_epoch_undoes_it_on_all(form, tmp_path, monkeypatch):
    data, path = FORMS[form](tmp_path), tmp_path / "run.safetensors"
    local, before = threading.local(), Interruption.__call__

    def signalled(self):
        local.asked = getattr(local, "asked", 0) + 1
        if getattr(local, "rank", 0) == 1 and local.asked == 27:
            self.signal = 2
        return before(self)

    def run(ranks):
        local.rank = ranks.rank
        return fitted(ranks, data, checkpoint=path, resume=True)

    monkeypatch.setattr(Interruption, "__call__", signalled)
    assert [type(error) for error in errors(outcomes(2, run))] == [KeyboardInterrupt] * 2
    monkeypatch.setattr(Interruption, "__call__", before)
    position = read_checkpoint(path)[1].position
    assert (position.epoch, position.batch) == (1, 0)
    resumed = run_threads(3, run)
    assert_same_bits(resumed)
    assert_same(resumed[0], fitted(ONE_RANK, data))


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_of_a_run_without_ranks_is_refused(form, tmp_path):
    data, path = FORMS[form](tmp_path), tmp_path / "run.safetensors"
    count = {"parquet": 22, "folder": 24}.get(form, 60)
    fitted(None, data, checkpoint=path)
    with pytest.raises(ValueError, match=f"shards None there, {count} here; data on disk come in another order with"):
        fitted(ONE_RANK, data, checkpoint=path, resume=True, epochs=4)
    path.unlink()
    run_threads(2, lambda ranks: fitted(ranks, data, checkpoint=path))
    with pytest.raises(ValueError, match=f"shards {count} there, None here; data on disk come in another order with"):
        fitted(None, data, checkpoint=path, resume=True, epochs=4)


@pytest.mark.parametrize("form", ["map", "folder"])
def test_a_bad_row_of_one_rank_ends_the_epoch_on_all(form, tmp_path):
    holed = X.copy()
    holed[200, 2] = np.nan
    data = as_map(tmp_path, data=holed) if form == "map" else as_folder(tmp_path, holed)
    kept: list[Any] = [None] * 3

    def run(ranks):
        net = kept[ranks.rank] = dp.Network([5, 8, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
        net.fit(*data, batch_size=16, ranks=ranks)

    first, second, third = errors(outcomes(3, run))
    assert isinstance(third, ValueError)
    place = "200, 2]" if form == "map" else ", 2] of part"
    assert "got nan at X[" in str(third)
    assert place in str(third)
    for other in (first, second):
        assert isinstance(other, RankError)
        assert f"rank 2 failed: RowValueError: {third}" == str(other)
    untrained = dp.Network([5, 8, 3], loss="categorical_cross_entropy", backend="numpy", seed=4)
    assert all(np.array_equal(net.parameters, untrained.parameters) for net in kept)


def test_a_file_that_changes_ends_the_epoch_on_all(tmp_path):
    data = as_folder(tmp_path)

    def lose(event):
        if event.epoch == 2:
            np.savez(tmp_path / "part01.npz", X=X[:2], y=LABELS[:2])

    first, second = errors(outcomes(2, lambda ranks: fitted(ranks, data, callbacks=[lose])))
    assert isinstance(first, ValueError)
    assert "expected part01.npz to hold 4 samples" in str(first)
    assert "rank 0 failed: ValueError: X: expected part01.npz" in str(second)


def test_more_ranks_than_shards(tmp_path):
    data = as_map(tmp_path, data=X[:5])[0], LABELS[:5]

    expected = fitted(ONE_RANK, data, batch_size=2)
    with pytest.warns(RuntimeWarning, match=r"ranks: 2 of 7 ranks have no rows to train on.* over 5 ranks at most"):
        found = run_threads(7, lambda ranks: fitted(ranks, data, batch_size=2))
    assert_same_bits(found)
    assert_same(found[0], expected)


def test_other_data_on_one_rank_are_refused(tmp_path):
    def folder(rank):
        path = tmp_path / f"{rank}" / "data"
        path.mkdir(parents=True)
        return as_folder(path, X.astype(np.float32) if rank else X)

    def batches(rank):
        return [(X[rank::2][:105], LABELS[rank::2][:105])], None

    for make in (folder, batches):
        data = [make(rank) for rank in range(2)]
        for error in errors(outcomes(2, lambda ranks: fitted(ranks, data[ranks.rank]))):  # noqa: B023
            assert str(error).startswith("ranks: expected the same X on every rank")


def test_the_only_rank_trains_on_arrays_as_a_run_without_ranks():
    one, alone = (fitted(ranks, (X, LABELS), dropout=0.2) for ranks in (ONE_RANK, None))
    assert one[0].parameters.tobytes() == alone[0].parameters.tobytes()
    assert pickle.loads(pickle.dumps([ALONE, ONE_RANK])) == [ALONE, ONE_RANK]
