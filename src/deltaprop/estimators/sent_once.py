"""What all tasks on a Dask cluster need: sent once, to every worker, however many tasks and objects hold it."""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from joblib import parallel_config
from joblib.parallel import get_active_backend

from deltaprop.estimators.file_arrays import FileArray
from deltaprop.estimators.workers import dask_client

#: Smaller arrays go with what holds them.
LEAST_BYTES = 2**12
#: How many seconds workers are waited for after data died with theirs.
PATIENCE = 60


class Held:
    """An object on the workers of a cluster.

    Attributes
    ----------
    content : Future
        The pickled object without its large arrays.
    arrays : list of Future
        These, by number.
    """

    content: Any
    arrays: list[Any]

    def __init__(self, content: Any, arrays: list[Any]) -> None:
        self.content, self.arrays = content, arrays


class DaskStore:
    """Sends objects to all workers of a cluster; an array that several of them hold is sent once.

    A worker that dies takes no only copy with it. The workers let go of an array when nobody here holds it.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        # After a loss, joblib would run everything here if it found but one worker with one core.
        self._least_workers = max(1, min(2, len(client.ncores())))
        self._futures: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def send(self, value: Any, *, by_path: bool = True) -> Held:
        """Send an object.

        Parameters
        ----------
        value : object
        by_path : bool, default True
            Whether arrays in files that every worker sees are mapped there; otherwise their entries are sent.
        """
        packer = _Packer(self._seen_everywhere if by_path else _not_in_a_file)
        content = packer.pack(value)
        new = [array for array in packer.arrays if not self._holds(array)]
        futures = self.client.scatter([content, *map(np.asarray, new)], broadcast=True, hash=False)
        for array, future in zip(new, futures[1:], strict=True):
            self._futures[id(array)] = weakref.ref(array, partial(self._forget, id(array))), future
        return Held(futures[0], [self._futures[id(array)][1] for array in packer.arrays])

    def is_lost(self, held: Held) -> bool:
        """Return whether no worker has some of it; arrays that are lost will be sent again."""
        futures = [held.content, *held.arrays]
        try:
            has = self.client.who_has(futures)
            lost = {future.key for future in futures if not has.get(future.key)}
        except CancelledError:  # the client knows already
            lost = {future.key for future in futures if future.cancelled()}
        self._futures = {key: known for key, known in self._futures.items() if known[1].key not in lost}
        return bool(lost)

    def wait_for_workers(self) -> None:
        """Wait until there are workers again: many clusters start new ones in a moment."""
        with suppress(TimeoutError):
            self.client.wait_for_workers(self._least_workers, timeout=PATIENCE)

    def _holds(self, array: Any) -> bool:
        return id(array) in self._futures

    def _forget(self, key: int, _: Any) -> None:
        self._futures.pop(key, None)

    def _seen_everywhere(self, array: Any) -> FileArray | None:
        """Describe an array in a file that every worker sees; return None for another."""
        found = FileArray.of(array)
        if found is None:
            return None
        answers = self.client.run(found.is_here, on_error="return")
        return found if answers and all(answer is True for answer in answers.values()) else None


class _Packer:
    """Pickles an object; its large arrays are numbered, or described where they are in files."""

    def __init__(self, described: Any) -> None:
        self._described = described
        self._references: dict[int, Any] = {}
        self.arrays: list[Any] = []
        self._kept: list[Any] = []  # an array that is gone would leave its id to another

    def pack(self, value: Any) -> bytes:
        """Pickle an object."""
        from cloudpickle import Pickler  # Dask needs it, too

        reference = self._reference

        class ArrayPickler(Pickler):
            def persistent_id(self, value: Any) -> Any:
                return reference(value)

        file = io.BytesIO()
        ArrayPickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()

    def _reference(self, value: Any) -> Any:
        if type(value) not in (np.ndarray, np.memmap) or value.nbytes < LEAST_BYTES or value.dtype.hasobject:
            return None
        key = id(value)
        if key not in self._references:
            self._kept.append(value)
            described = self._described(value)
            self._references[key] = len(self.arrays) if described is None else described
            if described is None:
                self.arrays.append(value)
        return self._references[key]


def _not_in_a_file(_: Any) -> None:
    return None


def unpacked(content: bytes, arrays: Sequence[Any]) -> Any:
    """Make the object again, on a worker.

    Raises
    ------
    UnseenFileError
        If an array is in a file that this worker does not see.
    """
    return _Unpickler(content, arrays).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, arrays: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._arrays = arrays
        self._mapped: dict[FileArray, Any] = {}

    def persistent_load(self, reference: Any) -> Any:
        if isinstance(reference, FileArray):
            if reference not in self._mapped:
                self._mapped[reference] = reference.load()
            return self._mapped[reference]
        return self._arrays[reference]


@contextmanager
def scattered(*arrays: Any) -> Iterator[None]:
    """Let joblib's Dask backend send these arguments once, to every worker; other backends stay as they are."""
    backend, _ = get_active_backend()
    client = dask_client(backend)
    if client is None or getattr(backend, "data_futures", None):  # whoever gave `scatter=` has said what is sent
        yield
        return
    again = type(backend)(
        client=client,
        scatter=[array for array in arrays if array is not None],
        wait_for_workers_timeout=backend.wait_for_workers_timeout,
        **backend.submit_kwargs,
    )
    with parallel_config(backend=again):
        yield
