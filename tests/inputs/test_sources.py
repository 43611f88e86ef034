"""Data larger than memory are read chunk by chunk, every sample once an epoch, with the results of data in memory."""

import pickle
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from cases import assert_same_training, relative

import deltaprop as dp
from deltaprop.epochs import chunked, read_chunks
from deltaprop.inputs import sources

SIZES = [5, 8, 3]


@pytest.fixture
def data(rng):
    return rng.standard_normal((103, 5)), rng.integers(0, 3, 103)


@pytest.fixture(params=[1, 3, 1000], ids="chunks of {} minibatches".format)
def chunks(request, monkeypatch):
    """Limit chunks to so many minibatches of ten samples."""
    monkeypatch.setattr(chunked, "CHUNK_BYTES", request.param * 10 * (5 + 3) * 8)


def network(backend="numpy", **options):
    return dp.Network(SIZES, **{"loss": "categorical_cross_entropy", "backend": backend} | options)


def mapped(path, array, dtype=None):
    """Write `array` to disk, and return it memory-mapped."""
    result = np.memmap(path, dtype or array.dtype, "w+", shape=array.shape)
    result[...] = array
    result.flush()
    return np.memmap(path, dtype or array.dtype, "r", shape=array.shape)


def as_parquet(path, X, y):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {f"f{j}": X[:, j] for j in range(X.shape[1])} | {"kind": y}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=23)
    return path


def as_folder(path, X, y):
    path.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(X)), 7)):
        np.savez(path / f"part{number}.npz", X=X[rows], y=y[rows])
    return path


def as_batches(path, X, y):
    return [(X[start : start + 17], y[start : start + 17]) for start in range(0, len(X), 17)]


FORMS = {"parquet": as_parquet, "folder": as_folder, "batches": as_batches}
HOW: dict[str, Any] = {"optimizer": dp.Adam(0.01), "batch_size": 10, "epochs": 3, "l2": 0.3}


@pytest.mark.parametrize("how", [{}, {"shuffle": False}, {"dropout": 0.3}, {"weighted": True}], ids=str)
def test_a_memory_map_is_trained_on_as_an_array_is(trained_on, chunks, data, how, tmp_path, rng):
    """The order is a true permutation; another dtype than the network's is converted chunk by chunk."""
    X, y = data
    X = X.astype(np.float32)
    if "weighted" in how:
        how = {"sample_weight": rng.uniform(0.5, 2, len(X))}
    alone, net = network("reference"), network(trained_on)
    expected = alone.fit(X, y, **HOW | how)
    history = net.fit(mapped(tmp_path / "X", X), mapped(tmp_path / "y", y), **HOW | how)
    assert_same_training(net, history, alone, expected)


def test_labels_of_a_memory_map_in_a_series(data, tmp_path):
    """The index of the series does not count: rows are taken by their place."""
    pandas = pytest.importorskip("pandas")
    X, y = data[0].astype(np.float32), data[1]
    alone, net = network(), network()
    alone.fit(mapped(tmp_path / "X", X), y, **HOW)
    net.fit(mapped(tmp_path / "X", X), pandas.Series(y, index=np.arange(len(y))[::-1]), **HOW)
    assert np.array_equal(net.parameters, alone.parameters)


def test_one_of_the_networks_dtype_is_used_where_it_is(data, tmp_path):
    X, y = data
    alone, net = network(), network()
    alone.fit(X, y, **HOW)
    net.fit(mapped(tmp_path / "X", X), y, **HOW)
    assert np.array_equal(net.parameters, alone.parameters)


@pytest.mark.parametrize("form", FORMS)
def test_parts_in_their_order(trained_on, chunks, data, form, tmp_path):
    X, y = data
    alone, net = network("reference"), network(trained_on)
    expected = alone.fit(X, y, **HOW, shuffle=False)
    history = net.fit(FORMS[form](tmp_path / "data.parquet", X, y), **HOW, shuffle=False)
    assert_same_training(net, history, alone, expected)


@pytest.mark.parametrize("form", FORMS)
def test_parts_are_shuffled_in_windows(chunks, data, form, tmp_path, monkeypatch):
    """Every sample once an epoch, in another order every epoch, and in the same one for the same seed."""
    X, y = data
    X[:, 0] = np.arange(len(X))  # tells samples apart
    seen = []
    windows = sources.windows

    def watched(*arguments):
        visited: list[Any] = []
        seen.append(visited)
        for window in windows(*arguments):
            visited += window[0][:, 0].tolist()
            assert [y[int(i)] for i in window[0][:, 0]] == list(window[1])
            yield window

    monkeypatch.setattr(read_chunks, "windows", watched)
    source = FORMS[form](tmp_path / "data.parquet", X, y)
    nets = [network(), network(), network(seed=1)]
    for net in nets:
        net.fit(source, **HOW)
    assert all(sorted(visited) == list(range(len(X))) for visited in seen)
    assert seen[0] != seen[1] != seen[2]
    assert seen[:3] == seen[3:6] != seen[6:]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    if form != "batches":
        assert abs(seen[0][0] - seen[1][0]) > 20 or abs(seen[1][0] - seen[2][0]) > 20  # of another part


def test_a_generator_of_batches_anew_in_every_epoch(data):
    X, y = data
    begun = []

    class Batches:
        def __len__(self):
            return 5

        def __iter__(self):
            begun.append(1)
            return ((X[rows], y[rows]) for rows in np.array_split(np.arange(len(X)), 5))

    alone, net = network("reference"), network()
    expected = alone.fit(X, y, **HOW, shuffle=False)
    history = net.fit(Batches(), **HOW, shuffle=False)
    assert_same_training(net, history, alone, expected)
    assert len(begun) == 1 + HOW["epochs"]


def test_a_target_column_by_name(data, tmp_path):
    X, y = data
    path = as_parquet(tmp_path / "data.parquet", X, y)
    one, other = network(), network()
    one.fit(path, "kind", **HOW)
    other.fit(str(path), **HOW)
    assert np.array_equal(one.parameters, other.parameters)
    regression = dp.Network([5, 4, 1], loss="squared_error", backend="numpy")
    regression.fit(path, "f0", epochs=1)


def test_memory_is_that_of_a_chunk(tmp_path, monkeypatch, rng):
    """64 MB on disk are read in chunks of 1 MB; the permutation of 40 000 samples takes 0.3 MB."""
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 2**20)
    X = np.memmap(tmp_path / "X", np.float64, "w+", shape=(40_000, 200))
    for start in range(0, len(X), 4000):
        X[start : start + 4000] = rng.standard_normal((4000, 200))
    y = rng.integers(0, 3, len(X))
    folder = tmp_path / "folder"
    folder.mkdir()
    for start in range(0, len(X), 1000):
        np.savez(folder / f"{start:06}.npz", X=X[start : start + 1000], y=y[start : start + 1000])
    for form, arguments in (("mapped", (X, y)), ("folder", (folder,))):
        net = dp.Network([200, 8, 3], loss="categorical_cross_entropy", dtype="float32", backend="numpy")
        net.fit(X[:100], y[:100], epochs=1)
        tracemalloc.start()
        net.fit(*arguments, epochs=2, batch_size=50)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 2**20, form


def test_it_goes_on_from_a_checkpoint(data, tmp_path):
    X, y = data
    source = as_folder(tmp_path / "folder", X, y)
    alone, net = network(), network()
    alone.fit(source, **HOW)
    checkpoint = tmp_path / "run.safetensors"
    network().fit(source, **HOW | {"epochs": 2}, checkpoint=checkpoint)
    net.fit(source, **HOW, checkpoint=checkpoint, resume=True)
    assert np.array_equal(net.parameters, alone.parameters)
    with pytest.raises(ValueError, match="is of another run: X"):
        network().fit(as_batches(None, X, y), **HOW, checkpoint=checkpoint, resume=True)


def test_what_cannot_be_read_is_named(data, tmp_path):
    X, y = data
    parquet = as_parquet(tmp_path / "data.parquet", X, y)
    folder = as_folder(tmp_path / "folder", X, y)
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    holed = X.copy()
    holed[50, 2] = np.nan
    for arguments, how, message in (
        ((tmp_path / "no.parquet",), {}, "no such file or folder"),
        ((tmp_path / "data.csv",), {}, r"X: expected a \.parquet file or a folder"),
        ((tmp_path / "empty",), {}, r"expected \.npz files"),
        ((folder, "kind"), {}, "Y: expected None with a folder"),
        ((parquet, y), {}, "Y: expected the name of a column"),
        ((parquet, "no"), {}, "no column 'no'"),
        ((parquet,), {"sample_weight": np.ones(103)}, "sample_weight: expected None"),
        ((parquet,), {"batch_size": None}, "batch_size: expected a number"),
        (([(X, y), (X[:, :3], y)],), {}, "batch 1 has 3 features"),
        (([X, y],), {}, "expected batches to be pairs"),
        (([(X, y[:5])],), {}, "as many targets"),
        (([],), {}, "expected batches with samples, got none"),
        (([(X[:, :3], y)],), {}, "X: expected 5 features, got 3"),
        ((as_batches(None, holed, y),), {}, "X: expected finite numbers"),
        ((as_batches(None, X, y + 1),), {}, "expected class labels 0 … 2"),
        ((mapped(tmp_path / "f", X, np.float32), y[:50]), {}, "Y: expected one row for each of X"),
    ):
        net = network()
        with pytest.raises((ValueError, TypeError, OSError), match=message):
            net.fit(*arguments, **HOW | how)
    (folder / "part3.npz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"part3\.npz"):
        network().fit(folder, **HOW)


def test_a_file_that_vanishes_ends_the_run_with_its_name(data, tmp_path):
    folder = as_folder(tmp_path / "folder", *data)
    net = network()

    def vanish(event):
        if event.epoch == 2:
            (folder / "part3.npz").unlink()

    with pytest.raises(OSError, match=r"part3\.npz"):
        net.fit(folder, **HOW, callbacks=[vanish])
    assert np.isfinite(net.parameters).all()


def test_rows_are_read_in_the_order_in_which_they_lie(data):
    asked = []

    class Watched:
        shape = (103, 5)
        dtype = np.dtype(float)

        def __getitem__(self, rows):
            asked.append(np.asarray(rows))
            return data[0][rows]

    rows = np.array([7, 3, 99, 3])
    X, y = sources.Rows(Watched(), data[1]).rows(rows)
    assert np.array_equal(X, data[0][rows])
    assert np.array_equal(y, data[1][rows])
    assert all((np.diff(each) >= 0).all() for each in asked)


class Batches:
    """Batches that differ from pass to pass: `passes` has a list for each, and the last list repeats."""

    def __init__(self, *passes):
        self.passes, self.begun = passes, 0

    def __len__(self):
        return len(self.passes[0])

    def __iter__(self):
        self.begun += 1
        return iter(self.passes[min(self.begun, len(self.passes)) - 1])


class Exhausted:
    """An iterator with a length, which is empty after the first pass."""

    def __init__(self, batches):
        self.batches, self.length = iter(batches), len(batches)

    def __len__(self):
        return self.length

    def __iter__(self):
        return self.batches


def cut(X, y, *sizes):
    ends = np.cumsum(sizes)
    return [(X[end - size : end], y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def interrupted(batches, error):
    yield from batches
    raise error


def test_batches_that_are_others_later_end_the_run_at_the_last_good_epoch(trained_on, chunks, data):
    X, y = data
    good = cut(X, y, 40, 40, 23)
    one_epoch = network("reference")
    one_epoch.fit(X, y, **HOW | {"epochs": 1}, shuffle=False)
    untrained = network("reference").parameters
    narrow = [*good[:2], (X[80:, :4], y[80:])]
    for batches, kept, message in (
        (Exhausted(good), untrained, "X: expected 3 batches in every pass over them, as in the first, got 0;"),
        (Batches(good, good, []), one_epoch.parameters, "X: expected 3 batches .* got 0;"),
        (Batches(good, good, good[:2]), one_epoch.parameters, "X: expected 3 batches .* got 2;"),
        (Batches(good, good, [*good, good[0]]), one_epoch.parameters, "X: expected 3 batches .* got 4 or more;"),
        (
            Batches(good, good, cut(X, y, 40, 41, 22)),
            one_epoch.parameters,
            r"X: expected batch 1 to hold 40 samples of 5 features, .* got shapes \(41, 5\) and \(41,\)",
        ),
        (
            Batches(good, good, [*good[:2], (X[80:], y[81:])]),
            one_epoch.parameters,
            r"X: expected batch 2 to hold 23 samples .* got shapes \(23, 5\) and \(22,\)",
        ),
        (Batches(good, good, narrow), one_epoch.parameters, r"expected batch 2 .* got shapes \(23, 4\) and \(23,\)"),
        (Batches(good, good, [*good[:2], X]), one_epoch.parameters, "got ndarray as batch 2"),
        (
            Batches(good, good, interrupted(good[:2], RuntimeError("the network is down"))),
            one_epoch.parameters,
            "the network is down",
        ),
    ):
        net = network(trained_on)
        with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
            net.fit(batches, **HOW, shuffle=False)
        assert relative(net.backend.to_numpy(net.parameters), kept) < 1e-12
        assert net.epochs_trained == int(kept is not untrained)


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_files_that_are_others_later_end_the_run_at_the_last_good_epoch(data, form, tmp_path, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 20 * (5 + 3) * 8)
    X, y = data
    changes = {
        "parquet": [
            (lambda path: as_parquet(path, X[:100], y[:100]), "row group 4 of data.parquet to hold 11 samples"),
            (lambda path: as_parquet(path, X[:40], y[:40]), "expected 5 row groups with the columns .* got 2"),
            (lambda path: as_parquet(path, np.vstack([X, X]), np.r_[y, y]), "expected 5 row groups .* got 9"),
            (lambda path: as_parquet(path, X[:, :4], y), "expected 5 row groups with the columns .* got 5 with 'f0'"),
        ],
        "folder": [
            (lambda path: np.savez(path / "part3.npz", X=X[:9], y=y[:9]), r"part3\.npz to hold 15 samples"),
            (lambda path: np.savez(path / "part3.npz", X=X[:0], y=y[:0]), r"part3\.npz to hold 15 samples"),
            (lambda path: np.savez(path / "part3.npz", X=X[:15, :4], y=y[:15]), r"15 samples of 5 features"),
            (lambda path: np.savez(path / "part3.npz", X=X[:15], y=y[:14]), r"got shapes \(15, 5\) and \(14,\)"),
        ],
    }[form]
    one_epoch = network()
    for number, (change, message) in enumerate(changes):
        (tmp_path / str(number)).mkdir()
        path = FORMS[form](tmp_path / str(number) / "data.parquet", X, y)
        if not number:
            one_epoch.fit(path, **HOW | {"epochs": 1})
        net = network()
        with pytest.raises(ValueError, match=message):
            net.fit(path, **HOW, callbacks=[lambda event, change=change, path=path: change(path) and None])
        assert np.array_equal(net.parameters, one_epoch.parameters)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_error_names_the_row_of_the_data(trained_on, chunks, data, shuffle, tmp_path):
    X, y = data
    how = HOW | {"shuffle": shuffle}
    weights = np.ones(103)
    weights[77] = np.nan

    def spoilt(array, row, value):
        result = array.copy()
        result[row] = value
        return result

    holed, labels = spoilt(X, (77, 2), np.nan), spoilt(y, 77, 3)
    one_hot = spoilt(np.eye(3)[y], (77, 0), 0.5)
    for arguments, options, message in (
        ((holed, y), {}, r"X: expected finite numbers in float64, got nan at X\[77, 2\]$"),
        ((spoilt(X, (77, 2), 1e39), y), {"dtype": "float32"}, r"in float32, got 1e\+39 at X\[77, 2\]$"),
        ((X, labels), {}, r"Y: expected class labels 0 … 2 .* got 3 at Y\[77\]$"),
        ((X, spoilt(np.eye(3)[y], (77, 1), -1.0)), {}, r"Y: expected targets in \[0, 1\], got -1 at Y\[77, 1\]$"),
        ((X, one_hot), {}, r"Y: expected the targets of each sample to sum to 1 .* in row 77$"),
    ):
        mapped_X = np.memmap(tmp_path / "X", ">f8", "w+", shape=X.shape)  # in a byte order that no network has
        mapped_X[...] = arguments[0]
        net = network(trained_on, **options)
        before = net.parameters.copy()
        with pytest.raises(ValueError, match=message):
            net.fit(mapped_X, mapped(tmp_path / "y", arguments[1]), **how)
        assert (net.parameters == before).all()
    with pytest.raises(ValueError, match=r"sample_weight: expected finite numbers .* got nan at sample_weight\[77\]$"):
        network(trained_on).fit(mapped(tmp_path / "f", X.astype(np.float32)), y, **how, sample_weight=weights)
    # Row 77 is the 3rd of the file that begins with row 75, the 10th of the batch that begins with row 68, and the 9th
    # of the row group that begins with row 69.
    for form, spoilt_X, spoilt_y, place in (
        ("folder", holed, y, "X[2, 2] of part5.npz"),
        ("folder", X, labels, "Y[2] of part5.npz"),
        ("batches", holed, y, "X[9, 2] of batch 4"),
        ("batches", X, labels, "Y[9] of batch 4"),
        ("parquet", X, labels, "Y[8] of row group 3 of data.parquet"),
    ):
        folder = tmp_path / place
        folder.mkdir()
        with pytest.raises(ValueError, match=f"at {re.escape(place)}$"):
            network(trained_on).fit(FORMS[form](folder / "data.parquet", spoilt_X, spoilt_y), **how)
    words = X.astype(object)
    words[77, 2] = "a word"
    with pytest.raises(
        TypeError, match=r"X: expected numbers, got text such as 'a word' at X\[9, 2\] of batch 4; encode it"
    ):
        network(trained_on).fit(as_batches(None, words, y), **how)


def test_errors_that_name_a_row_travel_between_processes(data):
    X, y = data
    holed = X.copy()
    holed[77, 2] = np.nan
    with pytest.raises(ValueError, match=r"at X\[77, 2\]$") as caught:
        network().fit(holed, y)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert isinstance(again, ValueError)
