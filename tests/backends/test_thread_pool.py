"""The threads of the compiled library: a call returns when its work is done, and is right, whoever is late."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from conftest import require_compiler, require_library
from processes import run

from deltaprop.backends.native import compiler
from deltaprop.backends.native.compiler_process import run_compiler

SOURCE = """
#include "cpu/thread_pool.h"

#include <algorithm>
#include <numeric>

// Work that counts how often it is done, and how often it is copied.
struct Counted {
    int64_t *done, *copied;
    Counted(int64_t* done, int64_t* copied) : done(done), copied(copied) {}
    Counted(const Counted& other) : done(other.done), copied(other.copied) { ++*copied; }
    void operator()(int64_t, int, int) { ++*done; }
};

// What a thread does that comes when 3 phases of 2 parts are done.
extern "C" void come_late(int64_t* done, int64_t* copied) {
    threads::Phases phases(3, 2);
    int64_t before = 0;
    Counted first(&before, &before), late(done, copied);
    phases.work(0, first);
    phases.work(1, late);
}

// What a thread finds in its job that is still inside when its caller has returned and has made so many further calls.
extern "C" int64_t stay_inside(int calls) {
    static std::atomic<bool> begun, returned;
    static std::atomic<int64_t> found;
    begun = returned = false, found = -1;
    const std::vector<int64_t> owned(1000, 7);
    threads::run(2, std::make_shared<const threads::Job>([owned](int thread) {
        if (thread == 0) return threads::wait_for([] { return begun.load(); });
        begun = true;
        threads::wait_for([] { return returned.load(); });
        found = std::accumulate(owned.begin(), owned.end(), int64_t(0));
    }));
    int64_t parts = 0;
    for (int call = 0; call < calls; ++call) {
        std::atomic<int64_t> done{0};
        threads::in_phases(1 + call % 3, 2, 2, [&](int64_t, int, int) { ++done; });
        parts += done - 2 * (1 + call % 3);
    }
    returned = true;
    threads::wait_for([] { return found.load() >= 0; });
    return parts == 0 ? found.load() : -1;
}

// One entry a part, each of them 1 more than the sum of all entries of the phase before. They stand on the stack, and
// the next call writes there at once, where a thread that is late would read. While the last part takes longer, the
// other threads wait in vain for more.
extern "C" int64_t add_up(int64_t phases, int parts, int threads, int64_t calls) {
    int64_t wrong = 0, expected = 0;
    for (int64_t phase = 0; phase < phases; ++phase) expected = parts * expected + 1;
    for (int64_t call = 0; call < calls; ++call) {
        int64_t entries[2][8] = {};
        std::atomic<int64_t> strangers{0};
        threads::in_phases(phases, parts, threads, [&](int64_t phase, int part, int thread) {
            if (thread < 0 || thread >= threads) strangers.fetch_add(1);
            if (phase + 1 == phases && part == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
            int64_t sum = 1;
            for (int i = 0; i < parts; ++i) sum += entries[(phase + 1) % 2][i];
            entries[phase % 2][part] = sum;
        });
        for (int part = 0; part < parts; ++part) wrong += entries[(phases + 1) % 2][part] != expected;
        wrong += strangers.load();
        std::fill_n(&entries[0][0], 16, -1);
    }
    return wrong;
}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = require_compiler()
    folder = tmp_path_factory.mktemp("pool")
    source, output = folder / "pool.cpp", folder / "pool.so"
    source.write_text(SOURCE)
    command = [*found, *compiler.OPTIONS, f"-I{files('deltaprop.kernels')}", str(source), "-o", str(output)]
    run_compiler(command, compiler.SECONDS_TO_COMPILE, scratch=folder)
    library = ctypes.CDLL(str(output))
    library.add_up.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.add_up.restype = library.stay_inside.restype = ctypes.c_int64
    return library


def test_a_thread_that_comes_late_touches_nothing(pool):
    """The caller, on whose stack the work stands, may have returned by then."""
    done, copied = ctypes.c_int64(), ctypes.c_int64()
    pool.come_late(ctypes.byref(done), ctypes.byref(copied))
    assert (done.value, copied.value) == (0, 0)


def test_a_thread_that_is_still_inside_keeps_its_job(pool):
    """The caller returns before it, and calls again."""
    assert pool.stay_inside(100) == 7000


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize(("phases", "parts"), [(1, 4), (2, 3), (30, 3), (9, 8)])
def test_a_phase_begins_when_the_one_before_is_done(pool, phases, parts, threads):
    assert pool.add_up(phases, parts, threads, 50) == 0


def test_callers_at_the_same_time_have_threads_of_their_own(pool):
    with ThreadPoolExecutor(7) as callers:
        found = list(callers.map(lambda threads: pool.add_up(3, 4, threads, 1500), [2, 3, 4, 3, 2, 4, 4], timeout=120))
    assert found == [0] * 7


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
