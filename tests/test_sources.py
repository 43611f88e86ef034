"""Data larger than memory: read chunk by chunk, every sample once an epoch, with the results of data in memory."""

import tracemalloc

import numpy as np
import pytest
from cases import relative
from conftest import backend_or_skip

import deltaprop as dp
from deltaprop import chunked_epoch, sources

SIZES = [5, 8, 3]


@pytest.fixture(params=["numpy", "reference", "cuda-on-host"])
def backend(request):
    return backend_or_skip(request.param) if request.param == "cuda-on-host" else request.param


@pytest.fixture
def data(rng):
    return rng.standard_normal((103, 5)), rng.integers(0, 3, 103)


@pytest.fixture(params=[1, 3, 1000], ids="chunks of {} minibatches".format)
def chunks(request, monkeypatch):
    """Of ten samples each."""
    monkeypatch.setattr(chunked_epoch, "CHUNK_BYTES", request.param * 10 * (5 + 3) * 8)


def network(backend="numpy", **options):
    return dp.Network(SIZES, **{"loss": "categorical_cross_entropy", "backend": backend} | options)


def mapped(path, array, dtype=None):
    """`array` on disk, memory-mapped."""
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
HOW = {"optimizer": dp.Adam(0.01), "batch_size": 10, "epochs": 3, "l2": 0.3}


def assert_same(net, history, alone, expected):
    host = net.backend.to_numpy(net.parameters)
    assert relative(host, alone.parameters) < 1e-12
    assert history.cost == pytest.approx(expected.cost, rel=1e-12)


@pytest.mark.parametrize("how", [{}, {"shuffle": False}, {"dropout": 0.3}, {"weighted": True}], ids=str)
def test_a_memory_map_is_trained_on_as_an_array_is(backend, chunks, data, how, tmp_path, rng):
    """In the order of a true permutation; of another dtype than the network, so that it is converted chunk by chunk."""
    X, y = data
    X = X.astype(np.float32)
    if "weighted" in how:
        how = {"sample_weight": rng.uniform(0.5, 2, len(X))}
    alone, net = network("reference"), network(backend)
    expected = alone.fit(X, y, **HOW | how)
    history = net.fit(mapped(tmp_path / "X", X), mapped(tmp_path / "y", y), **HOW | how)
    assert_same(net, history, alone, expected)


def test_labels_of_a_memory_map_in_a_series(data, tmp_path):
    """Whose own index is no matter: rows are had by their place."""
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
def test_parts_in_their_order(backend, chunks, data, form, tmp_path):
    X, y = data
    alone, net = network("reference"), network(backend)
    expected = alone.fit(X, y, **HOW, shuffle=False)
    history = net.fit(FORMS[form](tmp_path / "data.parquet", X, y), **HOW, shuffle=False)
    assert_same(net, history, alone, expected)


@pytest.mark.parametrize("form", FORMS)
def test_parts_are_shuffled_in_windows(chunks, data, form, tmp_path, monkeypatch):
    """Every sample once an epoch, in another order every epoch, and in the same one for the same seed."""
    X, y = data
    X[:, 0] = np.arange(len(X))  # tells samples apart
    seen = []
    windows = chunked_epoch.windows

    def watched(*arguments):
        visited = []
        seen.append(visited)
        for window in windows(*arguments):
            visited += window[0][:, 0].tolist()
            assert [y[int(i)] for i in window[0][:, 0]] == list(window[1])
            yield window

    monkeypatch.setattr(chunked_epoch, "windows", watched)
    source = FORMS[form](tmp_path / "data.parquet", X, y)
    nets = [network(), network(), network(seed=1)]
    for net in nets:
        net.fit(source, **HOW)
    assert all(sorted(visited) == list(range(len(X))) for visited in seen)
    assert seen[0] != seen[1] != seen[2]
    assert seen[:3] == seen[3:6] != seen[6:]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    if form != "batches":
        assert abs(seen[0][0] - seen[1][0]) > 20 or abs(seen[1][0] - seen[2][0]) > 20  # from another part


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
    assert_same(net, history, alone, expected)
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
    """Of 64 MB on disk, chunks of 1 MB; the permutation of 40 000 samples takes 0.3 MB."""
    monkeypatch.setattr(chunked_epoch, "CHUNK_BYTES", 2**20)
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
