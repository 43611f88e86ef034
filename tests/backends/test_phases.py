"""Threads that share phases of work, see kernels/cpu/thread_pool.h."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import pytest
from conftest import missing

from deltaprop.backends.native import compiler
from deltaprop.backends.native.compiler_process import run_compiler

SOURCE = """
#include "cpu/thread_pool.h"

#include <algorithm>

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

// One entry a part, each of them 1 more than the sum of all entries of the phase before. They stand on the stack, and
// the next call writes there at once, where a thread that is late would read.
extern "C" int64_t add_up(int64_t phases, int parts, int threads, int64_t calls) {
    int64_t wrong = 0, expected = 0;
    for (int64_t phase = 0; phase < phases; ++phase) expected = parts * expected + 1;
    for (int64_t call = 0; call < calls; ++call) {
        int64_t entries[2][8] = {};
        std::atomic<int64_t> strangers{0};
        threads::in_phases(phases, parts, threads, [&](int64_t phase, int part, int thread) {
            if (thread < 0 || thread >= threads) strangers.fetch_add(1);
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
    found = compiler.find_compiler()
    if found is None:
        missing("g++", "no C++ compiler")
    assert found is not None
    folder = tmp_path_factory.mktemp("phases")
    source, output = folder / "pool.cpp", folder / "pool.so"
    source.write_text(SOURCE)
    command = [*found, *compiler.OPTIONS, f"-I{files('deltaprop.kernels')}", str(source), "-o", str(output)]
    run_compiler(command, compiler.SECONDS_TO_COMPILE, scratch=folder)
    library = ctypes.CDLL(str(output))
    library.add_up.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    library.add_up.restype = ctypes.c_int64
    return library


def test_a_thread_that_comes_late_touches_nothing(pool):
    """The caller, on whose stack the work stands, may have returned by then."""
    done, copied = ctypes.c_int64(), ctypes.c_int64()
    pool.come_late(ctypes.byref(done), ctypes.byref(copied))
    assert (done.value, copied.value) == (0, 0)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize(("phases", "parts"), [(1, 4), (2, 3), (30, 3), (9, 8)])
def test_a_phase_begins_when_the_one_before_is_done(pool, phases, parts, threads):
    assert pool.add_up(phases, parts, threads, 50) == 0


def test_callers_at_the_same_time_have_threads_of_their_own(pool):
    with ThreadPoolExecutor(5) as callers:
        found = list(callers.map(lambda threads: pool.add_up(20, 3, threads, 50), [2, 3, 4, 3, 2], timeout=120))
    assert found == [0] * 5
