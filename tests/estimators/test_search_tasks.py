"""Parts of a search: how many there are, what workers are sent, and that nothing of it changes the scores."""

import os
import pickle
import sys
import threading
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.estimators import file_arrays, search, workers
from deltaprop.estimators.file_arrays import FileArray, UnseenFileError
from deltaprop.estimators.parallel_tasks import Sent
from deltaprop.estimators.search_tasks import fits_at_once
from deltaprop.estimators.together import batches
from deltaprop.estimators.workers import Workers

IRIS = load_iris(return_X_y=True)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# -- how many fits make a part -------------------------------------------------------------------------------------


class RayBackend:
    """By its name, a backend whose workers are elsewhere."""


class LokyBackend:
    """By its name, joblib's processes on this machine."""


@pytest.mark.parametrize(
    ("backend", "fewest", "most"), [(RayBackend, 400, 800), (LokyBackend, 8334, 8334)], ids=["a cluster", "here"]
)
def test_the_memory_is_that_of_a_machine(backend, fewest, most, monkeypatch):
    """25,000 networks 784-100-10 in float64 on 100 workers.

    Five times its parameters, a network takes 3.2 MB: 337 fit into 1 GiB, but 3 into a hundredth of it.
    """
    monkeypatch.setattr(workers, "effective_n_jobs", lambda n_jobs: 100)
    monkeypatch.setattr(workers, "get_active_backend", lambda: (backend(), None))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 784)), np.arange(40) % 10
    seen: list[Any] = []

    class StoppedError(Exception):
        pass

    def stopped(self, sizes):
        seen.append((sizes, original(self, sizes)))
        raise StoppedError

    original: Any = search.Search._at_once
    monkeypatch.setattr(search.Search, "_at_once", stopped)
    base = dp.MLPClassifier((100,), random_state=0, backend="numpy")
    with pytest.raises(StoppedError):
        dp.SweepCV(base, {"alpha": list(np.linspace(0, 1, 12500))}, cv=2, n_jobs=-1).fit(X, y)
    (((fits, size),), (at_once,)) = seen[0]
    assert fits == 25000
    assert size == 5 * 8 * (785 * 100 + 101 * 10)
    tasks = batches(range(fits), at_once)
    assert fewest <= len(tasks) <= most


def test_parts_are_of_about_the_same_work_over_all_groups():
    """Networks of 1,000 and of 100,000 bytes; 10 workers and 40 parts or more, none of more than a 40th of the work."""
    sizes = [(1000, 1000), (500, 100_000), (3, 100_000)]
    work = sum(fits * size for fits, size in sizes)
    at_once = list(fits_at_once(sizes, Workers(10, 1, here=False, elsewhere=True), 2**30))
    parts = [
        len(part) * size for (fits, size), own in zip(sizes, at_once, strict=True) for part in batches(range(fits), own)
    ]
    assert sum(parts) == work
    assert max(parts) <= work / 40
    assert 40 <= len(parts) <= 80


def test_one_process_trains_as_many_as_the_memory_allows():
    assert list(fits_at_once([(1000, 100), (10, 3000)], Workers(), 2000)) == [20, 1]


@pytest.mark.parametrize(
    ("n_jobs", "expected"), [(1, Workers()), (3, Workers(3, 3, here=False)), (None, Workers())], ids=["1", "3", "None"]
)
def test_threads_share_a_memory(n_jobs, expected):
    with parallel_config("threading"):
        assert Workers.of(n_jobs) == expected


# -- scores --------------------------------------------------------------------------------------------------------

FITS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"solver": "sgd", "momentum": 0.5, "learning_rate": "adaptive"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3},
    "a generator": {"random_state": np.random.RandomState(3)},
    "float32": {"dtype": "float32"},
    "by themselves": {"dropout": 0.2},
}


def scores(sweep):
    return {name: value for name, value in sweep.cv_results_.items() if "score" in name and "time" not in name}


@pytest.mark.parametrize(("name", "steps"), [*((name, False) for name in FITS), ("adam", True), ("a generator", True)])
def test_scores_do_not_depend_on_how_parts_are_cut(name, steps):
    base = dp.MLPClassifier((7,), **({"max_iter": 5, "random_state": 0} | FITS[name]))
    model = make_pipeline(StandardScaler(), base) if steps else base
    alpha = "mlpclassifier__alpha" if steps else "alpha"
    grid = {alpha: [0.0, 1e-3, 1.0, 3.0]}
    options: dict[str, Any] = {
        "cv": 3,
        "scoring": ["accuracy", "neg_log_loss"],
        "refit": False,
        "return_train_score": True,
    }
    whole = dp.SweepCV(model, grid, **options).fit(*IRIS)
    cut = dp.SweepCV(model, grid, memory_limit=5 * 8 * 59 * 4, **options).fit(*IRIS)
    with parallel_config("threading"):
        in_workers = dp.SweepCV(model, grid, n_jobs=2, **options).fit(*IRIS)
    for other in (cut, in_workers):
        for key, expected in scores(whole).items():
            np.testing.assert_array_equal(other.cv_results_[key], expected, err_msg=key)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more of the:UserWarning")
@pytest.mark.parametrize("name", ["adam", "by themselves"])
def test_workers_on_other_machines_transform_what_they_train_on(name, monkeypatch):
    """Threads that are said to be elsewhere."""
    model = make_pipeline(StandardScaler(), dp.MLPClassifier((7,), **({"max_iter": 3, "random_state": 0} | FITS[name])))
    grid = {
        "mlpclassifier__alpha": [0.0, 1.0, -1.0],
        "mlpclassifier__hidden_layer_sizes": [(7,), (3, 3)],
        "standardscaler__with_mean": [True, "wrong", False],
    }
    options: dict[str, Any] = {
        "cv": 3,
        "refit": False,
        "scoring": ["accuracy", "neg_log_loss"],
        "return_train_score": True,
    }
    weights = np.linspace(0.5, 2, len(IRIS[1]))
    here = dp.SweepCV(model, grid, **options).fit(*IRIS, mlpclassifier__sample_weight=weights)
    monkeypatch.setattr(workers, "LOCAL_BACKENDS", ())
    with parallel_config("threading"):
        there = dp.SweepCV(model, grid, n_jobs=2, **options).fit(*IRIS, mlpclassifier__sample_weight=weights)
    assert np.isnan(here.cv_results_["mean_test_accuracy"]).sum() == 10  # a wrong step or a negative alpha
    for key, expected in scores(here).items():
        np.testing.assert_array_equal(there.cv_results_[key], expected, err_msg=key)


def test_a_split_without_a_score_needs_the_inputs(monkeypatch):
    """R² of one sample is scikit-learn's to refuse; the other splits are scored many at once."""
    monkeypatch.setattr(workers, "LOCAL_BACKENDS", ())
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    splits = [(np.arange(20), np.arange(20, 30)), (np.arange(29), np.arange(29, 30))]
    base = dp.MLPRegressor(hidden_layer_sizes=(3,), max_iter=2, random_state=0, backend="numpy")
    for cv in (splits[:1], splits):
        found = []
        for kind in (dp.SweepCV, GridSearchCV):
            with parallel_config("threading"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(kind(base, {"alpha": [0.0, 1.0]}, cv=cv, n_jobs=2, refit=False).fit(X, y))
        ours, theirs = (each.cv_results_["mean_test_score"] for each in found)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# -- fits by themselves --------------------------------------------------------------------------------------------


class Bar:
    """A bar that tells when it moves."""

    def __init__(self):
        self.moved = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def done(self, count, text):
        self.moved.set()


def test_the_bar_moves_while_fits_by_themselves_go_on(monkeypatch):
    """The last fits wait until it does."""
    bar = Bar()
    monkeypatch.setattr(search, "sweep_bar", lambda *_: bar)

    def score(estimator, X, y):
        return 1.0 if estimator.alpha < 2 else float(bar.moved.wait(60))

    base = dp.MLPClassifier((3,), max_iter=1, dropout=0.1, random_state=0, backend="numpy")
    sweep = dp.SweepCV(base, {"alpha": [0.0, 1.0, 2.0]}, cv=2, scoring=score, refit=False, progress=True, n_jobs=2)
    with parallel_config("threading"):
        sweep.fit(*IRIS)
    np.testing.assert_array_equal(sweep.cv_results_["mean_test_score"], [1.0, 1.0, 1.0])


def test_fits_by_themselves_go_to_workers_over_all_candidates():
    """Two fits of different candidates, with one split each, meet."""
    barrier = threading.Barrier(2)

    def score(estimator, X, y):
        barrier.wait(60)
        return 1.0

    base = dp.MLPClassifier((3,), max_iter=1, dropout=0.1, random_state=0, backend="numpy")
    split = [(np.arange(100), np.arange(100, 150))]
    sweep = dp.SweepCV(base, {"alpha": [0.0, 1.0]}, cv=split, scoring=score, refit=False, n_jobs=2, error_score="raise")
    with parallel_config("threading"):
        sweep.fit(*IRIS)
    np.testing.assert_array_equal(sweep.cv_results_["mean_test_score"], [1.0, 1.0])


def test_lines_and_errors_of_fits_by_themselves(capsys):
    base = dp.MLPClassifier((3,), max_iter=1, dropout=0.1, random_state=0, backend="numpy")
    grid = {"alpha": [0.0, 1.0], "max_iter": [1, 2]}
    for verbose in (1, 4):
        texts = []
        for kind in (dp.SweepCV, GridSearchCV):
            kind(base, grid, cv=2, refit=False, verbose=verbose, n_jobs=1).fit(*IRIS)
            texts.append([line.split("total time")[0].rstrip(".") for line in capsys.readouterr().out.splitlines()])
        assert texts[0] == texts[1]
        assert len(texts[0]) == 1 + 8 * (verbose > 1)
    wrong = dp.SweepCV(base, {"alpha": [0.0, -1.0]}, cv=2, refit=False, n_jobs=2, error_score="raise")
    with parallel_config("threading"), pytest.raises(ValueError, match="'alpha' parameter"):
        wrong.fit(*IRIS)


# -- what is sent --------------------------------------------------------------------------------------------------


def test_rays_object_store_takes_it():
    """Ray puts an argument of `sys.getsizeof` 100 or more there once, and sends others with each task."""
    assert sys.getsizeof(Sent(object())) >= 100


@pytest.fixture
def table(tmp_path, monkeypatch):
    """100 kB in a file, after a head of 96 bytes."""
    monkeypatch.setattr(file_arrays, "LEAST_BYTES", 2**10)
    values = np.random.default_rng(0).normal(size=(250, 50))
    path = tmp_path / "table"
    path.write_bytes(bytes(96) + values.tobytes())
    return path, values


def mapped(path, mode="r"):
    return np.memmap(path, np.float64, mode, 96, (250, 50))


VIEWS: dict[str, Any] = {
    "whole": lambda X: X,
    "plain": np.asarray,
    "rows": lambda X: X[10:200],
    "columns": lambda X: X[:, 3:40:2],
    "transposed": lambda X: np.asarray(X).T,
    "backwards": lambda X: X[::-1],
    "reshaped": lambda X: X[5:].reshape(-1, 10),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_an_array_in_a_file_is_mapped_again(name, mode, table):
    path, values = table
    found = FileArray.of(VIEWS[name](mapped(path, mode)))
    assert found is not None
    assert len(pickle.dumps(found)) < 1000
    again = pickle.loads(pickle.dumps(found)).load()
    expected = VIEWS[name](values)
    np.testing.assert_array_equal(again, expected)
    assert again.strides == expected.strides
    assert not again.flags.writeable


def test_what_is_written_into_a_map_is_in_the_file(table):
    path, _ = table
    X = mapped(path, "r+")
    X[0, 0] = 17.0
    found = FileArray.of(X)
    assert found is not None
    assert found.load()[0, 0] == 17.0


def test_arrays_that_are_sent_as_they_are(table):
    path, values = table
    changed = mapped(path, "c")
    changed[0, 0] = 17.0  # in memory, not in the file
    assert FileArray.of(changed) is None
    assert FileArray.of(values) is None
    assert FileArray.of(mapped(path)[:1]) is None  # too small


@pytest.mark.parametrize("change", ["content", "size", "gone"])
def test_another_file_is_not_taken_for_it(change, table):
    path, values = table
    X = mapped(path)
    found = FileArray.of(X)
    assert found is not None
    status = path.stat()
    kept = path.rename(path.with_name("kept"))  # the map is of this one
    if change != "gone":
        path.write_bytes(bytes(96) + (values + (change == "content")).tobytes() + bytes(change == "size"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not found.is_here()
    with pytest.raises(UnseenFileError, match="expected the file that the search began with"):
        found.load()
    assert (FileArray.of(X) is None) is (change != "size")  # nor would the path be sent of what holds other numbers
    assert kept.exists()


def test_arrays_of_joblib_are_files_too(table, tmp_path):
    """`joblib.load(…, mmap_mode="r")`, as many keep their data."""
    _, values = table
    joblib.dump(values, tmp_path / "X.joblib")
    found = FileArray.of(joblib.load(tmp_path / "X.joblib", mmap_mode="r"))
    assert found is not None
    np.testing.assert_array_equal(found.load(), values)
