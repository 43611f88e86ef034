"""Searches on a Dask cluster: data are sent once, scores are the same, and workers may die.

Every message of distributed goes through `TCP.write`, which returns its bytes. They are added up in all processes: client
and scheduler, which share this one, and workers.
"""

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.estimators.file_arrays import FileArray, UnseenFileError
from deltaprop.estimators.workers import Workers

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore")  # other libraries have their own
WORKERS = 2
ALPHAS = list(np.logspace(-6, 0, 8))
BASE = dp.MLPClassifier((2,), max_iter=1, batch_size=1000, random_state=0, backend="numpy")
BYTES_A_MEMBER = 5 * 8 * (101 * 2 + 3 * 2)


@contextmanager
def running_cluster():
    with (
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(WORKERS)
        yield client


#: What has been sent, in the process that imports this.
SENT = [0]
TCP: Any = distributed.comm.tcp.TCP
WRITE = TCP.write


def count_messages():
    async def counting(self, *arguments, **options):
        sent = await WRITE(self, *arguments, **options)
        SENT[0] += sent
        return sent

    TCP.write = counting


def bytes_sent():
    return SENT[0]


@pytest.fixture(scope="module")
def client():
    count_messages()
    try:
        with running_cluster() as client:
            client.run(count_messages)
            yield client
    finally:
        TCP.write = WRITE


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 100))
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def fitted_on(client, search, X, y):
    """Fit on the cluster; return the bytes that were sent, too."""
    before = bytes_sent() + sum(client.run(bytes_sent).values())
    with joblib.parallel_config(backend="dask"):
        search.fit(X, y)
    return search, bytes_sent() + sum(client.run(bytes_sent).values()) - before


def assert_same_scores(there, here):
    names = [name for name in here.cv_results_ if name.startswith(("split", "mean_test", "rank"))]
    assert names
    for name in names:
        np.testing.assert_array_equal(there.cv_results_[name], here.cv_results_[name], err_msg=name)
    assert there.cv_results_["params"] == here.cv_results_["params"]


SEARCHES: dict[str, Any] = {
    "40 tasks of stacks": lambda: dp.SweepCV(BASE, {"alpha": ALPHAS}, refit=False, memory_limit=BYTES_A_MEMBER),
    "40 fits by themselves": lambda: dp.SweepCV(
        dp.MLPClassifier(**(BASE.get_params() | {"dropout": 0.1})), {"alpha": ALPHAS}, refit=False
    ),
    "a pipeline": lambda: dp.SweepCV(
        make_pipeline(StandardScaler(), BASE),
        {"mlpclassifier__alpha": ALPHAS, "standardscaler__with_mean": [True, False]},
        refit=False,
        scoring=["accuracy", "neg_log_loss"],
    ),
    "another estimator": lambda: dp.SweepCV(GaussianNB(), {"var_smoothing": ALPHAS}, refit=False),
    "halving": lambda: dp.HalvingSweepCV(
        BASE, {"alpha": ALPHAS}, refit=False, resource="max_iter", max_resources=4, factor=2
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_data_are_sent_once_and_scores_are_the_same(name, client, data):
    X, y = data
    there, sent = fitted_on(client, SEARCHES[name](), X, y)
    assert X.nbytes < sent <= 3 * (X.nbytes + y.nbytes) * WORKERS
    assert_same_scores(there, SEARCHES[name]().fit(X, y))


def test_workers_of_a_cluster_have_memories_of_their_own(client):
    with joblib.parallel_config(backend="dask"):
        assert Workers.of(None) == Workers(count=WORKERS, sharing=1, here=False, elsewhere=True)
        assert Workers.of(1) == Workers()


#: Changed in workers.
FILES: Any = FileArray
WAYS = FILES.is_here, FILES.load


def see_no_file():
    FILES.is_here = lambda self: False


def load_no_file():
    def load(self):
        raise UnseenFileError(self.path)

    FILES.load = load


def see_as_ever():
    FILES.is_here, FILES.load = WAYS


@pytest.mark.parametrize("change", [None, see_no_file, load_no_file], ids=["seen", "unseen", "lost"])
def test_a_file_that_all_workers_see_is_not_sent(change, client, data, tmp_path):
    """One worker sees no such file from the beginning, or not when it begins a task, as if it had joined later."""
    X, y = data
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    try:
        if change is not None:
            client.run(change, workers=[next(iter(client.ncores()))])
        there, sent = fitted_on(client, SEARCHES["40 tasks of stacks"](), mapped, y)
    finally:
        client.run(see_as_ever)
    assert (sent < X.nbytes / 2) is (change is None)
    assert_same_scores(there, SEARCHES["40 tasks of stacks"]().fit(X, y))


class Deadly:
    """A scorer that kills processes once, in the middle of a search: all but this one, or its own."""

    def __init__(self, flag, pids):
        self.flag, self.pids, self.here = flag, pids, os.getpid()

    def __call__(self, estimator, X, y):
        if os.getpid() != self.here and estimator.alpha == ALPHAS[4]:
            try:
                Path(self.flag).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                for pid in self.pids or [os.getpid()]:
                    if pid != os.getpid():
                        os.kill(pid, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
        return estimator.score(X, y)


@pytest.fixture(scope="module")
def another_client():
    with running_cluster() as client:
        yield client


@pytest.mark.parametrize(
    ("deaths", "options"),
    [("one", {}), ("all", {"dropout": 0.1})],
    ids=["one, of stacks", "all, of fits by themselves"],
)
def test_workers_may_die(deaths, options, another_client, data, tmp_path):
    """If all die, the data die with them, and are sent again."""
    X, y = data
    base = dp.MLPClassifier(**(BASE.get_params() | options))
    another_client.wait_for_workers(WORKERS)
    pids = list(another_client.run(os.getpid).values()) if deaths == "all" else []
    deadly = Deadly(str(tmp_path / "flag"), pids)
    search = dp.SweepCV(base, {"alpha": ALPHAS}, refit=False, memory_limit=BYTES_A_MEMBER, scoring=deadly)
    with joblib.parallel_config(backend="dask"):
        search.fit(X, y)
    assert (tmp_path / "flag").exists()
    assert_same_scores(search, dp.SweepCV(base, {"alpha": ALPHAS}, refit=False).fit(X, y))
