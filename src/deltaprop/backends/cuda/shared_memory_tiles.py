"""How threads share out the work of a step of ``kernels/cuda/resident.cu``, and about how long that takes.

Cycles are estimates, from the rates of a multiprocessor: it issues four instructions of a warp a cycle, and reads or
writes 128 bytes of shared memory. They only serve to compare ways to do the same work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

#: As in the kernel: sums a thread has room for, and rows and units.
MOST_SUMS, MOST_ROWS, MOST_UNITS = 32, 8, 8
THREADS_A_WARP = 32
#: Cycles from an instruction that reads shared memory, or shuffles, to one that uses what it read.
LATENCY = 30
#: Rows that a thread loads before it uses the first, in the update.
ROWS_AT_ONCE = 5
#: Lanes that share out the rows of a bias's gradient, as in the kernel.
BIAS_LANES = 8
#: Cycles of a barrier of a block, and of one of a cluster after it has written to its blocks' memory.
BLOCK_BARRIER, CLUSTER_BARRIER = 40, 500

#: Instructions beside the products, of each warp for each layer. With so many, the estimates put 256 threads before 512
#: in clusters of 4 and 8 blocks, as an H200 does.
OVERHEAD = 50


def rounded_up(n: int, unit: int) -> int:
    """The first multiple of `unit` that is not below `n`."""
    return -(-n // unit) * unit


def divisors(n: int, most: int) -> list[int]:
    """Those of `n` up to `most`."""
    return [d for d in range(1, most + 1) if n % d == 0]


def lanes_for(n: int) -> int:
    """Threads for `n` pieces of work: a power of two, a warp at most."""
    return min(THREADS_A_WARP, 1 << (n - 1).bit_length())


def divisible(n: int) -> int:
    """`n`, or a little more if tiles of some four to eight would not divide it."""
    return n if n <= MOST_ROWS or divisors(n, MOST_ROWS)[-1] >= 4 else rounded_up(n, 4)


@dataclass(frozen=True)
class Work:
    """A layer's part in a step of one block.

    Attributes
    ----------
    share : int
        Units the block owns.
    columns : int
        Inputs for which the block makes W^T δ.
    height : int
        Rows of a minibatch.
    pack : int
        Entries in 16 bytes.
    states : int
        Moments the optimizer has.
    """

    share: int
    s_in: int
    columns: int
    height: int
    pack: int
    states: int
    threads: int

    @property
    def packs(self) -> int:
        """16 bytes at a time, a row of the inputs."""
        return -(-self.s_in // self.pack)

    def rounds(self, items: int) -> tuple[int, int]:
        """How often threads come round to take one of `items`, and how many warps do."""
        return -(-items // self.threads), -(-min(items, self.threads) // THREADS_A_WARP)


def issued_by(warps: int, instructions: float) -> float:
    """Cycles in which so many warps each issue so many instructions, shared out among four schedulers."""
    return -(-warps // 4) * instructions


@dataclass(frozen=True)
class Forward:
    """A tile of z for a group of threads, see ``struct Layer`` in the kernel, and the cycles that all tiles take."""

    cycles: float
    units: int
    rows: int
    lanes: int
    slices: int


def _forward(work: Work, units: int, rows: int, lanes: int, slices: int) -> Forward:
    row_tiles, unit_tiles = work.height // rows, work.share // units
    rounds, warps = work.rounds(row_tiles * unit_tiles * lanes * slices)
    turns = -(-work.packs // (lanes * slices))
    reads = 4 * (units + rows)  # 128 bytes at a time, even if several lanes read the same 16
    issued = units * rows * work.pack + units + rows + 6
    shuffled, n = 0, units * rows
    for _ in range(lanes.bit_length() - 1):
        n = (n + 1) // 2
        shuffled += n
    per_turn = max(issued_by(warps, issued), warps * reads, issued + LATENCY)
    per_tile = max(warps * shuffled, 4 * shuffled + LATENCY * lanes.bit_length()) + warps * n + LATENCY
    sums, _ = work.rounds(work.height * work.share)
    return Forward(rounds * (turns * per_turn + per_tile) + sums * (6 * slices + LATENCY), units, rows, lanes, slices)


@cache
def forward_tiles(work: Work) -> Forward:
    """The tiles that take the least time."""
    most = MOST_SUMS * work.pack // 4  # entries of 8 bytes take two registers
    ways = (
        _forward(work, units, rows, 1 << log_lanes, slices)
        for units in divisors(work.share, MOST_UNITS)
        for rows in divisors(work.height, MOST_ROWS)
        if units * rows <= most
        for log_lanes in range(6)
        for slices in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
        if slices == 1
        or (
            (slices - 1) << log_lanes < work.packs
            and slices * (work.share // units) * (work.height // rows) << log_lanes <= work.threads
        )
    )
    return min(ways, key=lambda way: way.cycles)


@cache
def rows_back(work: Work) -> tuple[float, int]:
    """Cycles of W^T δ, and for how many rows a thread makes it."""

    def cycles(rows: int) -> float:
        rounds, warps = work.rounds(work.height // rows * -(-work.columns // work.pack))
        turn = rows * work.pack**2 + rows + work.pack + 4
        reads = 4 * work.pack + rows * 2
        turns = -(-work.share // work.pack)
        return rounds * (turns * max(issued_by(warps, turn), warps * reads, turn + LATENCY) + 3 * LATENCY)

    return min((cycles(rows), rows) for rows in divisors(work.height, MOST_ROWS))


@cache
def tile_updated(work: Work) -> tuple[float, int, int]:
    """Cycles of the update of W, for how many units lanes sum the gradient, and how many lanes share out its rows."""

    def cycles(units: int, lanes: int) -> float:
        rounds, warps = work.rounds(work.share // units * work.packs * lanes)
        row = units * work.pack + units / 2 + 3
        reads = 4 + units / 2
        rows = -(-work.height // lanes)
        products = rows * max(issued_by(warps, row), warps * reads, row) + LATENCY * -(-rows // ROWS_AT_ONCE)
        levels = lanes.bit_length() - 1
        shuffles = sum(units * work.pack >> level for level in range(1, levels + 1))
        moved = units * (8 + 8 * work.states) * warps / lanes
        return rounds * (products + shuffles * warps + LATENCY * levels + moved + 3 * LATENCY)

    most = MOST_UNITS * work.pack // 4
    ways = [
        (units, 1 << log_lanes)
        for units in divisors(work.share, most)
        for log_lanes in range(6)
        if units * work.pack % (1 << log_lanes) == 0
    ]
    return min((cycles(*way), *way) for way in ways)
