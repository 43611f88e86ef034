"""What training asks of the other processes that share its minibatches (`Ranks`), and the one that has no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # the command line starts without it
    from deltaprop.backends.array_types import AnyArray

T = TypeVar("T")


class Ranks(ABC):
    """The processes that train one network together, a minibatch shared out among them; this process is one.

    Every method is called by all of them, in the same order.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        How many there are.
    takes_shards : bool
        Whether data on disk are shared out in shards, see `deltaprop.inputs.shards`: also by a single rank that was
        asked for, since several may go on where it stops.
    """

    rank: int
    size: int
    takes_shards: bool = True

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0, which writes files, draws and calls callbacks."""
        return self.rank == 0

    @abstractmethod
    def sum(self, flat: AnyArray) -> None:
        """Add up an array over all ranks, in place: the same bits on each."""

    @abstractmethod
    def sum_host(self, numbers: Sequence[float]) -> list[float]:
        """Add up some numbers over all ranks, in float64."""

    @abstractmethod
    def from_first(self, value: T) -> T:
        """Return the value that rank 0 passes."""

    @abstractmethod
    def gather(self, value: T) -> list[T]:
        """Return the values that all ranks pass, in their order."""

    def any(self, flag: bool) -> bool:
        """Tell whether some rank passes True."""
        return bool(self.sum_host([float(flag)])[0])

    @abstractmethod
    def abort(self) -> None:
        """End all ranks at once, for they would wait for this one."""

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__}: expected to stay in the process that made it, got pickled")


def bounds_of_rank(m: int, ranks: Ranks) -> tuple[int, int]:
    """Return the first of this rank's rows, and the first of the next one's, where m rows are shared out evenly."""
    return m * ranks.rank // ranks.size, m * (ranks.rank + 1) // ranks.size


class Alone(Ranks):
    """The one process that trains by itself.

    Parameters
    ----------
    takes_shards : bool
        Whether ranks were asked for, and there is one.
    """

    rank: int = 0
    size: int = 1

    def __init__(self, *, takes_shards: bool) -> None:
        self.takes_shards = takes_shards

    def sum(self, flat: AnyArray) -> None:
        """Leave the array as it is."""

    def sum_host(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(numbers)

    def from_first(self, value: T) -> T:
        """Return the value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the only value there is."""
        return [value]

    def abort(self) -> None:
        """Do nothing: nobody waits."""

    def __reduce__(self) -> Any:
        return "ONE_RANK" if self.takes_shards else "ALONE"


#: Where no ranks are asked for.
ALONE = Alone(takes_shards=False)
#: Where ranks are asked for, and there is one.
ONE_RANK = Alone(takes_shards=True)
