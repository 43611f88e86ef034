"""Arrays of the emulated device, which do what CuPy's arrays do and refuse what they refuse.

CuPy converts no array between device and host unasked: operations on both kinds, NumPy functions that CuPy lacks, and
arrays of another device are errors. NumPy arrays in place of device arrays would let all of that pass. The rules are
those of CuPy 14.
"""

import operator
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

SCALARS = (bool, int, float, complex, np.generic)
#: The functions that have the same name in NumPy and CuPy. NumPy's function, called on a device array, runs CuPy's.
SHARED = (
    *("absolute", "add", "all", "allclose", "any", "arange", "argmax", "argmin", "argsort", "array_equal", "clip"),
    *("concatenate", "divide", "dot", "empty_like", "equal", "exp", "floor", "full", "full_like", "greater"),
    *("greater_equal", "isclose", "isfinite", "isinf", "isnan", "less", "less_equal", "linalg.norm", "log"),
    *("log1p", "logaddexp", "logical_and", "logical_not", "logical_or", "matmul", "max", "maximum", "mean", "min"),
    *("minimum", "multiply", "ndim", "negative", "not_equal", "ones", "ones_like", "outer", "power", "ravel"),
    *("reshape", "result_type", "shape", "sign", "size", "split", "sqrt", "square", "stack", "subtract", "sum"),
    *("swapaxes", "tanh", "transpose", "tril", "true_divide", "unique", "vdot", "where", "zeros", "zeros_like"),
)  # fmt: skip


class Devices(threading.local):
    """Imaginary devices, one of them current in each thread."""

    def __init__(self):
        self.current = [0]

    def device(self, number=None):
        """Stands for cupy.cuda.Device."""
        return Device(self, self.current[-1] if number is None else number)


class Device:
    def __init__(self, devices, number):
        self.devices, self.id, self.compute_capability = devices, number, "90"

    def __enter__(self):
        self.devices.current.append(self.id)
        return self

    def __exit__(self, *error):
        self.devices.current.pop()


DEVICES = Devices()


class StrictArray:
    """An array in the memory of an emulated device.

    Parameters
    ----------
    memory : np.ndarray
        The array that holds the entries; it is not copied.
    device : int, optional
        The number of the device; by default the current one.
    """

    __slots__ = ("__weakref__", "_device", "_memory")
    __array_priority__ = 100
    __hash__: Any = None
    # What `_delegated` adds, below.
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ndim: int
    nbytes: int
    transpose: Callable[..., Any]

    def __init__(self, memory, device=None):
        assert type(memory) is np.ndarray
        self._memory = memory
        self._device = DEVICES.current[-1] if device is None else device

    # -- attributes that only CuPy's arrays have -----------------------------------------------------------

    @property
    def data(self):
        return SimpleNamespace(ptr=self._memory.ctypes.data, device_id=self._device)

    @property
    def device(self):
        return Device(DEVICES, self._device)

    @property
    def __cuda_array_interface__(self):
        return self._memory.__array_interface__ | {"version": 3, "stream": 1}

    def get(self):
        """Return a copy on the host."""
        return self._memory.copy(order="C")

    def set(self, array, stream=None):
        """Copy a NumPy array to the device."""
        if not isinstance(array, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if array.dtype != self.dtype:
            raise TypeError(f"{array.dtype} array cannot be set to {self.dtype} array")
        if array.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {array.shape}")
        if not (self._memory.flags.c_contiguous or self._memory.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        self._memory[...] = array

    # -- what is refused ----------------------------------------------------------------------------------------

    def __array__(self, *arguments, **options):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__" or ufunc.__name__ not in SHARED:
            return NotImplemented
        if ufunc.__name__ in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
            inputs = tuple(x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs)
        if "out" in options:
            (options["out"],) = options["out"]
        return _on_device(ufunc)(*inputs, **options)

    def __array_function__(self, function, types, arguments, options):
        name = ".".join([*function.__module__.split(".")[1:], function.__name__])
        if name not in SHARED or not set(types) <= {StrictArray, np.ndarray}:
            return NotImplemented
        return _on_device(function)(*arguments, **options)

    # -- items --------------------------------------------------------------------------------------------------

    def __getitem__(self, index):
        """Return a view, without axes where NumPy gives a number; a copy for index arrays, which may be on the host."""
        index = _index(index)
        found = self._memory[index]
        if isinstance(found, np.generic):
            found = self._memory[(*(index if isinstance(index, tuple) else (index,)), ...)]
        return StrictArray(found, self._device)

    def __setitem__(self, index, value):
        chosen = index if isinstance(index, tuple) else (index,)
        if isinstance(value, StrictArray):
            value = memory(value)
        elif not any(isinstance(i, (list, np.ndarray, StrictArray)) for i in chosen):
            _check_filling(value)
        memory(self)[_index(index)] = value

    def fill(self, value):
        _check_filling(value)
        memory(self).fill(value if not isinstance(value, np.ndarray) else value.item())

    def __len__(self):
        return len(self._memory)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # -- explicit conversions to the host --------------------------------------------------

    def item(self, *index):
        return self._memory.item(*index)

    def tolist(self):
        return self._memory.tolist()

    def tobytes(self):
        return self._memory.tobytes()

    def __float__(self):
        return float(self._memory)

    def __int__(self):
        return int(self._memory)

    def __bool__(self):
        return bool(self._memory)

    def __repr__(self):
        return repr(self._memory)

    def __format__(self, specification):
        return format(self._memory, specification)

    # -- copies -------------------------------------------------------------------------------------------------

    def copy(self, order="C"):
        """Return a copy on the current device."""
        return StrictArray(self._memory.copy(order=order))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        with self.device:
            return self.copy()

    def __reduce__(self):
        return asarray, (self.get(),)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return StrictArray(memory(self).astype(dtype, order=order))

    @property
    def T(self):
        return self.transpose()

    @property
    def flags(self):
        flags = self._memory.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)


# The library recognises CuPy's arrays by this module and name.
StrictArray.__module__, StrictArray.__qualname__, StrictArray.__name__ = "cupy", "ndarray", "ndarray"


def memory(value, where="operation"):
    """Return the memory of an operand for an operation; refuse an operand that is not on the current device.

    Raises
    ------
    TypeError
        If it is a NumPy array.
    ValueError
        If it is on another device.
    """
    if isinstance(value, StrictArray):
        if value._device != DEVICES.current[-1]:
            raise ValueError(
                f"Array device must be same as the current device: array device = {value._device} while current = "
                f"{DEVICES.current[-1]}"
            )
        return value._memory
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray} in {where}")
    if isinstance(value, (list, tuple)):
        return type(value)(memory(x, where) for x in value)
    return value


def _check_filling(value):
    if isinstance(value, np.ndarray) and value.shape != ():
        raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
    if not isinstance(value, (*SCALARS, np.ndarray)):
        raise TypeError(f"Unsupported type {type(value)}")


def _index(index):
    """Return an index for the memory; index arrays may be on the host."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return memory(index) if isinstance(index, StrictArray) else index


def _wrapped(value):
    """Wrap a result; a number becomes an array without axes, as on a device."""
    if isinstance(value, (np.ndarray, np.generic, bool)):
        return StrictArray(np.asarray(value))
    return type(value)(map(_wrapped, value)) if type(value) in (list, tuple) else value


def _on_device(function, name=None):
    """Return NumPy's `function` for device arrays and numbers only."""
    name = name or function.__name__

    def on_device(*arguments, **options):
        out = options.get("out")
        result = function(*memory(arguments, name), **{key: memory(value, name) for key, value in options.items()})
        return _wrapped(result) if out is None else out

    return on_device


def asarray(array, dtype=None, order=None):
    """Stands for cupy.asarray: returns the array itself if it is on the current device, in that dtype and order."""
    if not isinstance(array, StrictArray):
        return StrictArray(np.array(array, dtype=dtype, order="C"))
    own = array._memory
    as_it_is = (dtype is None or own.dtype == dtype) and (order != "C" or own.flags.c_contiguous)
    if as_it_is and array._device == DEVICES.current[-1]:
        return array
    return StrictArray(np.array(own, dtype=dtype, order=order or "K"))


def asnumpy(array):
    """Stands for cupy.asnumpy."""
    return array.get() if isinstance(array, StrictArray) else np.asarray(array)


def empty(shape, dtype=float):
    """Return an array of NaN, so that reading before writing shows."""
    kind = np.dtype(dtype).kind
    return StrictArray(np.full(shape, np.nan if kind in "fc" else 77, dtype))


def functions():
    """Return the functions of the stand-in for CuPy's module, by name."""
    own = {name: _on_device(getattr(np, name)) for name in SHARED if "." not in name}
    linalg = SimpleNamespace(norm=_on_device(np.linalg.norm))
    made = {"ndarray": StrictArray, "asarray": asarray, "array": asarray, "asnumpy": asnumpy, "empty": empty}
    return own | made | {"linalg": linalg}


def _of_memory(name):
    return property(lambda self: getattr(self._memory, name))


def _delegated():
    """Add NumPy's attributes, methods and operators, which check their operands first."""
    for name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides"):
        setattr(StrictArray, name, _of_memory(name))
    for name in ("reshape", "view", "swapaxes", "transpose", "squeeze", "ravel"):  # views, on any device

        def view(self, *arguments, _name=name, **options):
            return StrictArray(getattr(self._memory, _name)(*arguments, **options), self._device)

        setattr(StrictArray, name, view)
    methods = ("sum", "prod", "mean", "std", "var", "min", "max", "argmin", "argmax", "any", "all", "cumsum")
    for name in (*methods, "take", "dot", "round", "clip", "nonzero", "repeat", "flatten", "argsort", "sort", "conj"):
        setattr(StrictArray, name, _on_device(getattr(np.ndarray, name), name))
    for name in ("neg", "abs", "invert", "pos"):
        setattr(StrictArray, f"__{name}__", _on_device(getattr(operator, name), name))
    binary = (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
    )
    for name in (*binary, "lt", "le", "gt", "ge", "eq", "ne"):
        function = _on_device(getattr(operator, f"{name}_" if name in ("and", "or") else name), name)
        setattr(StrictArray, f"__{name}__", _binary(function, compares=name not in binary))
        if name in binary:
            setattr(StrictArray, f"__r{name}__", _binary(lambda x, y, function=function: function(y, x)))
        if name in binary and name != "matmul":
            setattr(StrictArray, f"__i{name}__", _in_place(getattr(operator, f"i{name}")))


def _binary(function, *, compares=False):
    def operation(self, other):
        if compares and isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()
        return function(self, other) if isinstance(other, (StrictArray, np.ndarray, *SCALARS)) else NotImplemented

    return operation


def _in_place(function):
    def operation(self, other):
        function(memory(self)[...], memory(other, function.__name__))
        return self

    return operation


_delegated()
