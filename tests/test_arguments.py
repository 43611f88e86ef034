"""Public arguments are checked: numbers are numbers, flags are flags, masks are not lost, labels are whole."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.callbacks import CSVLogger, ModelCheckpoint

X = np.random.default_rng(3).standard_normal((12, 4))
LABELS = np.arange(12) % 3


def network(**options):
    return dp.Network([4, 5, 3], loss="categorical_cross_entropy", backend="numpy", **options)


def fit(**options):
    return lambda value, name: network().fit(X, LABELS, **{"epochs": 1} | options | {name: value})


def stack_fit(value, name):
    stack = dp.NetworkStack(2, [4, 5, 3], loss="categorical_cross_entropy", backend="numpy")
    return stack.fit(X, LABELS, **{"epochs": 1} | {name: value})


def full_batch(value, name):
    return network().fit_full_batch(X, LABELS, **{"max_iter": 1} | {name: value})


def field(kind, **others):
    return lambda value, name: kind(**others | {name: value})


def check(value, name):
    return dp.check_gradient(network(), X[:2], LABELS[:2], **{name: value})


NAN, INF, TEXT = float("nan"), float("inf"), "3"
WHOLE, NUMBERS, FLAGS = (True, NAN, TEXT, 2.5, np.True_), (True, NAN, INF, TEXT, np.True_, 1j), ("no", 1, 0.0, None)
#: A function, one of its arguments, and values that it refuses.
REFUSED = [
    *[(fit(), name, WHOLE) for name in ("batch_size", "epochs", "checkpoint_every")],
    *[(fit(), name, FLAGS) for name in ("shuffle", "progress", "resume")],
    (fit(), "l2", NUMBERS),
    (fit(), "callbacks", (5, [5], print)),
    (fit(), "dropout", (True, NAN, TEXT)),
    *[(stack_fit, name, WHOLE) for name in ("batch_size", "epochs")],
    *[(stack_fit, name, FLAGS) for name in ("shuffle", "progress")],
    *[(stack_fit, "shuffle", ([True, "no"], [1, 1])), (stack_fit, "batch_size", ([2, True],))],
    *[(stack_fit, "l2", NUMBERS), (stack_fit, "callbacks", (5, [5]))],
    *[(full_batch, "max_iter", WHOLE), (full_batch, "tol", NUMBERS), (full_batch, "progress", FLAGS)],
    *[(check, "tolerance", NUMBERS), (check, "entries", WHOLE), (check, "l2", NUMBERS)],
    *[(field(dp.EarlyStopping), "patience", WHOLE), (field(dp.EarlyStopping), "min_delta", NUMBERS)],
    *[(field(dp.EarlyStopping), "monitor", (3, None)), (field(dp.EarlyStopping), "mode", (3, None, "up"))],
    *[(field(kind), "learning_rate", (True, NAN, INF, TEXT, None, 0.0, 0)) for kind in (dp.SGD, dp.Adam, dp.AdamW)],
    *[(field(dp.SGD), "momentum", NUMBERS), (field(dp.SGD, momentum=0.9), "nesterov", FLAGS)],
    *[(field(dp.Adam), name, NUMBERS) for name in ("beta_1", "beta_2", "epsilon")],
    (field(dp.AdamW), "weight_decay", NUMBERS),
    *[(field(dp.StepDecay, initial=0.1), name, NUMBERS) for name in ("initial", "factor")],
    (field(dp.StepDecay, initial=0.1), "every", WHOLE),
    *[(field(dp.ExponentialDecay, initial=0.1), name, NUMBERS) for name in ("initial", "factor")],
    *[(field(dp.InverseScaling, initial=0.1), name, NUMBERS) for name in ("initial", "power")],
    *[(field(dp.CosineDecay, initial=0.1, epochs=9), name, NUMBERS) for name in ("initial", "final")],
    *[(field(dp.CosineDecay, initial=0.1, epochs=9), name, WHOLE) for name in ("epochs", "warmup")],
    *[(field(dp.ReduceOnPlateau, initial=0.1), name, NUMBERS) for name in ("initial", "factor", "min_delta")],
    (field(dp.ReduceOnPlateau, initial=0.1), "patience", WHOLE),
    *[(field(dp.Network, layer_sizes=[4, 3]), name, WHOLE) for name in ("seed",)],
    (field(dp.Network), "layer_sizes", ([4, True], [4, "3"], [4, 2.0], TEXT)),
    (field(dp.NetworkStack, layer_sizes=[4, 3]), "members", WHOLE),
]


def estimator(kind, **others):
    return lambda value, name: kind(**others | {name: value}).fit(X, LABELS)


#: Parameters that scikit-learn's estimators do not have.
OWN_PARAMETERS = [
    *[(estimator(dp.MLPClassifier), "dropout", (True, NAN, TEXT)), (estimator(dp.MLPClassifier), "progress", FLAGS[:-1])],
    (estimator(dp.MLPRegressor), "callbacks", (5, [5], "print")),
    *[(estimator(dp.EnsembleClassifier), name, (True, NAN, TEXT)) for name in ("n_estimators", "max_samples")],
    (estimator(dp.EnsembleClassifier), "bootstrap", ("no", 2.0)),
    *[(estimator(dp.SweepCV, estimator=dp.MLPClassifier(), param_grid={"alpha": [0.1, 0.2]}), name, (True, NAN, TEXT)) for name in ("n_iter", "memory_limit")],
]  # fmt: skip


@pytest.mark.parametrize(("call", "name", "values"), OWN_PARAMETERS, ids=[name for _, name, _ in OWN_PARAMETERS])
def test_parameters_of_estimators_that_are_no_such_number(call, name, values):
    for value in values:
        with pytest.raises((ValueError, TypeError), match=name):
            call(value, name)


@pytest.mark.parametrize(("call", "name", "values"), REFUSED, ids=[f"{i}-{case[1]}" for i, case in enumerate(REFUSED)])
def test_what_is_no_such_number_is_refused_by_name(call, name, values):
    for value in values:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}(\[\d\])?: "):
            call(value, name)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_scalars_of_numpy_are_numbers(kind):
    """Scalars of NumPy are kept as Python's numbers, so that saved and compared values are the same."""
    whole: Any = np.int16(2)  # types that the signatures do not name
    half: Any = kind(0.5)
    three: Any = np.int64(3)
    nine: Any = np.uint8(9)
    yes: Any = np.True_
    sizes: Any = np.array([4, 5, 3])
    tolerance: Any = np.float32(1e-6)
    how = {
        "batch_size": whole,
        "epochs": whole,
        "l2": half,
        "shuffle": np.True_,
        "progress": np.False_,
        "dropout": half,
    }
    stopping = dp.EarlyStopping(three, half, "cost")
    assert (stopping, type(stopping.patience), type(stopping.min_delta)) == (
        dp.EarlyStopping(3, 0.5, "cost"),
        int,
        float,
    )
    optimizer = dp.SGD(half, momentum=half, nesterov=yes)
    assert repr(optimizer) == repr(dp.SGD(0.5, momentum=0.5, nesterov=True))
    assert repr(dp.Adam(half, half, half, half)) == repr(dp.Adam(0.5, 0.5, 0.5, 0.5))
    assert repr(dp.StepDecay(half, half, whole)) == repr(dp.StepDecay(0.5, 0.5, 2))
    assert repr(dp.CosineDecay(half, nine, half, whole)) == repr(dp.CosineDecay(0.5, 9, 0.5, 2))
    assert repr(dp.ReduceOnPlateau(half, half, whole, half)) == repr(dp.ReduceOnPlateau(0.5, 0.5, 2, 0.5))
    net, same = network(seed=whole), network(seed=2)
    net.fit(X, LABELS, optimizer=optimizer, early_stopping=stopping, **how)
    plain = {"batch_size": 2, "epochs": 2, "l2": 0.5, "dropout": 0.5}
    same.fit(X, LABELS, optimizer=dp.SGD(0.5, momentum=0.5, nesterov=True), early_stopping=stopping, **plain)
    assert np.array_equal(net.parameters, same.parameters)
    stack = dp.NetworkStack(whole, sizes, loss="categorical_cross_entropy", backend="numpy")
    stack.fit(X, LABELS, optimizer=optimizer, early_stopping=stopping, **how)
    assert dp.check_gradient(network(), X[:2], LABELS[:2], l2=half, tolerance=tolerance, entries=whole).entries == 2
    network().fit_full_batch(X, LABELS, max_iter=whole, tol=half, l2=half)


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.uint8, np.int64, np.uint64, object, np.longdouble]
)
def test_whole_numbers_of_any_dtype_are_labels(dtype):
    expected = network().cost(X, np.eye(3)[LABELS])
    assert network().cost(X, LABELS.astype(dtype)) == pytest.approx(expected, rel=1e-15)
    assert network().cost(X, [float(label) for label in LABELS]) == pytest.approx(expected, rel=1e-15)
    trained, same = network(), network()
    trained.fit(X, LABELS.astype(dtype), validation=(X, LABELS.astype(dtype)), epochs=2)
    same.fit(X, np.eye(3)[LABELS], epochs=2)
    assert np.array_equal(trained.parameters, same.parameters)


@pytest.mark.parametrize(("wrong", "message"), [
    (0.5, r"got 0.5 at Y\[4\] of dtype float64"), (np.nan, r"got nan at Y\[4\] of dtype float64"),
    (np.inf, "got inf"), (3.0, r"expected class labels 0 … 2 .* got 3 at Y\[4\]"), (-1.0, "got -1 at"), (1e300, r"got 1e\+300 at"),
])  # fmt: skip
def test_what_is_no_label_is_named_with_its_dtype(wrong, message):
    labels = LABELS.astype(float)
    labels[4] = wrong
    for method in (network().cost, network().fit):
        with pytest.raises(ValueError, match=message):
            method(X, labels)


def test_one_column_stays_one_column():
    """With one output, 1-D targets are targets, whole or not."""
    net = dp.Network([4, 1], loss="squared_error", backend="numpy")
    for targets in (LABELS.astype(float), LABELS + 0.5):
        assert net.cost(X, targets) == net.cost(X, targets[:, None])


# -- masks and numbers that are too large -----------------------------------------------------------------------------


def masked(values):
    values = np.ma.array(np.asarray(values, float), mask=np.zeros(np.shape(values), bool))
    values.mask.flat[1] = True
    return values


MASKED = {
    "X": lambda net: net.fit(masked(X), LABELS),
    "X of a list": lambda net: net.predict(list(masked(X))),
    "Y": lambda net: net.cost(X, masked(LABELS)),
    "Y of rows": lambda net: net.fit(X, masked(np.eye(3)[LABELS])),
    "sample_weight": lambda net: net.fit(X, LABELS, sample_weight=masked(np.ones(12))),
    "validation X": lambda net: net.fit(X, LABELS, validation=(masked(X), LABELS)),
    "validation Y": lambda net: net.fit(X, LABELS, validation=(X, masked(LABELS))),
    "dX": lambda net: net.jvp(X, masked(X)),
    "v": lambda net: net.hvp(X, LABELS, masked(net.parameters)),
    "parameters": lambda net: setattr(net, "parameters", masked(net.parameters)),
    "weights": lambda net: setattr(net, "weights", [net.weights[0], masked(net.weights[1])]),
    "biases": lambda net: setattr(net, "biases", [masked(net.biases[0]), net.biases[1]]),
    "thetas": lambda net: setattr(net, "thetas", [masked(net.thetas[0]), net.thetas[1]]),
}


@pytest.mark.parametrize("name", MASKED)
def test_masks_are_not_lost(name):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(
        ValueError, match=rf"^{name.split(' of ')[0]}(\[\d\])?: expected numbers, got an array with masked"
    ):
        MASKED[name](net)
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize(("name", "arguments"), [
    ("X", (masked(X), LABELS)), ("X", ([masked(X), X], LABELS)), ("Y", (X, masked(LABELS))),
    ("sample_weight", (X, LABELS, masked(np.ones(12)))), ("samples", (X, LABELS, None, [np.arange(9), masked(np.arange(9))])),
])  # fmt: skip
def test_stacks_do_not_lose_them(name, arguments):
    stack = dp.NetworkStack(2, [4, 5, 3], loss="categorical_cross_entropy", backend="numpy")
    options = dict(zip(("sample_weight", "samples"), arguments[2:], strict=False))
    with pytest.raises(ValueError, match=rf"^{name}(\[\d\])?: expected .*masked"):
        stack.fit(*arguments[:2], **options)
    with pytest.raises(ValueError, match="parameters: expected numbers, got an array with masked entries"):
        stack.parameters = masked(stack.parameters)


def test_estimators_do_not_lose_them():
    options: dict[str, Any] = {"max_iter": 20, "tol": 1e9, "backend": "numpy", "n_iter_no_change": 1}
    for kind in (dp.MLPClassifier((3,), **options), dp.MLPRegressor(hidden_layer_sizes=(3,), **options)):
        for fit in (kind.fit, kind.partial_fit) if isinstance(kind, dp.MLPRegressor) else (kind.fit,):
            for name, arguments in (
                ("X", (masked(X), LABELS)),
                ("y", (X, masked(LABELS))),
                ("sample_weight", (X, LABELS, masked(np.ones(12)))),
            ):
                with pytest.raises(ValueError, match=f"^{name}: expected numbers, got an array with masked"):
                    fit(*arguments)
        kind.fit(X, LABELS)
        with pytest.raises(ValueError, match=r"^X: expected numbers, got an array with masked"):
            kind.predict(masked(X))
        with pytest.raises(ValueError, match=r"^y: expected numbers, got an array with masked"):
            kind.score(X, masked(LABELS))
    with pytest.raises(ValueError, match=r"^sample_weight: expected numbers, got an array with masked"):
        dp.SweepCV(dp.MLPClassifier((3,), **options), {"alpha": [0.1]}, cv=2).fit(
            X, LABELS, sample_weight=masked(np.ones(12))
        )


@pytest.mark.parametrize("function", [dp.sigmoid, dp.sigmoid_grad])
def test_functions_of_one_array_do_not_lose_them(function):
    with pytest.raises(ValueError, match=r"^x: expected numbers, got an array with masked"):
        function(masked(X))


def test_an_array_that_masks_nothing_is_an_array():
    plain = np.ma.array(X, mask=np.zeros(X.shape, bool))
    assert np.array_equal(network().predict(plain), network().predict(X))


@pytest.mark.parametrize(
    "large", [10**400, 10**5000, -(10**400), Fraction(10**400)], ids=["int", "long", "negative", "fraction"]
)
def test_numbers_beyond_float64_are_named(large):
    table = X.astype(object)
    table[2, 1] = large
    with pytest.raises(ValueError, match=r"^X: expected finite numbers in float64, got .* at X\[2, 1\]"):
        network().fit(table, LABELS)
    net = network()
    with pytest.raises(
        ValueError, match=r"^biases\[1\]: expected finite numbers in float64, got .* at biases\[1\]\[0\]"
    ):
        net.biases = [net.biases[0], [large, 0, 0]]


@pytest.mark.parametrize("values", [None, "text", [["a"]], [1j, 0, 0]])
def test_parameters_are_numbers(values):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError, match=r"^biases\[1\]: expected "):
        net.biases = [net.biases[0], values]
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize("masked", ["X", "Y"])
def test_batches_with_masked_entries_are_refused(masked):
    arrays = {"X": X, "Y": LABELS.astype(float)}
    arrays[masked] = np.ma.masked_array(arrays[masked], arrays[masked] > 0.5)
    batches = [(X, LABELS.astype(float)), (arrays["X"], arrays["Y"])]
    with pytest.raises(ValueError, match=f"{masked} of batch 1: "):
        network().fit(batches, epochs=1)


def test_numbers_beyond_float64_in_the_tables_of_estimators():
    objects = X.astype(object)
    objects[3, 1] = 10**400
    fitted = dp.MLPRegressor(hidden_layer_sizes=(3,), max_iter=2).partial_fit(X, LABELS)
    for call in (
        lambda: dp.MLPRegressor().fit(objects, LABELS),
        lambda: dp.MLPClassifier().partial_fit(objects, LABELS, classes=[0, 1, 2]),
        lambda: fitted.predict(objects),
        lambda: dp.MLPRegressor().fit(X, [10**400] * len(X)),
    ):
        with pytest.raises(ValueError, match="expected finite numbers in float64, got a larger one"):
            call()


@pytest.mark.parametrize("name", ["parameters", "weights", "biases", "thetas"])
def test_what_somebody_froze_is_not_assigned_to(name):
    net = network()
    value = (
        [np.zeros(array.shape) for array in getattr(net, name)]
        if name != "parameters"
        else np.zeros(net.parameters.shape)
    )
    net.parameters.flags.writeable = False
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="parameters: expected a writeable array, got a read-only one"):
        setattr(net, name, value)
    assert np.array_equal(net.parameters, before)


def test_a_stack_is_refused_for_a_member_that_somebody_froze():
    stack = dp.NetworkStack(2, [4, 5, 3], loss="categorical_cross_entropy", backend="numpy")
    stack[1].parameters.flags.writeable = False
    with pytest.raises(ValueError, match="parameters: expected a writeable array, got a read-only one"):
        stack.fit(X, LABELS, epochs=1)


NO_PATHS = (None, True, 3, 2.5, b"net", ["net"])
TAKE_PATHS = {
    "save": ("path", lambda path: network().save(path)),
    "load": ("path", dp.load),
    "Network.load": ("path", dp.Network.load),
    "NetworkStack.load": ("path", dp.NetworkStack.load),
    "to_onnx": ("path", lambda path: network().to_onnx(path)),
    "from_onnx": ("path", dp.Network.from_onnx),
    "csv": ("path", CSVLogger),
    "best": ("path", ModelCheckpoint),
    "checkpoint": ("checkpoint", lambda path: network().fit(X, LABELS, checkpoint=path)),
    "estimator": ("checkpoint", lambda path: dp.MLPClassifier((3,)).fit(X, LABELS, checkpoint=path)),
}


@pytest.mark.parametrize("call", TAKE_PATHS)
def test_what_is_no_path_is_named(call):
    name, function = TAKE_PATHS[call]
    if call.endswith("onnx"):
        pytest.importorskip("onnx")
    for value in NO_PATHS:
        if name == "path" or value is not None:
            with pytest.raises(
                TypeError, match=re.escape(f"{name}: expected a path (str or os.PathLike), got {value!r}")
            ):
                function(value)
