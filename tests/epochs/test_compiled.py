"""Compiled epochs equal NumPy's steps, up to rounding, for every network and every option."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import HIDDEN, OPTIMIZERS, PAIRS, assert_same_training, relative, targets_for
from conftest import require_compiler, use_threads
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import python
from scipy import sparse

import deltaprop as dp
from deltaprop.backends.native import compiler as native_compiler
from deltaprop.backends.native import library as native_library
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs import compiled
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.task import Task
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


pytestmark = pytest.mark.usefixtures("compiled_library")


def both(sizes, *, seed=3, **options):
    return [dp.Network(sizes, backend=backend, seed=seed, **options) for backend in ("numpy", "reference")]


def task(net, X, optimizer):
    sums = (np.zeros(()), np.zeros(()), np.zeros(()))
    return Task(
        net, X, np.zeros((X.shape[0], net.layer_sizes[-1]), net.dtype), optimizer, optimizer.init(net), 1, *sums
    )


def assert_compiled_fit_is_equal(networks, X, Y, **options):
    """Of two networks, the first trains in the compiled library and learns what the second learns step by step."""
    net, optimizer = networks[0], options.get("optimizer", dp.SGD())
    assert compiled.CompiledEpoch.find(task(net, net._door.inputs(X), optimizer)) is not None
    ours, reference = (net.fit(X, Y, **options) for net in networks)
    assert_same_training(net, ours, networks[1], reference, TOLERANCE[net.dtype.name])
    return ours


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss(loss, output, dtype, threads, rng):
    X, Y = rng.standard_normal((37, 5)), targets_for(loss, rng, 37, 3)
    nets = both([5, 7, 3], loss=loss, output_activation=output, dtype=dtype)
    assert_compiled_fit_is_equal(nets, X, Y, optimizer=dp.SGD(0.05), batch_size=8, epochs=3, l2=0.2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", ["identity", "sigmoid", "tanh", "softplus"])
def test_the_simplified_output_error(output, weighted, threads, rng):
    X, Y = rng.standard_normal((37, 5)), rng.uniform(0.1, 0.9, (37, 3))
    nets = both([5, 7, 3], loss="squared_error", output_activation=output, output_error="simplified")
    how = {"sample_weight": rng.integers(0, 3, 37).astype(float)} if weighted else {}
    assert_compiled_fit_is_equal(nets, X, Y, optimizer=dp.SGD(0.05), batch_size=8, epochs=3, **how)
    exact = dp.Network([5, 7, 3], loss="squared_error", output_activation=output, backend="numpy", seed=3)
    exact.fit(X, Y, optimizer=dp.SGD(0.05), batch_size=8, epochs=3, **how)
    assert np.allclose(exact.parameters, nets[0].parameters) == (output == "identity")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation(hidden, dtype, threads, rng):
    X, Y = 2 * rng.standard_normal((61, 5)), rng.standard_normal((61, 2))
    nets = both([5, 33, 17, 2], hidden_activation=hidden, loss="squared_error", dtype=dtype)
    assert_compiled_fit_is_equal(nets, X, Y, optimizer=dp.SGD(0.02), batch_size=16, epochs=3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2_scaling", ["per_sample", "absolute"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer(optimizer, l2_scaling, weighted, threads, rng):
    X, y = rng.standard_normal((50, 6)), rng.integers(0, 4, 50)
    options = {"sample_weight": rng.integers(0, 3, 50).astype(float)} if weighted else {}
    nets = both([6, 11, 4], loss="categorical_cross_entropy", hidden_activation="relu")
    for shuffle, reduction in ((True, "mean"), (False, "mean"), (True, "sum")):
        assert_compiled_fit_is_equal(
            nets,
            X,
            y,
            optimizer=optimizer,
            batch_size=7,
            epochs=2,
            l2=0.1,
            l2_scaling=l2_scaling,
            shuffle=shuffle,
            reduction=reduction,
            **options,
        )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sizes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    m, batch = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 80))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    X, Y = rng.standard_normal((m, sizes[0])), rng.uniform(0.1, 0.9, (m, sizes[-1]))
    optimizer = data.draw(st.sampled_from(OPTIMIZERS))
    assert_compiled_fit_is_equal(both(sizes), X, Y, optimizer=optimizer, batch_size=batch, epochs=2)


def test_a_layer_larger_than_the_block_of_gradients(threads, rng):
    X, Y = rng.standard_normal((20, 700)), rng.standard_normal((20, 3))
    for sizes in ([700, 90, 3], [3, 40_000, 3]):
        nets = both(sizes, loss="squared_error", hidden_activation="tanh")
        assert_compiled_fit_is_equal(nets, X[:, : sizes[0]], Y, optimizer=dp.Adam(1e-3), batch_size=9, epochs=2, l2=0.1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_layers_wider_than_the_minibatch(dtype, threads, rng):
    """Their products are shared out by units, between layers shared out by rows; 135 units fill no whole lines."""
    X, Y = rng.standard_normal((70, 40)), rng.uniform(size=(70, 5))
    for sizes in ([40, 170, 150, 135, 5], [40, 400, 8, 500, 5], [40, 15, 900, 15, 5]):
        nets = both(sizes, hidden_activation="tanh", dtype=dtype)
        assert_compiled_fit_is_equal(nets, X, Y, optimizer=dp.SGD(0.2), batch_size=20, epochs=3, l2=0.1)


@pytest.mark.parametrize("optimizer", [dp.SGD(), dp.AdamW(dp.StepDecay(0.1, every=2), weight_decay=0.3)])
def test_the_same_numbers_whatever_is_asked_for_meanwhile(optimizer, rng, monkeypatch, capsys):
    """Training in one call or many, with a progress bar and callbacks, in one fit or two, gives the same."""
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    one, many = (dp.Network([6, 9, 2], loss="huber", backend="numpy", seed=1) for _ in range(2))
    how = {"optimizer": optimizer, "batch_size": 6, "epochs": 4}
    one.fit(X, Y, **how)
    monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1e-9)
    seen = []
    many.fit(X, Y, **how, progress=True, callbacks=[lambda event: seen.append(event.epoch)])
    assert np.array_equal(one.parameters, many.parameters)
    assert seen == [1, 2, 3, 4]
    assert "4/4" in capsys.readouterr().err


def test_the_same_numbers_in_one_fit_or_two(rng):
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    one, parts = (dp.Network([6, 9, 2], loss="huber", backend="numpy", seed=1) for _ in range(2))
    one.fit(X, Y, batch_size=6, epochs=4)
    parts.fit(X, Y, batch_size=6, epochs=1)
    parts.fit(X, Y, batch_size=6, epochs=3)
    assert np.array_equal(one.parameters, parts.parameters)


def test_an_epoch_left_and_taken_up_again(rng, monkeypatch):
    """In another trainer, with the parameters, the optimizer's state and the sums of the first: bit for bit."""
    monkeypatch.setattr(compiled, "OPERATIONS_A_CALL", 1e-9)
    X, Y = rng.standard_normal((93, 5)), rng.random((93, 2))
    nets = [dp.Network([5, 6, 2], backend="numpy", seed=1) for _ in range(2)]
    rule, order = dp.AdamW(0.1, weight_decay=0.3), rng.permutation(93)
    whole, first = (Trainer(net, X, Y, rule, Objective(), 10, shuffled=True) for net in nets)
    for trainer in (whole, first):
        trainer.epoch(0.1, order, Silent())
    whole.epoch(0.1, order, Silent())
    asked = iter([False, False, True])
    with pytest.raises(Paused) as paused:
        first.epoch(0.1, order, Silent(), pause=lambda: next(asked))  # type: ignore[arg-type]
    assert paused.value.batch == 2
    second = Trainer(nets[1], X, Y, rule, Objective(), 10, shuffled=True, state=first.state, sums=first.sums)
    second.epoch(0.1, order, Silent(), first=2)
    assert isinstance(second.whole_epoch, compiled.CompiledEpoch)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert (float(second.cost), second.state["step"]) == (float(whole.cost), 20)


#: How programs begin that train with threads, see `python`.
TRAIN = """
import numpy as np
import deltaprop as dp
from deltaprop.epochs import compiled

def train():
    X = np.random.default_rng(1).random((200, 6))
    net = dp.Network([6, 40, 2], backend="numpy", seed=1)
    net.fit(X, X[:, :2], epochs=5, batch_size=16)
    return net.parameters.copy()
"""
NO_THREADS = """
import os
import resource
import threading
compiled.own_threads = lambda: 1
train()  # so that everything is loaded and BLAS has its memory
for _ in range(4):  # in the stacks, kept for later, of threads that have ended meanwhile
    threading.Thread(target=threading.Event().wait, daemon=True).start()
compiled.own_threads = lambda: 3
compiled.OPERATIONS_A_THREAD = 1e-9
limits = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**22, limits[1]))  # no room for the stack of a thread
before, alone, after = os.listdir("/proc/self/task"), train(), os.listdir("/proc/self/task")
assert before == after
resource.setrlimit(resource.RLIMIT_AS, limits)
assert np.array_equal(train(), alone)
print("equal")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the address space is read from /proc")
def test_where_threads_cannot_be_had_one_does_their_parts():
    assert python("-c", TRAIN + NO_THREADS, timeout=120) == "equal\n"


def train(seed):
    """Train a few epochs with three threads; return the parameters."""
    rng = np.random.default_rng(seed)
    net = dp.Network([6, 40, 2], backend="numpy", seed=seed)
    net.fit(rng.standard_normal((200, 6)), rng.uniform(size=(200, 2)), epochs=5, batch_size=16)
    return net.parameters.copy()


def test_networks_trained_at_the_same_time(monkeypatch):
    """Each Python thread has threads of its own, and the numbers are those of training one after the other."""
    use_threads(monkeypatch, 3)
    alone = [train(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(train, range(6)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


FORK = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

compiled.own_threads = lambda: 3
compiled.OPERATIONS_A_THREAD = 1e-9
expected = train()
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    assert np.array_equal(pool.submit(train).result(timeout=60), expected)
print("equal")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_child_of_a_fork_has_threads_of_its_own():
    """In a process of its own, as other libraries loaded here forbid forks."""
    assert python("-c", TRAIN + FORK, timeout=120) == "equal\n"


def test_estimators_on_it(rng):
    X, y = rng.standard_normal((90, 5)), rng.integers(0, 3, 90)
    weight = rng.uniform(0, 2, 90)
    for solver, kind in (("adam", dp.MLPClassifier), ("sgd", dp.MLPRegressor)):
        options: dict[str, Any] = {"solver": solver, "alpha": 0.3, "batch_size": 20, "random_state": 0, "max_iter": 7}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, reference = (
                kind(**options, backend=b).fit(X, y, sample_weight=weight) for b in ("numpy", "reference")
            )
        backends: list[Any] = [each.network_.backend for each in (ours, reference)]
        assert [backend.compiles for backend in backends] == [True, False]
        assert relative(ours.coefs_, reference.coefs_) < 1e-11
        assert ours.loss_curve_ == pytest.approx(reference.loss_curve_, rel=1e-12)


def test_what_it_cannot_do_is_done_step_by_step(rng):
    X, Y = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    pair = (lambda h, y: (h - y) ** 2 / 2, lambda h, y: h - y)
    nets = both([5, 6, 2], loss=pair)
    for net in nets:
        net.fit(X, Y, epochs=2, dropout=0.3)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    net = dp.Network([5, 6, 2], loss="squared_error", backend="numpy")
    assert compiled.CompiledEpoch.find(task(net, sparse.csr_array(X), dp.SGD())) is not None
    assert compiled.CompiledEpoch.find(task(net, sparse.csc_array(X), dp.SGD())) is None


def test_divergence_is_found_and_the_last_good_parameters_kept(rng):
    X, Y = 1e3 * rng.standard_normal((40, 5)), rng.standard_normal((40, 2))
    net = dp.Network([5, 6, 2], loss="squared_error", hidden_activation="identity", backend="numpy")
    good = [net.parameters.copy()]
    with pytest.raises(dp.DivergenceError):
        net.fit(
            X,
            Y,
            optimizer=dp.SGD(1.0),
            epochs=30,
            callbacks=[lambda event: good.append(net.parameters.copy()) or False],
        )
    assert np.array_equal(net.parameters, good[-1])


def test_nan_is_not_lost_on_the_way(rng):
    """A parameter that is NaN makes the cost NaN, through every activation."""
    X, Y = rng.standard_normal((9, 4)), rng.uniform(size=(9, 3))
    hidden: Any
    for hidden in HIDDEN:
        net = dp.Network([4, 5, 3], hidden_activation=hidden, backend="numpy")
        net.parameters[0] = np.nan
        with pytest.raises(dp.DivergenceError):
            net.fit(X, Y, epochs=1)


@pytest.fixture
def another_compiler(monkeypatch):
    """A function that makes the package look for a compiler again, in another path."""

    def look(path, command=None):
        native_compiler.find_compiler.cache_clear()
        native_library._load.cache_clear()
        monkeypatch.setenv("DELTAPROP_LIBRARY", "native")  # whatever came with the package
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr(native_compiler, "is_installed", lambda name: False)
        monkeypatch.setenv("CXX", command) if command else monkeypatch.delenv("CXX", raising=False)

    yield look
    monkeypatch.undo()
    native_compiler.find_compiler.cache_clear()
    native_library._load.cache_clear()


def fit_both(rng):
    X, Y = rng.standard_normal((30, 5)), rng.uniform(size=(30, 2))
    nets = both([5, 6, 2])
    for net in nets:
        net.fit(X, Y, epochs=2)
    return nets


def test_without_a_compiler_every_step_is_numpys(another_compiler, rng):
    another_compiler("")
    ours, reference = fit_both(rng)
    assert np.array_equal(ours.parameters, reference.parameters)
    with pytest.raises(dp.BackendError, match=r"no C\+\+ compiler is here .* pip install 'deltaprop\[native\]'"):
        native_compiler.native_library("float", Path)


def test_a_compiler_that_fails_is_warned_of_and_training_goes_on(another_compiler, monkeypatch, tmp_path, rng):
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path / "cache"))
    another_compiler("/usr/bin:/bin", "false")
    with pytest.warns(RuntimeWarning, match="false .* failed: .*; epochs are trained step by step, by NumPy"):
        ours, reference = fit_both(rng)
    assert np.array_equal(ours.parameters, reference.parameters)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(native_library, "select_library", lambda *arguments: pytest.fail("asked again"))
    with pytest.warns(RuntimeWarning, match="false .* failed"):
        fit_both(rng)


def test_the_library_is_compiled_once_and_kept(monkeypatch, tmp_path):
    require_compiler()
    monkeypatch.setenv("DELTAPROP_CACHE_DIR", str(tmp_path))
    first = native_compiler.native_library("float", Path)
    monkeypatch.setattr(native_compiler, "compile_unit", lambda *arguments: pytest.fail("compiled again"))
    assert native_compiler.native_library("float", Path) == first
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == [first]


def test_threads_of_blas_are_as_before_when_the_last_has_left():
    from threadpoolctl import threadpool_info

    def threads():
        return sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())

    with scipy_on_one_thread():
        pass
    before, ours = threads(), own_threads()
    one, two = scipy_on_one_thread(), scipy_on_one_thread()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    within = dict(threads())
    assert [n for path, n in within.items() if "scipy.libs" in path] in ([1], [])
    assert own_threads() == ours
    two.__exit__(None, None, None)
    assert threads() == before


@pytest.fixture
def calls(monkeypatch):
    """List how many epochs each call of the compiled library trained."""
    counts = []
    epochs = compiled.CompiledEpoch.epochs
    monkeypatch.setattr(compiled.CompiledEpoch, "epochs", lambda self, *a: (counts.append(a[-1]), epochs(self, *a))[1])
    return counts


@pytest.mark.parametrize(
    "optimizer", [dp.SGD(0.3), dp.SGD(0.2, momentum=0.9), dp.Adam(0.5), dp.AdamW(0.1, weight_decay=0.5)]
)
def test_many_epochs_in_a_call_are_as_one_by_one(optimizer, threads, calls, rng):
    """With a callback they go one by one: the bits are the same, and so is the end of a diverging training."""
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    nets = [dp.Network([3, 8, 2], loss="squared_error", backend="numpy") for _ in range(2)]
    one, many = (
        net.fit(X, Y, optimizer=optimizer, epochs=9, batch_size=7, callbacks=watched)
        for net, watched in zip(nets, ([lambda event: None], []), strict=True)
    )
    assert calls == [9]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert one.cost == many.cost
    ends = []
    for watched in ([lambda event: None], []):
        net = dp.Network([3, 8, 2], loss="squared_error", hidden_activation="relu", backend="numpy")
        with pytest.raises(dp.DivergenceError) as ended:
            net.fit(1e3 * X, Y, optimizer=dp.SGD(3e-6, momentum=0.9), epochs=400, batch_size=7, callbacks=watched)
        error = ended.value
        ends.append((error.epoch, error.step, error.layer, error.history.cost, net.parameters.tolist(), str(error)))
    assert ends[0] == ends[1]
    assert ends[0][0] > 1


def test_the_steps_of_a_call_are_limited(calls, rng, monkeypatch):
    """So is the memory that their rates take."""
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    parameters = []
    for limit in (compiled.STEPS_A_CALL, 15):
        monkeypatch.setattr(compiled, "STEPS_A_CALL", limit)
        net = dp.Network([3, 8, 2], loss="squared_error", backend="numpy")
        net.fit(X, Y, optimizer=dp.AdamW(0.1), epochs=9, batch_size=7)
        parameters.append(net.parameters)
    assert calls[0] == 9
    assert max(calls[1:]) == 2  # epochs of 6 steps
    assert np.array_equal(*parameters)
