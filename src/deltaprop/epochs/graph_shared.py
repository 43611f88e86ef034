"""An epoch whose minibatches several ranks share, each on a device of its own: captured steps with NCCL's sum in them.

While graphs run on the devices, the hosts do nothing but launch them. So every so many steps they tell one another
whether a signal has come, or a rank has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.streams import GRAPHS
from deltaprop.backends.device import Stream
from deltaprop.epochs.graph import DECAY, PENALTY, STEPS_A_GRAPH, GraphEpoch, Layout, Replay, Room
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.shared_steps import SharedSteps
from deltaprop.epochs.shares import Shares
from deltaprop.epochs.step_marks import ends_of
from deltaprop.epochs.task import Pass, Task, Terms
from deltaprop.ranks.failures import failing_together
from deltaprop.ranks.nccl import NcclRanks

#: Steps after which the hosts tell one another what they know: a message takes as long as a short step or two.
STEPS_BETWEEN_NEWS = 4 * STEPS_A_GRAPH
#: For so many kinds of epochs, or of chunks, steps stay captured: whole ones, a shorter one, and some to spare.
MOST_ROOMS = 4


def layout_of(shares: Shares) -> Layout | None:
    """Return how a rank's rows lie in minibatches; None if they differ in more minibatches than the last.

    Minibatches of one size have to have as many rows of a rank, for ranks have to capture the same steps.
    """
    sizes, rows = shares.sizes, np.diff(shares.starts).tolist()
    first, last = (sizes[0], rows[0]), (sizes[-1], rows[-1])
    if any(each != first for each in zip(sizes[:-1], rows[:-1], strict=True)):
        return None
    if last == first:
        return Layout(len(sizes), *(first[0], 0), *(first[1], 0))
    return None if sizes[-1] == sizes[0] else Layout(len(sizes) - 1, *(sizes[0], sizes[-1]), *(rows[0], rows[-1]))


class GraphSharedEpoch(GraphEpoch):
    """Does what `SharedSteps` does, by replaying captured steps.

    The gradient of a rank's rows is stored; after the sum, the penalty is added once, and the update follows. A rank
    that has no row of a minibatch takes part in the sum. Ranks capture the same steps, and launch the same graphs.
    """

    ranks: NcclRanks

    label = "captured steps, CUDA graphs, summed over ranks by NCCL"
    resumes = True
    takes_shares = True

    def __init__(self, backend: CupyBackend, task: Task) -> None:
        ranks: Any = task.ranks
        self.ranks = ranks
        super().__init__(backend, task)
        #: By the sizes of minibatches, which are the same on all ranks.
        self.rooms: dict[tuple[int, ...], Room] = {}
        self._shares: Shares | None = None
        self._is_laid_out = self._is_connected = False
        #: It takes steps over minibatches that cannot be laid out.
        self._one_by_one: SharedSteps | None = None
        self.ranks.held_by(self)

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell why steps cannot be captured."""
        if not isinstance(task.ranks, NcclRanks):
            return "the ranks do not add up arrays of devices"
        return task.obstacle or (None if task.ranks.captures else "the steps of some rank cannot be captured")

    @property
    def details(self) -> str:
        """How many ranks there are."""
        return f"{self.ranks.size} ranks"

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Launch graphs of several steps; between them, all ranks hear of signals and failures.

        Raises
        ------
        Paused
            If `given.pause` of any rank asks to stop.
        """
        assert given.shares is not None
        self._heed(given.shares)
        if not self._is_laid_out:
            self._one_by_one = self._one_by_one or SharedSteps(self.task)
            self._one_by_one(given, terms)
            return
        asked: tuple[bool, ...] = ()
        with failing_together(self.ranks):
            asked = self._send(given, terms)
        if not self._is_connected:
            # The host waits for the others in the first sum, which may not stand behind anything that fails.
            with failing_together(self.ranks):
                self.ranks.sum(self.gradient.flat)
            self._is_connected = True
        first = given.first
        for last in self._ends(given, len(terms)):
            self._replay_some(given, first, last, *asked)
            leaves_off = self.ranks.any(given.pause())
            if given.marks is not None:
                given.marks.reached(last, self.backend, self.task.cost)
            first = last
            if leaves_off and last < len(terms):
                raise Paused(last)

    def _heed(self, shares: Shares) -> None:
        """Find room for minibatches that are shared out so; make it where it is not there on all ranks."""
        if shares is self._shares:
            return
        self._shares, layout, sizes = shares, layout_of(shares), shares.sizes
        room = self.rooms.get(sizes)
        has_none, is_new = self.ranks.sum_host([layout is None, room is None or room.layout != layout])
        self._is_laid_out = not has_none
        if layout is None or has_none:
            return
        if is_new:
            while sizes in self.rooms or len(self.rooms) >= MOST_ROOMS:
                self.rooms.pop(sizes if sizes in self.rooms else next(iter(self.rooms))).drop_graphs()
            with failing_together(self.ranks):
                self.rooms[sizes] = Room(self.backend, self.task, layout, ordered=True)
        self.room = self.rooms[sizes]

    def _ends(self, given: Pass, batches: int) -> list[int]:
        """Return where to stop: where the hosts have something to tell, and where the size of minibatches changes."""
        first, full = given.first, self.room.layout.full
        ends = {*ends_of(given.marks, first, batches), *range(first + STEPS_BETWEEN_NEWS, batches, STEPS_BETWEEN_NEWS)}
        return sorted(ends | ({full} if first < full < batches else set()))

    def _replay_some(self, given: Pass, first: int, last: int, *asked: bool) -> None:
        """Replay steps `first` to `last`, over minibatches of one size."""
        layout, stream = self.room.layout, self.backend.stream_for("steps")
        m = layout.batch if first < layout.full else layout.rest
        with self.backend.on_stream(stream):
            times = last - first - self._prepare(stream, m, last - first, *asked)
            with failing_together(self.ranks):
                self._replay(stream, m, *asked).launch(times)
        given.progress.samples(m * (last - first))
        if "step" in self.task.state:
            self.task.state["step"] += last - first

    def _prepare(self, stream: Stream, m: int, times: int, *asked: bool) -> int:
        """Capture what so many steps need, on all ranks or on none; return how many steps have been taken for that."""
        key, ranks, taken, is_refused = (stream.ptr, m, asked), self.ranks, 0, False
        if key in self.room.replays and self._replay(stream, m, *asked).is_ready(times):
            return 0
        with failing_together(ranks):
            replay = self._replay(stream, m, *asked)
            taken = int(replay.begin())
        if ranks.captures:
            with failing_together(ranks):
                is_refused = not replay.capture(times - taken)
            ranks.captures = not ranks.any(is_refused)
            if not ranks.captures:
                self.drop_graphs()
        return taken

    def _replay(self, stream: Stream, m: int, *asked: bool) -> SharedReplay:
        """Return the replay of steps over `m` samples of all ranks, see `GraphEpoch._replay`."""
        key, replays = (stream.ptr, m, asked), self.room.replays
        if key not in replays:
            replays[key] = SharedReplay(self.backend, stream, self._step(m, *asked), self.ranks)
        replay: SharedReplay = replays[key]
        return replay

    def drop_graphs(self) -> None:
        """Let go of all graphs: NCCL is not through before."""
        for room in self.rooms.values():
            room.drop_graphs()

    def _step(self, m: int, shuffled: bool, weighted: bool, penalized: bool, decays: bool) -> Callable[[], None]:
        """Make the function that launches one step: ∂J/∂θ of this rank's rows, the sum, the penalty, the update."""
        differentiate, update = self._differentiate(m, shuffled, weighted, False, decays), self._update()
        backend, ranks, network, gradient = self.backend, self.ranks, self.network, self.gradient
        penalty = self._number(PENALTY)

        def step() -> None:
            differentiate()
            if not backend.is_noting():
                ranks.sum(gradient.flat)
            if penalized:
                backend.add_l2_gradient(network.flat_weights, penalty, gradient.flat_weights)
            update()

        return step

    def _differentiate(
        self, m: int, shuffled: bool, weighted: bool, penalized: bool, decays: bool
    ) -> Callable[[], None]:
        """Make the function that launches a step before the sum; of no rows ∂J/∂θ is 0."""
        if self.room.layout.own_rows[m]:
            return super()._differentiate(m, shuffled, weighted, penalized, decays)
        backend, network, task, told = self.backend, self.network, self.task, self.room.message.device
        places = (self.gradient.flat, told["table"], told["step"], self.current)
        decay = self._number(DECAY)

        def differentiate() -> None:
            backend.no_rows(*places)
            if decays:
                backend.add_squared_norm(network.flat_weights, decay, task.decay)

        return differentiate


class SharedReplay(Replay):
    """A step that all ranks launch once, capture together, and replay."""

    ranks: NcclRanks

    def __init__(self, backend: CupyBackend, stream: Stream, step: Callable[[], None], ranks: NcclRanks) -> None:
        super().__init__(backend, stream, step)
        self.ranks = ranks

    def is_ready(self, times: int) -> bool:
        """Whether so many steps can be launched without more ado."""
        return self.launched and (not self.ranks.captures or self.graphs.keys() >= set(graphs_for(times)))

    def capture(self, times: int) -> bool:
        """Capture the graphs of so many steps; return whether the device has taken them."""
        try:
            for steps in graphs_for(times):
                self._graph(steps)
        except (*self.backend.device_errors, *self.backend.products.errors, *self.ranks.errors) as error:
            self.backend.do_without(GRAPHS, "steps are launched one by one", error)
            return False
        return True

    def launch(self, times: int) -> None:
        """Take so many steps; what is refused now is refused for good, as other ranks have launched it."""
        for steps in graphs_for(times) if self.ranks.captures else ():
            while times >= steps:
                self.graphs[steps].launch(self.stream)
                times -= steps
        for _ in range(times):
            self.step()


def graphs_for(times: int) -> list[int]:
    """Return how many steps the graphs hold that so many steps take, the longest first."""
    return [steps for steps, needed in ((STEPS_A_GRAPH, times // STEPS_A_GRAPH), (1, times % STEPS_A_GRAPH)) if needed]
