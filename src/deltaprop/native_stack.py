"""An epoch of every network of a stack in one call of the compiled library, each by one thread at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deltaprop.backends.native_compiler import find_compiler
from deltaprop.backends.native_library import Plan, gemm, library
from deltaprop.backends.numpy import NumpyBackend
from deltaprop.backends.places import LOSSES, activation_place
from deltaprop.members import Numbers, Passes, Stack
from deltaprop.scipy_threads import own_threads, scipy_on_one_thread

#: Floating-point operations after which the library returns, so that an interrupt is heard.
OPERATIONS_A_CALL = 2e9


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
        activations = np.array([activation_place(g) for g in network.activations], np.int64)
        #: One ``struct Plan`` a member, as a table.
        self.plans = plans = np.zeros(len(members), Plan)
        # What the plans point to has to live as long as they do.
        self.held: list[Any] = [sizes, activations]
        numbers = np.arange(len(members))
        plans["layers"], plans["loss"], plans["gemm"] = len(sizes) - 1, LOSSES.index(network.loss), gemm(network.dtype)
        plans["sizes"], plans["activations"] = sizes.ctypes.data, activations.ctypes.data
        for name, array in (("x", X), ("y", Y)):
            plans[name] = array.ctypes.data + numbers * (array.strides[0] if stack.own_samples else 0)
        for name, array in zip(("first", "second"), stack.moments, strict=False):
            plans[name] = array.ctypes.data + numbers * array.strides[0]
        plans["samples"] = [member.samples for member in members]
        plans["batch"] = [member.batch_size for member in members]
        plans["last_batch"] = [member.batches for member in members]
        rules: list[Any] = [member.rule for member in members]
        for name in ("optimizer", "momentum", "beta_1", "beta_2", "epsilon"):
            plans[name] = [getattr(rule, name) for rule in rules]
        plans["weight_decay"] = [getattr(member.optimizer, "weight_decay", 0.0) for member in members]
        self.operations = 6.0 * network.n_weights * plans["samples"]
        self.threads = max(1, min(own_threads(), os.cpu_count() or 1, len(members)))
        plans["threads"] = 1
        widest = self.plans[np.argmax(plans["batch"])].tobytes()
        self.stride = self.library.scratch_entries(Plan.from_buffer_copy(widest))
        scratch = np.empty(self.stride * self.threads, network.dtype)
        self.held.append(scratch)
        plans["scratch"] = scratch.ctypes.data

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
        plans["parameters"] = parameters.ctypes.data + np.arange(len(plans)) * parameters.strides[0]
        plans["epochs"], plans["steps"][which] = count, stack.steps[which]
        plans["order"][which] = _addresses(passes.orders)
        alike = [order is None or len(order) == 1 for order in passes.orders]
        plans["order_stride"][which] = np.where(alike, 0, plans["samples"][which])
        if passes.weights is not None:
            plans["weights"][which] = _addresses(passes.weights)
        places = np.arange(len(which))
        for name, array in (("learning_rates", rates), ("cost", cost), ("decay", decay)):
            plans[name][which] = array.ctypes.data + places * array.strides[0]
        for row, name in enumerate(("scales", "penalties", "decays")):
            plans[name][which] = terms.ctypes.data + places * terms.strides[0] + row * terms.strides[1]
        # The largest first, so that no thread begins one when the others are through.
        largest_first = which[np.argsort(-self.operations[which], kind="stable")]
        calls = np.cumsum(count * self.operations[largest_first]) // OPERATIONS_A_CALL
        with scipy_on_one_thread():
            for call in np.unique(calls):
                part = np.ascontiguousarray(largest_first[calls == call], np.int64)
                self.library.run_members(plans.ctypes.data, part.ctypes.data, part.size, self.threads, self.stride)
        stack.steps[which] += count * plans["last_batch"][which]
        return cost, decay


def _addresses(arrays: Sequence[np.ndarray[Any, Any] | None]) -> list[int]:
    """Where each begins, 0 for None; members may share one, which is then asked once."""
    different = {id(array): array for array in arrays}
    known = {key: 0 if array is None else int(array.ctypes.data) for key, array in different.items()}
    return [known[id(array)] for array in arrays]
