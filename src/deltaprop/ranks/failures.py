"""An exception on one rank becomes an exception on all, so that none waits for another that is gone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

from deltaprop.ranks.base import Ranks

T = TypeVar("T")


class RankError(RuntimeError):
    """Another rank has failed; the message says which, and how."""


def failing_together(ranks: Ranks) -> AbstractContextManager[None]:
    """Return a context that waits at its end for all ranks; if one of them has failed within, all do.

    Within, no rank waits for another.

    Raises
    ------
    RankError
        If another rank has failed and this one has not; see `raise_on_all`.
    """
    return nullcontext() if ranks.size == 1 else _failing_together(ranks)


@contextmanager
def _failing_together(ranks: Ranks) -> Iterator[None]:
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001  (it is raised as soon as the others know)
        failure = error
    if ranks.any(failure is not None):
        raise_on_all(ranks, failure)


def raise_on_all(ranks: Ranks, failure: BaseException | None) -> None:
    """Raise the failure of this rank, or tell of another rank's; all ranks come here.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        If the other rank was asked to end, for all end in the same way then.
    RankError
        If it has failed otherwise.
    """
    told = ranks.gather(None if failure is None else _tell(failure))
    if failure is not None:
        raise known_to_all(failure)
    rank, heard = next((rank, heard) for rank, heard in enumerate(told) if heard is not None)
    raise known_to_all(_elsewhere(rank, heard))


def decided(ranks: Ranks, decide: Callable[[], T]) -> T:
    """Call `decide` on rank 0 alone, and return what it returned, which can be pickled, on every rank.

    Raises
    ------
    RankError
        If it failed there, as `raise_on_all` has it; rank 0 raises its own exception.
    """
    if ranks.size == 1:
        return decide()
    outcome: tuple[T | None, Told | None] = (None, None)
    failure: BaseException | None = None
    if ranks.is_first:
        try:
            outcome = decide(), None
        except BaseException as error:  # noqa: BLE001  (it is raised as soon as the others know)
            failure, outcome = error, (None, _tell(error))
    value, heard = ranks.from_first(outcome)
    if failure is not None:
        raise known_to_all(failure)
    if heard is not None:
        raise known_to_all(_elsewhere(0, heard))
    return value  # type: ignore[return-value]


def known_to_all(error: BaseException) -> BaseException:
    """Mark an exception that every rank raises, or knows of, and return it."""
    error._is_known_to_all_ranks = True  # type: ignore[attr-defined]
    return error


def is_known_to_all(error: BaseException) -> bool:
    """Tell whether every rank raises an exception too, so that nobody waits for this one."""
    return getattr(error, "_is_known_to_all_ranks", False)


def ending_all_on_failure(ranks: Ranks) -> AbstractContextManager[None]:
    """Return a context that ends all ranks if an exception leaves this one within that the others do not know of.

    They would wait for ever.
    """
    return nullcontext() if ranks.size == 1 else _ending_all_on_failure(ranks)


@contextmanager
def _ending_all_on_failure(ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not is_known_to_all(error):
            traceback.print_exception(error)
            ranks.abort()
        raise


class Told(NamedTuple):
    """What other ranks are told of an exception: its name and words, and whether it asks the process to end."""

    words: str
    interrupts: bool
    exits: bool
    code: Any


def _tell(error: BaseException) -> Told:
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    code = error.code if isinstance(error, SystemExit) else None
    whole = code if isinstance(code, int | None) else str(code)
    return Told(words, isinstance(error, KeyboardInterrupt), isinstance(error, SystemExit), whole)


def _elsewhere(rank: int, told: Told) -> BaseException:
    """Return what the other ranks raise."""
    if told.interrupts:
        return KeyboardInterrupt()
    return SystemExit(told.code) if told.exits else RankError(f"rank {rank} failed: {told.words}")
