"""Measures the limits of the device, a copy and matrix products, and our elementwise kernels against the copy.

Operands of fp16 products are converted first, as in training. Calls follow one another without a pause, so that the
host's time does not count; `from_idle` is the median of calls that found the device idle.
"""

import statistics
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import deltaprop as dp

from .channel import Channel
from .events import device_seconds, facts
from .part import Options

ENTRIES, ROWS, COLUMNS = 2**26, 8192, 4096
#: The goal: a share of the bandwidth of a copy.
TO_REACH = {"sigmoid": 0.85, "sigmoid_grad": 0.85, "bias_activation": 0.85, "hidden_delta": 0.85}
#: Calls that keep the device busy while the host launches the timed one: the host needs up to 50 µs for it, the device
#: 130 µs and more.
AHEAD = 2
PRODUCTS = ("fp32", "tf32", "bf16", "fp16")


def host_seconds(call: Callable[[], object], repeats: int = 5) -> list[float]:
    """Return the seconds of calls on the CPU, in rising order."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)


def attempt(tell: Channel, name: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Try to measure a row, or record its error, so that other rows are not lost."""
    try:
        tell.row(name, **measure())
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        tell.row(name, failed=True, why=f"{type(error).__name__}: {error}"[:300])


def elementwise(backend: Any, a: Any, b: Any) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return calls by name, and how many times the bytes of `a` each moves."""
    from deltaprop.backends.cuda.launching import NULL
    from deltaprop.backends.kernel_names import Rule

    state = tuple(backend.zeros(a.shape, np.float32) for _ in range(2))
    sgd, adam = Rule("sgd"), Rule("adam", {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8})
    columns = 4096
    Z, bias = a.reshape(-1, columns).copy(), backend.zeros((columns,), np.float32)
    delta = b.reshape(Z.shape)
    return {
        "sigmoid": (2, lambda: dp.sigmoid(a, out=b)),
        "sigmoid_grad": (2, lambda: dp.sigmoid_grad(a, out=b)),
        "sgd": (3, lambda: backend.update(sgd, b, a, (), 0.1, 0.0, 0)),
        "adam": (7, lambda: backend.update(adam, b, a, state, 1e-3, 0.0, 0)),
        "bias_activation": (3, lambda: backend._bias_activation(Z, bias, "sigmoid", delta)),
        "hidden_delta": (3, lambda: backend._over_columns("hidden_delta_sigmoid", (delta, Z, NULL), Z, bias, 0.0)),
    }


def product(precision: str) -> dict[str, Any]:
    """Return a large product in this precision, transposed as in a forward pass."""
    import cupy

    on: Any = dp.get_backend("cupy").in_precision(precision)  # type: ignore[arg-type]
    A, C = (cupy.random.standard_normal((ROWS, COLUMNS), dtype=np.float32) for _ in range(2))
    W = A[:COLUMNS].copy()
    if precision == "bf16":  # as in captured steps, where no operand is converted
        bits = (A.view(np.uint32) >> 16).astype(np.uint16)
        A, W, C = bits, bits[:COLUMNS].copy(), cupy.empty(A.shape, np.uint16)
    seconds = device_seconds(lambda: on.product(A, W, out=C, transpose_B=True), ahead=AHEAD)
    operations = 2 * ROWS * COLUMNS * COLUMNS
    return facts(seconds) | {"flop_a_second": operations / statistics.median(seconds)}


def run(options: Options, tell: Channel) -> None:
    if options.rehearse:
        _rehearse(tell)
        return
    import cupy

    backend: Any = dp.get_backend("cupy")
    a, b = cupy.random.standard_normal(ENTRIES, dtype=np.float32), cupy.empty(ENTRIES, np.float32)
    calls = elementwise(backend, a, b)
    tell.plan(["copy", *(f"product {precision}" for precision in PRODUCTS), *calls])
    of_copy, copy = _moving(2 * a.nbytes, lambda: cupy.copyto(b, a))
    tell.row("copy", **of_copy, bytes_a_second=copy)
    for precision in PRODUCTS:
        attempt(tell, f"product {precision}", partial(product, precision))
    for name, (times, call) in calls.items():
        attempt(tell, name, partial(_share, name, times * a.nbytes, call, copy))


def _moving(moved: int, call: Callable[[], Any]) -> tuple[dict[str, Any], float]:
    """Return the facts about a call that moves so many bytes, and its bytes a second."""
    seconds = device_seconds(call, ahead=AHEAD)
    from_idle = statistics.median(device_seconds(call))
    return facts(seconds) | {"from_idle": from_idle}, moved / statistics.median(seconds)


def _share(name: str, moved: int, call: Callable[[], Any], copy: float) -> dict[str, Any]:
    told, bytes_a_second = _moving(moved, call)
    to_reach = {"to_reach": TO_REACH[name]} if name in TO_REACH else {}
    return told | {"share_of_copy": bytes_a_second / copy} | to_reach


def _rehearse(tell: Channel) -> None:
    """Make the same rows by NumPy, for small arrays."""
    a, b = np.linspace(-9, 9, 2**16, dtype=np.float32), np.empty(2**16, np.float32)
    A = np.ones((256, 256), np.float32)
    tell.plan(["copy", "product fp32", "sigmoid", "sigmoid_grad"])
    seconds = host_seconds(lambda: np.copyto(b, a))
    copy = 2 * a.nbytes / statistics.median(seconds)
    tell.row("copy", **facts(seconds), bytes_a_second=copy)
    seconds = host_seconds(lambda: A @ A)
    tell.row("product fp32", **facts(seconds), flop_a_second=2 * 256**3 / statistics.median(seconds))
    for name in ("sigmoid", "sigmoid_grad"):
        seconds = host_seconds(partial(getattr(dp, name), a, out=b))
        tell.row(name, **facts(seconds), share_of_copy=2 * a.nbytes / statistics.median(seconds) / copy)
