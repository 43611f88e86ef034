"""Threads, and processes forked after the import, compute what each would compute alone."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import python, run
from sklearn.exceptions import ConvergenceWarning

import deltaprop as dp

BACKENDS = ("numpy", "reference")


def trained(seed, backend):
    rng = np.random.default_rng(seed)
    net = dp.Network([6, 40, 20, 2], hidden_activation="gelu", backend=backend, seed=seed)
    X, Y = rng.standard_normal((300, 6)), rng.uniform(size=(300, 2))
    net.fit(X, Y, optimizer=dp.Adam(0.01), epochs=6, batch_size=16, dropout=0.1 * (seed % 2), validation=(X, Y))
    return net


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_trained_in_threads(backend):
    alone = [trained(seed, backend).parameters for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: trained(seed, backend).parameters, range(6)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_network_asked_by_eight_threads(backend):
    net = trained(1, backend)
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((m, 6)) for m in (1, 7, 300, 3000) * 8]

    def ask(X):
        Y = np.full((len(X), 2), 0.5)
        cost, gradient = net.cost_and_gradient(X, Y)
        return net.predict(X), net.cost(X, Y), cost, gradient.flat, net.jvp(X, X), net.forward(X).z[1]

    expected = [ask(X) for X in inputs]
    with ThreadPoolExecutor(8) as pool:
        for answers, others in zip(pool.map(ask, inputs), expected, strict=True):
            for answer, other in zip(answers, others, strict=True):
                assert np.allclose(answer, other, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_searches_and_stacks_in_threads():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 5)), rng.integers(0, 2, 90)
    assert issubclass(ConvergenceWarning, UserWarning)

    def search(seed):
        base = dp.MLPClassifier((6,), max_iter=5, random_state=seed, backend="numpy")
        scores = dp.SweepCV(base, {"alpha": [0.1, 1.0]}, cv=3).fit(X, y).cv_results_["mean_test_score"]
        stack = dp.NetworkStack(3, [5, 4, 1], backend="numpy", seeds=[seed, seed + 1, seed + 2])
        stack.fit(X, y, epochs=3)
        return scores, stack.parameters

    alone = [search(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(search, range(4)), alone, strict=True):
            assert np.array_equal(one[0], other[0])
            assert np.array_equal(one[1], other[1])


FORK = """
import os
import numpy as np
import deltaprop as dp

def work():
    X = np.random.default_rng(1).random((600, 40))
    net = dp.Network([40, 60, 2], backend=BACKEND, seed=1)
    net.fit(X, X[:, :2], epochs=3, batch_size=200)
    return net.predict(X)

expected = work() if USED_BEFORE else None
children = []
for _ in range(3):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, work().tobytes())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        children.append(np.frombuffer(pipe.read()).reshape(-1, 2))
    assert os.waitpid(child, 0)[1] == 0
expected = work()
for result in children:
    assert np.array_equal(result, expected)
print("equal")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_forks_after_the_import_and_after_use(backend, used_before):
    program = FORK.replace("BACKEND", repr(backend)).replace("USED_BEFORE", str(used_before))
    assert python("-c", program, timeout=120) == "equal\n"


BUSY = """
X = np.random.default_rng(1).random((400, 40))
y = (X[:, 0] > 0.5).astype(int)
warnings.simplefilter("ignore")

def fit():
    net = dp.Network([40, 200, 2], seed=1)
    net.fit(X, X[:, :2], epochs=1, batch_size=100)
    return net.parameters

def everything():
    dp.Network([40, 20, 2]).fit_full_batch(X, X[:, :2], max_iter=2)
    # Products that NumPy's BLAS shares out over threads of its own, which a child does not have.
    dp.Network([40, 300, 300, 2], backend="reference").fit(X, X[:, :2], epochs=1, batch_size=200)
    dp.NetworkStack(3, [40, 20, 2]).fit(X, X[:, :2], epochs=1)
    dp.MLPClassifier((20,), max_iter=1).fit(X, y).predict(X)
    return fit()

def always(work):
    while True:
        work()

for work in (fit, everything):
    threading.Thread(target=always, args=[work], daemon=True).start()
expected = fit()
for _ in range(25):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if np.array_equal(everything(), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forks_while_other_threads_fit():
    """Forks begin while the other threads are still importing modules."""
    run(BUSY)


DRAWS = """
np.random.seed(0)

def draw():
    while True:
        np.random.random(300_000)
        time.sleep(0.001)  # else it hardly ever lets go

threading.Thread(target=draw, daemon=True).start()
for _ in range(15):
    time.sleep(0.001)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        np.random.random()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forks_while_another_thread_draws_from_the_shared_generator():
    """Estimators without a ``random_state`` draw from it: NumPy's lock is free in the child."""
    run(DRAWS)


FIRST_USE = """
X = np.random.default_rng(1).random((40, 4))

def fit():
    dp.Network([4, 3, 1], loss="squared_error").fit(X, X[:, 0], epochs=1)

threading.Thread(target=fit, daemon=True).start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    signal.alarm(60)
    fit()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("seconds", [0.0, 0.002, 0.01, 0.05])
def test_a_fork_while_another_thread_uses_the_library_for_the_first_time(seconds):
    """Both that thread and the child import modules."""
    run(FIRST_USE, seconds)


TWICE = """
X, y = np.random.default_rng(0).random((50, 4)), np.arange(50) % 2
begun, go_on = threading.Event(), threading.Event()

def wait(event):
    begun.set()
    assert go_on.wait(30)

def refused(call):
    try:
        call()
    except RuntimeError as error:
        assert "is being trained by another call" in str(error), error
        return True

net, stack = dp.Network([4, 3, 1]), dp.NetworkStack(2, [4, 3, 1])
estimator = dp.MLPClassifier((3,), max_iter=2, callbacks=[wait])
sweep = dp.SweepCV(estimator, {"alpha": [0.1]}, cv=2)
warnings.simplefilter("ignore")
for train, others in (
    (lambda: net.fit_full_batch(X, y, callbacks=[wait]), [lambda: net.fit(X, y)]),
    (lambda: net.fit(X, y, epochs=1, callbacks=[wait]), [lambda: net.fit(X, y), lambda: net.fit_full_batch(X, y)]),
    (lambda: stack.fit(X, y, epochs=1, callbacks=[wait]), [lambda: stack.fit(X, y), lambda: stack[1].fit(X, y)]),
    (lambda: stack[0].fit(X, y, epochs=1, callbacks=[wait]), [lambda: stack.fit(X, y), lambda: stack.fit_full_batch(X, y)]),
    (lambda: estimator.fit(X, y), [lambda: estimator.fit(X, y), lambda: estimator.partial_fit(X, y)]),
    (lambda: sweep.fit(X, y), [lambda: sweep.fit(X, y)]),
):
    begun.clear(), go_on.clear()
    thread = threading.Thread(target=train)
    thread.start()
    assert begun.wait(30)
    assert all(refused(call) for call in others)
    net.predict(X), stack.predict(X), stack[1].cost(X, y)
    go_on.set()
    thread.join()
    for call in others:
        assert not refused(call)  # nobody trains it any more

def within(event):
    assert refused(lambda: net.fit(X, y))
net.fit(X, y, epochs=1, callbacks=[within])
for solver in ("adam", "lbfgs"):  # the network of an estimator is trained in place
    warm = dp.MLPClassifier((3,), solver=solver, max_iter=2, warm_start=True).fit(X, y)
    asked = []
    def within(event):
        asked.append(refused(lambda: warm.network_.fit(X, y)))
    warm.set_params(callbacks=[within]).fit(X, y)
    assert asked and all(asked)
try:
    net.fit(X, y, callbacks=[lambda event: 1 / 0])
except ZeroDivisionError:
    net.fit(X, y)
from deltaprop.training.exclusive import training_of
with training_of(net):
    child = os.fork() if hasattr(os, "fork") else 0
    if child == 0:
        os._exit(0 if refused(lambda: net.fit(X, y)) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_two_trainings_of_one_network_at_once_are_refused():
    run(TWICE)


def test_nothing_is_printed_unless_asked_for(capfd):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 2, 60)
    net = dp.Network([5, 4, 1], backend="numpy")
    net.fit(X, y, epochs=2)
    net.fit_full_batch(X, y, max_iter=2)
    net.predict(X)
    dp.NetworkStack(2, [5, 4, 1], backend="numpy").fit(X, y, epochs=1)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
