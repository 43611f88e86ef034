"""The threads of the compiled library: a call returns when its work is done, and is right, whoever is late."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from conftest import require_compiler, require_library
from processes import run

#: A thread that is still inside when the call has returned; the next calls; calls of several threads at a time.
CALLS = """
#include "cpu/thread_pool.h"
#include <cstdio>
#include <numeric>

std::atomic<bool> begun{false}, returned{false};
std::atomic<int> sum{0};

// In each phase, a part adds its number to the sum of all parts of the phase before. While the last one takes longer,
// the other threads wait in vain for more.
bool right(int call) {
    const int phases = 1 + call % 3, parts = 2 + call % 5;
    int values[4][6] = {}, expected = 0;
    threads::in_phases(phases, parts, 4, [&](int64_t phase, int part, int) {
        if (phase + 1 == phases && part == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
        values[phase + 1][part] = std::accumulate(values[phase], values[phase] + parts, part);
    });
    for (int phase = 0; phase < phases; ++phase) expected = parts * expected + parts * (parts - 1) / 2;
    return std::accumulate(values[phases], values[phases] + parts, 0) == expected;
}

int main() {
    const std::vector<int> owned(1000, 7);
    threads::run(2, std::make_shared<const threads::Job>([owned](int thread) {
        if (thread == 0) return threads::wait_for([] { return begun.load(); });
        begun = true;
        threads::wait_for([] { return returned.load(); });
        sum = std::accumulate(owned.begin(), owned.end(), 0);
    }));
    bool all_right = sum == 0;
    for (int call = 0; call < 100; ++call) all_right = right(call) && all_right;
    returned = true;
    threads::wait_for([] { return sum.load() != 0; });
    all_right = sum == 7000 && all_right;

    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&] {
            for (int call = 0; call < 3000; ++call) wrong += !right(call);
        });
    for (auto& caller : callers) caller.join();
    std::puts(all_right && wrong == 0 ? "right" : "wrong");
}
"""


def test_a_thread_that_is_late(tmp_path):
    (tmp_path / "calls.cpp").write_text(CALLS)
    command = [*require_compiler(), "-std=c++17", "-O2", "-pthread", f"-I{files('deltaprop.kernels')}"]
    subprocess.run([*command, str(tmp_path / "calls.cpp"), "-o", str(tmp_path / "calls")], check=True)
    done = subprocess.run([str(tmp_path / "calls")], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "right\n")


#: One core for sixteen threads: most of them are late. The cost of a training is left out, whose terms are added up in
#: another order where there are more threads.
SHORT = f"""
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from concurrent.futures import ThreadPoolExecutor
import pytest
from conftest import use_threads
from deltaprop.epochs import compiled_gradient

compiled_gradient.SMALL_EVALUATION = -1.0
use = pytest.MonkeyPatch()

def numbers(seed):
    rng, found = np.random.default_rng(seed), []
    X, Y = rng.standard_normal((120, 12)), rng.uniform(size=(120, 3))
    for sizes in ([12, 40, 3], [12, 24, 20, 3]):
        net = dp.Network(sizes, backend="numpy", seed=seed)
        stack = dp.NetworkStack(5, sizes, backend="numpy", seeds=range(5))
        for _ in range(2):
            net.fit(X, Y, epochs=1, batch_size=16)
            stack.fit(X, Y, epochs=1, batch_size=32)
            cost, gradient = net.cost_and_gradient(X, Y)
            found += [net.parameters, net.predict(X), net.cost(X, Y), cost, gradient.flat, net.hvp(X, Y, gradient.flat)]
            found += [stack.parameters, stack.predict(X), stack.cost(X, Y)]
            found = [np.array(each) for each in found]
    return [each.tobytes() for each in found]

use_threads(use, 1)
expected = [numbers(seed) for seed in range(4)]
use_threads(use, 4)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
for _ in range(2):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(numbers, range(4), timeout=60)) == expected
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if numbers(0) == expected[0] else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_short_calls_by_more_threads_than_cores():
    """Trainings, predictions and derivatives of several callers, and of a child, have the bits of one thread."""
    require_library()
    run(SHORT)
