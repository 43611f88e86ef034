"""The variants of the compiled library that wheels hold: for which processors, and with which compiler options."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

#: Where a feature stands in what `kernels/cpu/processor.cpp` reports: the word, and the bits, all of them needed.
FEATURES = {
    # leaf 1 of cpuid, ecx
    "sse3": (0, 1 << 0),
    "ssse3": (0, 1 << 9),
    "fma": (0, 1 << 12),
    "cmpxchg16b": (0, 1 << 13),
    "sse4.1": (0, 1 << 19),
    "sse4.2": (0, 1 << 20),
    "movbe": (0, 1 << 22),
    "popcnt": (0, 1 << 23),
    "osxsave": (0, 1 << 27),
    "avx": (0, 1 << 28),
    "f16c": (0, 1 << 29),
    # leaf 7, ebx
    "bmi1": (1, 1 << 3),
    "avx2": (1, 1 << 5),
    "bmi2": (1, 1 << 8),
    "avx512f": (1, 1 << 16),
    "avx512dq": (1, 1 << 17),
    "avx512cd": (1, 1 << 28),
    "avx512bw": (1, 1 << 30),
    "avx512vl": (1, 1 << 31),
    # leaf 0x80000001, ecx
    "lahf": (2, 1 << 0),
    "lzcnt": (2, 1 << 5),
    # what the operating system saves: xmm and ymm; the masks and both parts of zmm
    "ymm saved": (3, 0b110),
    "zmm saved": (3, 0b11100110),
}
#: The levels of the x86-64 architecture, as its psABI defines them.
V3 = frozenset(FEATURES) - {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl", "zmm saved"}
V4 = frozenset(FEATURES)


@dataclass(frozen=True)
class Variant:
    """The library for a kind of processor.

    Attributes
    ----------
    name : str
        As messages, file names and ``DELTAPROP_LIBRARY`` have it.
    machine : {"x86_64", "aarch64"}
    systems : tuple of str
        Where it is built, as ``sys.platform`` has it.
    needs : frozenset of str
        The features, of `FEATURES`, without which it cannot run.
    options : tuple of str
        What the compiler is told.
    """

    name: str
    machine: str
    systems: tuple[str, ...]
    needs: frozenset[str]
    options: tuple[str, ...]


#: The best first. macOS saves zmm only once a program has used it, and so does not tell beforehand that it will.
VARIANTS = (
    Variant("x86-64-v4", "x86_64", ("linux",), V4, ("-march=x86-64-v4", "-mprefer-vector-width=512")),
    Variant("x86-64-v3", "x86_64", ("linux", "darwin"), V3, ("-march=x86-64-v3",)),
    Variant("armv8-a", "aarch64", ("linux", "darwin"), frozenset(), ("-march=armv8-a",)),
)
#: Other names of machines.
SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}


def variants_of(machine: str | None = None, system: str | None = None) -> tuple[Variant, ...]:
    """The variants for a machine, the best first.

    Parameters
    ----------
    machine : str, optional
        As `platform.machine` names it; by default this one.
    system : str, optional
        As `sys.platform` names it; by default this one.
    """
    named = (machine or platform.machine()).lower()
    machine, system = SAME_MACHINE.get(named, named), system or sys.platform
    return tuple(variant for variant in VARIANTS if variant.machine == machine and system in variant.systems)


def features_in(words: Sequence[int]) -> frozenset[str]:
    """The names of the features that `processor_features` has reported."""
    return frozenset(name for name, (word, bits) in FEATURES.items() if words[word] & bits == bits)
