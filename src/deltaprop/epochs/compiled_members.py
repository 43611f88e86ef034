"""An epoch of every network of a stack in one call of the compiled library, each by one thread at a time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.kernel_names import activation_number, loss_number
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.compiler import find_compiler
from deltaprop.backends.native.library import Plan, gemm, library, pointer
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.backends.numpy.backend import NumpyBackend
from deltaprop.derivation.optimizers import Remembered
from deltaprop.epochs.interruption import run_abandonable
from deltaprop.epochs.members import Numbers, Passes, Stack
from deltaprop.epochs.task import LONG_STEP, OPERATIONS_A_CALL, operations_of


class NativeStack:
    """What `StackTrainer.epochs` does, by the compiled library: no member waits for another.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    def __init__(self, stack: Stack) -> None:
        network, members, X, Y = stack.network, stack.members, stack.X, stack.Y
        self.stack, self.library = stack, library(network.dtype)
        sizes = np.array(network.layer_sizes, np.int64)
        activations = np.array([activation_number(g) for g in network.activations], np.int64)
        #: One ``struct Plan`` a member, as a table.
        self.plans = plans = np.zeros(len(members), Plan)
        # What the plans point to has to live as long as they do.
        self.held: dict[str, Any] = {}
        numbers = np.arange(len(members))
        plans["layers"], plans["loss"], plans["gemm"] = len(sizes) - 1, loss_number(network.loss), gemm(network.dtype)
        self._point("sizes", sizes, sizes.shape)
        self._point("activations", activations, (len(sizes) - 1,))
        rows = X.shape[:-1]
        self._point("x", X, (*rows, network.layer_sizes[0]), numbers if stack.own_samples else 0)
        self._point("y", Y, (*rows, network.layer_sizes[-1]), numbers if stack.own_samples else 0)
        for name, array in zip(("first", "second"), stack.moments, strict=False):
            self._point(name, array, (len(members), network.own.size), numbers)
        plans["samples"] = [member.samples for member in members]
        plans["batch"] = [member.batch_size for member in members]
        plans["last_batch"] = [member.batches for member in members]
        rules: list[Any] = [member.rule for member in members]
        plans["optimizer"] = [rule.number for rule in rules]
        for name in ("momentum", "beta_1", "beta_2", "epsilon"):
            plans[name] = [getattr(rule, name) for rule in rules]
        plans["weight_decay"] = [getattr(member.optimizer, "weight_decay", 0.0) for member in members]
        self.operations = np.array([operations_of(network, member.samples) for member in members])
        self.threads = max(1, min(own_threads(), os.cpu_count() or 1, len(members)))
        plans["threads"] = 1
        widest = self.plans[np.argmax(plans["batch"])].tobytes()
        self.stride = self.library.scratch_entries(Plan.from_buffer_copy(widest))
        scratch = np.empty(self.stride * self.threads, network.dtype)
        self._point("scratch", scratch, scratch.shape)
        #: Set while the library runs, it makes it leave off in the middle of a step.
        self.stop = ctypes.c_int32(0)
        plans["stop"] = ctypes.addressof(self.stop)

    @staticmethod
    def can(stack: Stack) -> bool:
        """Whether a library that can be compiled here can train these networks on these inputs in these ways."""
        network = stack.network
        return (
            isinstance(network.backend, NumpyBackend)
            and network.backend.compiles
            and find_compiler() is not None
            and isinstance(stack.X, np.ndarray)
            and isinstance(network.loss, str)
            and network.output_error == "exact"
            and not any(any(member.dropout) for member in stack.members)
        )

    def epochs(self, which: Numbers, passes: Passes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Of the members that `which` names, every sample once an epoch, as `passes` says.

        Returns
        -------
        cost, decay : array of float64, (k, epochs)
            What the minibatches cost, and what `Passes.terms` makes of their Σ W².
        """
        plans, stack, count = self.plans, self.stack, passes.epochs
        parameters, terms = stack.network.parameters, np.ascontiguousarray(passes.terms)
        rates = np.ascontiguousarray(passes.learning_rates)
        cost, decay = np.zeros(rates.shape), np.zeros(rates.shape)
        self._point("parameters", parameters, (len(plans), stack.network.own.size), np.arange(len(plans)))
        plans["epochs"], plans["steps"][which] = count, stack.steps[which]
        plans["order"][which] = self._addresses("order", passes.orders, which, count)
        alike = [order is None or len(order) == 1 for order in passes.orders]
        plans["order_stride"][which] = np.where(alike, 0, plans["samples"][which])
        if passes.weights is not None:
            plans["weights"][which] = self._addresses("weights", passes.weights, which, 1)
        places = np.arange(len(which))
        for name, array in (("learning_rates", rates), ("cost", cost), ("decay", decay)):
            start = pointer(name, array, stack.network.dtype, (len(which), count))
            plans[name][which] = start + places * array.strides[0]
        for row, name in enumerate(("scales", "penalties", "decays")):
            start = pointer(name, terms, stack.network.dtype, (len(which), 3, terms.shape[2]))
            plans[name][which] = start + places * terms.strides[0] + row * terms.strides[1]
        # The largest first, so that no thread begins one when the others are through.
        largest_first = which[np.argsort(-self.operations[which], kind="stable")]
        done = np.cumsum(count * self.operations[largest_first])
        with scipy_on_one_thread():
            for call in np.unique(done // OPERATIONS_A_CALL):
                part = np.ascontiguousarray(largest_first[done // OPERATIONS_A_CALL == call], np.int64)
                if count * self.operations[part].sum() > LONG_STEP:
                    moments = {f"moment {i}": moment for i, moment in enumerate(stack.moments)}
                    self._run(part, Remembered(moments, parameters=parameters, cost=cost, decay=decay))
                else:
                    self._run(part)
        stack.steps[which] += count * plans["last_batch"][which]
        return cost, decay

    def _run(self, part: np.ndarray[Any, Any], before: Remembered | None = None) -> None:
        """The epochs of some members; with what was `before` they may be left in their middle, and are undone."""
        arguments = (
            address("plans", self.plans, self.plans.dtype),
            address("part", part, np.int64),
            part.size,
            self.threads,
            self.stride,
        )
        if before is None:
            self.library.run_members(*arguments)
        else:
            run_abandonable(lambda: self.library.run_members(*arguments), before.restore, self.stop)

    def _point(self, name: str, array: Any, shape: tuple[int, ...], members: Any = 0) -> None:
        """Let a field of all plans point to an array of that shape, or each to the part of it that is its member's."""
        self.held[name] = array
        self.plans[name] = pointer(name, array, self.stack.network.dtype, shape) + members * array.strides[0]

    def _addresses(
        self, name: str, arrays: Sequence[np.ndarray[Any, Any] | None], which: Numbers, epochs: int
    ) -> list[int]:
        """Where each begins, 0 for None; members may share one, which is then asked once.

        An order, (epochs, samples) or (1, samples), or weights, (samples,), of the members that `which` names.
        """
        known: dict[tuple[int, int], int] = {}
        addresses = []
        for array, samples in zip(arrays, self.plans["samples"][which].tolist(), strict=True):
            key = id(array), samples
            if key not in known:
                known[key] = 0
                if array is not None:
                    shape = (samples,) if name == "weights" else (1 if len(array) == 1 else epochs, samples)
                    known[key] = pointer(name, array, self.stack.network.dtype, shape)
            addresses.append(known[key])
        return addresses
