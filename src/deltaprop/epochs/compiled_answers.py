"""Costs and outputs of networks over encoded rows, in few calls of the compiled library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import pointer
from deltaprop.backends.native.scipy_threads import own_threads, scipy_on_one_thread
from deltaprop.derivation.optimizers import SGD
from deltaprop.derivation.state import NetworkState
from deltaprop.epochs.compiled_plan import PlanTable, can_compile
from deltaprop.epochs.members import Numbers
from deltaprop.epochs.task import OPERATIONS_A_CALL
from deltaprop.inputs.encoded_rows import EncodedRows

#: Rows that a thread takes through a network together.
ROWS = 256


class CompiledAnswers:
    """What networks answer for encoded rows, each by one thread at a time; inputs are not formed.

    Parameters
    ----------
    network : NetworkState
        One network, or several with the member axis.
    X : sequence of EncodedRows
        For each, of one encoding.
    Y : sequence of array, (m, s_L), optional
        Their targets; without them there are no costs.
    weights : sequence of (array, (m,), or None), optional
        Their sample weights; by default all rows count 1.

    Raises
    ------
    BackendError
        If the library cannot be compiled or loaded here.
    """

    network: NetworkState
    samples: HostArray

    def __init__(
        self,
        network: NetworkState,
        X: Sequence[EncodedRows],
        Y: Sequence[HostArray] | None = None,
        weights: Sequence[HostArray | None] | None = None,
    ) -> None:
        count, outputs = len(X), network.layer_sizes[-1]
        samples = np.array([len(rows) for rows in X])
        optimizers, batches = [SGD()] * count, np.minimum(samples, ROWS).tolist()
        self.table: PlanTable = PlanTable(network, X[0], None, optimizers, [], samples.tolist(), batches)
        self.network, self.samples, self._held = network, samples, (X, Y, weights)
        self._rows = {"x": self._addresses("x", [rows.stored for rows in X], X[0].encoding.columns)}
        if Y is not None:
            self._rows["y"] = self._addresses("y", Y, outputs)
        if weights is not None and any(own is not None for own in weights):
            self._rows["weights"] = self._weights(weights)
        self._strides = {"x": X[0].encoding.columns, "y": outputs, "outputs": outputs, "weights": 1}
        self.threads: int = max(1, min(own_threads(), count))
        self.stride: int = self.table.share_scratch(1, self.threads)
        operations = 2.0 * self.table.operations_of_a_row / 6.0 * count / self.threads
        self.at_once: int = max(ROWS, int(OPERATIONS_A_CALL / operations) // ROWS * ROWS)

    @classmethod
    def find(
        cls,
        network: NetworkState,
        X: Sequence[EncodedRows],
        Y: Sequence[HostArray] | None = None,
        weights: Sequence[HostArray | None] | None = None,
    ) -> Self | None:
        """Make one, if a library that can be compiled here knows this network, and all rows have one encoding."""
        alike = all(rows.encoding is X[0].encoding for rows in X)
        return cls(network, X, Y, weights) if alike and can_compile(network, X[0]) else None

    def __call__(self, which: Numbers, outputs: Sequence[HostArray] | None = None) -> Floats:
        """Compute Σ cost of the members that `which` names, (k,); it is 0 without targets.

        Where there are `outputs`, (m, s_L), one for each of these members, a^(L) is written into them.
        """
        plans, table = self.table.rows, self.table
        cost = np.zeros(len(which))
        rows = {name: where[which] for name, where in self._rows.items()}
        if outputs is not None:
            rows["outputs"] = self._addresses("outputs", outputs, self.network.layer_sizes[-1], which)
        table.point_to_parameters()
        plans["outputs"], plans["epochs"] = 0, 1
        plans["cost"][which] = table.starts("cost", cost, (len(which),))
        entry = self.network.dtype.itemsize
        with scipy_on_one_thread():
            for first in range(0, int(self.samples[which].max()), self.at_once):
                left = self.samples[which] - first
                for name, where in rows.items():
                    plans[name][which] = where + first * self._strides[name] * entry
                plans["samples"][which] = np.clip(left, 0, self.at_once)
                plans["last_batch"][which] = -(-plans["samples"][which] // ROWS)
                part = np.ascontiguousarray(which[left > 0], np.int64)
                table.library.evaluate_members(
                    address("plans", plans, plans.dtype),
                    address("part", part, np.int64),
                    part.size,
                    self.threads,
                    self.stride,
                )
        return cost

    def _addresses(self, name: str, arrays: Sequence[HostArray], columns: int, which: Numbers | None = None) -> Numbers:
        """Return where the array of each member begins, all or those that `which` names, and check it."""
        samples = self.samples if which is None else self.samples[which]
        pairs = zip(arrays, samples.tolist(), strict=True)
        return np.array([pointer(name, array, self.network.dtype, (m, columns)) for array, m in pairs], np.int64)

    def _weights(self, weights: Sequence[HostArray | None]) -> Numbers:
        """Return where the weights of each member begin; rows of a member without any count 1."""
        dtype, samples = self.network.dtype, self.samples.tolist()
        given = [np.ones(m, dtype) if own is None else own for own, m in zip(weights, samples, strict=True)]
        self._given = given  # the plans point into them
        pairs = zip(given, samples, strict=True)
        return np.array([pointer("weights", own, dtype, (m,)) for own, m in pairs], np.int64)
