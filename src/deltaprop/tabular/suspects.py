"""What should make one doubt a table: row indices, identifiers, near-copies of the target, a row taken for names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.errors import listing
from deltaprop.tabular.column_roles import ColumnRole
from deltaprop.tabular.table import Column, Table, numbers_in_texts

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
    found, copies = {}, Copies(target)
    for place, role in enumerate(roles):
        column = table.columns[role.name]
        if role.name == target.name or column.is_constant():
            continue
        reason = _index(column, place == 0) or _identifier(column, target) or copies.reason(column, role)
        if reason:
            found[role.name] = reason
    used = {role.name for role in roles if role.role != "left out" and role.name != target.name}
    return found if used - set(found) else {}


def names_like_cells(table: Table) -> list[str]:
    """Find names of columns that look like cells: a file without a line of names loses its first row to them.

    Text is such a name if it is a cell of its column as well, and a number if its column holds numbers. Whole numbers
    may be years or other names; they count only beside others. Where a column of numbers has another name, or all
    columns hold text and one of them has another name, the first line does hold names.

    Parameters
    ----------
    table : Table
        A table that was read from a file.

    Returns
    -------
    names : list of str
        In the order of the table; empty if the first line holds names.
    """
    columns = table.columns.values()
    numbers = [column.name for column in columns if column.kind == "number"]
    texts = [column.name for column in columns if column.kind == "text"]
    repeated = [name for name in texts if name in table.columns[name].counts()]
    telling = repeated + [name for name in numbers if not name.isdigit()]
    no_numbers = np.isnan(numbers_in_texts(numbers)) & np.isnan(numbers_in_texts(numbers, ","))
    like_cells = not no_numbers.any() if numbers else repeated == texts
    return [name for name in table.columns if name in {*numbers, *repeated}] if like_cells and telling else []


def row_taken_for_names(table: Table) -> str:
    """Say that the first line of a file was taken for names, but looks like a row; nothing if it does not."""
    cells = names_like_cells(table)
    if not cells:
        return ""
    return (
        "the first line was taken for names, but looks like a row: if it is one, write a line of names above it "
        f"({listing(cells)})"
    )


def _index(column: Column, is_first: bool) -> str:
    """Say why a column counts the rows; nothing if it does not."""
    if re.fullmatch(r"__index_level_\d+__", column.name):
        return "it is the row index of the table that was stored"
    values = _whole_numbers(column)
    if values is None:
        return ""
    counts = values[0] in (0, 1) and bool((np.diff(values) == 1).all())
    named = INDEX_NAMES.fullmatch(column.name) is not None
    if counts and (named or (len(values) >= INDEX_ROWS and is_first) or len(values) >= IDENTIFIER_ROWS):
        return f"it counts the rows from {int(values[0])} to {int(values[-1])}"
    if column.name.startswith("Unnamed: 0") and is_first and _is_distinct(column):
        return "it has no name, and another whole number in every row: a row index"
    return ""


def _identifier(column: Column, target: Column) -> str:
    """Say why a column names the rows; nothing if it does not."""
    if len(column) < IDENTIFIER_ROWS:
        return ""
    values = _whole_numbers(column)
    may_name = column.kind == "text" or values is not None
    if may_name and IDENTIFIER_NAMES.fullmatch(column.name) and _is_distinct(column):
        return "an identifier, by its name: it is different in every row"
    if values is None or len(values) < NUMBERED_SHARE * (values.max() - values.min() + 1.0):
        return ""
    if _is_distinct(column) and abs(_rank_correlation(values, _ordered(target))) <= TELLING:
        return "it numbers the rows in another order: its whole numbers are all different, and few are missing"
    return ""


class Copies:
    """Finds columns from which a target follows.

    Parameters
    ----------
    target : Column
        The target; rows where it is a gap are not looked at.
    """

    classes: HostArray
    count: int

    def __init__(self, target: Column) -> None:
        self.rows: Indices = np.flatnonzero(~target.gaps())
        self.target: Column = target.take(self.rows)
        self.classes, self.count = _coded(self.target)
        self.numbers: Floats | None = self.target.numbers() if self.target.says_numbers() else None

    def reason(self, column: Column, role: ColumnRole) -> str:
        """Say why the target follows from a column; nothing if it does not."""
        if len(self.rows) < COPY_ROWS or self.count < 2 or "date" in (column.kind, role.role):
            return ""
        column = column.take(self.rows)
        reason = self._by_levels(column) if self.count * ROWS_OF_A_LEVEL <= len(self.rows) else ""
        return reason or (self._by_order(column.numbers()) if role.role == "number" else "")

    def _by_levels(self, column: Column) -> str:
        """Compare each level of a column with the classes, or distinct numbers, of the target."""
        most = min(len(self.rows) // ROWS_OF_A_LEVEL, MOST_PAIRS // self.count)
        some = column.values[:: max(1, len(self.rows) // MOST_ROWS)]
        if len(np.unique(some)) > most:
            return ""
        codes, levels = _coded(column)
        if levels > most:
            return ""
        pairs = np.bincount(codes * self.count + self.classes, minlength=levels * self.count)
        if levels == self.count == np.count_nonzero(pairs):
            return f"a copy of the target {self.target.name!r}: each of its values goes with one of the target's"
        if _tells(pairs.reshape(levels, self.count)):
            return f"the target {self.target.name!r} follows from it in at least {100 * RIGHT_SHARE:g} % of the rows"
        return ""

    def _by_order(self, values: Floats) -> str:
        """Compare the order of the rows by a column of numbers and by the target."""
        known = np.flatnonzero(~np.isnan(values))
        if self.numbers is None or len(known) < max(COPY_ROWS, len(values) / 2):
            return ""
        told = _rank_correlation(values[known], self.numbers[known])
        if abs(told) <= RANK_CORRELATION:
            return ""
        return f"a copy of the target {self.target.name!r}: it puts the rows into its order (correlation {told:.6f})"


def _tells(pairs: HostArray) -> bool:
    """Return whether each level goes with one class in all but a few rows; `pairs` counts them, (levels, classes)."""
    rows, right, frequent = int(pairs.sum()), int(pairs.max(axis=1).sum()), int(pairs.sum(axis=0).max())
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


def _whole_numbers(column: Column) -> Floats | None:
    """Return the cells as numbers if all are whole, and none is a gap."""
    if len(column) < 2 or column.kind not in ("number", "text") or not column.says_numbers():
        return None
    values = column.numbers()
    return values if (values == np.round(values)).all() else None  # NaN equals nothing


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
