"""What a fit leaves in scikit-learn's object is what its own code leaves: the same attributes, types and numbers."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import scipy.sparse
from accelerating import accelerated, both_ways, differences, workers_of
from scikit_learn_versions import LOSSES_IN_FLOAT32, TAKES_WEIGHTS
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
X_diabetes, y_diabetes = load_diabetes(return_X_y=True)
y_diabetes = y_diabetes / 100
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 7}
DATA = {
    "classes": (MLPClassifier, X, y),
    "two classes": (MLPClassifier, X[:100], y[:100]),
    "labels": (MLPClassifier, X, np.c_[y == 0, y == 1].astype(int)),
    "numbers": (MLPRegressor, X_diabetes, y_diabetes),
    "pairs": (MLPRegressor, X_diabetes, np.c_[y_diabetes, y_diabetes**2]),
    "sparse": (MLPClassifier, scipy.sparse.csc_array(X), y),
    "float32": (MLPClassifier, X.astype(np.float32), y),
}
SOLVERS = ("adam", "sgd", "lbfgs")
DEEP = {"hidden_layer_sizes": [5, 4], "activation": "tanh", "learning_rate": "adaptive", "n_iter_no_change": 1}


def answers(fitted, X):
    """Return everything that can be asked."""
    methods = ("predict", "predict_proba", "predict_log_proba")
    return [getattr(fitted, method)(X) for method in methods if hasattr(fitted, method)]


#: All ways for two kinds of targets, two ways for the others.
WAYS = [(data, solver, early) for data in ("classes", "pairs") for solver in SOLVERS for early in (False, True)]
WAYS += [
    (data, *way) for data in DATA for way in (("adam", True), ("lbfgs", False)) if data not in ("classes", "pairs")
]


@pytest.mark.parametrize(("data", "solver", "early_stopping"), WAYS)
def test_fits(data, solver, early_stopping):
    kind, X, y = DATA[data]
    settings = [DEEP, {"learning_rate": "invscaling", "momentum": 0.5, "shuffle": False}]

    def run():
        results = []
        for options in settings:
            rng = np.random.RandomState(3)
            own = {"random_state": rng, "solver": solver, "early_stopping": early_stopping, "batch_size": 32}
            mlp = kind(**SMALL | own | options).fit(X, y)
            results.append((mlp, answers(mlp, X), rng))
            weights = [np.linspace(0.5, 2, len(y))] if TAKES_WEIGHTS else []
            warm = kind(**SMALL | own | options | {"warm_start": True}).fit(X, y).fit(X, y, *weights)
            results.append((warm, answers(warm, X), rng))
        return results

    theirs, ours, profile = both_ways(run)
    found = list(differences(theirs, ours, 1e-3 if data == "float32" else 1e-6))
    if data == "float32" and LOSSES_IN_FLOAT32:
        found = [each for each in found if not re.search(r"\.loss_.*: float32, float64$", each)]
    # With weights, the moments of theirs become float64.
    assert [each for each in found if data != "float32" or "_optimizer" not in each] == []
    assert all(who.startswith("deltaprop") for _, _, who in profile.calls)
    assert workers_of(profile)[kind.__name__, "fit"].startswith("deltaprop")


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("data", DATA)
def test_partial_fits(data, solver):
    kind, X, y = DATA[data]

    def run():
        mlp = kind(solver=solver, random_state=0, learning_rate="adaptive", batch_size=20, **SMALL)
        some = {"classes": np.unique(y)} if kind is MLPClassifier else {}
        mlp.partial_fit(X[::2], y[::2], **some)
        for rows in (slice(None, None, 3), slice(None), slice(1, None, 2)):
            mlp.partial_fit(X[rows], y[rows])
        elsewhere = pickle.loads(pickle.dumps(mlp)).partial_fit(X, y)
        mlp.set_params(learning_rate_init=0.5).partial_fit(X, y)  # its optimizer was made before
        return mlp, elsewhere, copy.deepcopy(mlp).partial_fit(X, y), answers(mlp, X)

    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-3 if data == "float32" else 1e-7)) == []
    assert all(who.startswith("deltaprop") for _, _, who in profile.calls)


def test_a_pickle_knows_nothing_of_us_and_goes_on_by_itself():
    def pickled():
        mlp = MLPClassifier(random_state=0, solver="sgd", momentum=0.0, **SMALL).fit(X, y)
        return pickle.dumps((mlp, mlp.partial_fit(X, y)))

    with accelerated():
        ours = pickled()
    assert b"deltaprop" not in ours
    for one, other in zip(pickle.loads(ours), pickle.loads(pickled()), strict=True):
        assert vars(one).keys() == vars(other).keys()
        other.partial_fit(X, y)
        assert np.allclose(one.partial_fit(X, y).coefs_[0], other.coefs_[0], rtol=1e-10)


def test_predictions_agree_with_the_parameters_that_the_object_shows():
    def run():
        mlp = MLPClassifier(random_state=0, **SMALL).fit(X, y)
        results = [answers(mlp, X)]
        mlp.coefs_[0] *= 1.5  # in place
        mlp.coefs_[1][2, 1] = 7.0
        results.append(answers(mlp, X))
        mlp.intercepts_[0] = mlp.intercepts_[0] + 1.0  # another array
        results.append(answers(mlp, X))
        mlp.coefs_ = [coef.copy() for coef in mlp.coefs_]
        mlp.coefs_[0] -= 0.25  # in place, in an array of the user's
        results.append(answers(mlp, X))
        mlp.coefs_[0] += 0.5
        results.append(answers(mlp, X))
        mlp.activation = "tanh"
        results.append(answers(mlp, X))
        return [*results, answers(mlp.partial_fit(X, y), X), answers(clone(mlp).fit(X, y), X)]

    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-9)) == []
    assert not profile.reasons
    first = ours[0][1]
    assert all(not np.allclose(first, each[1]) for each in ours[1:6])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16, bool])
def test_dtypes_of_predictions(dtype):
    inputs = np.round(X * 4).astype(dtype)

    def run():
        fitted = [MLPClassifier(random_state=0, **SMALL).fit(X.astype(kind), y) for kind in (np.float32, np.float64)]
        return [mlp.predict_proba(given) for mlp in fitted for given in (inputs, scipy.sparse.csr_array(inputs))]

    if dtype is np.float16:  # sparse arrays have no such numbers

        def run():
            return MLPClassifier(random_state=0, **SMALL).fit(X, y).predict_proba(inputs.tolist())

    theirs, ours, _ = both_ways(run)
    assert list(differences(theirs, ours, 1e-3)) == []


def test_an_interrupted_fit_keeps_what_it_has_learned(monkeypatch):
    calls = []

    class Interrupting(list[float]):
        """A curve that is interrupted in the third epoch."""

        def append(self, loss):
            super().append(loss)
            calls.append(loss)
            if len(self) == 3:
                raise KeyboardInterrupt

    def run():
        mlp = MLPClassifier(random_state=0, warm_start=True, **SMALL).fit(X, y)
        mlp.loss_curve_ = Interrupting()
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            mlp.fit(X, y)
        mlp.loss_curve_ = list(mlp.loss_curve_)
        return mlp

    theirs, ours, _ = both_ways(run)
    assert len(calls) == 6
    assert list(differences(theirs, ours, 1e-9)) == []


def test_a_fit_that_diverges_raises_their_error():
    def run():
        mlp = MLPRegressor(solver="sgd", learning_rate_init=1e60, random_state=0, **SMALL)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="Solver produced non-finite parameter weights") as error:
                mlp.fit(X_diabetes, y_diabetes)
        return str(error.value), np.isfinite(mlp.coefs_[0]).all()

    theirs, ours, _ = both_ways(run)
    assert theirs == ours


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_that_diverges_goes_on_to_the_last_epoch(kind, early_stopping, capsys):
    """Its numbers are nan; what is counted, drawn, said and warned of is as ever."""
    shown = []

    def run():
        rate = {"learning_rate_init": 1e100, "random_state": 0, "early_stopping": early_stopping, "verbose": True}
        mlp = kind(solver="sgd", **SMALL | rate)
        with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            error = None
            try:
                mlp.fit(X_diabetes, y_diabetes > 1.5)
            except ValueError as raised:
                error = str(raised)
        shown.append(capsys.readouterr().out.count("Iteration"))
        counts = mlp.n_iter_, mlp.t_, len(mlp.loss_curve_), mlp._no_improvement_count, mlp._random_state
        return error, counts, [str(each.message) for each in caught]

    theirs, ours, _ = both_ways(run)
    assert list(differences(theirs, ours, 0.0)) == []
    assert shown[0] == shown[1] > 0


@pytest.mark.parametrize("weights", [None, np.float32, np.float64])
@pytest.mark.parametrize("batch_size", ["auto", 50])
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_types_of_losses(solver, batch_size, weights):
    def run():
        mlp = MLPRegressor(solver=solver, batch_size=batch_size, random_state=0, **SMALL)
        weighing = None if weights is None else np.linspace(1, 2, len(y_diabetes), dtype=weights)
        mlp.fit(X_diabetes.astype(np.float32), y_diabetes.astype(np.float32), weighing)
        losses = [mlp.loss_, *getattr(mlp, "loss_curve_", ())]
        return [type(loss).__name__ for loss in losses], list(map(float, losses))

    theirs, ours, profile = both_ways(run)
    assert list(differences(theirs, ours, 1e-3)) == []
    assert not profile.reasons


@pytest.mark.parametrize(
    "options", [{}, {"solver": "lbfgs"}, {"batch_size": 1000, "max_iter": 200, "alpha": 0.1}, {"early_stopping": True}]
)
def test_warnings_name_their_lines(options):
    """So filters by module or by line work, and repetitions are known as such."""

    def run():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            MLPClassifier(**SMALL | {"random_state": 0} | options).fit(X, y)
        return [(each.category, str(each.message), each.filename, each.lineno, each.line) for each in caught]

    theirs, ours, profile = both_ways(run)
    assert theirs == ours
    assert theirs
    assert not profile.reasons


def test_warnings_come_from_their_module(capsys):
    def run():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
            MLPClassifier(random_state=0, solver="sgd", verbose=True, **SMALL).fit(X, y)
        with pytest.warns(UserWarning, match="It is going to be clipped"):
            MLPClassifier(random_state=0, batch_size=1000, **SMALL).fit(X, y)
        with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
            MLPClassifier(random_state=0, solver="lbfgs", **SMALL).fit(X, y)
        return capsys.readouterr().out

    theirs, ours, _ = both_ways(run)
    assert ours == theirs
    assert ours.count("Iteration") == 7
