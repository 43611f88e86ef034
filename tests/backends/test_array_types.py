"""What core code may ask of an array is there in every library; mypy refuses the rest."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from conftest import require
from strict_array import StrictArray

from deltaprop.backends import Array

if TYPE_CHECKING:
    import torch

    def of_each_library(of_numpy: np.ndarray[Any, Any], of_torch: torch.Tensor) -> list[Array]:
        return [of_numpy, of_torch]

    def what_only_some_libraries_have(array: Array) -> None:
        """If mypy accepts one of these, it says that there is nothing to ignore."""
        array.fill(0.0)  # type: ignore[attr-defined]
        array.copy()  # type: ignore[attr-defined]
        array.sum(dtype="float64")  # type: ignore[call-arg]
        array.data.ptr  # type: ignore[attr-defined]  # noqa: B018


class Empty(Protocol):
    pass


MEMBERS = sorted(vars(Array).keys() - vars(Empty).keys())
LIBRARIES = {
    "numpy": lambda: np.ndarray,
    "torch": lambda: require("torch").Tensor,
    "cupy, emulated": lambda: StrictArray,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_has_what_core_code_may_ask_for(library):
    kind = LIBRARIES[library]()
    assert {"shape", "reshape", "__getitem__", "__iadd__"} < set(MEMBERS)
    assert [name for name in MEMBERS if not hasattr(kind, name)] == []
