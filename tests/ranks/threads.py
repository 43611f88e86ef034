"""Threads in the place of ranks: what one process does for another is a sum under a barrier."""

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.ranks.base import Ranks

#: Seconds after which a rank that waits has been forgotten; a guard against hangs.
PATIENCE = 60.0


class ThreadRanks(Ranks):
    """One of several threads; those that wait when one calls `abort` get a `BrokenBarrierError`."""

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier):
        self.rank, self.size, self._slots, self._barrier = rank, len(slots), slots, barrier
        self.aborted = False
        #: How many sums of arrays there were, and their lengths.
        self.summed: list[int] = []

    def gather(self, value):
        self._slots[self.rank] = pickle.dumps(value)  # so that ranks share nothing
        self._barrier.wait(PATIENCE)
        values = [pickle.loads(slot) for slot in self._slots]
        self._barrier.wait(PATIENCE)
        return values

    def sum(self, flat):
        self.summed.append(len(flat))
        copies = self.gather(np.array(flat))
        total = copies[0]
        for other in copies[1:]:
            total = total + other
        flat[...] = total

    def sum_host(self, numbers):
        columns = zip(*self.gather([float(number) for number in numbers]), strict=True)
        return [sum(column) for column in columns]

    def from_first(self, value):
        values = self.gather(value if self.is_first else None)
        return value if self.is_first else values[0]

    def abort(self):
        self.aborted = True
        self._barrier.abort()


@dataclass
class Outcome:
    """What a rank returned or raised."""

    value: Any = None
    error: BaseException | None = None
    aborted: bool = False


def outcomes(size: int, work: Callable[[ThreadRanks], Any]) -> list[Outcome]:
    """Call `work` on every rank, in a thread each; return what became of each, in the order of ranks."""
    barrier, slots = threading.Barrier(size), [None] * size
    ranks = [ThreadRanks(rank, slots, barrier) for rank in range(size)]
    found = [Outcome() for _ in range(size)]

    def run(rank: int) -> None:
        try:
            found[rank].value = work(ranks[rank])
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            found[rank].error = error
            barrier.abort() if not isinstance(error, threading.BrokenBarrierError) and _is_alone(error) else None
        found[rank].aborted = ranks[rank].aborted

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE)
        assert not thread.is_alive(), "a rank waits for another"
    return found


def _is_alone(error: BaseException) -> bool:
    """Whether other ranks do not know of it, and would wait."""
    return not getattr(error, "_is_known_to_all_ranks", False)


def run_threads(size: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """Call `work` on every rank, in a thread each; return what each returned. What the first raised, is raised."""
    found = outcomes(size, work)
    for outcome in found:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in found]
