"""A column of dates as numbers: year, month, day of the month, day of the week, hour, and the time itself."""

from __future__ import annotations

import numpy as np

from deltaprop.backends.array_types import Floats, HostArray

DAY = np.timedelta64(1, "D")


def parts_of(dates: HostArray) -> dict[str, Floats]:
    """Split dates into numbers, each (m,), with NaN for a gap.

    Parameters
    ----------
    dates : array, (m,) of datetime64[us]
        With NaT for a gap.

    Returns
    -------
    dict of str to array
        "year", "month" (1 … 12), "day" (1 … 31), "weekday" (0 for Monday … 6), "hour" (with its fraction), and "time",
        in days since 1970.
    """
    gaps = np.isnat(dates)
    known = np.where(gaps, np.datetime64(0, "us"), dates)
    days, months, years = (known.astype(f"datetime64[{unit}]") for unit in "DMY")
    since = days.astype(np.int64)
    parts = {
        "year": years.astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12 + 1,
        "day": (days - months.astype(days.dtype)).astype(np.int64) + 1,
        "weekday": (since + 3) % 7,  # 1970 began on a Thursday
        "hour": (known - days.astype(known.dtype)) / np.timedelta64(1, "h"),
        "time": (known - np.datetime64(0, "us")) / DAY,
    }
    return {name: np.where(gaps, np.nan, part) for name, part in parts.items()}
