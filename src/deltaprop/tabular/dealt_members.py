"""Members dealt out to ranks: rank r of R trains members r, r + R, r + 2R …, and then every rank has them all.

A step needs no word from the others, so that this goes faster than sharing minibatches, and gives the same bits as one
rank that trains all members.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deltaprop.errors import DivergenceError
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.failures import is_known_to_all, known_to_all, raise_on_all
from deltaprop.reports.history import History
from deltaprop.stack import NetworkStack
from deltaprop.training.callbacks import EpochCallback, EpochEnd, tell
from deltaprop.training.stack_arguments import report

#: Warnings of a stack that number its members, which are some of all.
OF_SOME_MEMBERS = r"members? (\[|\d)"


@dataclass
class DealtMembers:
    """One training of members that several ranks share.

    Parameters
    ----------
    ranks : Ranks
        One rank trains all members, and waits for nobody.
    callbacks : sequence of callable
        They are told of the members of this rank; one that returns True ends the training on all ranks.

    Attributes
    ----------
    ended : bool
        Whether a callback has ended it.
    histories : list of History
        Those of the members of this rank.
    """

    ranks: Ranks
    callbacks: Sequence[EpochCallback]
    ended: bool = False
    histories: list[History] = field(default_factory=list)

    def own(self, members: int) -> list[int]:
        """Return the numbers of the members of this rank, which may have none."""
        return list(range(self.ranks.rank, members, self.ranks.size))

    def epoch(self, event: EpochEnd) -> bool:
        """Tell the callbacks that an epoch has ended, and wait for the other ranks; return whether training ends."""
        asks = tell(self.callbacks, event)
        if self.ranks.size == 1:
            self.ended = asks
            return asks
        histories: Any = event.history
        self.histories = histories
        self._exchange(asks=asks, fails=False, trains=True)
        if self._failed:
            raise_on_all(self.ranks, None)
        return self.ended

    def _exchange(self, *, asks: bool, fails: bool, trains: bool) -> None:
        asked, failed, training = self.ranks.sum_host([asks, fails, trains])
        self.ended, self._failed, self._some_train = self.ended or asked > 0, failed > 0, training > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Train within; at the end, wait until all ranks have. If one fails, all do.

        Raises
        ------
        RankError
            If another rank has failed.
        """
        if self.ranks.size == 1:
            yield
            return
        failure: BaseException | None = None
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", OF_SOME_MEMBERS, RuntimeWarning)
                yield
        except DivergenceError:  # those of other ranks may have fared better
            pass
        except BaseException as error:
            if is_known_to_all(error):
                raise
            failure = error
        self._exchange(asks=False, fails=failure is not None, trains=False)
        while self._some_train and not self._failed:
            self._exchange(asks=False, fails=False, trains=False)
        if self._failed:
            raise_on_all(self.ranks, failure)

    def gathered(self, own: NetworkStack | None, make: Callable[[], NetworkStack]) -> NetworkStack:
        """Return all members, in a stack that `make` makes; `own` are those that this rank has trained, if any.

        Raises
        ------
        DivergenceError
            On all ranks, if all members have diverged.

        Warns
        -----
        RuntimeWarning
            On rank 0, if some have.
        """
        if self.ranks.size == 1:
            assert own is not None
            return own
        trained = [(net.backend.to_numpy(net.parameters), net.epochs_trained) for net in own or ()]
        of_all = self.ranks.gather((trained, self.histories))
        whole = make()
        histories: list[Any] = [None] * len(whole)
        for rank, (networks, own_histories) in enumerate(of_all):
            numbers = range(rank, len(whole), self.ranks.size)
            for k, (flat, epochs), history in zip(numbers, networks, own_histories, strict=True):
                whole[k].parameters, whole[k].epochs_trained, histories[k] = flat, epochs, history
        try:
            report(histories)
        except DivergenceError as error:
            known_to_all(error)
            raise
        return whole
