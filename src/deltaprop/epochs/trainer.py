"""One epoch of minibatches: gather, forward, backward, update, with every buffer made beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from deltaprop.backends import Array
from deltaprop.derivation.backprop import Objective, Workspace, backward, forward, total_weight
from deltaprop.derivation.optimizers import Optimizer, Remembered
from deltaprop.derivation.parameters import Parameters
from deltaprop.derivation.state import DROPOUT_STREAM, NetworkState
from deltaprop.epochs.interruption import Abandoned, Interruption, Paused
from deltaprop.epochs.task import LONG_STEP, Pass, RefusedError, Task, Terms, WholeEpoch, operations_of
from deltaprop.errors import BackendError
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.sources import CheckedSource, Parts
from deltaprop.reports.progress import Progress

if TYPE_CHECKING:
    from deltaprop.epochs.chunked import ChunkedEpoch
    from deltaprop.epochs.streamed import StreamedEpoch


class Trainer:
    """The buffers of training and one method a piece of it; nothing is allocated in `step`.

    Parameters
    ----------
    network : NetworkState
        Trained in place.
    X, Y, sample_weight : array, (m, s_1), (m, s_L) and (m,)
        Trusted arrays of the network's backend; the first two may be `HostData`, which are uploaded chunk by chunk, or
        a `CheckedSource`, which is read so.
    optimizer : Optimizer
    objective : Objective
    batch_size : int
        Samples a step, at most m; the last minibatch of an epoch may be shorter.
    shuffled : bool
        Whether `epoch` will be handed an order, for which minibatches have to be gathered.
    dropout : sequence of float, one a hidden layer, optional
        With what probability a unit is left out of a step; by default none is.
    state : dict, optional
        Of the optimizer, to go on from; by default that before the first step.
    sums : array, (3,) of float64, optional
        What `cost`, `decay` and `squares` are entries of; by default one of its own.

    Attributes
    ----------
    cost : array, () of float64
        Σ cost(h, y) over the minibatches of the epoch, each at the parameters it was trained from.
    decay : array, () of float64
        What `terms` makes of Σ W² before each step, over the epoch.
    squares : array, () of float64, or None
        Σ W² at the end of the last epoch, where it is known.
    sums : array, (3,) of float64
        The memory of these three.
    last_weights : array, (m,), or None
        How much each sample counted in the last epoch, in its order, on the host.
    whole_epoch : WholeEpoch or None
        What does an epoch in fewer, larger calls than one a step, where the backend has such a thing.
    first : int
        With which minibatch the next epoch goes on; 0 but after a pause.
    pause : Interruption
        Asked between steps, on the host, whether to leave off there.
    """

    def __init__(
        self,
        network: NetworkState,
        X: Array,
        Y: Array,
        optimizer: Optimizer,
        objective: Objective,
        batch_size: int,
        *,
        shuffled: bool,
        sample_weight: Array | None = None,
        dropout: Sequence[float] = (),
        state: dict[str, Any] | None = None,
        sums: Array | None = None,
    ) -> None:
        network.own.require_writeable()
        self.network, self.X, self.Y = network, X, Y
        self.optimizer, self.objective, self.batch_size = optimizer, objective, batch_size
        self.state = optimizer.init(network) if state is None else state
        self.samples = X.shape[0]
        self.sizes = [min(batch_size, self.samples - start) for start in range(0, self.samples, batch_size)]
        self.m = total_weight(X, sample_weight)
        # What the weights of a minibatch sum to has to be known on the host, and without asking the device for it.
        self.host_weight = None if sample_weight is None else network.backend.to_numpy(sample_weight)
        self.last_weights: np.ndarray[Any, Any] | None = None
        self.sums = network.backend.zeros((3,), np.float64) if sums is None else sums
        self.cost, self.decay, self._squares = (self.sums[i : i + 1].reshape(()) for i in range(3))
        self.keep = [1.0 - p for p in dropout]
        self.first = 0
        self.pause = Interruption()
        self.stream: Any = None  # of dropout's random numbers, for one epoch
        self.whole_epoch: WholeEpoch | None = None
        self._same_terms: Terms | None = None
        self.squares: Array | None = None
        self.streamed: ChunkedEpoch | StreamedEpoch | None = None
        if isinstance(X, HostData):
            self.streamed = _streamed(self, dropout)
        elif isinstance(X, CheckedSource):
            self.streamed = _chunked(self, X, dropout, shuffled=shuffled)
        if self.streamed is not None:
            return
        self.dropout, self.shuffled = dropout, shuffled
        self.find_way()
        if self.whole_epoch is None:
            self.make_buffers(shuffled=shuffled)

    def find_way(self) -> None:
        """Have `whole_epoch` be the fastest way of training that the backend has."""
        self.whole_epoch = _whole_epoch(self, self.dropout, shuffled=self.shuffled)

    def make_buffers(self, *, shuffled: bool) -> None:
        """What steps write into. Two sizes at most occur: the full minibatch and the short one that ends an epoch."""
        network, backend = self.network, self.network.backend
        sizes = set(self.sizes)
        self.gradient = Parameters(backend, network.layer_sizes, network.dtype)
        self.work = {size: Workspace(network, size) for size in sizes}
        for size, work in self.work.items():
            for l, keep in enumerate(self.keep):
                if keep < 1.0:
                    work.masks[l] = backend.empty((size, network.layer_sizes[l + 1]), network.dtype)
        self.batches = {
            size: (backend.gather_buffer(self.X, size), backend.gather_buffer(self.Y, size))
            for size in sizes
            if shuffled
        }
        #: What a step that is left in its middle has changed, as it was before; None where steps are short.
        self.before: Remembered | None = None
        if backend.on_host and operations_of(network, self.batch_size) > LONG_STEP:
            sums = {"cost": self.cost, "decay": self.decay}
            self.before = Remembered(self.state, parameters=network.parameters, **sums)

    def need_buffers(self, *, shuffled: bool) -> None:
        """The same, unless they are there: where epochs go another way, steps are taken now and then."""
        if not hasattr(self, "work"):
            self.make_buffers(shuffled=shuffled)

    def begin(self, learning_rate: float, order: np.ndarray[Any, Any] | None, progress: Progress) -> Pass:
        """What an epoch is handed; the random numbers of dropout begin here."""
        host_weights, sums = self.weights_of(order)
        backend, dtype = self.network.backend, self.network.dtype
        weights = None if host_weights is None else backend.asarray(host_weights, dtype)
        if any(keep < 1.0 for keep in self.keep):
            key = (self.network.seed, DROPOUT_STREAM, self.network.epochs_trained)
            self.stream = backend.random_stream(key)
        return Pass(order, weights, sums, learning_rate, progress)

    def epoch(self, learning_rate: float, order: np.ndarray[Any, Any] | None, progress: Progress) -> None:
        """Every sample once, in minibatches: in `order`, (m,) of int64 on the host, or as they stand where None.

        Raises
        ------
        Paused
            If it has been asked to leave off; what the epoch has cost so far is in `cost`. Of data that come in chunks
            the whole epoch is undone.
        """
        if not self.first:
            self.sums.fill(0)
        given = self.begin(learning_rate, order, progress)
        if self.streamed is not None:
            self._chunks_or_undo(given)
        else:
            self.minibatches(given)
        self.first = 0
        self.network.epochs_trained += 1

    def _chunks_or_undo(self, given: Pass) -> None:
        """All minibatches, chunk by chunk; where one is refused, or they are left off, all is as it was before.

        Raises
        ------
        Paused
            If they are: from the first minibatch on, for no chunk of an epoch can be had by itself.
        """
        assert self.streamed is not None
        before = Remembered(self.state, parameters=self.network.parameters)
        try:
            self.streamed(given)
        except Exception as error:
            before.restore()
            if isinstance(error, Paused):
                raise Paused(0) from None
            raise

    def minibatches(self, given: Pass) -> None:
        """All minibatches, in a few calls or step by step."""
        whole = self.whole_epoch
        if whole is None or (self.first and not whole.takes_up):
            self._steps(given)
            self.squares = None
        else:
            whole.first, whole.pause = self.first, self.pause
            try:
                whole(given, self._all_terms(given))
            except RefusedError:
                self.find_way()
                self.minibatches(given)
            else:
                self.squares = whole.squares

    def _all_terms(self, given: Pass) -> Terms:
        """Those of every minibatch; without weights the same object for every epoch."""
        if given.weights is None and self._same_terms is not None:
            return self._same_terms
        terms = self._terms_of(given.sums)
        if given.weights is None:
            self._same_terms = terms
        return terms

    def _terms_of(self, sums: Sequence[float]) -> Terms:
        """`terms` of minibatches whose weights sum to so much."""
        return np.array([self.terms(n, m) for n, m in zip(self.sizes, sums, strict=True)])

    def _steps(self, given: Pass) -> None:
        """The minibatches of an epoch one after the other."""
        self.need_buffers(shuffled=given.order is not None)
        self._skip_masks()
        for batch, (X, Y, m, weights) in enumerate(self.in_turn(given)):
            if batch < self.first:
                continue
            if self.pause() and batch > self.first:
                raise Paused(batch)
            self._minibatch_or_undo(batch, X, Y, m, given.learning_rate, weights)
            given.progress.samples(X.shape[0])

    def _minibatch_or_undo(self, batch: int, *minibatch: Any) -> None:
        """`minibatch`; a long one on the host may be left in its middle, and is undone.

        Raises
        ------
        Paused
            If it was, for a signal that is held back.
        """
        if self.before is None:
            self.minibatch(*minibatch)
            return
        self.before.renew()
        try:
            with self.pause.heard_at_once():
                self.minibatch(*minibatch)
        except (Abandoned, KeyboardInterrupt) as signal:
            self.before.restore()
            if isinstance(signal, Abandoned):
                raise Paused(batch) from None
            raise

    def in_turn(self, given: Pass) -> Iterator[tuple[Array, Array, float, Array | None]]:
        """Minibatch for minibatch X, Y, what its weights sum to, and the weights; gathered into buffers of ours."""
        backend = self.network.backend
        rows = None if given.order is None else backend.asarray(given.order, np.int64)
        for start, m in zip(range(0, self.samples, self.batch_size), given.sums, strict=True):
            stop = min(start + self.batch_size, self.samples)
            own_weights = None if given.weights is None else given.weights[start:stop]
            if rows is None:
                yield self.X[start:stop], self.Y[start:stop], m, own_weights
                continue
            of_X, of_Y = self.batches[stop - start]
            X = backend.gather(self.X, rows[start:stop], out=of_X)
            yield X, backend.gather(self.Y, rows[start:stop], out=of_Y), m, own_weights

    def _skip_masks(self) -> None:
        """Draw the random numbers of the steps before `first`, as far as there have been any."""
        for size in self.sizes[: self.first]:
            self._draw_masks(self.work[size])

    def _draw_masks(self, work: Workspace) -> None:
        """μ of every layer with dropout: the next of the epoch's random numbers."""
        for keep, mask in zip(self.keep, work.masks, strict=False):
            if mask is not None:
                self.network.backend.dropout_mask(self.stream, keep, mask)

    def total(self) -> float:
        """J over the last epoch: the cost of its minibatches, and the penalty of the parameters at its end."""
        if self.squares is not self._squares:
            return self.objective.total(self.network, self.cost, self.m)
        cost, _, squares = self.sums_on_host()
        return self.objective.value(cost, squares, self.m)

    def sums_on_host(self) -> list[float]:
        """`cost`, `decay` and, where it is known, `squares`, by one copy."""
        sums: list[float] = self.network.backend.to_numpy(self.sums).tolist()
        return sums

    @property
    def takes_orders(self) -> bool:
        """Whether `epoch` is to be handed an order; what is read in parts is shuffled as it is read."""
        return not (isinstance(self.X, CheckedSource) and isinstance(self.X.source, Parts))

    @property
    def epochs_at_once(self) -> int:
        """How many epochs one call of `epochs` may hold; 0 where there is no such call."""
        return 0 if self.whole_epoch is None else self.whole_epoch.epochs_at_once

    def epochs(self, learning_rate: float, orders: Sequence[np.ndarray[Any, Any] | None]) -> tuple[list[float], int]:
        """As many epochs as there are orders in one call: J of each, and how many ended with finite numbers.

        Raises
        ------
        RefusedError
            If the device refuses them; `epoch` will go another way.
        """
        drawn = [self.weights_of(order) for order in orders]
        dtype, backend, count = self.network.dtype, self.network.backend, len(orders)
        if self.host_weight is None:
            weights, terms = None, np.tile(self._terms_of(self.sizes), (count, 1))
        else:
            weights = backend.asarray(np.concatenate([w for w, _ in drawn if w is not None]), dtype)
            terms = np.concatenate([self._terms_of(sums) for _, sums in drawn])
        stacked = None if orders[0] is None else np.stack([order for order in orders if order is not None])
        assert self.whole_epoch is not None
        try:
            costs, squares, good = self.whole_epoch.epochs(stacked, weights, terms, learning_rate, count)
        except RefusedError:
            self.find_way()
            raise
        self.network.epochs_trained += good
        return [self.objective.value(float(c), float(s), self.m) for c, s in zip(costs, squares, strict=True)], good

    def terms(self, n: int, m: float) -> tuple[float, float, float]:
        """`Objective.terms` of a minibatch of `n` samples, or weights that sum to `m`."""
        return self.objective.terms(n, m, self.m)

    def minibatch(self, X: Array, Y: Array, m: float, learning_rate: float, sample_weight: Array | None) -> None:
        """A step under `terms` over one minibatch, X : (n, s_1), Y : (n, s_L), sample_weight : (n,)."""
        scale, penalty, decay = self.terms(X.shape[0], m)
        if decay:
            self.network.backend.add_squared_norm(self.network.flat_weights, decay, self.decay)
        self.step(X, Y, scale, penalty, learning_rate, sample_weight)

    def step(
        self, X: Array, Y: Array, scale: float, penalty: float, learning_rate: float, sample_weight: Array | None
    ) -> None:
        """Forward, backward, update: θ := θ − η ∂J/∂θ over one minibatch, X : (n, s_1), Y : (n, s_L)."""
        work = self.work[X.shape[0]]
        self._draw_masks(work)
        forward(self.network, X, work)
        backward(
            self.network,
            Y,
            work,
            self.gradient,
            self.cost,
            scale=scale,
            penalty=penalty or None,
            sample_weight=sample_weight,
        )
        self.optimizer.update(self.network, self.gradient, self.state, learning_rate)

    def weights_of(self, order: np.ndarray[Any, Any] | None) -> tuple[np.ndarray[Any, Any] | None, Sequence[float]]:
        """How much each sample counts, in the order of the epoch, on the host; what each minibatch's weights sum to."""
        if self.host_weight is None:
            return None, self.sizes
        weights = self.host_weight if order is None else self.host_weight[order]
        sums = np.add.reduceat(weights, range(0, self.samples, self.batch_size), dtype=np.float64).tolist()
        self.last_weights = self.objective.weights(weights, self.sizes, sums)
        return self.last_weights, sums


class ChunkTrainer(Trainer):
    """Of the minibatches of a chunk: the whole's terms, random numbers, optimizer state and sums."""

    def __init__(self, whole: Trainer, X: Array, Y: Array, dropout: Sequence[float]) -> None:
        self.whole = whole
        super().__init__(
            whole.network,
            X,
            Y,
            whole.optimizer,
            whole.objective,
            min(whole.batch_size, X.shape[0]),
            shuffled=False,
            dropout=dropout,
            state=whole.state,
            sums=whole.sums,
        )

    def terms(self, n: int, m: float) -> tuple[float, float, float]:
        """Those of the whole."""
        return self.whole.terms(n, m)

    def minibatches(self, given: Pass) -> None:
        """Of this chunk, with the next of the random numbers; a signal that is held back is heard here, too."""
        self.stream, self.pause = self.whole.stream, self.whole.pause
        if self.pause():
            raise Paused(0)
        super().minibatches(given)


def _chunked(trainer: Trainer, X: CheckedSource, dropout: Sequence[float], *, shuffled: bool) -> ChunkedEpoch:
    from deltaprop.epochs.chunked import ChunkedEpoch  # not where data are in memory

    def make(X: Array, Y: Array) -> ChunkTrainer:
        return ChunkTrainer(trainer, X, Y, dropout)

    return ChunkedEpoch(trainer.network, X.source, trainer.batch_size, X.check, make, shuffled=shuffled)


def _streamed(trainer: Trainer, dropout: Sequence[float]) -> StreamedEpoch:
    from deltaprop.epochs.streamed import StreamedEpoch  # not where data are on the device

    backend: Any = trainer.network.backend

    def make(X: Array, Y: Array) -> ChunkTrainer:
        return ChunkTrainer(trainer, X, Y, dropout)

    return StreamedEpoch(backend, trainer.X, trainer.Y, trainer.batch_size, trainer.network.dtype, make)


def _whole_epoch(trainer: Trainer, dropout: Sequence[float], *, shuffled: bool) -> WholeEpoch | None:
    """The fastest way of training there is."""
    task = Task(
        trainer.network,
        trainer.X,
        trainer.Y,
        trainer.optimizer,
        trainer.state,
        trainer.batch_size,
        trainer.cost,
        trainer.decay,
        dropout=dropout,
        shuffled=shuffled,
        weighted=trainer.host_weight is not None,
        penalized=bool(trainer.objective.l2),
        terms={m: trainer.terms(m, m) for m in set(trainer.sizes)},
        squares=trainer._squares,
    )
    if trainer.network.backend.on_host:
        # Each is imported where it is used: not for those who only predict, not where there is no device.
        from deltaprop.epochs.compiled import NativeEpoch
        from deltaprop.epochs.recorded import RecordedEpoch

        try:
            native = NativeEpoch.find(task)
        except BackendError as error:
            warnings.warn(f"{error}; epochs are trained step by step, by NumPy", RuntimeWarning, stacklevel=6)
            native = None
        return native or RecordedEpoch.find(task)
    from deltaprop.epochs.graph import GraphEpoch
    from deltaprop.epochs.resident import ResidentEpoch

    return ResidentEpoch.find(task) or GraphEpoch.find(task)


def check_dropout(dropout: Any, hidden_layers: int) -> tuple[float, ...]:
    """The dropout probability of each hidden layer, from one number for all or one for each.

    Raises
    ------
    ValueError, TypeError
        If one is outside [0, 1), or there are not as many as hidden layers.
    """
    if isinstance(dropout, Real):
        dropout = (dropout,) * hidden_layers
    if not isinstance(dropout, Sequence) or isinstance(dropout, str):
        raise TypeError(f"dropout: expected a number, or one for each hidden layer, got {dropout!r}")
    if len(dropout) != hidden_layers:
        raise ValueError(f"dropout: expected one number, or {hidden_layers}, one a hidden layer, got {list(dropout)}")
    for p in dropout:
        if isinstance(p, bool) or not isinstance(p, Real) or not 0.0 <= float(p) < 1.0:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {p!r}")
    return tuple(float(p) for p in dropout)
