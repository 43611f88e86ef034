"""How long a number takes from one core to another: what threads pay that share the steps of a small network.

The cores of a virtual machine may lie near each other or far apart, and change their places every few seconds.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from deltaprop.backends.native import compiler
from deltaprop.backends.native.compiler_process import run_compiler

SOURCE = """
#include <atomic>
#include <chrono>
#include <thread>

// Two threads answer each other so many times; returns the nanoseconds of one way.
extern "C" double nanoseconds_of_a_hop(int answers) {
    alignas(128) std::atomic<int> number{0};
    std::thread other([&] {
        for (int i = 0; i < answers; ++i) {
            while (number.load(std::memory_order_acquire) != 2 * i + 1) {}
            number.store(2 * i + 2, std::memory_order_release);
        }
    });
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < answers; ++i) {
        number.store(2 * i + 1, std::memory_order_release);
        while (number.load(std::memory_order_acquire) != 2 * i + 2) {}
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
    other.join();
    return took.count() / (2.0 * answers);
}
"""


@cache
def _library() -> Any:
    command = compiler.find_compiler()
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "hops.cpp", Path(folder) / "hops.so"
        source.write_text(SOURCE)
        run_compiler([*command, *compiler.OPTIONS, str(source), "-o", str(library)], 60.0)
        loaded = ctypes.CDLL(str(library))
    loaded.nanoseconds_of_a_hop.restype = ctypes.c_double
    return loaded


def nanoseconds_of_a_hop(answers: int = 20_000) -> float | None:
    """Return how long a number takes from one core to another, the best of three; None without a C++ compiler."""
    library = _library()
    if library is None:
        return None
    time.sleep(0.2)  # the threads of a BLAS spin after a product
    return min(float(library.nanoseconds_of_a_hop(answers)) for _ in range(3))
