"""Several ranks fit one estimator: the attributes of one rank, to rounding, and the same bits on all of them."""

import copy
import pickle
import signal
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threads import outcomes, run_threads

import deltaprop as dp
from deltaprop.epochs.interruption import Interruption
from deltaprop.estimators.autologging import telling_fit
from deltaprop.ranks.base import ALONE
from deltaprop.ranks.failures import RankError
from deltaprop.training.agreement import same_generator
from deltaprop.training.callbacks import Callback

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(3)
M = 103
X = RNG.normal(size=(M, 6))
LABELS = np.array(["ash", "elm", "oak"])[(X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)]
SEVERAL = (X[:, :3] + RNG.normal(scale=0.3, size=(M, 3)) > 0).astype(int)
VALUES = X @ RNG.normal(size=(6, 2)) + RNG.normal(scale=0.1, size=(M, 2))
WEIGHTS = np.where(np.arange(M) % 3 == 0, 0.0, RNG.uniform(0.5, 2.0, M))
CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_", "best_validation_score_")
EXACT = ("n_iter_", "t_", "_no_improvement_count", "n_outputs_")


def classifier(ranks, **options):
    defaults: dict[str, Any] = {"max_iter": 6, "batch_size": 20, "random_state": 4, "backend": "numpy"}
    return dp.MLPClassifier((9, 5), ranks=ranks, **defaults | options)


def regressor(ranks, **options):
    defaults: dict[str, Any] = {"max_iter": 6, "batch_size": 20, "random_state": 4, "backend": "numpy"}
    return dp.MLPRegressor(hidden_layer_sizes=(9, 5), ranks=ranks, **defaults | options)


def parameters(fitted):
    return np.concatenate([array.ravel() for array in (*fitted.coefs_, *fitted.intercepts_)])


def assert_as_alone(found, alone):
    """Every rank has the bits of the first, and the numbers of one rank."""
    first = found[0]
    for other in found:
        assert parameters(other).tobytes() == parameters(first).tobytes()
        assert all(getattr(other, name) == getattr(first, name) for name in (*CURVES, *EXACT) if hasattr(first, name))
        assert other.loss_ == first.loss_ == first.loss_curve_[-1]
    np.testing.assert_allclose(parameters(first), parameters(alone), rtol=0, atol=1e-12)
    for name in CURVES:
        if getattr(alone, name, None) is not None:
            np.testing.assert_allclose(getattr(first, name), getattr(alone, name), rtol=1e-12)
    if isinstance(alone, dp.MLPClassifier):
        assert getattr(first, "validation_scores_", None) == getattr(alone, "validation_scores_", None)
    assert all(getattr(first, name) == getattr(alone, name) for name in EXACT)


def by_score(estimator, X, y):
    """A scorer of the user's own."""
    return float(np.mean(estimator.predict(X) == y))


CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "adam": (classifier, LABELS, {}),
    "early stopping": (classifier, LABELS, {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 30}),
    "a scorer": (classifier, LABELS, {"early_stopping": True, "scoring": by_score}),
    "invscaling": (classifier, LABELS, {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1}),
    "adaptive": (
        classifier,
        LABELS,
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 40},
    ),
    "classes": (classifier, LABELS, {"class_weight": "balanced", "loss": "squared_error"}),
    "two classes": (classifier, LABELS == "oak", {"loss": "binary_cross_entropy"}),
    "dropout": (classifier, LABELS, {"dropout": 0.4}),
    "in order": (classifier, LABELS, {"shuffle": False, "alpha": 0.5}),
    "one batch": (classifier, LABELS, {"batch_size": M}),
    "less rows than ranks": (classifier, LABELS, {"batch_size": 2}),
    "multilabel": (classifier, SEVERAL, {"early_stopping": True}),
    "quantities": (regressor, VALUES, {"early_stopping": True, "max_iter": 20}),
    "one quantity": (regressor, VALUES[:, 0], {"solver": "sgd", "loss": "huber"}),
    "counts": (regressor, np.round(abs(VALUES)), {"loss": "poisson"}),
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_as_one_rank(name, size):
    make, y, options = CASES[name]
    found = run_threads(size, lambda ranks: make(ranks, **options).fit(X, y))
    assert_as_alone(found, make(None, **options).fit(X, y))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", ["weights", "sparse", "float32"])
def test_kinds_of_data(kind, early_stopping):
    inputs = sparse.csr_matrix(np.where(X > 0.5, X, 0.0)) if kind == "sparse" else X
    weights = WEIGHTS if kind == "weights" else None
    dtype = "float32" if kind == "float32" else None

    def fit(ranks):
        estimator = classifier(ranks, early_stopping=early_stopping, validation_fraction=0.2, dtype=dtype)
        return estimator.fit(inputs, LABELS, weights)

    found = run_threads(3, fit)
    if kind == "float32":
        assert len({parameters(each).tobytes() for each in found}) == 1
    else:
        assert_as_alone(found, fit(None))


def test_validation_data_with_weights_that_one_rank_has_none_of():
    weights = np.where(np.arange(40) < 20, 0.0, 1.0)

    def fit(ranks):
        return regressor(ranks).fit(X[:60], VALUES[:60], validation_data=(X[60:100], VALUES[60:100], weights))

    assert_as_alone(run_threads(3, fit), fit(None))


@pytest.mark.parametrize("make", [classifier, regressor])
def test_partial_fit_and_warm_start(make):
    y = LABELS if make is classifier else VALUES

    def fit(ranks):
        estimator = make(ranks, warm_start=True)
        for rows in (slice(0, 50), slice(30, M), slice(0, 50)):
            estimator.partial_fit(X[rows], y[rows], **{"classes": np.unique(LABELS)} if make is classifier else {})
        return estimator.fit(X, y)

    assert_as_alone(run_threads(2, fit), fit(None))


def test_ranks_go_on_where_one_rank_left_off():
    """What is kept from one call of `partial_fit` to the next belongs to one process."""

    def fit(ranks):
        estimator = regressor(None).partial_fit(X, VALUES)
        return estimator.set_params(ranks=ranks).partial_fit(X, VALUES).set_params(ranks=None).partial_fit(X, VALUES)

    assert_as_alone(run_threads(2, fit), fit(None))


def test_rank_0_draws():
    generators = [np.random.RandomState(seed) for seed in (5, 6, 7)]
    found = run_threads(3, lambda ranks: classifier(ranks, random_state=generators[ranks.rank]).fit(X, LABELS))
    own = np.random.RandomState(5)
    assert_as_alone(found, classifier(None, random_state=own).fit(X, LABELS))
    assert {generator.randint(2**31) for generator in generators} == {own.randint(2**31)}


def test_the_global_generator_of_other_ranks_is_left_alone():
    generators = [np.random.RandomState(seed) for seed in (5, 6)]
    before = [pickle.dumps(generator) for generator in generators]
    drawing = run_threads(2, lambda ranks: same_generator(ranks, generators[ranks.rank], None))
    assert drawing[1].randint(2**31, size=9).tolist() == np.random.RandomState(5).randint(2**31, size=9).tolist()
    assert [pickle.dumps(generator) for generator in generators] == before
    assert drawing[0] is generators[0]


def test_rank_0_alone_speaks(capfd):
    told: list[int] = []

    class Watch(Callback):
        def __init__(self, rank):
            self.rank = rank

        def on_fit_begin(self, event):
            told.append(self.rank)

        def on_epoch_end(self, event):
            told.append(self.rank)
            return event.epoch == 3

    def fit(ranks):
        return classifier(ranks, verbose=True, callbacks=[Watch(ranks.rank)]).fit(X, LABELS)

    found = run_threads(3, fit)
    assert told == [0] * 4
    assert [each.n_iter_ for each in found] == [3] * 3
    assert capfd.readouterr().out.count("Iteration") == 3


def test_rank_0_alone_warns():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_threads(3, lambda ranks: classifier(ranks, max_iter=2, batch_size=1000).fit(X, LABELS))
    assert sorted(each.category.__name__ for each in caught) == [ConvergenceWarning.__name__, UserWarning.__name__]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_killed_by_three_and_resumed_by_two(tmp_path, early_stopping):
    path = tmp_path / "fit.safetensors"
    options = {"early_stopping": early_stopping, "dropout": 0.2}

    def fit(ranks, epochs):
        # The generator of a fit that goes on is the one in the file.
        made = np.random.RandomState(8 if ranks is None or epochs == 3 else 80 + ranks.rank)
        estimator = classifier(ranks, max_iter=epochs, random_state=made, **options)
        where: dict[str, Any] = {} if ranks is None else {"checkpoint": path, "resume": True}
        return estimator.fit(X, LABELS, **where)

    run_threads(3, lambda ranks: fit(ranks, 3))
    assert [each.name for each in tmp_path.iterdir()] == ["fit.safetensors"]
    assert_as_alone(run_threads(2, lambda ranks: fit(ranks, 8)), fit(None, 8))


def test_a_checkpoint_of_another_run_leaves_all_ranks_as_they_were(tmp_path):
    path = tmp_path / "fit.safetensors"
    run_threads(2, lambda ranks: classifier(ranks).fit(X, LABELS, checkpoint=path))
    estimators = [classifier(None).fit(X, LABELS) for _ in range(2)]
    before = [parameters(each).copy() for each in estimators]

    def fit(ranks):
        estimators[ranks.rank].set_params(ranks=ranks, alpha=0.3).fit(X, LABELS, checkpoint=path, resume=True)

    first, second = (outcome.error for outcome in outcomes(2, fit))
    assert isinstance(first, ValueError)
    assert "alpha" in str(first)
    assert isinstance(second, RankError)
    for own, expected in zip(estimators, before, strict=True):
        np.testing.assert_array_equal(parameters(own), expected)
        assert own.n_iter_ == 6


def test_a_callback_that_is_interrupted_ends_training_on_all_ranks():
    def interrupt(event):
        if event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user") as caught:
        found = run_threads(2, lambda ranks: classifier(ranks, callbacks=[interrupt]).fit(X, LABELS))
    assert len(caught) == 1
    assert [each.n_iter_ for each in found] == [2, 2]
    assert_as_alone(found, classifier(None, max_iter=2).fit(X, LABELS))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_rank_is_heard_by_all(monkeypatch, number):
    """Training ends after the step: with a warning, as scikit-learn's does, or as the process is asked to end."""
    local, before = threading.local(), Interruption.__call__

    def signalled(self):
        local.asked = getattr(local, "asked", 0) + 1
        if getattr(local, "rank", 0) == 1 and local.asked == 9:
            self.signal = int(number)
        return before(self)

    def fit(ranks):
        local.rank = ranks.rank
        return classifier(ranks, solver="sgd").fit(X, LABELS)

    monkeypatch.setattr(Interruption, "__call__", signalled)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = outcomes(2, fit)
    if number == signal.SIGTERM:
        assert [type(outcome.error) for outcome in found] == [SystemExit] * 2
        assert not any(outcome.aborted for outcome in found)
        return
    assert [str(each.message) for each in caught] == ["Training interrupted by user."]
    first, second = (outcome.value for outcome in found)
    assert first.n_iter_ == second.n_iter_ == 1
    np.testing.assert_array_equal(parameters(first), parameters(second))
    assert not np.array_equal(parameters(first), parameters(classifier(None, solver="sgd", max_iter=1).fit(X, LABELS)))


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("alpha", lambda rank: {"alpha": 0.1 * rank}),
        ("max_iter", lambda rank: {"max_iter": 6 + rank}),
        ("batch_size", lambda rank: {"batch_size": 20 + rank}),
        ("random_state", lambda rank: {"random_state": rank}),
        ("sample_weight or class_weight", lambda rank: {"class_weight": {"oak": 1.0 + rank}}),
        ("early_stopping", lambda rank: {"early_stopping": rank == 1}),
    ],
)
def test_parameters_have_to_be_the_same(what, options):
    for outcome in outcomes(2, lambda ranks: classifier(ranks, **options(ranks.rank)).fit(X, LABELS)):
        assert isinstance(outcome.error, ValueError)
        assert str(outcome.error).startswith(f"ranks: expected the same {what} on every rank, got ")


@pytest.mark.parametrize(("what", "y"), [("classes_", np.char.upper(LABELS)), ("y", LABELS[::-1])])
def test_data_have_to_be_the_same(what, y):
    for outcome in outcomes(2, lambda ranks: classifier(ranks).fit(X, y if ranks.rank else LABELS)):
        assert isinstance(outcome.error, ValueError)
        assert str(outcome.error).startswith(f"ranks: expected the same {what} on every rank, got ")


def test_a_fault_on_one_rank_ends_all():
    bad = X.copy()
    bad[3, 2] = np.nan

    first, second = outcomes(2, lambda ranks: classifier(ranks).fit(bad if ranks.rank else X, LABELS))
    assert "rank 1 failed: ValueError" in str(first.error)
    assert "NaN" in str(second.error)
    assert [first.aborted, second.aborted] == [False, False]

    def fail(event):
        raise OSError("the disk is full")

    first, second = outcomes(2, lambda ranks: classifier(ranks, callbacks=[fail]).fit(X, LABELS))
    assert isinstance(first.error, OSError)
    assert str(second.error) == "rank 0 failed: OSError: the disk is full"
    assert [first.aborted, second.aborted] == [False, False]


def test_divergence_ends_all():
    found = outcomes(2, lambda ranks: regressor(ranks, solver="sgd", learning_rate_init=1e9).fit(X, VALUES))
    assert [type(outcome.error) for outcome in found] == [ValueError] * 2
    assert "non-finite" in str(found[1].error)
    assert not any(outcome.aborted for outcome in found)


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
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert again.ranks is None
        np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


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
