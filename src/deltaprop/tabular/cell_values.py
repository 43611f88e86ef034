"""A column from cells of any kind: numbers, booleans, dates, text, gaps, and mixtures of them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from numbers import Complex, Real
from typing import Any

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray
from deltaprop.inputs import cells
from deltaprop.tabular.dates import date_texts
from deltaprop.tabular.table import Column

#: Kinds of distinct cells, as `_kind_of` finds them.
BOOLEAN, NUMBER, DATE, SECONDS, TEXT = "boolean", "number", "date", "seconds", "text"
#: Types of booleans; Python counts them as numbers.
TRUTHS: set[type] = {bool, np.bool_}
#: Types of the objects by which pandas marks a gap; they are recognised without importing pandas.
GAP_TYPES = ("NAType", "NaTType")


class Places(dict[Any, int]):
    """Gives each different cell the next number when it is asked for it."""

    def __missing__(self, cell: Any) -> int:
        place = self[cell] = len(self)
        return place


def number_column(name: str, values: HostArray) -> Column:
    """Make a column of numbers; NaN is a gap.

    Raises
    ------
    ValueError
        If one is infinite; the message names the first.
    """
    values = np.ascontiguousarray(values, np.float64)
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(
            f"column {name!r}, row {row}: expected finite numbers or gaps, got infinity ({values[row]}), or a number "
            "too large for float64"
        )
    return Column(name, "number", values)


def text_column(
    name: str,
    codes: HostArray,
    texts: Sequence[str | None],
    *,
    strip: bool = True,
    is_category: bool = False,
) -> Column:
    """Make a column of text from the place of each cell in `texts`; −1 and the place of a blank text are gaps.

    With `strip`, spaces around a text are no part of it. Two places may hold the same text.
    """
    if strip:
        texts = [None if text is None else text.strip() for text in texts]
    rank: dict[str | None, int] = dict.fromkeys(texts, -1)
    levels = sorted(text for text in rank if text is not None and text.strip())
    rank |= {level: place for place, level in enumerate(levels)}
    places = np.array([*map(rank.__getitem__, texts), -1], np.int32)  # a code of −1 takes the last
    return Column(name, "text", places[codes], levels, is_category)


def column_of_cells(name: str, values: Sequence[Any], *, is_category: bool = False, strip: bool = True) -> Column:
    """Make a column from Python objects.

    Parameters
    ----------
    name : str
        Its name.
    values : sequence, (m,)
        The cells. None, NaN, NaT and pandas.NA are gaps, and so is blank text.
    is_category : bool
        Whether the cells are labels, also where they are numbers.
    strip : bool
        Whether spaces around a text are no part of it.

    Raises
    ------
    ValueError
        If a number is complex or infinite.
    """
    kinds = set(map(type, values))
    if kinds <= {int, float, type(None)} and not is_category and len(values):
        return number_column(name, _floats(values))
    if kinds & TRUTHS and not kinds <= TRUTHS | {type(None)}:
        values = [None if _is_gap(cell) else cell for cell in values]
        if not set(map(type, values)) <= TRUTHS | {type(None)}:
            values = [str(cell) if type(cell) in TRUTHS else cell for cell in values]  # True is not 1 here
    places = Places()
    try:
        codes = np.fromiter(map(places.__getitem__, values), np.int64, len(values))
    except TypeError:  # some cells, such as lists, cannot be looked up
        places = Places()
        values = [cell if _is_gap(cell) else _text_of(cell) for cell in values]
        codes = np.fromiter(map(places.__getitem__, values), np.int64, len(values))
    if str in kinds and kinds <= {str, float, type(None)}:  # text as most tables have it
        texts = [cell if isinstance(cell, str) or cell is None else _text_or_gap(cell) for cell in places]
        return text_column(name, codes, texts, strip=strip, is_category=is_category)
    distinct = [None if _is_gap(cell) else cell for cell in places]
    kind = TEXT if is_category else _kind_of(name, distinct)
    if kind in (BOOLEAN, NUMBER):
        column = number_column(name, _floats(distinct)[codes])
        return column if kind == NUMBER else Column(name, "boolean", column.values)
    if kind == SECONDS:
        return number_column(name, _seconds(distinct)[codes])
    if kind == DATE:
        return Column(name, "date", np.append(moments_of(distinct), np.datetime64("NaT", "us"))[codes])
    texts = [_text_or_gap(cell) for cell in distinct]
    return text_column(name, codes, texts, strip=strip, is_category=is_category)


def column_of_array(name: str, array: HostArray, *, strip: bool = True) -> Column:
    """Make a column of a 1-D array of any dtype; `strip` is as in `column_of_cells`.

    Raises
    ------
    ValueError
        If a number is complex or infinite.
    """
    match array.dtype.kind:
        case "b":
            return Column(name, "boolean", array.astype(np.float64))
        case "i" | "u" | "f":
            return number_column(name, array)
        case "c":
            raise ValueError(f"Complex data not supported: column {name!r}: expected real numbers or text")
        case "M":
            return Column(name, "date", array.astype("datetime64[us]"))
        case "m":
            return number_column(name, array / np.timedelta64(1, "s"))
    return column_of_cells(name, array.tolist(), strip=strip)


def moments_of(values: Sequence[Any]) -> HostArray:
    """Return dates and moments of any library as moments in UTC, (m,) of datetime64[us]; None is a gap."""
    moments: HostArray = np.full(len(values), np.datetime64("NaT", "us"), "datetime64[us]")
    for place, value in enumerate(values):
        if value is not None:
            moments[place] = _moment(value)
    return moments


def _moment(value: Any) -> Any:
    if hasattr(value, "to_timestamp"):  # a period of pandas, which begins then
        value = value.to_timestamp()
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        try:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        except OverflowError:
            return np.datetime64("NaT", "us")
    if hasattr(value, "to_datetime64"):
        value = value.to_datetime64()
    return np.datetime64(value, "us")


def _kind_of(name: str, distinct: Sequence[Any]) -> str:
    """Find what the cells are; None is a gap.

    Raises
    ------
    ValueError
        If one is a complex number.
    """
    kinds = {type(cell): cell for cell in distinct if cell is not None}
    found = {_kind_of_cell(cell) for cell in kinds.values()}
    if None in found:
        raise ValueError(f"Complex data not supported: column {name!r}: expected real numbers or text")
    if not found:
        return NUMBER
    return str(found.pop()) if len(found) == 1 else TEXT


def _kind_of_cell(cell: Any) -> str | None:
    """Find what a cell is; None if it is a complex number."""
    if isinstance(cell, (bool, np.bool_)):
        return BOOLEAN
    if isinstance(cell, (str, bytes)):
        return TEXT
    if isinstance(cell, (datetime.timedelta, np.timedelta64, datetime.time)):
        return SECONDS
    if isinstance(cell, (Real, Decimal)):
        return NUMBER
    if isinstance(cell, Complex):
        return None
    if isinstance(cell, (datetime.date, np.datetime64)) or type(cell).__name__ == "Period":
        return DATE
    return TEXT


def _is_gap(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in GAP_TYPES:
        return True
    if isinstance(cell, (float, np.floating, Decimal)):
        return bool(cell != cell)
    return isinstance(cell, (np.datetime64, np.timedelta64)) and bool(np.isnat(cell))


def _floats(values: Sequence[Any]) -> Floats:
    """Return numbers as float64; None is NaN, and a number that is too large is infinite."""
    try:
        return np.array(values, np.float64)
    except (OverflowError, TypeError, ValueError):
        return np.array([_float(value) for value in values], np.float64)


def _float(value: Any) -> float:
    try:
        return np.nan if value is None else float(value)
    except (OverflowError, ValueError):
        return np.inf


def _seconds(values: Sequence[Any]) -> Floats:
    """Return spans of time, and times of day, as seconds; None is NaN."""
    seconds = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        if isinstance(value, datetime.time):
            seconds[place] = 3600 * value.hour + 60 * value.minute + value.second + value.microsecond / 1e6
        elif isinstance(value, datetime.timedelta):
            seconds[place] = value.total_seconds()
        elif value is not None:
            seconds[place] = value / np.timedelta64(1, "s")
    return seconds


def _text_or_gap(cell: Any) -> str | None:
    return None if _is_gap(cell) else _text_of(cell)


def _text_of(cell: Any) -> str:
    """Write a cell as text; so do `Column.texts` the cells of other kinds."""
    kind = _kind_of_cell(cell)
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if kind == NUMBER and np.isfinite(_float(cell)):
        return cells.written(_float(cell))
    if kind == DATE:
        return date_texts(moments_of([cell]))[0]
    return str(cell)
