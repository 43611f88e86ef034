"""Run under mpiexec by `benches.ranks`: rank 0 alone and all ranks together take the same steps, in turns.

mpiexec -n R python -m benches.rank_parts.steps --layers 784,512,512,10 --batch 512 --rounds 9 --json FILE
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.derivation.backprop import Objective
from deltaprop.epochs.trainer import Trainer
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.mpi import MpiRanks
from deltaprop.reports.progress import Silent

from ..timing import quartiles

#: Operations that are measured at a time.
OPERATIONS = 2e10


def trainer_of(layers: list[int], batch: int, steps: int, ranks: Ranks) -> Trainer:
    """Return what trains for so many steps an epoch, in float32 by Adam."""
    rng = np.random.default_rng(0)
    m = batch * steps
    X = rng.standard_normal((m, layers[0]), np.float32)
    Y = np.eye(layers[-1], dtype=np.float32)[rng.integers(0, layers[-1], m)]
    options: dict[str, Any] = {"loss": "categorical_cross_entropy", "hidden_activation": "relu", "dtype": "float32"}
    net = dp.Network(layers, backend="numpy", **options)
    return Trainer(net, X, Y, dp.Adam(1e-4), Objective(), batch, shuffled=True, ranks=ranks)


def wait_for_all(communicator: Any) -> None:
    """Wait without taking a core from the others, as MPI's own barrier does."""
    request = communicator.Ibarrier()
    while not request.Test():
        time.sleep(0.5e-3)


def main() -> None:
    from mpi4py import MPI

    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    communicator = MPI.COMM_WORLD
    ranks = MpiRanks(communicator)
    weights = sum(i * o for i, o in zip(given.layers[:-1], given.layers[1:], strict=True))
    steps = max(8, int(OPERATIONS / (6.0 * weights * given.batch)))
    alone = trainer_of(given.layers, given.batch, steps, ALONE) if ranks.is_first else None
    shared = trainer_of(given.layers, given.batch, steps, ranks)
    gradient = np.zeros(shared.network.own.size + 2, np.float32)
    order = np.random.default_rng(1).permutation(given.batch * steps)
    seconds: dict[str, list[float]] = {"one rank": [], "all ranks": [], "sum": []}

    def epoch(trainer: Trainer) -> None:
        trainer.epoch(1e-4, order, Silent())

    def sums() -> None:
        for _ in range(steps):
            ranks.sum(gradient)

    for number in range(given.rounds + 1):
        for name, call in (
            ("one rank", lambda: epoch(alone) if alone else None),
            ("all ranks", lambda: epoch(shared)),
            ("sum", sums),
        ):
            wait_for_all(communicator)
            if name != "one rank":
                communicator.Barrier()
            began = time.perf_counter()
            call()
            if number:  # the first round makes buffers, and is not counted
                seconds[name].append((time.perf_counter() - began) / steps)
    if ranks.is_first:
        way = shared.whole_epoch
        facts = {"layers": given.layers, "batch": given.batch, "ranks": ranks.size, "steps": steps, "weights": weights}
        facts |= {"way": f"{way.label} ({way.details})" if way else "step by step"}
        ratios = [one / of_all for one, of_all in zip(seconds["one rank"], seconds["all ranks"], strict=True)]
        shares = [sum_ / of_all for sum_, of_all in zip(seconds["sum"], seconds["all ranks"], strict=True)]
        results = {name: quartiles(values) for name, values in seconds.items()}
        results |= {"speedup": quartiles(ratios), "share of the sum": quartiles(shares)}
        given.json.write_text(json.dumps(facts | results))


if __name__ == "__main__":
    main()
