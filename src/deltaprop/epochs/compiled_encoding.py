"""What the compiled library is told about encoded inputs."""

from __future__ import annotations

import ctypes

import numpy as np

from deltaprop.backends.array_types import DType
from deltaprop.backends.native.arrays import address
from deltaprop.backends.native.library import EncodedInputs
from deltaprop.inputs.encoded_rows import Binned, Copied, InputEncoding, OneHot, Squashed

#: The number of each kind of piece, as in ``kernels/cpu/encoded_inputs.h``.
KINDS: dict[type, int] = {Copied: 0, Squashed: 1, Binned: 2, OneHot: 3}


class CompiledEncoding:
    """One ``struct EncodedInputs``, and the arrays that it points to; it lives as long as the plans that point to it.

    Parameters
    ----------
    encoding : InputEncoding
        It has been checked.
    dtype : dtype
        The network's.

    Attributes
    ----------
    address : int
        The address of the structure.
    slots : int
        How many rows of the table of weights an input row adds up: one a piece, two a piece of bins.
    """

    def __init__(self, encoding: InputEncoding, dtype: DType) -> None:
        pieces = encoding.pieces
        edges = [np.asarray(piece.edges).astype(dtype) for piece in pieces if isinstance(piece, Binned)]
        self._kinds = np.array([KINDS[type(piece)] for piece in pieces], np.int64)
        self._sources = np.array([piece.source for piece in pieces], np.int64)
        self._widths = np.array([piece.width for piece in pieces], np.int64)
        self._edges = np.concatenate([np.zeros(0, dtype), *edges])
        count = (len(pieces),)
        known = int((self._widths + 1)[self._kinds == KINDS[Binned]].sum())
        self._structure = EncodedInputs(
            encoding.columns,
            len(pieces),
            address("kinds", self._kinds, np.int64, count),
            address("sources", self._sources, np.int64, count),
            address("widths", self._widths, np.int64, count),
            address("edges", self._edges, dtype, (known,)),
        )
        self.address: int = ctypes.addressof(self._structure)
        self.slots: int = len(pieces) + len(edges)
