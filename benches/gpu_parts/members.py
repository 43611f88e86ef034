"""Compares 128 networks of 64-32-10 at once with one of them, on equally many blocks each."""

import statistics
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

import deltaprop as dp
from deltaprop.backends.cuda import shared_memory
from deltaprop.backends.cuda.shared_memory import ResidentRun, find_residence

from ..contestants import LEARNING_RATE, Case
from .ceilings import host_seconds
from .channel import Channel
from .events import device_seconds, facts
from .part import Options

SIZES, BATCH, STEPS, MEMBERS = (64, 32, 10), 32, 1000, 128
#: The goal: the time of many networks over the time of one, on equally many blocks each.
TO_REACH = 1.5
REPEATS = 7


def name_of(members: int, blocks: int) -> str:
    networks = "1 network" if members == 1 else f"{members} networks"
    return f"{networks}, {blocks} {'block' if blocks == 1 else 'blocks'} each"


def epoch_of(backend: Any, case: Case, members: int, blocks: int) -> tuple[Callable[[], Any], Any]:
    """Return a call that trains so many networks for an epoch on clusters of so many blocks, and their parameters.

    Raises
    ------
    RuntimeError
        If they do not fit the shared memory of so many blocks.
    """
    rule: Any = dp.SGD(LEARNING_RATE).rule()
    with patch.object(shared_memory, "CLUSTERS", (blocks,)):
        what = (("sigmoid", "softmax"), "categorical_cross_entropy", np.dtype("float32"))
        residence = find_residence(backend, case.sizes, *what, case.batch, rule, members)
    if residence is None or residence.blocks != blocks:
        raise RuntimeError(f"expected a plan for {blocks} blocks, got {residence and residence.blocks}")
    flat = np.concatenate([x.ravel() for x in (*case.W, *case.b)])
    parameters, X, Y = (backend.asarray(x, np.float32) for x in (np.repeat(flat[None], members, 0), case.X, case.Y))
    run = ResidentRun(backend, residence, parameters, (), X, Y)
    terms = np.zeros((1, case.steps, 5))
    terms[..., 0], terms[..., 3] = 1 / case.batch, LEARNING_RATE
    sums = [backend.zeros((members, 1), np.float64) for _ in range(3)]
    return lambda: run(terms, case.order[None, None], None, *sums), parameters


def measure(backend: Any, case: Case, members: int, blocks: int) -> list[float]:
    """Time an epoch of so many networks on clusters of so many blocks."""
    call, _ = epoch_of(backend, case, members, blocks)
    return device_seconds(call, REPEATS)


def run(options: Options, tell: Channel) -> None:
    if options.rehearse:
        _rehearse(tell)
        return
    backend: Any = dp.get_backend("cupy")
    _, most, multiprocessors = backend.shared_memory_limits()
    clusters = [blocks for blocks in shared_memory.CLUSTERS if blocks <= most]
    case = Case(SIZES, BATCH, STEPS)
    many = name_of(MEMBERS, 1)
    tell.plan([many, *(name_of(1, blocks) for blocks in clusters), "1 network on its best cluster"])
    one = {blocks: measure(backend, case, 1, blocks) for blocks in clusters}
    for blocks, seconds in one.items():
        tell.row(name_of(1, blocks), **_facts(seconds, 1, blocks))
    seconds = measure(backend, case, MEMBERS, 1)
    ratio = statistics.median(seconds) / statistics.median(one[1])
    tell.row(many, **_facts(seconds, MEMBERS, 1), ratio=ratio, to_reach=TO_REACH, multiprocessors=multiprocessors)
    best = min(one, key=lambda blocks: statistics.median(one[blocks]))
    ratio = statistics.median(seconds) / statistics.median(one[best])
    tell.row("1 network on its best cluster", **_facts(one[best], 1, best), ratio_of_many=ratio)


def _facts(seconds: list[float], members: int, blocks: int | None) -> dict[str, Any]:
    """Return the facts about a step, in microseconds."""
    return facts(seconds, 1e-6 * STEPS) | {"members": members, "blocks": blocks}


def _rehearse(tell: Channel) -> None:
    """Make the same comparison with stacks on the CPU."""
    case = Case(SIZES, BATCH, STEPS)
    names = {members: f"{members} by NumPy" for members in (1, 8)}
    tell.plan(list(names.values()))
    medians = {}
    for members, name in names.items():
        stack = dp.NetworkStack(members, SIZES, loss="categorical_cross_entropy", dtype="float32", backend="reference")

        def epoch(stack: Any = stack) -> None:
            stack.fit(case.X[:320], case.Y[:320], optimizer=dp.SGD(LEARNING_RATE), batch_size=BATCH, epochs=1)

        seconds = host_seconds(epoch, 3)
        medians[members] = statistics.median(seconds)
        tell.row(name, **facts(seconds, 1e-5), members=members, blocks=None, ratio=medians[members] / medians[1])
