"""Small networks that stay in the shared memory of a cluster of blocks for whole epochs: ``kernels/resident.cu``.

Here stands what lies where in that memory, whether it fits, and how many blocks share a network.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from deltaprop.backends.base import Array
from deltaprop.backends.cupy import CupyBackend
from deltaprop.backends.places import LOSSES, Rule, activation_place

#: As many as ``struct Plan`` has room for.
MOST_LAYERS = 8
#: Blocks a cluster; more than one needs clusters, which began with sm_90.
CLUSTERS = (1, 2, 4, 8)
#: Multiplications a step of a block below which another doubling of the cluster does not pay: an estimate, from a
#: block's rate and the price of the barriers of a cluster.
WORK_A_BLOCK = 50_000
#: Numbers of a step in the table that the kernel reads, see ``struct Terms``.
TERMS = 5

_I, _D, _P = ctypes.c_longlong, ctypes.c_double, ctypes.c_void_p


class Layer(ctypes.Structure):
    """The twin of ``struct Layer`` in ``kernels/resident.cu``, which says what the fields mean."""

    _fields_ = tuple(
        (name, _I)
        for name in (
            *("s_in", "s_out", "activation", "share", "stride", "W", "b", "A", "Z", "delta", "parts"),
            *("first_weight", "first_bias"),
        )
    )


class Plan(ctypes.Structure):
    """The twin of ``struct Plan`` in ``kernels/resident.cu``, which says what the fields mean."""

    _fields_ = (
        *((name, _I) for name in ("layers", "members", "n")),
        ("layer", Layer * MOST_LAYERS),
        *((name, _I) for name in ("loss", "samples", "batch", "steps", "epochs")),
        *((name, _P) for name in ("parameters", "first", "second", "x", "y", "weights", "order")),
        ("order_stride", _I),
        ("terms", _P),
        *((name, _I) for name in ("terms_stride", "optimizer")),
        *((name, _D) for name in ("momentum", "beta_1", "beta_2", "epsilon")),
        *((name, _P) for name in ("cost", "decay", "squares", "diverged")),
        *((name, _I) for name in ("keep_last_good", "memory", "state", "X", "Y", "rows", "sums", "x_bytes", "y_bytes")),
    )


class Memory:
    """Hands out places in shared memory, in entries of `itemsize` bytes; each begins at a multiple of 16 bytes."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize, self.entries = itemsize, 0

    def take(self, entries: int) -> int:
        """The place of so many entries."""
        place = self.entries
        unit = 16 // self.itemsize
        self.entries += -(-entries // unit) * unit
        return place

    def take_bytes(self, count: int) -> int:
        """The place of so many bytes."""
        return self.take(-(-count // self.itemsize))


@dataclass
class Residence:
    """A plan whose network fits, and how it is to be launched."""

    plan: Plan
    blocks: int
    threads: int
    shared_bytes: int

    @classmethod
    def of(
        cls,
        layer_sizes: Sequence[int],
        activations: Sequence[str],
        loss: str,
        dtype: np.dtype[Any],
        batch: int,
        rule: Rule,
        blocks: int,
    ) -> Self:
        """How a network lies in the shared memory of a cluster of `blocks`, whether it fits or not."""
        memory = Memory(dtype.itemsize)
        plan = Plan(layers=len(activations), loss=LOSSES.index(loss), batch=batch)
        plan.n = sum((s_in + 1) * s_out for s_in, s_out in pairwise(layer_sizes))
        plan.optimizer, plan.momentum = rule.optimizer, rule.momentum
        plan.beta_1, plan.beta_2, plan.epsilon = rule.beta_1, rule.beta_2, rule.epsilon
        layers = plan.layer
        weights, biases = 0, sum(s_in * s_out for s_in, s_out in pairwise(layer_sizes))
        for layer, (s_in, s_out), g in zip(layers, pairwise(layer_sizes), activations, strict=False):
            layer.s_in, layer.s_out, layer.activation = s_in, s_out, activation_place(g)
            layer.share = -(-s_out // blocks)
            layer.stride = s_in | 1  # odd, so that rows begin in different banks
            layer.first_weight, layer.first_bias = weights, biases
            weights, biases = weights + s_in * s_out, biases + s_out
            layer.W, layer.b = memory.take(layer.share * layer.stride), memory.take(layer.share)
        plan.state = memory.entries
        memory.entries *= 1 + rule.moments
        plan.X, plan.Y = memory.take(2 * batch * layer_sizes[0]), memory.take(2 * batch * layer_sizes[-1])
        last = plan.layers - 1
        for l in range(plan.layers):
            layer = layers[l]
            if l > 0:
                layer.A = memory.take(batch * layer.s_in)
            if l < last:
                layer.Z, layer.delta = memory.take(batch * layer.share), memory.take(batch * layer.share)
                layer.parts = memory.take(blocks * batch * layer.share)
        layers[last].Z = memory.take(batch * layers[last].s_out)
        busiest = max(max(batch * layer.share, layer.share * layer.s_in // 4) for layer in layers[: plan.layers])
        threads = 256 if busiest <= 1024 else 512
        plan.rows = memory.take_bytes(2 * batch * 8)
        plan.sums = memory.take_bytes((3 * blocks + threads) * 8)
        plan.memory = -(-ctypes.sizeof(Plan) // 16) * 16
        return cls(plan, blocks, threads, plan.memory + memory.entries * dtype.itemsize)


def find_residence(
    backend: CupyBackend,
    layer_sizes: Sequence[int],
    activations: Sequence[str],
    loss: str,
    dtype: np.dtype[Any],
    batch: int,
    rule: Rule,
    members: int = 1,
) -> Residence | None:
    """How the network lies in shared memory, on as many blocks as pay; None where it does not fit.

    Where there are many members, the blocks of the device are shared out among them.
    """
    if len(activations) > MOST_LAYERS:
        return None
    limit, most_blocks, multiprocessors = backend.shared_memory_limits()
    work = 3 * batch * sum(s_in * s_out for s_in, s_out in pairwise(layer_sizes))
    best = None
    for blocks in CLUSTERS:
        pays = work >= WORK_A_BLOCK * blocks and blocks * members <= multiprocessors
        if blocks > most_blocks or (best is not None and not pays):
            break
        residence = Residence.of(layer_sizes, activations, loss, dtype, batch, rule, blocks)
        if residence.shared_bytes <= limit:
            best = residence
    return best


@dataclass
class Run:
    """Whole epochs of one network, or of several of the same widths, side by side, in one launch.

    Attributes
    ----------
    parameters : array, (K, n) or (n,)
        Flat vectors, changed in place.
    moments : sequence of array
        As many as the rule has, of the shape of `parameters`, changed in place.
    X, Y : array, (m, s_1) and (m, s_L)
        All members see the same samples.
    samples : int, optional
        How many of them an epoch visits, where an order is handed in that does not visit all.
    """

    backend: CupyBackend
    residence: Residence
    parameters: Array
    moments: Sequence[Array]
    X: Array
    Y: Array
    samples: int | None = None

    def __call__(
        self,
        terms: np.ndarray[Any, Any],
        order: np.ndarray[Any, Any] | None,
        weights: Array | None,
        cost: Array,
        decay: Array,
        squares: Array,
        *,
        epochs: int = 1,
        keep_last_good: bool = False,
    ) -> Array:
        """Run so many epochs.

        Parameters
        ----------
        terms : array, (1 or K, epochs · steps, 5)
            On the host, for each step: the scale of δ^(L), the factor of W in ∂J/∂W and that of Σ W², the learning
            rate with Adam's bias correction, and what AdamW takes off the weights.
        order : array, (1 or K, epochs, samples) of int64, or None
            On the host: in which order each epoch visits the samples.
        weights : array, (epochs, m), or None
            Sample weights in that order.
        cost, decay : array, (K, epochs) or () of float64
            The costs of the minibatches, and their penalties, are added to them.
        squares : array, (K, epochs) or () of float64
            Σ W² at the end of each epoch is written there.
        keep_last_good : bool
            Whether a member ends, with the parameters it had before, at an epoch after which one is not finite.

        Returns
        -------
        array, (K,) of int64
            The epoch, from 1, after which a number was not finite; 0 where all went well.
        """
        backend, plan, dtype = self.backend, self.residence.plan, self.parameters.dtype
        members = self.parameters.size // plan.n
        plan.members, plan.samples, plan.epochs = members, self.samples or self.X.shape[0], epochs
        plan.steps = math.ceil(plan.samples / plan.batch)
        diverged = backend.zeros((members,), np.int64)
        table = backend.asarray(terms, dtype)
        rows = None if order is None else backend.asarray(order, np.int64)
        plan.order_stride = plan.samples * epochs if order is not None and order.shape[0] > 1 else 0
        plan.terms_stride = table.size // table.shape[0] if table.shape[0] > 1 else 0
        plan.keep_last_good = keep_last_good
        moments = (*self.moments, None, None)
        arrays = {
            "parameters": self.parameters,
            "first": moments[0],
            "second": moments[1],
            "x": self.X,
            "y": self.Y,
            "weights": weights,
            "order": rows,
            "terms": table,
            "cost": cost,
            "decay": decay,
            "squares": squares,
            "diverged": diverged,
        }
        for name, array in arrays.items():
            setattr(plan, name, None if array is None else backend.address(array))
        plan.x_bytes, plan.y_bytes = backend.bytes_a_copy(self.X), backend.bytes_a_copy(self.Y)
        backend.run_resident(plan, dtype, self.residence, members)
        return diverged
