"""The parameter `ranks` of estimators: what it may be, where it is kept, and who refuses it."""

import copy
import pickle
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_rank_estimators import LABELS, X, classifier
from threads import run_threads

import deltaprop as dp
from deltaprop.estimators.autologging import _have_rank_0_record, telling_fit
from deltaprop.ranks.base import ALONE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_the_parameter_is_kept_as_it_is():
    estimator = classifier("mpi")
    assert clone(estimator).get_params()["ranks"] == "mpi"
    assert estimator.set_params(ranks=None).get_params()["ranks"] is None
    with pytest.raises(ValueError, match="'ranks' parameter"):
        classifier("mpich").fit(X, LABELS)
    with pytest.raises(ValueError, match="ranks: expected None with solver='lbfgs'"):
        classifier(ALONE, solver="lbfgs").fit(X, LABELS)


class Communicator(threading.local):
    """It has the methods of a communicator, and cannot be pickled either."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1


def test_a_pickle_keeps_mpi_and_leaves_a_communicator_behind():
    fitted = classifier(None).fit(X, LABELS).set_params(ranks="mpi")
    assert pickle.loads(pickle.dumps(fitted)).ranks == "mpi"
    fitted.set_params(ranks=Communicator())
    again = pickle.loads(pickle.dumps(fitted))
    assert again.ranks is None
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


@pytest.mark.parametrize("ranks", ["mpi", Communicator()], ids=["mpi", "communicator"])
def test_copies_in_this_process_keep_the_ranks(ranks):
    fitted = classifier(None).fit(X, LABELS).set_params(ranks=ranks)
    for again in (copy.copy(fitted), copy.deepcopy(fitted)):
        assert again.ranks is ranks
        np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    for unfitted in (fitted, dp.TabularClassifier(ranks=ranks), make_pipeline(fitted)):
        of_clone = clone(unfitted).get_params()
        assert [value for name, value in of_clone.items() if name.endswith("ranks")] == [ranks]
    assert not hasattr(clone(fitted), "coefs_")


def test_skops_keeps_it():
    skops_io = pytest.importorskip("skops.io")
    content = skops_io.dumps(classifier(None).fit(X, LABELS).set_params(ranks="mpi"))
    again = skops_io.loads(content, trusted=skops_io.get_untrusted_types(data=content))
    assert again.ranks == "mpi"


@pytest.mark.parametrize(
    "search",
    [
        dp.SweepCV(classifier("mpi"), {"alpha": [0.0, 0.1]}),
        dp.SweepCV(make_pipeline(StandardScaler(), classifier("mpi")), {"mlpclassifier__alpha": [0.0, 0.1]}),
        dp.SweepCV(classifier(None), [{"alpha": [0.1]}, {"ranks": [None, "mpi"]}]),
        dp.HalvingSweepCV(classifier("mpi"), {"alpha": [0.0, 0.1]}),
        dp.EnsembleClassifier(classifier("mpi")),
    ],
    ids=["sweep", "pipeline", "grid", "halving", "ensemble"],
)
def test_what_trains_many_networks_refuses_ranks(search):
    with pytest.raises(ValueError, match=r"ranks: expected None in an? \w+, which trains many networks, got .*joblib"):
        search.fit(X, LABELS)


def test_mlflow_records_a_fit_of_several_ranks_once(monkeypatch):
    told: list[int] = []

    class Estimator:
        def __init__(self, ranks):
            self.ranks = ranks

        @telling_fit
        def fit(self):
            return self

    def tell(module, cls):
        told.append(0)
        return False

    monkeypatch.setattr("deltaprop.estimators.autologging.tell_mlflow", tell)
    monkeypatch.setitem(sys.modules, "mlflow.sklearn", object())
    run_threads(3, lambda ranks: Estimator(ranks).fit())
    assert told == [0]


def test_what_mlflow_has_patched_before_records_nothing_on_other_ranks():
    """As after the fit of another estimator, which told MLflow of all."""
    silenced, recorded = threading.local(), list[int]()

    class Estimator(BaseEstimator):
        def __init__(self, ranks=None):
            self.ranks = ranks

        def fit(self):
            if not getattr(silenced, "now", False):
                recorded.append(self.ranks.rank)
            return self

    @contextmanager
    def silent():
        silenced.now = True
        yield
        silenced.now = False

    _have_rank_0_record(Estimator, silent)
    found = run_threads(3, lambda ranks: Estimator(ranks).fit())
    assert [each.ranks.rank for each in found] == [0, 1, 2]
    assert recorded == [0]
