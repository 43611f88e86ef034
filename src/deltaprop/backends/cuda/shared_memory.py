"""Small networks that stay in the shared memory of a cluster of blocks for whole epochs: ``kernels/cuda/resident.cu``.

Here stands what lies where in that memory, whether it fits, and how many blocks share a network.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import DType, Floats, Indices
from deltaprop.backends.cuda.backend import CupyBackend
from deltaprop.backends.cuda.message import Message
from deltaprop.backends.cuda.shared_memory_plan import MOST_LAYERS, Layer, ResidentPlan, Shape
from deltaprop.backends.cuda.shared_memory_tiles import (
    BIAS_LANES,
    BLOCK_BARRIER,
    CLUSTER_BARRIER,
    OVERHEAD,
    THREADS_A_WARP,
    Work,
    divisible,
    forward_tiles,
    lanes_for,
    rounded_up,
    rows_back,
    tile_updated,
)
from deltaprop.backends.kernel_names import Rule, activation_number, loss_number
from deltaprop.backends.kernel_structures import Constants

#: Blocks a cluster; more than one needs clusters, which began with sm_90.
CLUSTERS = (1, 2, 4, 8)
#: Threads a block: powers of two. On an H200 clusters of 4 and 8 blocks were faster with 256. On fewer blocks a thread
#: has more to do, and 512 were faster or at most 7 % slower; but of 256 several blocks fit a multiprocessor, where
#: there are more members than multiprocessors.
THREADS, THREADS_OF_FEW_BLOCKS = (256, 512), (512,)
#: Numbers of a step in the table that the kernel reads, see ``struct Terms``.
TERMS = 5


class Memory:
    """Hands out places in shared memory, in entries of `itemsize` bytes; each begins at a multiple of 16 bytes."""

    itemsize: int

    entries: int

    def __init__(self, itemsize: int) -> None:
        self.itemsize, self.entries = itemsize, 0

    def take(self, entries: int) -> int:
        """The place of so many entries."""
        place = self.entries
        self.entries += rounded_up(entries, 16 // self.itemsize)
        return place

    def take_bytes(self, count: int) -> int:
        """The place of so many bytes."""
        return self.take(-(-count // self.itemsize))


@dataclass
class Residence:
    """A shape of a network, how it is to be launched, and what a step takes.

    Attributes
    ----------
    shape : Shape
    rule : Rule
        Its constants are no part of the shape.
    blocks, shared_bytes : int
    cycles : float
        An estimate.
    """

    shape: Shape
    rule: Rule
    blocks: int
    shared_bytes: int
    cycles: float

    @classmethod
    def of(
        cls,
        layer_sizes: Sequence[int],
        activations: Sequence[str],
        loss: str,
        dtype: DType,
        batch: int,
        rule: Rule,
        blocks: int,
        split: int,
        threads: int,
    ) -> Self:
        """How a network lies in the shared memory of a cluster of `blocks`, which share out the first `split` layers.

        Whether it fits or not.
        """
        memory, pack = Memory(dtype.itemsize), 16 // dtype.itemsize
        shape = Shape(layers=len(activations), loss=loss_number(loss), batch=batch, threads=threads)
        shape.height, shape.optimizer = divisible(batch), rule.number
        shape.n = sum((s_in + 1) * s_out for s_in, s_out in pairwise(layer_sizes))
        layers = shape.layer[: shape.layers]
        for l, layer in enumerate(layers):
            layer.s_in, layer.s_out, layer.activation = *layer_sizes[l : l + 2], activation_number(activations[l])
            layer.split = l < split
        cycles, partial = _place_parameters(shape, memory, rule.moments, blocks, pack)
        _take_turns(layers, threads, pack)
        shape.state = memory.entries
        memory.entries *= 1 + rule.moments
        _place_minibatch(shape, memory, blocks)
        shape.partial, shape.sums = memory.take(partial), memory.take_bytes((3 * blocks + threads) * 8)
        shape.entries = memory.entries
        shape.x_lanes, shape.y_lanes = (lanes_for(-(-size // pack)) for size in (layer_sizes[0], layer_sizes[-1]))
        shape.output_lanes = lanes_for(layer_sizes[-1])
        while shape.output_lanes > 1 and shape.output_lanes * shape.height > threads:
            shape.output_lanes //= 2
        # Of the cluster: each split layer's output, and W^T δ of every split layer but the first.
        barriers = max(0, 2 * split - 1)
        cycles += CLUSTER_BARRIER * barriers + BLOCK_BARRIER * (3 * shape.layers + 1)
        cycles += OVERHEAD * (1 + shape.layers) * threads / 128
        shared_bytes = rounded_up(ctypes.sizeof(ResidentPlan), 16) + memory.entries * dtype.itemsize
        return cls(shape, rule, blocks, shared_bytes, cycles)

    @cached_property
    def definitions(self) -> tuple[str, ...]:
        """With which the kernel is compiled for this shape."""
        return (f"-DDELTAPROP_RESIDENT_SHAPE={_written(self.shape)}", f"-DDELTAPROP_RESIDENT_BLOCKS={self.blocks}")


def _place_parameters(shape: Shape, memory: Memory, moments: int, blocks: int, pack: int) -> tuple[float, int]:
    """Give each layer its share of units and a place for their weights and biases.

    Returns
    -------
    cycles : float
        What the products of a step take.
    partial : int
        Entries that the largest partial sums of a layer take.
    """
    layers = shape.layer[: shape.layers]
    place_of_weights, place_of_biases = 0, sum(layer.s_in * layer.s_out for layer in layers)
    cycles, partial, columns = 0.0, 0, 0
    for l, layer in enumerate(layers):
        s_in, s_out = layer.s_in, layer.s_out
        layer.share = rounded_up(-(-s_out // blocks), pack) if layer.split else divisible(s_out)
        inputs = s_in if layer.split else columns
        work = Work(layer.share, s_in, inputs, shape.height, pack, moments, shape.threads)
        cycles += _share_out(layer, work, behind=l > 0)
        layer.a_stride = layer.w_stride = _stride(s_in, pack, layer.lanes)
        layer.z_stride = rounded_up(layer.share, pack)
        layer.first_weight, layer.first_bias = place_of_weights, place_of_biases
        place_of_weights, place_of_biases = place_of_weights + s_in * s_out, place_of_biases + s_out
        rows = layer.z_stride if l > 0 else layer.share  # W^T δ is made of 16 bytes of δ at a time
        layer.W, layer.b = memory.take(rows * layer.w_stride), memory.take(layer.share)
        partial = max(partial, layer.slices * shape.height * layer.share)
        columns = layer.share
    return cycles, partial


def _take_turns(layers: Sequence[Layer], threads: int, pack: int) -> None:
    """Let threads take up the weights and biases of one layer after the other, a warp at a time."""
    turn = 0
    for layer in layers:
        layer.weights_from = turn % threads
        tiles = layer.share // layer.units_updated * -(-layer.s_in // pack)
        turn += rounded_up(tiles * layer.lanes_updated, THREADS_A_WARP)
        layer.biases_from = turn % threads
        turn += rounded_up(layer.share * BIAS_LANES, THREADS_A_WARP)


def _place_minibatch(shape: Shape, memory: Memory, blocks: int) -> None:
    """Give a minibatch, and a, z and δ of each layer, their places."""
    layers, height = shape.layer[: shape.layers], shape.height
    for l, layer in enumerate(layers):
        if l > 0:
            layer.A = memory.take((2 if l == 1 else 1) * height * layer.a_stride)
        layer.Z, layer.delta = (memory.take(height * layer.z_stride) for _ in range(2))
        if l + 1 < len(layers) and layers[l + 1].split:
            layer.parts = memory.take(blocks * height * layer.share)
    shape.X = memory.take(2 * height * layers[0].a_stride)
    shape.Y = memory.take(2 * height * layers[-1].z_stride)
    shape.weights, shape.order = memory.take(2 * height), memory.take_bytes(2 * shape.batch * 8)
    shape.arrivals = memory.take_bytes(2 * shape.layers * 8)


def _share_out(layer: Layer, work: Work, *, behind: bool) -> float:
    """Write down how threads share out a layer's work; the cycles that it takes them."""
    forward = forward_tiles(work)
    layer.units, layer.rows, layer.lanes, layer.slices = forward.units, forward.rows, forward.lanes, forward.slices
    of_update, layer.units_updated, layer.lanes_updated = tile_updated(work)
    of_back, layer.rows_back = rows_back(work) if behind else (0.0, 1)
    return forward.cycles + of_back + of_update


def _stride(columns: int, pack: int, lanes: int) -> int:
    """Entries between rows, so that those that neighbouring lanes read at once lie in different banks."""
    packs = -(-columns // pack)
    if lanes < 8:
        while packs % (2 * lanes) != lanes:
            packs += 1
    return packs * pack


def _written(value: Any) -> str:
    """A number, an array or a structure as C++ would write it down."""
    if isinstance(value, ctypes.Structure):
        return "{" + ",".join(_written(getattr(value, name)) for name, *_ in value._fields_) + "}"
    if isinstance(value, ctypes.Array):
        return "{" + ",".join(map(_written, value)) + "}"
    return str(value)


def find_residence(
    backend: CupyBackend,
    layer_sizes: Sequence[int],
    activations: Sequence[str],
    loss: str,
    dtype: DType,
    batch: int,
    rule: Rule,
    members: int = 1,
) -> Residence | None:
    """How the network lies in shared memory, on as many blocks as are fastest; None where it does not fit.

    Where there are many members, the blocks of the device are shared out among them.
    """
    if len(activations) > MOST_LAYERS:
        return None
    limit, most_blocks, multiprocessors = backend.shared_memory_limits()
    what = (layer_sizes, activations, loss, dtype, batch, rule)
    parameters = (1 + rule.moments) * sum(s_in * s_out for s_in, s_out in pairwise(layer_sizes))
    fitting: list[Residence] = []
    for blocks in CLUSTERS:
        if blocks > most_blocks or (fitting and blocks * members > multiprocessors):
            break
        if (parameters // blocks + 2 * batch * layer_sizes[0]) * dtype.itemsize > limit:
            continue  # without a look at how the work is shared out, which takes longer the larger the network
        # The output layer is never split. One that is alone leaves nothing to share out.
        splits = range(1, len(activations)) if blocks > 1 and len(activations) > 1 else (0,)
        choice = THREADS if blocks >= 4 or members > multiprocessors else THREADS_OF_FEW_BLOCKS
        ways = (Residence.of(*what, blocks, split, threads) for split in splits for threads in choice)
        fitting += [way for way in ways if way.shared_bytes <= limit]
    return min(fitting, key=lambda way: way.cycles, default=None)


@dataclass
class ResidentRun:
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
        How many of them an epoch visits, if its order does not visit all.
    """

    backend: CupyBackend
    residence: Residence
    parameters: Array
    moments: Sequence[Array]
    X: Array
    Y: Array
    samples: int | None = None
    _message: Message | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        backend, shape, rule = self.backend, self.residence.shape, self.residence.rule
        self.members: Any = self.parameters.size // shape.n
        plan = self._plan = ResidentPlan(shape=shape, samples=self.samples or self.X.shape[0])
        plan.steps = math.ceil(plan.samples / shape.batch)
        plan.constants = Constants(*rule.values)
        moments = (*self.moments, None, None)
        self._point(parameters=self.parameters, first=moments[0], second=moments[1], x=self.X, y=self.Y)
        plan.x_bytes, plan.y_bytes = backend.bytes_a_copy(self.X), backend.bytes_a_copy(self.Y)
        self._bytes_of_plan = np.frombuffer(memoryview(plan), np.uint8)  # as they are at any time

    def __call__(
        self,
        terms: Floats,
        order: Indices | None,
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
            On the host, for each step: the scale of δ^(L), the factor of W in ∂J/∂W, the factor of Σ W², and the two
            numbers of `Optimizer.rates`.
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
            The epoch, from 1, after which a number was not finite; 0 where all went well. The next call writes there.
        """
        plan, message = self._plan, self._message_of(terms.shape, None if order is None else order.shape)
        plan.epochs, plan.keep_last_good = epochs, keep_last_good
        plan.order_stride = plan.samples * epochs if order is not None and order.shape[0] > 1 else 0
        plan.terms_stride = terms.size // terms.shape[0] if terms.shape[0] > 1 else 0
        self._point(weights=weights, cost=cost, decay=decay, squares=squares)
        message.send(plan=self._bytes_of_plan, terms=terms, diverged=0, order=order)
        self.backend.run_resident(message.device["plan"], self.parameters.dtype, self.residence, self.members)
        return message.device["diverged"]

    def _point(self, **arrays: Array | None) -> None:
        """Let the plan's fields of these names point to these arrays."""
        for name, array in arrays.items():
            setattr(self._plan, name, None if array is None else self.backend.address(array))

    def _message_of(self, terms: tuple[int, ...], order: tuple[int, ...] | None) -> Message:
        """Where tables and orders of these shapes are written: as in the last call, if it had such."""
        kinds: dict[str, Any] = {
            "plan": ((ctypes.sizeof(ResidentPlan),), np.uint8),
            "diverged": ((self.members,), np.int64),
            "terms": (terms, self.parameters.dtype),
        }
        if order is not None:
            kinds["order"] = order, np.int64
        if self._message is None or self._message.kinds != kinds:
            self._message = Message(self.backend, **kinds)
            there = self._message.device
            self._point(terms=there["terms"], diverged=there["diverged"], order=there.get("order"))
        return self._message
