"""Cuts arrays of (members, rows, columns) into the blocks of a launch.

See ``column_tiles.cuh`` and ``row_team.cuh`` in ``kernels/cuda/``.

A memory-bound kernel of a small array takes as long as its longest chain of loads, of a large one as long as memory
does. So small arrays are spread over the whole device, each thread with few rows, and large ones cut into no more
parts than keep it busy. How an array is cut depends on its own rows and columns, not on members beside it: so one
network has the same bits alone and in a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Threads of a block, and of a warp.
THREADS, WARP = 256, 32
#: Rows that a thread loads at the same time.
IN_FLIGHT = 4
#: Up to so many entries for each multiprocessor, one block adds up a column alone, without slices of rows.
ENTRIES_IN_ONE_SLICE = 2**14
#: The least bytes of a row that memory moves.
SECTOR = 32
#: Packs of columns that each thread of a team holds: ``HELD`` in ``row_team.cuh``.
HELD = 4


@dataclass(frozen=True)
class Tiling:
    """Columns in tiles, rows in slices.

    Attributes
    ----------
    rows, columns : int
        Of one member.
    width : int
        Columns that a thread takes at once.
    lanes : int
        Threads along a row: of a warp, or a whole block.
    tiles, slices : int
        Blocks along a row and along a column.
    rows_per_block : int
        Rows of a slice.
    """

    rows: int
    columns: int
    width: int
    lanes: int
    tiles: int
    slices: int
    rows_per_block: int

    def grid(self, members: int) -> tuple[int, int]:
        """Return the grid, whose first number alone may be large."""
        return self.tiles * members, self.slices

    def sizes(self) -> tuple[np.int32, ...]:
        """Return the sizes as arguments of a kernel."""
        log2_lanes = self.lanes.bit_length() - 1
        sizes = (self.rows, self.columns, self.tiles, self.rows_per_block, log2_lanes, self.width)
        return tuple(np.int32(size) for size in sizes)


def over_columns(
    rows: int,
    columns: int,
    widths: Sequence[int],
    itemsize: int,
    multiprocessors: int,
    blocks: int,
    *,
    sums: bool,
    alone: int = 1,
) -> Tiling:
    """Cut an array for threads that stay in their columns.

    Parameters
    ----------
    rows, columns : int
        Of one member.
    widths : sequence of int
        Columns that a thread may take at once, the widest first.
    itemsize : int
        Bytes of an entry.
    multiprocessors : int
        Of the device.
    blocks : int
        At most so many for each of them, unless one row of tiles has more: they all run at once then, and none is left
        to run alone when the others are done.
    sums : bool
        Whether columns are added up, which costs less where one block sees all of their rows.
    alone : int
        Turns that one block takes about as fast as several blocks find out which of them is the last.
    """
    if sums and rows * columns <= ENTRIES_IN_ONE_SLICE * multiprocessors:
        tiling = _in_one_slice(rows, columns, widths, itemsize, multiprocessors)
        if tiling is not None:
            return tiling
    for width in widths:
        lanes = min(WARP, power_of_two(columns // width))
        tiles, at_a_time = -(-columns // (lanes * width)), THREADS // lanes
        if tiles * -(-rows // at_a_time) >= multiprocessors:
            break  # else narrower: more threads, each with less to do
    return _sliced(rows, columns, width, lanes, tiles, at_a_time, max(1, blocks * multiprocessors // tiles), alone)


def _in_one_slice(rows: int, columns: int, widths: Sequence[int], itemsize: int, multiprocessors: int) -> Tiling | None:
    """Return blocks so narrow that each thread loads all its rows at once, if there are such."""
    width = widths[0]
    lanes = min(WARP, power_of_two(columns // width))
    while True:
        tiles, at_a_time = -(-columns // (lanes * width)), THREADS // lanes
        fits = rows <= IN_FLIGHT * at_a_time
        if (fits and tiles >= multiprocessors) or lanes * width * itemsize <= SECTOR or lanes == 1:
            return Tiling(rows, columns, width, lanes, tiles, 1, rows) if fits else None
        lanes //= 2


def over_rows(
    rows: int, columns: int, widths: Sequence[int], multiprocessors: int, blocks: int, *, alone: int = 1
) -> Tiling:
    """Cut an array for teams of threads, where a team takes one row at a time.

    Parameters
    ----------
    rows, columns : int
        Of one member.
    widths : sequence of int
        Columns that a thread may take at once, the widest first.
    multiprocessors : int
        Of the device.
    blocks : int
        At most so many for each of them.
    alone : int
        As for `over_columns`.
    """
    for width in widths:
        packs = columns // width
        lanes = THREADS if packs > WARP * HELD else min(WARP, power_of_two(packs))
        at_a_time = THREADS // lanes
        if columns > WARP or -(-rows // at_a_time) >= multiprocessors:
            break
    return _sliced(rows, columns, width, lanes, 1, at_a_time, blocks * multiprocessors, alone)


def _sliced(
    rows: int, columns: int, width: int, lanes: int, tiles: int, at_a_time: int, most: int, alone: int
) -> Tiling:
    """Return `most` slices or fewer; their rows are a multiple of what a block takes at a time."""
    turns = -(-rows // at_a_time)
    most = 1 if tiles == 1 and turns <= alone else most
    rows_per_block = -(-turns // most) * at_a_time
    return Tiling(rows, columns, width, lanes, tiles, -(-rows // rows_per_block), rows_per_block)


def power_of_two(n: int) -> int:
    """Return the least power of two that is at least n."""
    return 1 << (n - 1).bit_length()
