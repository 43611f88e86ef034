"""Tasks of a search in joblib's workers, which are sent what all tasks need once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from deltaprop.estimators.file_arrays import UnseenFileError
from deltaprop.estimators.sent_once import DaskStore, Held, unpacked
from deltaprop.estimators.workers import Workers, dask_client

#: How often data are sent again that died with their workers: tasks that kill every worker shall come to an end.
LOSSES = 3


class Tasks:
    """Calls functions in the workers of joblib's active backend.

    Parameters
    ----------
    n_jobs : int or None
        Processes, as joblib counts them.

    Attributes
    ----------
    workers : Workers
    """

    n_jobs: int | None
    workers: Workers

    def __init__(self, n_jobs: int | None) -> None:
        self.n_jobs, self.workers = n_jobs, Workers.of(n_jobs)
        self._store: DaskStore | None = None

    def run(
        self,
        function: Callable[..., Any],
        common: Any,
        arguments: Sequence[tuple[Any, ...]],
        pre_dispatch: int | str = "2*n_jobs",
    ) -> Iterator[Any]:
        """Call ``function(common, *own)`` for each of `arguments`, and give the results in their order.

        Parameters
        ----------
        function : callable
            Of a module, so that workers can import it.
        common : object
            What all calls need.
        arguments : sequence of tuple
            What each needs besides.
        pre_dispatch : int or str
            How many calls are sent to workers ahead of time, as joblib has it.
        """
        if self.workers.here or not arguments:
            for own in arguments:
                yield function(common, *own)
            return
        backend, _ = get_active_backend()
        client = dask_client(backend)
        parallel = partial(
            Parallel,
            n_jobs=self.n_jobs,
            pre_dispatch=pre_dispatch,
            return_as="generator" if backend.supports_return_generator else "list",
        )
        if client is None:
            sent = Sent(common)
            yield from parallel()(delayed(_call)(function, own, sent) for own in arguments)
            return
        if self._store is None or self._store.client is not client:
            self._store = DaskStore(client)
        yield from _on_dask(parallel, self._store, function, common, arguments)


class Sent:
    """What all tasks need, as one argument of each.

    joblib's processes on this machine share its arrays through files, and Ray's backend, which puts an argument into
    the object store once if it has 100 bytes or more, puts it there.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sys.getsizeof(vars(self))


class Staying:
    """What all tasks need, where it is: with one core left in the cluster, joblib runs tasks in this process."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[Staying], tuple[()]]:
        return Staying, ()


def _on_dask(
    parallel: Callable[[], Any],
    store: DaskStore,
    function: Callable[..., Any],
    common: Any,
    arguments: Sequence[tuple[Any, ...]],
) -> Iterator[Any]:
    """Give the results; data that died with their last worker are sent again, and the rest is done again."""
    done, losses, by_path = 0, 0, True
    staying = Staying(common)
    while done < len(arguments):
        held: Held = store.send(common, by_path=by_path)
        try:
            for result in parallel()(
                delayed(_call_with)(function, own, staying, held.content, held.arrays) for own in arguments[done:]
            ):
                done += 1
                yield result
        except (CancelledError, TypeError):  # joblib before 1.4 takes the first for results
            losses += 1
            if losses > LOSSES or not store.is_lost(held):
                raise
            store.wait_for_workers()
        except UnseenFileError:
            if not by_path:
                raise
            by_path = False


def _call(function: Callable[..., Any], own: tuple[Any, ...], sent: Sent) -> Any:
    return function(sent.value, *own)


def _call_with(
    function: Callable[..., Any], own: tuple[Any, ...], staying: Staying, content: bytes, arrays: Sequence[Any]
) -> Any:
    return function(unpacked(content, arrays) if staying.value is None else staying.value, *own)
