"""An epoch by NumPy with as little Python as possible: a step is recorded once, and its calls are made again.

The step is the one in `deltaprop.derivation.backprop`, over the buffers of one minibatch size; what differs from step
to step stands in arrays. See `deltaprop.backends.numpy.recording`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, Floats, HostArray
from deltaprop.backends.numpy.recording import NotRecordableError, RecordingBackend, Tape
from deltaprop.derivation.backprop import Workspace, backward, forward
from deltaprop.derivation.optimizers import moments_of
from deltaprop.derivation.parameters import Parameters
from deltaprop.epochs.interruption import Paused
from deltaprop.epochs.step_marks import ends_of
from deltaprop.epochs.task import LONG_STEP, Pass, Task, Terms, WholeEpoch, operations_of
from deltaprop.forks import no_fork

if TYPE_CHECKING:
    from deltaprop.backends.numpy.recording import Calls
    from deltaprop.derivation.remembered import OptimizerState
    from deltaprop.derivation.state import NetworkState

#: At most so many minibatches are gathered at once, and no more than have so many entries, which stay in a second-level
#: cache.
MOST_AT_ONCE, BLOCK_ENTRIES = 32, 65536


class RecordedEpoch(WholeEpoch):
    """Does what `Steps` does, by recorded steps: the same to rounding.

    Under plain gradient descent δ carries η/m, so that the update is one subtraction. Several minibatches are gathered
    at once, and their cost is computed at once, from the z^(L) that each step leaves behind.
    """

    task: Task
    state: OptimizerState
    network: NetworkState
    batch: int
    full: int
    rest: int

    label = "recorded steps of NumPy"
    resumes = True

    def __init__(self, task: Task) -> None:
        self.task, self.state = task, task.state
        self.network, self.batch = task.network, task.batch_size
        self.X: AnyArray = task.X  # arrays of NumPy, as all here
        self.Y: AnyArray = task.Y
        self.full, self.rest = divmod(task.X.shape[0], task.batch_size)
        #: Whether a step takes something off the weights.
        self.decays: bool = bool(task.optimizer.rates(1.0, 0, 1)[0, 1])
        #: How many minibatches are gathered at once, and have their cost computed at once.
        entries = self.batch * (self.X.shape[1] + self.Y.shape[1])
        self.at_once: int = min(self.full, MOST_AT_ONCE, max(1, BLOCK_ENTRIES // entries))
        self.steps: dict[tuple[int, int, bool, float], RecordedSteps] = {}

    @classmethod
    def obstacle(cls, task: Task) -> str | None:
        """Tell why steps are not recorded; whether they can be, only trying tells."""
        if operations_of(task.network, task.batch_size) > LONG_STEP:  # it gains nothing, and has to be abandonable
            return "a step takes too long to be recorded with profit"
        if not task.shuffled:
            return "the order of the samples does not change"
        if task.weighted:
            return "there are sample weights"
        return task.obstacle or (None if isinstance(task.X, np.ndarray) else "the inputs are a sparse matrix")

    @classmethod
    def find(cls, task: Task) -> Self | None:
        """Make one, if the steps can be recorded, which is tried."""
        if cls.obstacle(task) is not None:
            return None
        epoch = cls(task)
        try:
            for m, count in ((epoch.batch, epoch.at_once), (epoch.rest, 1)):
                if m:
                    epoch._steps(m, count, *task.terms[m][1:])
        except NotRecordableError:
            return None
        return epoch

    def __call__(self, given: Pass, terms: Terms) -> None:
        """Train block after block of minibatches; an interrupt is heard between them."""
        rates = self.task.optimizer.rates(given.learning_rate, self.state.get("step", 0) - given.first, len(terms))
        for first in range(given.first, self.full, self.at_once):
            count = min(self.at_once, self.full - first)
            self._run(given, first, count, self.batch, terms[0].tolist(), rates)
        if self.rest:
            self._run(given, self.full, 1, self.rest, terms[-1].tolist(), rates)

    def _run(
        self,
        given: Pass,
        first: int,
        count: int,
        m: int,
        terms: Sequence[float],
        rates: Floats,
    ) -> None:
        """Train on so many minibatches of `m` samples each, from `first` on, and add their cost."""
        if given.pause() and first > given.first:
            raise Paused(first)
        steps = self._steps(m, count, *terms[1:])
        steps.terms = terms[0], terms[1]
        assert given.order is not None
        rows = given.order[first * self.batch : first * self.batch + count * m]
        self.X.take(rows, 0, steps.X, "clip")  # which writes straight into the buffer; indices are in range
        self.Y.take(rows, 0, steps.Y, "clip")
        of_steps, done = rates[first : first + count].tolist(), 0
        for end in ends_of(given.marks, first, first + count):
            now = None
            with no_fork:
                for of_step, calls in zip(of_steps[done : end - first], steps.calls[done : end - first], strict=True):
                    if of_step != now:
                        steps.set_rates(*of_step)
                        now = of_step
                    for function, arguments in calls:
                        function(*arguments)
            if "step" in self.state:
                self.state["step"] += end - first - done
            done = end - first
            if given.marks is not None and done < count:
                so_far = np.zeros(())
                self._add_cost(steps, done * m, so_far)
                given.marks.reached(end, self.network.backend, self.task.cost, so_far)
        self._add_cost(steps, count * m, self.task.cost)
        given.progress.samples(len(rows))
        if given.marks is not None:
            given.marks.reached(first + count, self.network.backend, self.task.cost)

    def _add_cost(self, steps: RecordedSteps, rows: int, cost: Array) -> None:
        """Add the cost of the first so many samples of some steps, from the z^(L) that they left behind."""
        network, g_L = self.network, self.network.output_activation
        Z, A, Y = steps.Z[:rows], steps.A[:rows], steps.Y[:rows]
        network.backend.activation(g_L, Z, A)
        network.backend.add_cost(network.loss, g_L, Z, A, Y, cost)

    def _steps(self, m: int, count: int, penalty: float, decay: float) -> RecordedSteps:
        """Return the steps over so many minibatches; they have a penalty, whose size may change, or have none."""
        key = (m, count, bool(penalty), decay)
        if key not in self.steps:
            touched = [self.network.parameters, *moments_of(self.task.optimizer, self.state), self.task.decay]
            before = [array.copy() for array in touched]
            with np.errstate(all="ignore"):
                self.steps[key] = RecordedSteps(self, m, count, penalized=bool(penalty), decay=decay)
            for array, value in zip(touched, before, strict=True):
                array[...] = value
        return self.steps[key]


class RecordedSteps:
    """Steps over `m` samples each: one is taken, with the parameters as they are and inputs of 0, to record its calls.

    Attributes
    ----------
    calls : list of list
        The calls of each step.
    X, Y : array, (count · m, s_1) and (count · m, s_L)
        The buffers of the minibatches, one after the other.
    terms : (float, float)
        The factors of δ^(L) and of W that `set_rates` takes.
    Z, A : array, (count · m, s_L)
        z^(L) of all of them after the last, and room for a^(L).
    """

    scale: HostArray
    penalty: HostArray
    rate: HostArray

    def __init__(self, epoch: RecordedEpoch, m: int, count: int, *, penalized: bool, decay: float) -> None:
        tape = Tape()
        backend, whole, optimizer = RecordingBackend(tape), epoch.network, epoch.task.optimizer
        network = whole.over(tape.array(backend.to_numpy(whole.parameters)))
        network.backend = backend
        widths, rows = (whole.layer_sizes[0], *[whole.layer_sizes[-1]] * 3), count * m
        self.X, self.Y, self.Z, self.A = (np.zeros((rows, width), whole.dtype) for width in widths)
        self.descends: bool = epoch.task.descends
        self.terms: tuple[float, float] = 1.0, 1.0
        #: Factors of δ^(L) and of W, and the learning rate.
        self.scale, self.penalty, self.rate = (np.ones((), whole.dtype) for _ in range(3))
        #: The share of the weights that weight decay takes off.
        self.weight_decay: Floats = np.zeros((), np.float64)
        gradient = Parameters(backend, whole.layer_sizes, whole.dtype)
        work = Workspace(network, m)
        work.Z[-1] = tape.array(self.Z[:m])
        if decay:
            backend.add_squared_norm(network.flat_weights, decay, tape.array(backend.to_numpy(epoch.task.decay)))
        forward(network, tape.array(self.X[:m]), work)
        backward(
            network,
            tape.array(self.Y[:m]),
            work,
            gradient,
            cast("AnyArray", None),  # the recording backend adds no cost
            scale=tape.array(self.scale),
            penalty=tape.array(self.penalty) if penalized else None,
        )
        if self.descends:
            theta = network.parameters
            theta -= gradient.flat  # which η is in already
        else:
            state = {name: tape.array(x) if isinstance(x, np.ndarray) else x for name, x in epoch.state.items()}
            taken = tape.array(self.weight_decay) if epoch.decays else 0.0
            optimizer.apply(network, gradient, state, tape.array(self.rate), taken)
        self.calls: list[Calls] = tape.along([x.reshape(count, *x[:m].shape) for x in (self.X, self.Y, self.Z)])

    def set_rates(self, rate: float, decay: float) -> None:
        """Set the learning rate and the weight decay of the steps that follow."""
        scale, penalty = self.terms
        factor = rate if self.descends else 1.0  # plain descent has η in δ
        self.scale.fill(factor * scale)
        self.penalty.fill(factor * penalty)
        self.rate.fill(rate)
        self.weight_decay.fill(decay)
