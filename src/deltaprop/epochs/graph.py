"""An epoch on the device with no host in it: a step is captured once as a CUDA graph and replayed.

Data, order and the counter of steps live on the device; what differs from step to step stands in a table there. A
step is the one in `deltaprop.derivation.backprop`: its operations are launched once while the stream is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.message import Kind, Message
from deltaprop.backends.cuda.streams import GRAPHS
from deltaprop.backends.cuda.thread_state import Narrowed
from deltaprop.backends.device import Graph, Stream
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.step_marks import ends_of
from deltaprop.epochs.task import Pass, StepTable, Task, Terms, WholeEpoch
from deltaprop.reports.progress import Progress

#: Columns of the table: the factors of δ^(L), of W in ∂J/∂W and of Σ W²; η, with Adam's bias correction; the share of
#: the weights that AdamW takes off, and the share that plain gradient descent keeps.
SCALE, PENALTY, DECAY, RATE, WEIGHT_DECAY, KEEP = range(6)
#: Steps in a graph, if so many follow one another: the device waits between graphs, and hardly between their nodes.
STEPS_A_GRAPH = 16


@dataclass(frozen=True)
class Layout:
    """The minibatches of an epoch: `full` of `batch` samples, and one of `rest` if that is not 0.

    Attributes
    ----------
    own_batch, own_rest : int
        How many rows of them are this process's: all, unless several ranks share them.
    """

    full: int
    batch: int
    rest: int
    own_batch: int
    own_rest: int

    @property
    def batches(self) -> int:
        """How many minibatches there are."""
        return self.full + bool(self.rest)

    @property
    def rows(self) -> int:
        """How many rows of all minibatches are this process's."""
        return self.full * self.own_batch + self.own_rest

    @property
    def own_rows(self) -> dict[int, int]:
        """By the size of a minibatch, how many of its rows are this process's."""
        return ({self.batch: self.own_batch} if self.full else {}) | ({self.rest: self.own_rest} if self.rest else {})


class GraphEpoch(WholeEpoch):
    """Does what `Steps` does, by replaying captured steps: the same numbers.

    With ``precision="bf16"`` samples, every δ, and z and a of hidden layers are kept in 16 bits, as the matrix units
    take them: moving numbers between products costs as much as the products. Weights, sums, the output and its cost
    stay float32; bias gradients are sums of δ as it is kept.

    Under plain gradient descent no gradient is stored: δ carries −η/m, and the matrix product that sums Δ adds it to
    (1 − ηλ/m) W.
    """

    backend: CupyBackend
    task: Task
    network: NetworkState
    room: Room

    label = "captured steps, CUDA graphs"
    #: Whether it takes some rows of each minibatch, which come with an order, and stores their gradient.
    takes_shares: ClassVar[bool] = False

    def __init__(self, backend: CupyBackend, task: Task) -> None:
        self.backend, self.task, self.network = backend, task, task.network
        network, dtype = task.network, task.network.dtype
        self.descends: bool = task.descends and not self.takes_shares
        self.gradient: Parameters = network.own if self.descends else Parameters(backend, network.layer_sizes, dtype)
        self.table: StepTable = StepTable()
        self.current: AnyArray = backend.empty((KEEP + 1,), dtype)
        self.narrowed: Narrowed = Narrowed()
        if not self.takes_shares:
            full, rest = divmod(task.samples, task.batch_size)
            layout = Layout(full, task.batch_size, rest, task.batch_size, rest)
            self.room = Room(backend, task, layout, ordered=task.shuffled)

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """Make one, if the steps can be captured."""
        backend: Any = task.network.backend
        return cls(backend, task) if cls.obstacle(task) is None else None

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell why steps cannot be captured."""
        backend: Any = task.network.backend
        return task.obstacle or (None if backend.products.capturable else "its matrix products cannot be captured")

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Launch graphs of several steps; the host does nothing else."""
        asked, first = self._send(given, terms), 0
        for last in ends_of(given.marks, 0, len(terms)):
            self._replay_some(given, first, last, *asked)
            if given.marks is not None:
                given.marks.reached(last, self.backend, self.task.cost)
            first = last

    def _send(self, given: Pass, terms: Terms) -> tuple[bool, bool, bool, bool]:
        """Send what the steps read to the device; return what they are asked for, see `_step`."""
        room, weights = self.room, given.weights
        order = given.order if room.layout.rows else None
        taken = self.task.state.get("step", 0) - given.first
        table, penalized, decays = self.table(self._make_table, terms, given.learning_rate, taken)
        room.message.send(step=given.first, table=table, order=order)
        if weights is not None:
            room.weights[...] = weights
        return order is not None, weights is not None, penalized, decays

    def _replay_some(self, given: Pass, first: int, last: int, *asked: bool) -> None:
        """Replay steps `first` to `last`; the counter on the device goes on where it stands."""
        layout, stream = self.room.layout, self.backend.stream_for("steps")
        full = max(0, min(last, layout.full) - first)
        with self.backend.on_stream(stream):
            for m, times in ((layout.batch, full), (layout.rest, last - first - full)):
                if times:
                    self._replay(stream, m, *asked)(times, given.progress, m)
        if "step" in self.task.state:
            self.task.state["step"] += last - first

    def _make_table(self, terms: Terms, learning_rate: float, taken: int) -> tuple[Floats, bool, bool]:
        """Make the table of the steps; tell whether one has a penalty, and whether Σ W² is asked for."""
        table = np.ones((len(terms), KEEP + 1))
        table[:, :RATE] = terms
        table[:, RATE:KEEP] = self.task.optimizer.rates(learning_rate, taken, len(terms))
        if self.descends:
            table[:, KEEP] = 1.0 - table[:, RATE] * table[:, PENALTY]
            table[:, SCALE] *= -table[:, RATE]
            table[:, PENALTY] = 0.0  # it is in KEEP
        return table, bool(table[:, PENALTY].any()), bool(table[:, DECAY].any())

    def _replay(self, stream: Stream, m: int, *asked: bool) -> Replay:
        """Return the replay of steps over `m` samples on this thread's stream: no other thread uses its scratch."""
        key, replays = (stream.ptr, m, asked), self.room.replays
        if key not in replays:
            replays[key] = Replay(self.backend, stream, self._step(m, *asked))
        replay: Replay = replays[key]
        return replay

    def _step(self, m: int, shuffled: bool, weighted: bool, penalized: bool, decays: bool) -> Callable[[], None]:
        """Make the function that launches one step over `m` samples: gather, forward, backward, update."""
        differentiate = self._differentiate(m, shuffled, weighted, penalized, decays)
        if self.descends:
            return differentiate
        update = self._update()

        def step() -> None:
            differentiate()
            update()

        return step

    # The functions of a step do not refer to this object, which refers to them: the memory of the device is free once
    # nobody trains.

    def _number(self, column: int) -> AnyArray:
        """Return a number of the table's row for the step, on the device."""
        return self.current[column : column + 1].reshape(())

    def _differentiate(
        self, m: int, shuffled: bool, weighted: bool, penalized: bool, decays: bool
    ) -> Callable[[], None]:
        """Make the function that launches a step but for the update, which it holds under plain descent."""
        room, backend, network, now = self.room, self.backend, self.network, self.current
        buffers, told, batch = room.buffers[m], room.message.device, room.layout.own_batch
        task, gradient = self.task, self.gradient
        table, count = told["table"], told["step"]
        scale, penalty, decay = (self._number(column) for column in (SCALE, PENALTY, DECAY))
        keep, narrowed = self._number(KEEP) if self.descends else None, self.narrowed
        weights = buffers.weights if weighted else None
        source = (task.X, task.Y, room.weights if weighted else None, told["order"] if shuffled else None)
        out = (buffers.X, buffers.Y, weights)
        side = backend.stream_for("weight gradients")

        def differentiate() -> None:
            with (
                backend.narrowed_once(narrowed),
                backend.counting(count),
                backend.small_layers(),
                backend.beside(side),
            ):
                backend.narrow_ahead(network.weights)
                backend.minibatch(*source, table, count, out, now, batch)
                if decays:
                    backend.add_squared_norm(network.flat_weights, decay, task.decay)
                forward(network, buffers.X, buffers.work)
                backward(
                    network,
                    buffers.Y,
                    buffers.work,
                    gradient,
                    task.cost,
                    scale=scale,
                    penalty=penalty if penalized else None,
                    sample_weight=weights,
                    keep=keep,
                )

        return differentiate

    def _update(self) -> Callable[[], None]:
        """Make the function that launches the update by the gradient."""
        task, network, gradient = self.task, self.network, self.gradient
        rate, weight_decay = self._number(RATE), self._number(WEIGHT_DECAY)

        def update() -> None:
            task.optimizer.apply(network, gradient, task.state, rate, weight_decay)

        return update


class Room:
    """Where the steps over the minibatches of an epoch read and write, and the replays of these steps.

    Attributes
    ----------
    message : Message
        The host sends it before each epoch: the counter of steps, their table and, if `ordered`, the order.
    weights : array, (rows,)
    buffers : dict of int to Buffers
        By the size of a minibatch.
    replays : dict
    """

    layout: Layout

    def __init__(self, backend: CupyBackend, task: Task, layout: Layout, *, ordered: bool) -> None:
        self.layout, network, dtype = layout, task.network, task.network.dtype
        told: dict[str, Kind] = {"step": ((), np.int64), "table": ((layout.batches, KEEP + 1), dtype)}
        if ordered and layout.rows:
            told["order"] = (layout.rows,), np.int64
        self.message: Message = Message(backend, **told)
        self.weights: AnyArray = backend.empty((layout.rows,), dtype)
        self.buffers: dict[int, Buffers] = {
            m: Buffers(backend, network, task.X, task.Y, rows) for m, rows in layout.own_rows.items() if rows
        }
        self.replays: dict[Any, Any] = {}

    def drop_graphs(self) -> None:
        """Let go of all graphs."""
        for replay in self.replays.values():
            replay.drop_graphs()


class Buffers:
    """The buffers into which steps over minibatches of one size write."""

    def __init__(self, backend: CupyBackend, network: NetworkState, X: Array, Y: Array, m: int) -> None:
        empty, dtype = backend.empty, network.dtype
        self.X, self.Y = backend.operand((m, X.shape[1]), dtype), empty((m, Y.shape[1]), dtype)
        self.weights: AnyArray = empty((m,), dtype)
        self.work: Workspace = Workspace(network, m, operand=backend.operand)


class Replay:
    """A step that is launched once, which loads kernels and makes scratch, then captured, then replayed.

    If it cannot be captured it is launched again and again.
    """

    backend: CupyBackend
    stream: Stream
    step: Callable[[], None]

    def __init__(self, backend: CupyBackend, stream: Stream, step: Callable[[], None]) -> None:
        self.backend, self.stream, self.step = backend, stream, step
        self.launched: bool = False
        self.graphs: dict[int, Graph] = {}

    def __call__(self, times: int, progress: Progress, m: int) -> None:
        """Take so many steps of `m` samples."""
        if self.begin():
            times -= 1
            progress.samples(m)
        for steps in (STEPS_A_GRAPH, 1):
            while times >= steps and self.backend.captures:
                try:
                    self._graph(steps).launch(self.stream)
                except (*self.backend.device_errors, *self.backend.products.errors) as error:
                    # A graph that is refused has done nothing.
                    self.backend.do_without(GRAPHS, "steps are launched one by one", error)
                    break
                times -= steps
                progress.samples(steps * m)
        for _ in range(times):
            self.step()
            progress.samples(m)

    def begin(self) -> bool:
        """Launch the step if it has not been launched yet; return whether it has been now."""
        if self.launched:
            return False
        self.backend.compile_for(self.step)
        self.step()
        self.launched = True
        return True

    def _graph(self, steps: int) -> Graph:
        if steps not in self.graphs:

            def body() -> None:
                for _ in range(steps):
                    self.step()

            self.graphs[steps] = self.backend.capture(self.stream, body)
        return self.graphs[steps]

    def drop_graphs(self) -> None:
        """Let go of the graphs."""
        for graph in self.graphs.values():
            graph.drop()
        self.graphs.clear()
