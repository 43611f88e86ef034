"""How much each row of a table counts, and which rows do."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from deltaprop.arguments import refuse_masked
from deltaprop.backends.array_types import ArrayLike, Floats, HostArray
from deltaprop.tabular.table import Table


def checked_weights(sample_weight: ArrayLike | None, known: HostArray, *, ensure_non_negative: bool = False) -> Floats:
    """Return the weights of the rows that have a target.

    Raises
    ------
    ValueError
        If they are not numbers, one a row.
    """
    if isinstance(sample_weight, str):
        raise ValueError(
            f"sample_weight: expected numbers (m,), got the text {sample_weight!r}; pass the column itself"
        )
    refuse_masked(sample_weight, "sample_weight")
    rows = known[:, np.newaxis]
    return np.asarray(_check_sample_weight(sample_weight, rows, ensure_non_negative=ensure_non_negative))[known]


def counted_rows(table: Table, y: HostArray, weights: Floats, own_weights: Floats) -> tuple[Table, HostArray, Floats]:
    """Leave out the rows that do not count.

    Raises
    ------
    ValueError
        If there are not two that do.
    """
    counted = np.flatnonzero(own_weights)
    if len(counted) < 2:
        raise ValueError(f"sample_weight: expected at least two rows with a weight above 0, got {len(counted)}")
    if len(counted) == len(y):
        return table, y, weights
    return table.take(counted), y[counted], weights[counted]
