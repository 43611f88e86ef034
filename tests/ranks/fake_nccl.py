"""Stands for CuPy's binding of NCCL, ``cupy.cuda.nccl``, where threads are ranks and each has an emulated device.

A sum is a launch: it runs when the emulated device runs it, at once or as part of a graph, and waits for the same sum of
the other ranks. A real device waits by itself, while its host goes on. So a sum is given up here once a rank that has
not launched its part waits for the hosts of the others: then the device would wait for ever, unless it is aborted.
"""

import sys
import threading
import weakref
from collections import defaultdict
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fake_cublaslt import as_array
from host_cuda import HostCudaBackend
from threads import PATIENCE, ThreadRanks

#: Kernels of the emulated device are not made for several threads.
ONE_AT_A_TIME = threading.RLock()


class RankDevice(HostCudaBackend):
    """An emulated device in a process of its own."""

    def __init__(self, bus):
        super().__init__()
        self.cp.cuda.runtime.deviceGetPCIBusId = lambda number: bus

    def run(self, launch):
        super().run(launch if isinstance(launch, Sum) else lambda: self._alone(launch))

    def _alone(self, launch):
        with ONE_AT_A_TIME:
            launch()


class NcclError(RuntimeError):
    """Stands for CuPy's error."""


class Sum:
    """A launched sum of one rank."""

    def __init__(self, communicator, sendbuf, recvbuf, count, dtype, captured):
        self.communicator, self.places, self.what = communicator, (sendbuf, recvbuf), (count, dtype, captured)

    def __call__(self):
        count, dtype, _ = self.what
        sent, received = (as_array(place, dtype, (count,)) for place in self.places)
        total = self.communicator.group.total(self.communicator.rank, self.what, sent.copy())
        if total is not None:
            received[...] = total


class Group:
    """The communicators of one id; they take the same sums in the same order."""

    def __init__(self, world, size):
        self.world, self.size, self.stuck, self.joined = world, size, False, []
        self.launched = [0] * size
        self.sums: dict[int, dict[int, Any]] = defaultdict(dict)

    def join(self, communicator):
        with self.world.changed:
            self.joined.append(communicator)
            self.world.changed.notify_all()
            assert self.world.changed.wait_for(lambda: len(self.joined) == self.size, PATIENCE)

    def total(self, rank, what, sent):
        with self.world.changed:
            number = self.launched[rank]
            self.launched[rank] += 1
            parts = self.sums[number]
            parts[rank] = what, sent
            self.world.changed.notify_all()
            assert self.world.changed.wait_for(lambda: len(parts) == self.size or self._waits(rank, parts), PATIENCE)
            if len(parts) < self.size:
                self.stuck = True
            if self.stuck:
                return None
        assert len({what for what, _ in parts.values()}) == 1, "ranks launch different sums, or not all capture them"
        return sum(parts[other][1] for other in range(self.size))

    def _waits(self, rank, parts):
        """Whether a rank that has no part in a sum waits for this one's host."""
        asked = self.world.asked
        return self.stuck or any(asked[other] > asked[rank] for other in range(self.size) if other not in parts)


class FakeNccl:
    """The module; one object serves all ranks, which are threads.

    Attributes
    ----------
    made : list of Communicator
    asked : list of int
        How often each rank has waited for the hosts of the others.
    refuses : str or None
        What `NcclCommunicator` says, if it fails.
    """

    available, NcclError = True, NcclError
    NCCL_SUM, NCCL_FLOAT32, NCCL_FLOAT64 = 0, 7, 8

    def __init__(self):
        self.changed, self.groups, self.made = threading.Condition(), {}, []
        self.here, self.asked, self.refuses, self.ids = threading.local(), [0] * 16, None, 0
        world = self

        class NcclCommunicator(Communicator):
            """The communicator of this module."""

            def __init__(self, ndev, commId, rank, config=None):
                super().__init__(world, ndev, commId, rank)

        self.NcclCommunicator = NcclCommunicator

    def get_unique_id(self):
        self.ids += 1
        return bytes([self.ids]) * 128


class Communicator:
    def __init__(self, world, size, identity, rank):
        assert isinstance(identity, bytes)
        assert len(identity) == 128
        if world.refuses is not None:
            raise NcclError(world.refuses)
        self.world, self.rank, self.ended, self.captured = world, rank, None, list[Any]()
        #: How many sums were launched, and how many captured.
        self.sums = {False: 0, True: 0}
        with world.changed:
            self.group = world.groups.setdefault(identity, Group(world, size))
        self.group.join(self)
        world.made.append(self)

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        assert all(type(number) is int for number in (sendbuf, recvbuf, count, datatype, op, stream))
        assert op == FakeNccl.NCCL_SUM
        assert self.ended is None
        device = self.world.here.device
        assert stream == device.streams.top().ptr, "not the stream that the step is on"
        captured = device.is_capturing()
        dtype = np.dtype({FakeNccl.NCCL_FLOAT32: np.float32, FakeNccl.NCCL_FLOAT64: np.float64}[datatype])
        launch = Sum(self, sendbuf, recvbuf, count, dtype, captured)
        self.sums[captured] += 1
        if captured:
            self.captured.append(weakref.ref(launch))
        device.run(launch)

    def _end(self, how):
        assert not any(launch() for launch in self.captured), "NCCL would wait for graphs that hold its sums"
        self.ended = self.ended or how

    def destroy(self):
        assert not self.group.stuck, "NCCL would wait for a sum that another rank has not launched"
        self._end("destroyed")

    def abort(self):
        self._end("aborted")


@contextmanager
def in_place_of_nccl(world):
    """Inside, it is CuPy's binding, and it knows when ranks wait for the hosts of the others."""
    gather, abort = ThreadRanks.gather, ThreadRanks.abort

    def asked(ranks, times):
        with world.changed:
            world.asked[ranks.rank] += times
            world.changed.notify_all()

    def gathering(ranks, value):
        asked(ranks, 1)
        return gather(ranks, value)

    def aborting(ranks):
        asked(ranks, 10**9)
        abort(ranks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy.cuda.nccl", world)
        patch.setattr(ThreadRanks, "gather", gathering)
        patch.setattr(ThreadRanks, "abort", aborting)
        yield world
