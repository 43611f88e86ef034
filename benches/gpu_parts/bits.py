"""Compares sigmoid and its derivative with float64 for every float32, in units in the last place.

CuPy compiles its own kernels with ``-ftz=true``, so that they convert a subnormal float32 to 0. Therefore numbers are
widened by their bits, as whole numbers times 2⁻¹⁴⁹, and no subnormal float32 is ever an operand of CuPy's kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .channel import Channel
from .part import Options

#: The largest errors allowed, in units in the last place.
BOUNDS = {"sigmoid": 4, "sigmoid_grad": 6}
#: The least normal float32, and the step of the subnormal ones.
LEAST_NORMAL, STEP = 2.0**-126, 2.0**-149
EXPONENT, MAGNITUDE = np.uint32(0x7F800000), np.uint32(0x7FFFFFFF)
#: The number of patterns, and of patterns in a turn.
PATTERNS, BLOCK = 2**32, 2**25
#: On the CPU, only one pattern in so many is taken.
COMB = 8191


def widened(bits: Any, xp: Any) -> Any:
    """Return the float64 equal to each float32, given by its bits, by operations that do not flush it to zero."""
    magnitude = bits & MAGNITUDE
    small = magnitude.astype(np.float64) * STEP  # right for subnormal ones, whose bits count steps
    is_small = magnitude < np.uint32(1 << 23)
    normal = xp.where(is_small, np.uint32(0x3F800000), magnitude).view(np.float32).astype(np.float64)
    value = xp.where(is_small, small, normal)
    return xp.where(bits > MAGNITUDE, -value, value)


def true_sigmoid(z: Any, xp: Any) -> Any:
    e = xp.exp(-abs(z))
    return xp.where(z < 0, e, 1.0) / (1.0 + e)


def true_sigmoid_grad(z: Any, xp: Any) -> Any:
    e = xp.exp(-abs(z))
    return e / (1.0 + e) ** 2


TRUE = {"sigmoid": true_sigmoid, "sigmoid_grad": true_sigmoid_grad}


@dataclass
class Worst:
    """The largest error so far, and its argument."""

    ulp: float = 0.0
    bits: int = 0
    got: float = 0.0
    true: float = 0.0
    count: int = 0

    def facts(self) -> dict[str, Any]:
        argument = float(np.uint32(self.bits).view(np.float32))
        return {
            "ulp": self.ulp,
            "argument": repr(argument),
            "argument_bits": f"0x{self.bits:08x}",
            "got": repr(self.got),
            "true": repr(self.true),
            "results": self.count,
        }


def errors(got: Any, true: Any, xp: Any) -> Any:
    """|got − true| in units in the last place that the true value has in float32; ∞ for a NaN."""
    exponent = xp.frexp(true)[1].astype(np.int32)
    unit = xp.where(true < LEAST_NORMAL, STEP, xp.ldexp(xp.ones(1), exponent - 24))
    off = abs(got - true) / unit
    return xp.where(xp.isnan(off), np.inf, off)


def examine(function: Callable[[Any], Any], true: Callable[..., Any], bits: Any, xp: Any, worst: list[Worst]) -> None:
    """Compare `function` with the truth at these float32; `worst` holds the errors of normal and subnormal results."""
    bits = bits[(bits & EXPONENT) != EXPONENT]
    if not bits.size:
        return
    expected = true(widened(bits, xp), xp)
    got = widened(function(bits.view(np.float32)).view(np.uint32), xp)
    off = errors(got, expected, xp)
    for found, among in zip(worst, (expected >= LEAST_NORMAL, expected < LEAST_NORMAL), strict=True):
        these = xp.where(among, off, -1.0)
        place = int(these.argmax())
        found.count += int(among.sum())
        if float(these[place]) > found.ulp:
            found.ulp, found.bits = float(these[place]), int(bits[place])
            found.got, found.true = float(got[place]), float(expected[place])


def run(options: Options, tell: Channel) -> None:
    import deltaprop as dp

    if options.rehearse:
        xp: Any = np
        blocks: Any = [np.arange(0, PATTERNS, COMB, dtype=np.uint64).astype(np.uint32)]
    else:
        import cupy

        xp = cupy
        blocks = (cupy.arange(first, first + BLOCK, dtype=cupy.uint32) for first in range(0, PATTERNS, BLOCK))
    kinds = ("normal", "subnormal")
    tell.plan([f"{name}, {kind} results" for name in BOUNDS for kind in kinds])
    worst = {name: [Worst(), Worst()] for name in BOUNDS}
    for bits in blocks:
        for name in BOUNDS:
            examine(getattr(dp, name), TRUE[name], bits, xp, worst[name])
    failed = []
    for name, bound in BOUNDS.items():
        for kind, found in zip(kinds, worst[name], strict=True):
            tell.row(f"{name}, {kind} results", **found.facts(), to_reach=bound)
            if found.ulp > bound:
                failed.append(
                    f"{name} is {found.ulp:.1f} units off at {found.facts()['argument']}, {bound} are allowed"
                )
    if failed:
        raise SystemExit("; ".join(failed))
