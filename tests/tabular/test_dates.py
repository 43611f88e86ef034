"""Dates in text: what Python's own clock says, and the forms that people write."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaprop.tabular.dates import date_texts, day_first, read_dates


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-12-31", "2020-12-31"),
        ("2020-12-31T23:59:58", "2020-12-31T23:59:58"),
        ("2020-12-31 23:59:58.25", "2020-12-31T23:59:58.25"),
        ("2020-12-31 23:59:58.123456789", "2020-12-31T23:59:58.123456"),
        ("2020-12-31T23:30:00Z", "2020-12-31T23:30"),
        ("2020-12-31T23:30:00+02:00", "2020-12-31T21:30"),
        ("2020-12-31T23:30:00-0130", "2021-01-01T01:00"),
        ("2020/1/5", "2020-01-05"),
        ("2020.01.05", "2020-01-05"),
        ("2020-12", "2020-12-01"),
        ("12/31/2020", "2020-12-31"),
        ("3/4/2020", "2020-03-04"),
        ("3/4/20", "2020-03-04"),
        ("3/4/69", "1969-03-04"),
        ("12/31/2020 11:59 PM", "2020-12-31T23:59"),
        ("12/31/2020 12:30:01 am", "2020-12-31T00:30:01"),
        ("31 Dec 2020", "2020-12-31"),
        ("31-Dec-20", "2020-12-31"),
        ("1st March 2020", "2020-03-01"),
        ("December 31, 2020", "2020-12-31"),
        ("Dec 2020", "2020-12-01"),
        ("Thu, 31 Dec 2020 10:00:00 GMT", "2020-12-31T10:00"),
        ("Thu, 31 Dec 2020 10:00:00 +0100", "2020-12-31T09:00"),
    ],
)
def test_forms_of_dates(text, moment):
    np.testing.assert_array_equal(read_dates([text], False), np.array([moment], "datetime64[us]"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "20201231", "2020", "1.2.3", "10.0.0.1", "1.2.20", "2020-13-01", "2020-02-30", "31/31/2020", "12:30"),
        *("5 apples 2020", "12/31/2020 25:00", "12/31/2020 13:00 PM", "NaT", "today", "٢٠٢٠-١٢-٣١", "0000-01-01", "a" * 99),
    ],
)  # fmt: skip
def test_what_is_no_date(text):
    assert np.isnat(read_dates([text], False)).all()
    assert np.isnat(read_dates([text], True)).all()


def test_which_part_is_the_day():
    assert day_first(["03/04/2020", "13/04/2020"])
    assert not day_first(["03/04/2020", "04/13/2020"])
    assert not day_first(["03/04/2020"])
    assert day_first(["03.04.2020"])
    assert not day_first(["2020-04-03", "no date"])
    expected = np.array(["2020-04-03", "2020-04-13"], "datetime64[us]")
    np.testing.assert_array_equal(read_dates(["03/04/2020", "13/04/2020"], True), expected)


MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


@given(st.lists(MOMENTS))
def test_what_is_written_is_read(moments):
    values = np.array(moments, "datetime64[us]")
    np.testing.assert_array_equal(read_dates(date_texts(values), False), values)
    assert date_texts(values) == [m.isoformat().removesuffix("T00:00:00") for m in moments]


@given(MOMENTS, st.integers(-23 * 60, 23 * 60))
def test_zones_are_taken_to_utc(moment, minutes):
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    found = read_dates([local.isoformat()], False)
    assert found[0] == np.datetime64(local.astimezone(UTC).replace(tzinfo=None), "us")


@given(st.lists(st.text()), st.booleans())
def test_no_text_raises(texts, begins_with_day):
    assert len(read_dates(texts, begins_with_day)) == len(texts)
    assert day_first(texts) in (True, False)
