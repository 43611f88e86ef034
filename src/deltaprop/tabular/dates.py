"""Dates written as text: ISO 8601 and the usual forms, read into datetime64[us]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

from deltaprop.backends.array_types import HostArray

_TIME = r"(?:[T,\s]+(?P<time>\d{1,2}:.+))?"
#: 31.12.2020, 12/31/2020, 31-12-20: the year comes last, and the order of day and month is to be found.
_YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}|\d{{2}}){_TIME}")
#: 2020/12/31, 2020.12.31, 2020-1-5, 2020-12.
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?:(?P=mark)(?P<a>\d{{1,2}}){_TIME})?")
#: 31 December 2020, 31-Dec-20, Thu, 31 Dec 2020 10:00:00.
_NAMED = re.compile(
    rf"(?:[A-Za-z]{{3,9}},?\s+)?(?P<a>\d{{1,2}})(?:st|nd|rd|th)?[-/.\s]+(?P<month>[A-Za-z]{{3,9}})\.?"
    rf"[-/,\s]+(?P<year>\d{{4}}|\d{{2}}){_TIME}"
)
#: December 31, 2020; Dec 2020.
_NAMED_FIRST = re.compile(
    rf"(?:[A-Za-z]{{3,9}},?\s+)?(?P<month>[A-Za-z]{{3,9}})\.?[-\s]+(?:(?P<a>\d{{1,2}})(?:st|nd|rd|th)?,?\s+)?"
    rf"(?P<year>\d{{4}}){_TIME}"
)
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december", "sept"),
)
#: No date is shorter or longer; texts of other lengths are not looked at.
SHORTEST, LONGEST = 6, 48
#: Years written in two digits from here on belong to the 20th century, as `time.strptime` has it.
PIVOT = 69


def day_first(texts: Iterable[str]) -> bool:
    """Return whether dates such as 03/04/2020 in these texts begin with the day.

    Texts with a part above 12 decide; if there are none, dates with points begin with the day, others with
    the month.
    """
    votes, points = 0, False
    for text in texts:
        found = _YEAR_LAST.fullmatch(text) if SHORTEST <= len(text) <= LONGEST else None
        if found:
            votes += (int(found["a"]) > 12) - (int(found["b"]) > 12)
            points |= found["mark"] == "."
    return votes > 0 if votes else points


def read_dates(texts: Sequence[str], begins_with_day: bool) -> HostArray:
    """Read texts as moments in UTC, (m,) of datetime64[us]; NaT where a text is no date.

    A text of digits alone is a number, not a date.
    """
    moments = [_moment(text, begins_with_day) if SHORTEST <= len(text) <= LONGEST else None for text in texts]
    return np.array(moments, "datetime64[us]")


def date_texts(moments: HostArray) -> list[str]:
    """Write moments, (m,) of datetime64[us], in ISO 8601; midnight is written as the day alone."""
    texts: list[str] = np.datetime_as_string(moments, unit="us").tolist()
    return [text.removesuffix(".000000").removesuffix("T00:00:00") for text in texts]


def _moment(text: str, begins_with_day: bool) -> datetime | None:
    if text.isdigit() or not text.isascii():
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    try:
        if moment is None:
            moment = _usual_form(text, begins_with_day)
        if moment is not None and moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # there is no such day or hour
        return None
    return moment


def _usual_form(text: str, begins_with_day: bool) -> datetime | None:
    found = _YEAR_LAST.fullmatch(text)
    if found:
        if len(found["year"]) == 2 and found["mark"] == ".":  # it may be the number of a version
            return None
        first, second = int(found["a"]), int(found["b"])
        day, month = (first, second) if begins_with_day else (second, first)
    elif found := _YEAR_FIRST.fullmatch(text):
        day, month = int(found["a"] or 1), int(found["b"])
    elif found := _NAMED.fullmatch(text) or _NAMED_FIRST.fullmatch(text):
        name = found["month"].lower()
        if name not in _MONTHS and name not in _LONG_MONTHS:
            return None
        day, month = int(found["a"] or 1), _MONTHS.index(name[:3]) + 1
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 1900 if year >= PIVOT else 2000
    moment = datetime(year, month, day)
    return moment if found["time"] is None else _with_time(moment, found["time"])


def _with_time(day: datetime, text: str) -> datetime | None:
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        return None
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["half"][0] in "pP" else 0)
    fraction = int((found["fraction"] or "").ljust(6, "0")[:6])
    moment = day.replace(hour=hour, minute=int(found["minute"]), second=int(found["second"] or 0), microsecond=fraction)
    zone = found["zone"]
    if zone and zone[0] in "+-":
        shift = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        moment = moment.replace(tzinfo=timezone(-shift if zone[0] == "-" else shift))
    return moment
