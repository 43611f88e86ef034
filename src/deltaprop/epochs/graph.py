"""An epoch on the device with no host in it: a step is captured once as a CUDA graph and replayed.

Data, order and the counter of steps live on the device; what differs from step to step stands in a table there. A
step is the one in `deltaprop.derivation.backprop`: its operations are launched once while the stream is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

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
    batch: int
    full: int
    rest: int

    label = "captured steps, CUDA graphs"

    def __init__(self, backend: CupyBackend, task: Task) -> None:
        self.backend, self.task, self.network, self.batch = backend, task, task.network, task.batch_size
        network, X, Y = task.network, task.X, task.Y
        samples, dtype = X.shape[0], network.dtype
        self.full, self.rest = divmod(samples, self.batch)
        self.descends: bool = task.descends
        self.gradient: Parameters = network.own if self.descends else Parameters(backend, network.layer_sizes, dtype)
        told: dict[str, Kind] = {"step": ((), np.int64), "table": ((task.batches, KEEP + 1), dtype)}
        if task.shuffled:
            told["order"] = (samples,), np.int64
        #: The host sends it before each epoch: the counter of steps, which is 0, their table and the order.
        self.message: Message = Message(backend, **told)
        self.table: StepTable = StepTable()
        self.current: AnyArray = backend.empty((KEEP + 1,), dtype)
        self.weights: AnyArray = backend.empty((samples,), dtype)
        self.buffers: dict[int, Buffers] = {
            m: Buffers(backend, network, X, Y, m) for m in {self.batch if self.full else 0, self.rest} if m
        }
        self.narrowed: Narrowed = Narrowed()
        self.replays: dict[Any, Replay] = {}

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
        order, weights, taken = given.order, given.weights, self.task.state.get("step", 0)
        table, penalized, decays = self.table(self._make_table, terms, given.learning_rate, taken)
        self.message.send(step=0, table=table, order=order)
        if weights is not None:
            self.weights[...] = weights
        asked = (order is not None, weights is not None, penalized, decays)
        first = 0
        for last in ends_of(given.marks, 0, len(terms)):
            self._replay_some(given, first, last, *asked)
            if given.marks is not None:
                given.marks.reached(last, self.backend, self.task.cost)
            first = last

    def _replay_some(self, given: Pass, first: int, last: int, *asked: bool) -> None:
        """Replay steps `first` to `last`; the counter on the device goes on where it stands."""
        full, stream = max(0, min(last, self.full) - first), self.backend.stream_for("steps")
        with self.backend.on_stream(stream):
            for m, times in ((self.batch, full), (self.rest, last - first - full)):
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
        key = (stream.ptr, m, asked)
        if key not in self.replays:
            self.replays[key] = Replay(self.backend, stream, self._step(m, *asked))
        return self.replays[key]

    def _step(self, m: int, shuffled: bool, weighted: bool, penalized: bool, decays: bool) -> Callable[[], None]:
        """Make the function that launches one step over `m` samples: gather, forward, backward, update."""
        # It does not refer to this object, which refers to it: the memory of the device is free once nobody trains.
        backend, network, now, buffers = self.backend, self.network, self.current, self.buffers[m]
        task, told, gradient, batch = self.task, self.message.device, self.gradient, self.batch
        table, count = told["table"], told["step"]
        number = [now[i : i + 1].reshape(()) for i in range(KEEP + 1)]
        keep, narrowed = number[KEEP] if self.descends else None, self.narrowed
        weights = buffers.weights if weighted else None
        source = (task.X, task.Y, self.weights if weighted else None, told["order"] if shuffled else None)
        out = (buffers.X, buffers.Y, weights)
        side = backend.stream_for("weight gradients")

        def step() -> None:
            with (
                backend.narrowed_once(narrowed),
                backend.counting(count),
                backend.small_layers(),
                backend.beside(side),
            ):
                backend.narrow_ahead(network.weights)
                backend.minibatch(*source, table, count, out, now, batch)
                if decays:
                    backend.add_squared_norm(network.flat_weights, number[DECAY], task.decay)
                forward(network, buffers.X, buffers.work)
                backward(
                    network,
                    buffers.Y,
                    buffers.work,
                    gradient,
                    task.cost,
                    scale=number[SCALE],
                    penalty=number[PENALTY] if penalized else None,
                    sample_weight=weights,
                    keep=keep,
                )
            if keep is None:
                task.optimizer.apply(network, gradient, task.state, number[RATE], number[WEIGHT_DECAY])

        return step


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
        if not self.launched:
            self.backend.compile_for(self.step)
            self.step()
            self.launched = True
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

    def _graph(self, steps: int) -> Graph:
        if steps not in self.graphs:

            def body() -> None:
                for _ in range(steps):
                    self.step()

            self.graphs[steps] = self.backend.capture(self.stream, body)
        return self.graphs[steps]
