"""Recorded steps equal NumPy's single steps, and a call that cannot be replayed is refused."""

import gc
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, OPTIMIZERS, PAIRS, assert_same_training, relative, targets_for
from hypothesis import given, settings
from hypothesis import strategies as st

import deltaprop as dp
from deltaprop.backends.numpy.activation import ACTIVATION_FORMULAS
from deltaprop.backends.numpy.recording import NotRecordableError, RecordingBackend, Tape
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.recorded import RecordedEpoch
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
MORE_OPTIMIZERS = [*OPTIMIZERS, dp.SGD(dp.InverseScaling(0.2)), dp.AdamW(0.01, weight_decay=0.0)]
MORE_OPTIMIZERS += [dp.AdamW(dp.StepDecay(0.1, every=1), weight_decay=0.5)]


def fits(sizes, X, Y, options, **how):
    """Fit by recorded steps and by single steps; return networks and histories."""
    nets = [dp.Network(sizes, backend="reference", seed=3, **options) for _ in range(2)]
    histories = [nets[0].fit(X, Y, **how)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedEpoch, "find", lambda *arguments: None)
        histories.append(nets[1].fit(X, Y, **how))
    return nets, histories


def assert_recorded_fit_is_equal(sizes, X, Y, options, **how):
    """Training by recorded steps learns what training step by step learns."""
    nets, histories = fits(sizes, X, Y, options, **how)
    assert_same_training(nets[0], histories[0], nets[1], histories[1], TOLERANCE[nets[0].dtype.name])


def test_training_takes_this_way(rng):
    net = dp.Network([3, 4, 2], backend="reference")
    X, Y = rng.random((20, 3)), rng.random((20, 2))

    def way(shuffled=True, **options):
        return Trainer(net, X, Y, dp.SGD(), Objective(), 6, shuffled=shuffled, **options).whole_epoch

    assert isinstance(way(), RecordedEpoch)
    assert way(shuffled=False) is way(dropout=(0.5,)) is way(sample_weight=np.ones(20)) is None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(loss, output, dtype, rng):
    X, Y = rng.standard_normal((37, 5)), targets_for(loss, rng, 37, 3)
    options = {"loss": loss, "output_activation": output, "dtype": dtype}
    assert_recorded_fit_is_equal([5, 7, 3], X, Y, options, optimizer=dp.SGD(0.05), batch_size=8, epochs=3, l2=0.2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation(hidden, dtype, rng):
    """Inputs reach the tails, where sigmoid takes another branch than where it was recorded."""
    X, Y = 2.0 * rng.standard_normal((61, 5)), rng.standard_normal((61, 2))
    X[::7] *= 400.0 if hidden in ("sigmoid", "tanh") else 1.0
    options = {"hidden_activation": hidden, "loss": "huber", "dtype": dtype}
    assert_recorded_fit_is_equal([5, 33, 17, 2], X, Y, options, optimizer=dp.SGD(0.02), batch_size=16, epochs=3)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", MORE_OPTIMIZERS, ids=repr)
def test_every_optimizer(optimizer, l2, rng):
    X, y = rng.standard_normal((50, 6)), rng.integers(0, 4, 50)
    options = {"loss": "categorical_cross_entropy", "hidden_activation": "relu"}
    for how in ({}, {"l2_scaling": "absolute"}, {"reduction": "sum"}):
        assert_recorded_fit_is_equal(
            [6, 11, 4], X, y, options, optimizer=optimizer, batch_size=7, epochs=3, l2=l2, **how
        )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sizes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    m, batch = data.draw(st.integers(2, 300)), data.draw(st.integers(1, 40))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    X, Y = rng.standard_normal((m, sizes[0])), rng.uniform(0.1, 0.9, (m, sizes[-1]))
    optimizer = data.draw(st.sampled_from(MORE_OPTIMIZERS))
    assert_recorded_fit_is_equal(sizes, X, Y, {}, optimizer=optimizer, batch_size=batch, epochs=2)


def test_a_vector_longer_than_a_block(rng):
    X, Y = rng.standard_normal((20, 700)), rng.standard_normal((20, 3))
    options = {"loss": "squared_error", "hidden_activation": "tanh"}
    assert_recorded_fit_is_equal([700, 90, 3], X, Y, options, optimizer=dp.Adam(1e-3), batch_size=9, epochs=2, l2=0.1)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_estimators_on_it(solver, rng):
    """Their penalty belongs to every minibatch, and is part of the cost of an epoch."""
    X, y = rng.standard_normal((90, 5)), rng.integers(0, 3, 90)
    mlp = dp.MLPClassifier(solver=solver, alpha=0.3, batch_size=20, random_state=0, max_iter=7, backend="reference")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        mlp.fit(X, y)
        recorded, curve = [W.copy() for W in mlp.coefs_], list(mlp.loss_curve_)
        patch.setattr(RecordedEpoch, "find", lambda *arguments: None)
        mlp.fit(X, y)
    assert relative(recorded, mlp.coefs_) < 1e-12
    assert curve == pytest.approx(mlp.loss_curve_, rel=1e-12)


def test_an_epoch_left_and_taken_up_again(rng, monkeypatch):
    """Another trainer takes over parameters, optimizer state and sums, with equal bits."""
    monkeypatch.setattr("deltaprop.epochs.recorded.MOST_AT_ONCE", 4)
    X, Y = rng.standard_normal((93, 5)), rng.random((93, 2))
    nets = [dp.Network([5, 6, 2], backend="reference", seed=1) for _ in range(2)]
    order = rng.permutation(93)
    whole, first = (Trainer(net, X, Y, dp.Adam(0.1), Objective(), 10, shuffled=True) for net in nets)
    whole.epoch(0.1, order, Silent())
    asked = iter([False, False, True])
    with pytest.raises(Paused) as paused:
        first.epoch(0.1, order, Silent(), pause=lambda: next(asked))  # type: ignore[arg-type]
    assert paused.value.batch == 8
    second = Trainer(nets[1], X, Y, dp.Adam(0.1), Objective(), 10, shuffled=True, state=first.state, sums=first.sums)
    second.epoch(0.1, order, Silent(), first=8)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert (float(second.cost), second.state["step"]) == (float(whole.cost), 10)


def test_the_state_is_not_moved_by_writing_a_step_down(rng):
    """Recording a step changes no state, for any parameters, NaN too."""
    net = dp.Network([5, 6, 2], backend="reference")
    net.parameters[3] = np.nan
    X, Y = rng.standard_normal((30, 5)), rng.random((30, 2))
    taking: Any = Trainer(net, X, Y, dp.Adam(0.1), Objective(), 10, shuffled=True)
    before = net.parameters.copy()
    taking.whole_epoch._steps(10, 3, 0.5, 0.0)
    assert np.array_equal(net.parameters, before, equal_nan=True)
    assert not taking.state["first_moment"].any()
    assert taking.state["step"] == 0


def test_what_a_step_writes_stays_where_it_is(rng):
    """All calls of all steps use memory of the tape or of the network, or constants."""
    net = dp.Network([5, 6, 2], backend="reference")
    X, Y = rng.standard_normal((60, 5)), rng.random((60, 2))
    taking: Any = Trainer(net, X, Y, dp.SGD(0.1), Objective(l2=0.1), 10, shuffled=True)
    taking.epoch(0.1, rng.permutation(60), Silent())
    (steps,) = taking.whole_epoch.steps.values()
    assert len(steps.calls) == 6
    first, *others = steps.calls
    for i, calls in enumerate(others, start=1):
        for (function, arguments), (other, moved) in zip(first, calls, strict=True):
            assert function is other
            for a, b in zip(arguments, moved, strict=True):
                if isinstance(a, np.ndarray):
                    assert type(a) is type(b) is np.ndarray
                    shift = b.ctypes.data - a.ctypes.data
                    blocks = [x for x in (steps.X, steps.Y, steps.Z) if np.shares_memory(a, x)]
                    assert shift == (i * blocks[0][:10].nbytes if blocks else 0)


#: Calls that write nothing, or make a value by which Python code could branch.
REFUSED = [
    ("a sum that is a number", lambda x, y: x.sum()),
    ("a comparison", lambda x, y: bool((x > 0).any())),
    ("a new array", lambda x, y: x + y),
    ("a function of two arrays", lambda x, y: np.vdot(x, y)),
    ("a product that is a new array", lambda x, y: x.dot(y)),
    ("an entry", lambda x, y: float(x[0])),
    ("a copy", lambda x, y: x.copy()),
    ("another dtype", lambda x, y: x.astype(np.float32)),
    ("rows", lambda x, y: x.take([1, 2])),
    ("numbers in turn", lambda x, y: list(x)),
    ("where", lambda x, y: np.where(x, x, y)),
    ("a sum of some", lambda x, y: np.add.reduce(x, out=y[:1].reshape(()), where=np.arange(5) > 2)),
    ("a running sum", lambda x, y: np.add.accumulate(x, out=y)),
    ("a sum in place", lambda x, y: np.add.at(x, [1, 1], y[:2])),
    ("a concatenation", lambda x, y: np.concatenate([x, y])),
]


@pytest.mark.parametrize(("what", "operation"), REFUSED, ids=[what for what, _ in REFUSED])
def test_what_cannot_be_made_again_is_refused(what, operation):
    tape = Tape()
    x, y = (tape.array(np.arange(1.0, 6.0)) for _ in range(2))
    with pytest.raises(NotRecordableError):
        operation(x, y)


@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_a_step_that_cannot_be_recorded_is_taken_one_by_one(l2, monkeypatch, rng):
    """An activation that makes its own arrays is noticed before training, and trained by single steps."""

    def allocating(z, out, spare):
        out[...] = np.tanh(z)  # as a new array

    usual = ACTIVATION_FORMULAS["tanh"]
    X, Y = rng.standard_normal((37, 5)), rng.random((37, 2))
    how = {"optimizer": dp.Adam(0.05), "batch_size": 8, "epochs": 4, "l2": l2}
    nets = [dp.Network([5, 6, 2], hidden_activation="tanh", backend="reference") for _ in range(2)]
    expected = nets[0].fit(X, Y, **how)
    monkeypatch.setitem(ACTIVATION_FORMULAS, "tanh", usual._replace(value=allocating))
    task = Trainer(nets[1], X, Y, dp.Adam(0.05), Objective(l2=l2), 8, shuffled=True)
    assert task.whole_epoch is None
    history = nets[1].fit(X, Y, **how)
    assert_same_training(nets[1], history, nets[0], expected)
    mlp = dp.MLPRegressor(
        activation="tanh", hidden_layer_sizes=(6,), max_iter=3, tol=1e9, n_iter_no_change=1, backend="reference"
    )
    assert np.isfinite(mlp.fit(X, Y).loss_)


#: Calls that are replayed on other numbers, as NumPy makes them.
OPERATIONS = [
    lambda x, y, out: np.add(x, y, out=out),
    lambda x, y, out: np.multiply(x, 3, out=out),
    lambda x, y, out: np.subtract(1.0, x, out=out),
    lambda x, y, out: np.copyto(out, y[::-1]),
    lambda x, y, out: out.__setitem__(slice(1, 3), x[2:4]),
    lambda x, y, out: out.fill(4.0),
    lambda x, y, out: x.reshape(1, 5).dot(y.reshape(5, 1), out[:1].reshape(1, 1)),
    lambda x, y, out: np.add.reduce(x.reshape(1, 5), axis=0, out=out),
    lambda x, y, out: np.max(x.reshape(5, 1), axis=-1, out=out),
    lambda x, y, out: np.sum(x.reshape(1, 5), axis=-1, keepdims=True, out=out[:1].reshape(1, 1)),
    lambda x, y, out: np.clip(x, -0.5, 0.5, out=out),
    lambda x, y, out: np.exp(x, out=out, where=np.array([True, False, True, True, False])),
    lambda x, y, out: np.vecdot(x, y, out=out[:1].reshape(())),
    lambda x, y, out: out.__iadd__(x),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_calls_are_made_again_on_what_is_there_then(operation, rng):
    tape = Tape()
    x, y, out = (rng.standard_normal(5) for _ in range(3))
    operation(*(tape.array(a) for a in (x, y, out)))
    for a in (x, y, out):
        a[...] = rng.standard_normal(5)
    expected = out.copy()
    operation(x, y, expected)
    for function, arguments in tape.calls:
        function(*arguments)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*ACTIVATION_FORMULAS, "softmax"])
def test_every_function_of_an_activation_is_made_again(name, dtype, rng):
    """It is recorded on zeros, and replayed on all numbers, the tails included."""
    tape = Tape()
    z, out, slope = (np.zeros((7, 5), dtype) for _ in range(3))
    backend, plain = RecordingBackend(tape), dp.get_backend("reference")
    backend.activation(name, tape.array(z), tape.array(out))
    if name != "softmax":
        backend.activation_gradient(name, tape.array(z), tape.array(slope))
    z[...] = rng.standard_normal((7, 5)) * 10.0 ** rng.uniform(-3, 2 if name == "exp" else 4, (7, 5))
    z[0, :2] = np.nan, -0.0
    z = np.minimum(z, 80, out=z)
    with np.errstate(all="ignore"):
        for function, arguments in tape.calls:
            function(*arguments)
    expected, expected_slope = np.empty_like(z), np.zeros_like(z)
    with np.errstate(all="ignore"):
        plain.activation(name, z, expected)
        if name != "softmax":
            plain.activation_gradient(name, z, expected_slope)
    subnormal = 400 * np.finfo(dtype).tiny if name in ("sigmoid", "silu") else 0.0
    for ours, theirs in ((out, expected), (slope, expected_slope)):
        assert np.allclose(ours, theirs, rtol=4 * np.finfo(dtype).eps, atol=subnormal, equal_nan=True)


def test_nothing_is_allocated_in_an_epoch_but_what_python_counts_with(rng):
    net = dp.Network([50, 60, 2], backend="reference")
    X, Y = rng.standard_normal((4000, 50)), rng.random((4000, 2))
    taking: Any = Trainer(net, X, Y, dp.SGD(0.1), Objective(), 40, shuffled=True)
    order = rng.permutation(4000)
    taking.epoch(0.1, order, Silent())
    tracemalloc.start()
    try:
        taking.epoch(0.1, order, Silent())
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        taking.epoch(0.1, order, Silent())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 40 * 60 * 8  # less than one hidden layer of a minibatch


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_is_kept_of_a_fit_that_is_over(refused, rng):
    """The same holds for steps that cannot be recorded: no fit leaves memory behind."""
    X, y = rng.standard_normal((61, 20)), rng.integers(0, 4, 61)

    def fit():
        if refused:
            tape = Tape()
            array = tape.array(np.zeros(10_000))[1:]
            array += 1.0
            with pytest.raises(NotRecordableError):
                array.copy()
        else:
            dp.Network([20, 33, 4], backend="reference").fit(X, y, batch_size=7, epochs=1)

    for _ in range(2):
        fit()
    tracemalloc.start()
    try:
        used = []
        for _ in range(6):
            fit()
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert used[-1] - used[0] < 50_000  # a single fit's buffers are half a million bytes
