"""An exception on one rank becomes an exception on all, so that none waits for another that is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from deltaprop.ranks.base import Ranks

T = TypeVar("T")


class RankError(RuntimeError):
    """Another rank has failed; the message says which, and how."""


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Wait at the end for all ranks; if one of them has failed within, all do.

    Within, no rank waits for another.

    Raises
    ------
    RankError
        If another rank has failed and this one has not.
    """
    if ranks.size == 1:
        yield
        return
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001  (it is raised as soon as the others know)
        failure = error
    if ranks.any(failure is not None):
        raise_on_all(ranks, failure)


def raise_on_all(ranks: Ranks, failure: BaseException | None) -> None:
    """Raise the failure of this rank, or tell of another rank's; all ranks come here."""
    told = ranks.gather(None if failure is None else _in_words(failure))
    if failure is not None:
        raise known_to_all(failure)
    rank, words = next((rank, words) for rank, words in enumerate(told) if words is not None)
    raise known_to_all(RankError(f"rank {rank} failed: {words}"))


def decided(ranks: Ranks, decide: Callable[[], T]) -> T:
    """Call `decide` on rank 0 alone, and return what it returned on every rank.

    Raises
    ------
    RankError
        If it failed there; rank 0 raises its own exception.
    """
    if ranks.size == 1:
        return decide()
    outcome: tuple[T | None, str | None] = (None, None)
    failure: BaseException | None = None
    if ranks.is_first:
        try:
            outcome = decide(), None
        except BaseException as error:  # noqa: BLE001  (it is raised as soon as the others know)
            failure, outcome = error, (None, _in_words(error))
    value, words = ranks.from_first(outcome)
    if failure is not None:
        raise known_to_all(failure)
    if words is not None:
        raise known_to_all(RankError(f"rank 0 failed: {words}"))
    return value  # type: ignore[return-value]


def known_to_all(error: BaseException) -> BaseException:
    """Mark an exception that every rank raises, or knows of, and return it."""
    error._is_known_to_all_ranks = True  # type: ignore[attr-defined]
    return error


def is_known_to_all(error: BaseException) -> bool:
    """Tell whether every rank raises an exception too, so that nobody waits for this one."""
    return getattr(error, "_is_known_to_all_ranks", False)


@contextmanager
def waiting_for_none(ranks: Ranks) -> Iterator[None]:
    """End all ranks if an exception leaves this one within that the others do not know of: they would wait for ever."""
    try:
        yield
    except BaseException as error:
        if ranks.size > 1 and not is_known_to_all(error):
            _print(error)
            ranks.abort()
        raise


def _print(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
