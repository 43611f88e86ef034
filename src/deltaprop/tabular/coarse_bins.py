"""Coarse bins: networks that see fewer bins of each number, and the same networks as functions of all bins.

A coarse bin from e_0 to e_n holds the fine bins between e_0 < e_1 < … < e_n. Its input is the mean of their inputs,
weighted by their widths w_j = e_{j+1} − e_j:

    clip((x − e_0)/(e_n − e_0), 0, 1) − ½ = Σ_j w_j/(e_n − e_0) · (clip((x − e_j)/w_j, 0, 1) − ½)

So a network over coarse bins is a network over fine bins: the weight of a coarse bin is shared out by widths.
"""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.inputs.encoded_rows import Binned, InputEncoding


def coarser(encoding: InputEncoding, bins: int) -> InputEncoding:
    """Keep at most `bins` + 1 of the edges of each number, the first and the last among them.

    Parameters
    ----------
    encoding : InputEncoding
        How stored rows become inputs; it stays as it is.
    bins : int
        How many bins of a number are left, at least 1.

    Returns
    -------
    InputEncoding
        Of the same stored rows.
    """
    pieces = [
        Binned(piece.source, piece.edges[_kept(piece.width, bins)]) if isinstance(piece, Binned) else piece
        for piece in encoding.pieces
    ]
    return InputEncoding(encoding.columns, pieces)


def weights_of_all_bins(W: HostArray, encoding: InputEncoding, bins: int) -> Floats:
    """Compute the weights of the first layer over all bins of networks that were trained over coarse ones.

    Parameters
    ----------
    W : array, (..., s_2, inputs of ``coarser(encoding, bins)``)
        Their weights.
    encoding : InputEncoding
        With all bins.
    bins : int
        How many bins they saw, as of `coarser`.

    Returns
    -------
    array, (..., s_2, encoding.width)
        Networks with these weights answer as before, to rounding.
    """
    result = np.empty((*W.shape[:-1], encoding.width))
    coarse = coarser(encoding, bins)
    for to, start, piece, seen in zip(encoding.starts, coarse.starts, encoding.pieces, coarse.pieces, strict=True):
        own = W[..., start : start + seen.width].astype(np.float64)
        if isinstance(piece, Binned) and isinstance(seen, Binned):
            within = np.repeat(np.arange(seen.width), np.diff(_kept(piece.width, bins)))  # the coarse bin of each
            own = own[..., within] * (np.diff(piece.edges) / np.diff(seen.edges)[within])
        result[..., to : to + piece.width] = own
    return result


def _kept(width: int, bins: int) -> Indices:
    """Choose the edges of `width` bins that remain, evenly."""
    return np.round(np.linspace(0, width, min(width, bins) + 1)).astype(np.int64)
