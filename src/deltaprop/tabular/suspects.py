"""Columns that a table should not be predicted from: the row index, identifiers, near-copies of the target."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.tabular.column_roles import ColumnRole
from deltaprop.tabular.table import Column, Table

#: Names of a row index; pandas gives the second and the third.
INDEX_NAMES = re.compile(
    r"__index_level_\d+__|Unnamed: 0(?:\.\d+)*|(?:row[ _.-]?)?(?:index|number|no|nr)|row|rownames?", re.I
)
#: Names of identifiers: id, customer_id, customerID, PassengerId, key, uuid.
IDENTIFIER_NAMES = re.compile(r"(?i:(?:.*[_\s.-])?(?:id|key|uuid|guid|identifier|pid))|.*[a-z](?:ID|Id|Key|UUID|Uuid)")
#: Fewer rows than these tell nothing of a row index, of an identifier, and of a copy of the target.
INDEX_ROWS, IDENTIFIER_ROWS, COPY_ROWS = 20, 200, 50
#: All-distinct whole numbers that fill this share of their range number the rows, in another order than the file has,
NUMBERED_SHARE = 0.5
#: unless they tell something of the target: their rank correlation with it is above this.
TELLING = 0.3
#: A rank correlation above this makes a number a copy of the target.
RANK_CORRELATION = 0.9999
#: A category tells the target if it is right in this share of the rows, and in this share of those that the most
#: frequent class does not get right anyway.
RIGHT_SHARE, GAINED_SHARE = 0.999, 0.99
#: A category whose levels stand in fewer rows than this, on average, tells nothing by itself.
ROWS_OF_A_LEVEL = 10
#: Levels times classes that are counted at most.
MOST_PAIRS = 10**6
#: Rank correlations are computed on as many rows at most.
MOST_ROWS = 100_000


def suspicious(table: Table, roles: Sequence[ColumnRole], target: Column) -> dict[str, str]:
    """Find columns that should not be used to predict the target, each with the reason.

    These are: the row index; identifiers, which differ in every row; and columns from which the target follows, so that
    it has probably been known before they were. If nothing else would be left, none is suspicious.

    Parameters
    ----------
    table : Table
        The columns to predict from.
    roles : list of ColumnRole
        What they are taken for. A column that is left out as a constant, or as gaps alone, is not looked at.
    target : Column
        The target.

    Returns
    -------
    reasons : dict of str to str
        By the name of the column.
    """
    found = {}
    for place, role in enumerate(roles):
        column = table.columns[role.name]
        if role.name == target.name or column.distinct() < 2:
            continue
        reason = _index(column, place == 0) or _identifier(column, target) or _copy(column, role, target)
        if reason:
            found[role.name] = reason
    used = {role.name for role in roles if role.role != "left out" and role.name != target.name}
    return found if used - set(found) else {}


def _index(column: Column, is_first: bool) -> str:
    """Say why a column counts the rows; nothing if it does not."""
    if re.fullmatch(r"__index_level_\d+__", column.name):
        return "it is the row index of the table that was stored"
    values = column.numbers()
    if len(values) < 2 or np.isnan(values).any():
        return ""
    steps = np.diff(values)
    counts = bool((steps == 1).all()) and values[0] in (0, 1)
    named = INDEX_NAMES.fullmatch(column.name) is not None
    if counts and (named or (len(values) >= INDEX_ROWS and is_first) or len(values) >= IDENTIFIER_ROWS):
        return f"it counts the rows from {int(values[0])} to {int(values[-1])}"
    if column.name.startswith("Unnamed: 0") and is_first and _is_whole(values) and _is_distinct(column):
        return "it has no name, and another whole number in every row: a row index"
    return ""


def _identifier(column: Column, target: Column) -> str:
    """Say why a column names the rows; nothing if it does not."""
    if len(column) < IDENTIFIER_ROWS or column.kind not in ("number", "text") or not _is_distinct(column):
        return ""
    values = column.numbers()
    whole = not np.isnan(values).any() and _is_whole(values)
    if IDENTIFIER_NAMES.fullmatch(column.name) and (whole or column.kind == "text"):
        return "an identifier, by its name: it is different in every row"
    if whole and len(values) >= NUMBERED_SHARE * (values.max() - values.min() + 1.0):
        told = _rank_correlation(values, _ordered(target))
        if abs(told) <= TELLING:
            return (
                "it numbers the rows in another order: all its whole numbers are different, and hardly any is missing"
            )
    return ""


def _copy(column: Column, role: ColumnRole, target: Column) -> str:
    """Say why the target follows from a column; nothing if it does not."""
    if len(column) < COPY_ROWS or column.kind == "date" or role.role == "date":
        return ""
    known = ~target.gaps()
    column, goal = column.take(np.flatnonzero(known)), target.take(np.flatnonzero(known))
    codes, levels = _coded(column)
    wanted, classes = _coded(goal)
    rows = len(codes)
    if rows < COPY_ROWS or classes < 2:
        return ""
    if levels * ROWS_OF_A_LEVEL <= rows and classes * ROWS_OF_A_LEVEL <= rows:
        pairs = np.unique(codes.astype(np.int64) * classes + wanted)
        if len(pairs) == levels == classes:
            return f"a copy of the target {target.name!r}: each of its values goes with one of the target's"
        if levels * classes <= MOST_PAIRS and _tells(codes, levels, wanted, classes):
            return f"the target {target.name!r} follows from it in at least {100 * RIGHT_SHARE:g} % of the rows"
    if role.role == "number" and goal.says_numbers():
        values = column.numbers()
        both = ~np.isnan(values)
        if np.count_nonzero(both) < COPY_ROWS or np.count_nonzero(both) < rows / 2:
            return ""
        told = _rank_correlation(values[both], goal.numbers()[both])
        if abs(told) > RANK_CORRELATION:
            return (
                f"a copy of the target {target.name!r}: it puts the rows into the same order (correlation {told:.6f})"
            )
    return ""


def _tells(codes: HostArray, levels: int, wanted: HostArray, classes: int) -> bool:
    """Return whether each level goes with one class, in all but a few rows."""
    table = np.bincount(codes.astype(np.int64) * classes + wanted, minlength=levels * classes).reshape(levels, classes)
    rows, right, frequent = int(table.sum()), int(table.max(axis=1).sum()), int(table.sum(axis=0).max())
    return right >= RIGHT_SHARE * rows and right - frequent >= GAINED_SHARE * (rows - frequent)


def _coded(column: Column) -> tuple[HostArray, int]:
    """Number the distinct cells from 0 on, a gap as one of them; return the numbers, (m,), and how many there are."""
    distinct, places = np.unique(column.values, return_inverse=True)  # NaN is one value here
    return places.astype(np.int64), len(distinct)


def _ordered(target: Column) -> Floats:
    """Return a target as numbers; texts by their order."""
    if target.kind != "text" or target.says_numbers():
        return target.numbers()
    return np.where(target.values < 0, np.nan, target.values)


def _is_whole(values: Floats) -> bool:
    return bool((values == np.round(values)).all())


def _is_distinct(column: Column) -> bool:
    return not column.gaps().any() and column.distinct() == len(column)


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's ρ: the correlation of the ranks; 0 where it is not defined."""
    both = np.flatnonzero(~(np.isnan(a) | np.isnan(b)))
    both = both[:: max(1, len(both) // MOST_ROWS)]
    if len(both) < 2:
        return 0.0
    a, b = rankdata(a[both]), rankdata(b[both])
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0
