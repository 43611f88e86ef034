"""The workers that joblib runs tasks on: how many there are, and how many of them share a memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend

#: joblib's backends whose workers are threads and processes of this machine; those of every other are elsewhere.
LOCAL_BACKENDS = ("SequentialBackend", "LokyBackend", "ThreadingBackend", "MultiprocessingBackend")


@dataclass(frozen=True)
class Workers:
    """Where the tasks of a search run.

    Attributes
    ----------
    count : int
        How many tasks run at a time.
    sharing : int
        How many of them share the memory of one machine, or of one process of a cluster.
    here : bool
        Whether all run in this process, one after another.
    elsewhere : bool
        Whether they may run on other machines.
    """

    count: int = 1
    sharing: int = 1
    here: bool = True
    elsewhere: bool = False

    @classmethod
    def of(cls, n_jobs: int | None) -> Workers:
        """Return the workers of joblib's active backend for this `n_jobs`."""
        count = effective_n_jobs(n_jobs)
        backend, _ = get_active_backend()
        if type(backend).__name__ in LOCAL_BACKENDS:
            return cls(count, count, here=count == 1)
        if count == 1:  # joblib runs tasks here then, whatever the backend
            return cls()
        client = dask_client(backend)
        sharing = 1 if client is None else max(client.ncores().values(), default=1)
        return cls(count, sharing, here=False, elsewhere=True)

    def memory(self, limit: int) -> int:
        """Return the bytes that one task may take where all tasks that share a memory may take `limit`."""
        return limit // self.sharing


def dask_client(backend: Any) -> Any:
    """Return the client of joblib's Dask backend; None for another backend."""
    distributed, client = sys.modules.get("distributed"), getattr(backend, "client", None)
    return client if distributed is not None and isinstance(client, distributed.Client) else None
