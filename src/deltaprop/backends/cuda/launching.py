"""How numbers and arrays are handed to kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.base import Scalar

#: The address of an array that is not there.
NULL = np.uintp(0)


def number(value: Scalar, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The two arguments by which a kernel gets a number that the host knows, or that stands on the device."""
    if isinstance(value, (int, float)):
        return dtype.type(value), NULL
    return dtype.type(0), value
