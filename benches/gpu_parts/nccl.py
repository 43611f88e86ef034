"""Measures what the sum of NCCL costs a step, on one device: one rank by itself, with and without the sum.

For a sum of one rank in place NCCL has nothing to launch: what is measured is what stands around it, such as the news
of the hosts. Steps that are not captured have to leave the same numbers.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.graph import GraphEpoch
from deltaprop.epochs.shared_steps import SharedSteps
from deltaprop.epochs.shares import even_shares
from deltaprop.epochs.trainer import Trainer
from deltaprop.errors import BackendError
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.reports.progress import Silent

from ..contestants import Case
from .cases import REHEARSED, make_case
from .channel import Channel, NotHereError
from .part import Options

#: Numbers of cases; epochs before timing, and timed epochs.
CASES, WARM, REPEATS = (0, 3, 4), 2, 7
#: A rule that stores the gradient anyway, and a penalty, which is added after the sum.
RATE, L2 = 0.05, 0.1
OPTIMIZER = dp.SGD(RATE, momentum=0.9)
#: The largest distance of parameters after an epoch, ‖a − b‖/‖b‖, that rounding explains.
FAR = 1e-4


def share_out(trainer: Trainer, ranks: Ranks, *, captured: bool) -> None:
    """Let a trainer, which was made for one process by itself, train as one of some ranks, if need be the only one.

    Raises
    ------
    RuntimeError
        If steps shall be captured and cannot be.
    """
    trainer.task = task = replace(trainer.task, ranks=ranks)
    trainer.shares, trainer.steps, trainer.whole_epoch = even_shares(trainer.sizes, ranks), SharedSteps(task), None
    if captured:
        from deltaprop.epochs.graph_shared import GraphSharedEpoch

        trainer.whole_epoch = GraphSharedEpoch.find(task)
        if trainer.whole_epoch is None:
            raise RuntimeError(f"an epoch can't be captured here: {GraphSharedEpoch.obstacle(task)}")
    else:
        trainer.steps.make_buffers(shuffled=True)


def make_trainer(case: Case, backend: str) -> Trainer:
    """Make a trainer of the case's network, by captured steps where there is a device."""
    loss: Any = "binary_cross_entropy" if case.sizes[-1] == 1 else "categorical_cross_entropy"
    name: Any = backend
    net = dp.Network(case.sizes, loss=loss, dtype="float32", backend=name)
    net.weights, net.biases = case.W, case.b
    X, Y = (net.backend.asarray(array, np.float32) for array in (case.X, case.Y))
    trainer = Trainer(net, X, Y, OPTIMIZER, Objective(L2), case.batch, shuffled=True)
    trainer.whole_epoch = None if net.backend.on_host else GraphEpoch.find(trainer.task)
    trainer.steps.need_buffers(shuffled=True)
    return trainer


def microseconds(trainer: Trainer, case: Case) -> tuple[float, np.ndarray]:
    """Train some epochs; return the time of a step, and the parameters after the first epoch."""
    seconds, first = [], np.empty(0)
    for turn in range(WARM + REPEATS):
        began = time.perf_counter()
        trainer.epoch(RATE, case.order, Silent())
        trainer.total()  # waits for the device
        seconds.append(time.perf_counter() - began)
        if not turn:
            first = trainer.network.backend.to_numpy(trainer.network.parameters).copy()
    return 1e6 * statistics.median(seconds[WARM:]) / case.steps, first


def look(case: Case, backend: str, ranks: Ranks) -> dict[str, Any]:
    """Measure a row: a step by itself, with the sum, and with the sum but not captured."""
    ways = {"alone": None, "with the sum": ranks is not ALONE, "not captured": False}
    times, parameters = {}, {}
    for way, captured in ways.items():
        trainer = make_trainer(case, backend)
        if captured is not None:
            share_out(trainer, ranks, captured=captured)
        times[way], parameters[way] = microseconds(trainer, case)
    own, other = (parameters[way].astype(float) for way in ("with the sum", "not captured"))
    far = float(np.linalg.norm(own - other) / np.linalg.norm(other))
    failed = {} if far < FAR else {"failed": True}
    return {"microseconds": times, "of_the_sum": times["with the sum"] - times["alone"], "distance": far} | failed


def text_of(name: str, row: dict[str, Any]) -> str:
    """Return the row as a line."""
    each = ", ".join(f"{way} {time:.1f}" for way, time in row["microseconds"].items())
    return f"{name}, µs a step: {each}; the sum {row['of_the_sum']:.1f}; captured or not, {row['distance']:.1e} apart"


def run(options: Options, tell: Channel) -> None:
    if options.rehearse:
        measure([make_case(number, rehearse=True) for number in REHEARSED], "reference", ALONE, tell)
        return
    from deltaprop.ranks.nccl import NcclRanks, import_nccl

    try:
        import_nccl()
    except BackendError as error:
        raise NotHereError(str(error)) from error
    device: Any = dp.get_backend("cupy")
    with NcclRanks(ALONE, device) as ranks:
        measure([make_case(number, rehearse=False) for number in CASES], "cupy", ranks, tell)


def measure(cases: Sequence[Case], backend: str, ranks: Ranks, tell: Channel) -> None:
    """Send a row for each case.

    Raises
    ------
    SystemExit
        If captured steps leave other numbers.
    """
    named = {f"{case.name} b{case.batch}": case for case in cases}
    tell.plan(list(named))
    failed = []
    for name, case in named.items():
        row = look(case, backend, ranks)
        failed += [name] if "failed" in row else []
        tell.row(name, text_of(name, row), **row)
    if failed:
        raise SystemExit(f"captured steps leave other numbers than steps that are not: {', '.join(failed)}")
