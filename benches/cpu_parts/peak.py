"""The share of the peak that training reaches; the peak is a large product by NumPy's BLAS, in the same run.

Where the cores of a virtual machine change their places, rounds are told apart by how far they are from each other.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.reports.progress import Silent

from ..timing import quartiles
from .hops import nanoseconds_of_a_hop

#: Rows and columns of the product whose speed is the peak.
SIDE = 2048
SGD = "sgd, sigmoid"
ADAM = "adam, relu"
#: Widths, minibatch, dtype and way of learning, and the share to reach.
CASES = [
    ((64, 32, 1), 32, "float32", SGD, 0.35),
    ((784, 30, 10), 10, "float32", SGD, 0.5),
    ((784, 100, 10), 128, "float32", SGD, 0.75),
    ((50, 100, 1), 200, "float64", ADAM, 0.6),
    ((64, 100, 10), 200, "float64", ADAM, 0.6),
    ((784, 512, 512, 10), 128, "float32", SGD, 0.9),
    ((784, 1024, 1024, 10), 512, "float32", SGD, 0.93),
]
#: Operations that are measured at a time: of an epoch, or of some where an epoch of 500 steps has fewer.
OPERATIONS = 2e9
#: Nanoseconds from core to core above which they are called far: in processors of several dies, on different ones.
FAR = 100.0


def epoch_of(sizes: tuple[int, ...], batch: int, dtype: Any, learning: str) -> tuple[Any, float]:
    """Return a function that trains for an epoch or more, and the operations of its matrix products."""
    rng = np.random.default_rng(0)
    entries = [i * o for i, o in pairwise(sizes)]
    a_step = 2.0 * batch * (3 * sum(entries) - entries[0])
    steps = max(4, min(500, int(OPERATIONS / a_step)))
    m, last = steps * batch, sizes[-1]
    X = rng.standard_normal((m, sizes[0])).astype(dtype)
    labels = rng.integers(0, max(2, last), m)
    Y = (labels[:, None] if last == 1 else np.eye(last)[labels]).astype(dtype)
    net = dp.Network(
        sizes,
        hidden_activation="relu" if learning == ADAM else "sigmoid",
        loss="binary_cross_entropy" if last == 1 else "categorical_cross_entropy",
        dtype=dtype,
        backend="numpy",
    )
    optimizer = dp.Adam(1e-4) if learning == ADAM else dp.SGD(0.01)
    trainer = Trainer(net, X, Y, optimizer, Objective(), batch, shuffled=True)
    order, rate = rng.permutation(m), 1e-4 if learning == ADAM else 0.01
    epochs = max(1, round(OPERATIONS / (steps * a_step)))

    def train() -> None:
        for _ in range(epochs):
            trainer.epoch(rate, order, Silent())

    return train, epochs * steps * a_step


def product(dtype: Any) -> tuple[Any, float]:
    """Return a function that multiplies two large matrices, and its operations."""
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((SIDE, SIDE)).astype(dtype) for _ in range(2))
    out = np.empty_like(A)
    return lambda: np.matmul(A, B, out=out), 2.0 * SIDE**3


def measure(rounds: int) -> list[dict[str, Any]]:
    """Return a row a case."""
    return list(each_case(rounds))


def each_case(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row a case."""
    for sizes, batch, dtype, learning, goal in CASES:
        epoch, operations = epoch_of(sizes, batch, dtype, learning)
        large, of_large = product(dtype)
        seconds, by_distance = _rounds(epoch, large, rounds)
        peak = of_large / seconds["product"]["median"]
        ratio = operations / of_large
        row = {
            "network": "-".join(map(str, sizes)),
            "minibatch": batch,
            "dtype": dtype,
            "learning": learning,
            "seconds": seconds,
            "peak": peak,
            "share of peak": operations / seconds["epoch"]["median"] / peak,
            "goal": goal,
            "by distance of the cores": {
                distance: {
                    "nanoseconds from core to core": statistics.median(of_round["hop"] for of_round in alike),
                    "share of peak": ratio * statistics.median(r["product"] / r["epoch"] for r in alike),
                    "rounds": len(alike),
                }
                for distance, alike in by_distance.items()
            },
        }
        print(line(row), flush=True)
        yield row


def _rounds(epoch: Any, large: Any, rounds: int) -> tuple[dict[str, Any], dict[str, list[dict[str, float]]]]:
    """Time both in turn; return the quartiles of all rounds, and the rounds in which the cores stayed near or far."""
    times: dict[str, list[float]] = {"epoch": [], "product": []}
    by_distance: dict[str, list[dict[str, float]]] = {}
    epoch(), large()
    before = nanoseconds_of_a_hop()
    for _ in range(rounds):
        of_round = {"epoch": _seconds(epoch), "product": _seconds(large)}
        after = nanoseconds_of_a_hop()
        for name, seconds in of_round.items():
            times[name].append(seconds)
        if before is not None and after is not None and (before > FAR) == (after > FAR):
            by_distance.setdefault("far" if after > FAR else "near", []).append(of_round | {"hop": after})
        before = after
    return {name: quartiles(each) for name, each in times.items()}, by_distance


def _seconds(call: Any) -> float:
    time.sleep(0.2)  # the threads of a BLAS spin after a product
    call()  # the core has slept, and its caches hold other data
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    share, goal, peak = row["share of peak"], row["goal"], row["peak"]
    what = f"{row['network']}, {row['minibatch']}, {row['dtype']}, {row['learning']}"
    by_distance = row["by distance of the cores"].values()
    apart = "".join(
        f"; {own['share of peak']:.2f} at {own['nanoseconds from core to core']:.0f} ns from core to core"
        for own in by_distance
    )
    return f"{what:52} {share:5.2f} of {peak / 1e9:.0f} GFLOP/s (goal {goal}){apart}"


def measure_threads(counts: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the share of the peak of so many threads, of each case; the peak is a product by as many threads."""
    for count in counts:
        if count > (os.cpu_count() or 1):
            print(f"{count} threads: this machine has {os.cpu_count()} cores")
            continue
        with threadpool_limits(count, user_api="blas"):  # we use as many threads as NumPy's BLAS
            for row in each_case(rounds):
                yield row | {"threads": count}
