"""A share of the samples, held out at random: it judges every epoch, and is not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import TypeAlias

import numpy as np

from deltaprop.backends import Array
from deltaprop.backends.array_types import AnyArray, ArrayLike, Indices
from deltaprop.derivation.state import HOLD_OUT_STREAM, NetworkState
from deltaprop.inputs.arrays import HostData
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.inputs.sources import CHUNK_BYTES, CheckedSource, Rows
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.training.data_door import DataDoor
from deltaprop.training.metrics import class_numbers

#: X, Y and sample weights, or None: arrays of a network's backend, or data that are read part by part.
Samples: TypeAlias = tuple[AnyArray, AnyArray, Array | None]
#: On what a network is validated: X, Y, and how much each row counts, None if all count 1.
HeldOut: TypeAlias = tuple[AnyArray, AnyArray, Array | None]


def check_fraction(validation: object) -> float | None:
    """Return `validation` if it is a number; None if it is something else, which is checked elsewhere.

    Raises
    ------
    ValueError
        If the number is not between 0 and 1.
    """
    if isinstance(validation, bool) or not isinstance(validation, Real):
        return None
    if not 0.0 < float(validation) < 1.0:
        raise ValueError(
            f"validation: expected a pair (X, Y), or a fraction of the rows between 0 and 1, got {validation!r}"
        )
    return float(validation)


def hold_out(network: NetworkState, samples: Samples, fraction: float, ranks: Ranks = ALONE) -> tuple[Samples, HeldOut]:
    """Divide checked samples into those trained on and those held out; sample weights are divided with them.

    All ranks divide them in the same way; of a source, each checks its share of the rows that are held out.

    Raises
    ------
    ValueError
        If no row is left to train on, the rows of one of the two weigh nothing, or the data come in parts.
    """
    X, Y, weights = samples
    if isinstance(X, CheckedSource) and not isinstance(X.source, Rows):
        raise ValueError(
            "validation: expected a pair (X, Y), as rows of data that come in parts cannot be held out, got "
            f"{fraction} with {X.source.describe()}"
        )
    train, held = draw_rows(network.seed, X.shape[0], fraction, _strata(network, X, Y))
    parts = [_weights(network, weights, rows, what) for rows, what in ((train, "trained on"), (held, "held out"))]
    if isinstance(X, CheckedSource) and isinstance(X.source, Rows):
        chosen = (RawRows(array, train) for array in (X.source.X, X.source.Y))
        source = CheckedSource(Rows(*chosen, on_disk=X.source.on_disk), X.check)
        return (source, source, parts[0]), (*DataDoor(network).rows_of_source(X.source, held, ranks), parts[1])
    rest, kept = ([take(network, array, rows) for array in (X, Y)] for rows in (train, held))
    return (rest[0], rest[1], parts[0]), (kept[0], kept[1], parts[1])


def draw_rows(seed: int, samples: int, fraction: float, strata: Indices | None) -> tuple[Indices, Indices]:
    """Draw which of so many rows are trained on and which are held out, each in their order.

    The same seed holds out the same rows. The classes in `strata`, one a row, keep their shares where every class has
    two rows at least and both parts have room for all classes.

    Raises
    ------
    ValueError
        If no row is left to train on.
    """
    from sklearn.model_selection import train_test_split  # not at start-up, for those who do without

    held = max(1, round(fraction * samples))
    if held >= samples:
        raise ValueError(f"validation: expected a fraction that leaves rows to train on, got {fraction} of {samples}")
    if strata is not None:
        rows_of_classes = np.unique(strata, return_counts=True)[1]
        if rows_of_classes.min() < 2 or len(rows_of_classes) > min(held, samples - held):
            strata = None
    seeds = np.random.SeedSequence((seed, HOLD_OUT_STREAM))
    drawing = np.random.RandomState(np.random.MT19937(seeds))
    parts = train_test_split(np.arange(samples), test_size=held, random_state=drawing, stratify=strata)
    train, held_out = (np.sort(rows) for rows in parts)
    return train, held_out


def classes_in(network: NetworkState, chunks: Iterator[AnyArray]) -> Indices | None:
    """Return the class of each sample, from targets in chunks; None where the targets are no classes.

    They are if all are 0 or 1, and one of several outputs is 1.
    """
    classes = []
    for Y in chunks:
        is_other = (Y != 0) & (Y != 1)
        if bool(is_other.any()) or (Y.shape[1] > 1 and bool((Y.sum(axis=1) != 1).any())):
            return None
        classes.append(network.backend.to_numpy(class_numbers(Y)))
    return np.concatenate(classes)


def _strata(network: NetworkState, X: AnyArray, Y: AnyArray) -> Indices | None:
    """Return the class of each sample, or None; only classes leave the device, and large targets are read in chunks."""
    if isinstance(X, CheckedSource):
        Y = DataDoor(network).kept_targets(X.source.Y)  # type: ignore[attr-defined]
    at_once = max(1, CHUNK_BYTES // (network.layer_sizes[-1] * network.dtype.itemsize))
    starts = (slice(start, start + at_once) for start in range(0, Y.shape[0], at_once))
    if isinstance(Y, HostData):
        return classes_in(network, (Y.rows(rows, network.backend, network.dtype) for rows in starts))
    return classes_in(network, (Y[rows] for rows in starts))


def _weights(network: NetworkState, weights: Array | None, rows: Indices, what: str) -> Array | None:
    """Take the weights of some rows.

    Raises
    ------
    ValueError
        If none of them is above 0.
    """
    if weights is None:
        return None
    taken: Array = take(network, weights, rows)
    if not (network.backend.to_numpy(taken) > 0.0).any():
        raise ValueError(f"sample_weight: expected a weight above 0 among the rows {what}, got none (validation)")
    return taken


def take(network: NetworkState, array: ArrayLike, rows: Indices) -> AnyArray:
    """Take some rows, which stay where the array is."""
    if isinstance(array, HostData):
        kept = array.array.take(rows) if isinstance(array.array, RawRows) else array.array[rows]
        return HostData(kept, array.shape[1], array.convert)
    if isinstance(array, EncodedRows):
        return array.take(rows)
    return array[network.backend.asarray(rows, np.int64)]
