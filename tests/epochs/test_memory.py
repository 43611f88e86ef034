"""Compiled code never writes into memory that is read-only, of another dtype or of another shape."""

import numpy as np
import pytest
from processes import run

from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import POINTERS, EpochPlan, pointer

WORKERS = """
from joblib import Parallel, delayed
X, y = np.ones((40, 400)), np.ones(40)
def train(thing):
    thing.fit(X, y, epochs=2)
    return np.array(thing.parameters)
things = eval(sys.argv[1])
# Arrays of more than a megabyte reach the workers as read-only memory maps.
together = Parallel(2)(delayed(train)(thing) for thing in things)
for thing, other in zip(things, together):
    assert np.array_equal(train(thing), other)
"""


@pytest.mark.parametrize(
    "things",
    [
        '[dp.Network([400, 900, 1], loss="squared_error", seed=k) for k in range(2)]',
        'list(dp.NetworkStack(2, [400, 900, 1], loss="squared_error"))',
        '[dp.NetworkStack(2, [400, 900, 1], loss="squared_error", seeds=[k, 7]) for k in range(2)]',
    ],
    ids=["networks", "members", "stacks"],
)
def test_workers_of_joblib(things):
    run(WORKERS, things)


MAPPED = """
import joblib
X, y = np.random.default_rng(0).standard_normal((60, 400)), np.arange(60) % 3
path = sys.argv[1] + "/model"
for solver, mode in (("adam", "r"), ("adam", "r+"), ("sgd", "r"), ("sgd", "c")):
    ours = dp.MLPClassifier((400,), solver=solver, random_state=1).partial_fit(X, y, classes=[0, 1, 2])
    joblib.dump(ours, path)
    content = open(path, "rb").read()
    restored = joblib.load(path, mmap_mode=mode)
    for _ in range(3):
        ours.partial_fit(X, y)
        restored.partial_fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(ours.coefs_, restored.coefs_))
    assert open(path, "rb").read() == content
warnings.simplefilter("ignore")
for estimator in (
    dp.MLPClassifier((400,), max_iter=2, early_stopping=True, warm_start=True, random_state=1),
    dp.MLPClassifier((400,), max_iter=2, solver="lbfgs", warm_start=True, random_state=1),
    dp.EnsembleClassifier(dp.MLPClassifier((400,), max_iter=2), n_estimators=2, random_state=1),
):
    joblib.dump(estimator.fit(X, y), path)
    joblib.load(path, mmap_mode="r").fit(X, y)
for thing in (dp.Network([400, 400, 3]), dp.NetworkStack(2, [400, 400, 3])):
    joblib.dump(thing, path)
    joblib.load(path, mmap_mode="r").fit(X, y, epochs=1)
"""


def test_estimators_mapped_from_a_file(tmp_path):
    run(MAPPED, tmp_path)


OUT_OF_BAND = """
import pickle
X, y = np.ones((40, 30)), np.arange(40) % 2
estimator = dp.MLPClassifier((50,), random_state=1).partial_fit(X, y, classes=[0, 1])
for thing in (dp.Network([30, 50, 1]), dp.NetworkStack(2, [30, 50, 1]), dp.NetworkStack(2, [30, 50, 1])[1], estimator):
    buffers = []
    stored = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    given = [bytes(buffer.raw()) for buffer in buffers]
    kept = [bytes(bytearray(buffer)) for buffer in given]
    restored = pickle.loads(stored, buffers=given)
    getattr(restored, "partial_fit", restored.fit)(X, y)
    assert given and given == kept
"""


def test_buffers_of_somebody_else_stay_as_they_are():
    run(OUT_OF_BAND)


FROZEN = """
X, Y = np.ones((40, 5)), np.arange(40) % 2
def refused(call):
    try:
        call()
    except ValueError as error:
        assert "read-only" in str(error), error
        return True
for backend in ("numpy", "reference"):
    for freeze in (lambda net: net.parameters, lambda net: net.weights[1], lambda net: net.biases[0]):
        net, stack = dp.Network([5, 3, 1], backend=backend), dp.NetworkStack(2, [5, 3, 1], backend=backend)
        for thing in (net, stack):
            freeze(thing).flags.writeable = False
            before = thing.parameters.copy()
            assert refused(lambda: thing.fit(X, Y, epochs=1))
            assert np.array_equal(thing.parameters, before)
        assert refused(lambda: net.fit_full_batch(X, Y))
    stack = dp.NetworkStack(2, [5, 3, 1], backend=backend)
    stack.parameters.flags.writeable = False
    assert refused(lambda: stack[1].fit(X, Y)) and refused(lambda: stack.fit_full_batch(X, Y))
"""


def test_parameters_that_somebody_froze_are_refused():
    run(FROZEN)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        ([1.0, 2.0], TypeError, "w: expected a NumPy array, got list"),
        (np.zeros(3, np.float32), TypeError, "w: expected an array of float64, got one of float32"),
        (np.zeros(3, ">f8"), TypeError, "w: expected an array of float64, got one of >f8"),
        (np.zeros(4), ValueError, r"w: expected an array of shape \(3,\), got \(4,\)"),
        (np.zeros((3, 1)), ValueError, r"w: expected an array of shape \(3,\), got \(3, 1\)"),
        (np.zeros(6)[::2], ValueError, "w: expected contiguous entries"),
        (np.frombuffer(bytes(25), np.uint8)[1:].view(np.float64), ValueError, "w: expected contiguous entries"),
        (np.frombuffer(bytes(24)), ValueError, "w: expected a writeable array, got a read-only one"),
    ],
)
def test_no_pointer_to_what_is_not_as_expected(array, error, message):
    with pytest.raises(error, match=message):
        address("w", array, np.float64, (3,), written=True)


def test_what_is_read_only_may_be_read():
    array = np.frombuffer(bytes(24))
    assert address("x", array, np.float64, (3,)) == array.__array_interface__["data"][0]


def test_every_pointer_of_a_plan_to_an_array_is_known():
    """The other pointers are a function, a flag and two structures."""
    pointers = {name for name, kind in EpochPlan._fields_ if kind.__name__ == "c_void_p"}
    assert pointers - set(POINTERS) == {"gemm", "stop", "encoding", "sparse"}
    assert set(POINTERS) <= pointers
    written = {name for name, (_, writes) in POINTERS.items() if writes}
    assert written == {"parameters", "first", "second", "scratch", "cost", "decay", "carried", "gradient", "outputs"}
    with pytest.raises(TypeError, match="x: expected an array of float32"):
        pointer("x", np.zeros((2, 3)), np.dtype(np.float32), (2, 3))


ANOTHER_DTYPE = """
import itertools
import pickle
import pandas
from scipy import sparse
from sklearn.neural_network import MLPClassifier
rng = np.random.default_rng(0)
X, y = rng.standard_normal((300, 20)), rng.integers(0, 3, 300)
first, then = sys.argv[1:]
kinds = (np.asarray, sparse.csr_matrix, pandas.DataFrame)
for solver, kind in itertools.product(("adam", "sgd"), kinds):
    for store in (lambda model: model, lambda model: pickle.loads(pickle.dumps(model))):
        models = [estimator((300,), solver=solver, random_state=1) for estimator in (dp.MLPClassifier, MLPClassifier)]
        models = [store(model.partial_fit(kind(X.astype(first)), y, classes=[0, 1, 2])) for model in models]
        for dtype in (then, then, then, first, then):
            for model in models:
                model.partial_fit(kind(X.astype(dtype)), y)
        ours, theirs = models
        for own, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_):
            assert own.dtype == other.dtype == first
            assert np.allclose(own, other, rtol=0, atol=1e-5 if first == "float32" else 1e-13)
# Where the estimator itself is told to change, what the optimizer carries comes along.
for solver in ("adam", "sgd"):
    model = dp.MLPClassifier((30,), solver=solver, random_state=1).partial_fit(X.astype(first), y, classes=[0, 1, 2])
    model.set_params(dtype=then).partial_fit(X, y)
    assert model.coefs_[0].dtype == then and all(np.isfinite(coef).all() for coef in model.coefs_)
"""


@pytest.mark.parametrize(("first", "then"), [("float32", "float64"), ("float64", "float32")])
def test_partial_fit_after_a_change_of_dtype(first, then):
    pytest.importorskip("pandas")
    run(ANOTHER_DTYPE, first, then)
