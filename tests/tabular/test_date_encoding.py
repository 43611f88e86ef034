"""Parts of dates, against the calendar of Python's datetime."""

import datetime as dt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaprop.tabular.date_encoding import parts_of


@settings(deadline=None)
@given(st.lists(st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)), min_size=1, max_size=20))
def test_parts_are_those_of_the_calendar(moments: list[dt.datetime]) -> None:
    parts = parts_of(np.array(moments, "datetime64[us]"))
    for name, value in (
        ("year", lambda t: t.year),
        ("month", lambda t: t.month),
        ("day", lambda t: t.day),
        ("weekday", lambda t: t.weekday()),
    ):
        assert parts[name].tolist() == [value(t) for t in moments]
    hours = [(t - t.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() / 3600 for t in moments]
    np.testing.assert_allclose(parts["hour"], hours, rtol=1e-12, atol=1e-12)
    days = [(t - dt.datetime(1970, 1, 1)).total_seconds() / 86400 for t in moments]
    np.testing.assert_allclose(parts["time"], days, rtol=1e-14, atol=1e-10)


def test_a_gap_is_a_gap_in_every_part() -> None:
    parts = parts_of(np.array(["2020-02-29T12:00", "NaT"], "datetime64[us]"))
    assert {name: part.tolist()[0] for name, part in parts.items()} == {
        "year": 2020,
        "month": 2,
        "day": 29,
        "weekday": 5,
        "hour": 12.0,
        "time": 18321.5,
    }
    assert all(np.isnan(part[1]) for part in parts.values())
