"""Several threads, and processes forked after the import: what each would have alone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
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
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout == "equal\n", run.stderr


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
