"""A backend over PyTorch's tensors on the CPU: it shows what adding a backend takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from deltaprop.backends.array_types import AnyArray as Array
from deltaprop.backends.array_types import ArrayLike, DType, HostArray
from deltaprop.backends.composed import ComposedBackend

#: Functions that have other names in PyTorch than in NumPy and SciPy.
NAMES = {"equal": torch.eq, "rint": torch.round, "ndtr": torch.special.ndtr}
REDUCTIONS: dict[str, Callable[..., Any]] = {"add": torch.sum, "maximum": torch.amax}


def torch_dtype(dtype: Any) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name)


class TorchBackend(ComposedBackend):
    """The primitives; every other operation is composed of them. It is right and short, not fast."""

    name = "torch"
    on_host = False

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchBackend, ()

    # -- arrays -------------------------------------------------------------------------------------------------

    def owns(self, array: object) -> bool:
        return isinstance(array, torch.Tensor)

    def asarray(self, array: ArrayLike, dtype: DTypeLike) -> Array:
        if not self.owns(array):
            array = torch.tensor(np.asarray(array))  # a copy, as on a device
        return array.to(torch_dtype(dtype)).contiguous()

    def to_numpy(self, array: Array) -> HostArray:
        host: HostArray = array.numpy().copy()
        return host

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return torch.empty(shape, dtype=torch_dtype(dtype))

    def dtype_of(self, array: Array) -> DType:
        return np.dtype(str(array.dtype).removeprefix("torch."))

    # -- primitives ---------------------------------------------------------------------------------------------

    def view(self, array: Array, dtype: DTypeLike) -> Array:
        return array.view(torch_dtype(dtype))

    def elementwise(self, function: np.ufunc, inputs: tuple[Array | float, ...], out: Array) -> None:
        dtype = next((x.dtype for x in inputs if isinstance(x, torch.Tensor)), out.dtype)
        name = function.__name__
        call = NAMES.get(name) or getattr(torch, name)
        call(*(x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=dtype) for x in inputs), out=out)

    def reduce(self, function: np.ufunc, array: Array, axis: int, out: Array) -> None:
        REDUCTIONS[function.__name__](array, axis, keepdim=True, out=out)

    def product(self, A: Array, B: Array, out: Array) -> None:
        torch.matmul(A, B, out=out)
