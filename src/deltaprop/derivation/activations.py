"""The names of the activations, and two of them as functions of their own: `sigmoid` and `sigmoid_grad`."""

from __future__ import annotations

import numpy as np

from deltaprop.arguments import refuse_masked
from deltaprop.backends import backend_of, get_backend
from deltaprop.backends.array_types import AnyArray, ArrayLike
from deltaprop.backends.numpy import ACTIVATION_FORMULAS

#: What hidden layers may use.
HIDDEN_ACTIVATIONS = tuple(name for name, activation in ACTIVATION_FORMULAS.items() if activation.hidden)
#: What the output layer may use. The Poisson loss takes exp, categorical cross-entropy takes softmax.
OUTPUT_ACTIVATIONS = (*ACTIVATION_FORMULAS, "softmax")


def check_activation(name: str, known: tuple[str, ...], argument: str) -> str:
    """`name`, if it is among `known`.

    Raises
    ------
    ValueError
        If it is not; the message lists those that are.
    """
    if name not in known:
        raise ValueError(f"{argument}: unknown activation {name!r}; known are {', '.join(map(repr, known))}")
    return name


def sigmoid(x: ArrayLike, out: AnyArray | None = None) -> AnyArray:
    """Compute σ(x) = 1/(1 + e^−x), the logistic function.

    Parameters
    ----------
    x : array_like of float32 or float64, or CuPy array of float16, float32 or float64
        Any shape. Python numbers, lists and integer arrays are taken as float64.
    out : array, optional
        Where to write: an array of the kind, shape and dtype of `x`. It may be `x` itself.

    Returns
    -------
    array
        `out`, or a new array of the kind, shape and dtype of `x`. Never a Python number.

    Raises
    ------
    TypeError
        If `x` has another dtype, or `out` is of another kind or dtype.
    ValueError
        If `out` has another shape.

    See Also
    --------
    sigmoid_grad : Its derivative.
    scipy.special.expit : The same for NumPy arrays alone.

    Notes
    -----
    Computed from e^−|x|, so nothing overflows for any float; nan gives nan, ±inf give 1 and 0. Within 2 units in the
    last place of the true value for float64 and 4 for float32, subnormal results included.

    Examples
    --------
    >>> import deltaprop as dp
    >>> dp.sigmoid([-800.0, 0.0, 800.0]).tolist()
    [0.0, 0.5, 1.0]
    >>> import numpy as np
    >>> Z = np.zeros((2, 3), np.float32)
    >>> dp.sigmoid(Z, out=Z) is Z, Z.dtype
    (True, dtype('float32'))
    """
    return _elementwise("activation", x, out)


def sigmoid_grad(z: ArrayLike, out: AnyArray | None = None) -> AnyArray:
    """Compute σ′(z) = e^−|z|/(1 + e^−|z|)², the derivative of the logistic function.

    It is σ(z)(1 − σ(z)) on paper; written this way it does not become 0 where σ(z) rounds to 1.

    Parameters
    ----------
    z : array_like of float32 or float64, or CuPy array of float16, float32 or float64
        Any shape. Python numbers, lists and integer arrays are taken as float64.
    out : array, optional
        Where to write: an array of the kind, shape and dtype of `z`. It may be `z` itself.

    Returns
    -------
    array
        `out`, or a new array of the kind, shape and dtype of `z`. Never a Python number.

    Raises
    ------
    TypeError
        If `z` has another dtype, or `out` is of another kind or dtype.
    ValueError
        If `out` has another shape.

    See Also
    --------
    sigmoid : The function itself.

    Notes
    -----
    ``sigmoid_grad(0) == 0.25`` exactly; nan gives nan, ±inf give 0. Within 4 units in the last place of the true value
    for float64 and 6 for float32, subnormal results included.

    Examples
    --------
    >>> import deltaprop as dp
    >>> dp.sigmoid_grad([0.0, 2.0]).round(6).tolist()
    [0.25, 0.104994]
    >>> bool(dp.sigmoid_grad(40.0) > 0.0)  # where dp.sigmoid(40.0) is 1.0 already
    True
    """
    return _elementwise("activation_gradient", z, out)


def _elementwise(operation: str, x: ArrayLike, out: AnyArray | None) -> AnyArray:
    """The backend's method called `operation`, for the sigmoid, after the checks that two public functions share."""
    refuse_masked(x, "x")
    backend = backend_of(x)
    if backend is None:
        x = np.asarray(x)
        if x.dtype.kind in "iub":
            x = x.astype(np.float64)
        backend = get_backend("numpy")
    allowed = ("float16", "float32", "float64") if not backend.on_host else ("float32", "float64")
    dtype = backend.dtype_of(x)
    if dtype.name not in allowed:
        raise TypeError(f"x: expected dtype {', '.join(allowed)}, got {dtype.name}")
    result = None
    if out is not None:
        if not backend.owns(out):
            raise TypeError(f"out: expected an array of the kind of x ({backend.name}), got {type(out).__name__}")
        if backend.dtype_of(out) != dtype:
            raise TypeError(f"out: expected dtype {dtype.name} as x has, got {backend.dtype_of(out).name}")
        if out.shape != x.shape:
            raise ValueError(f"out: expected shape {x.shape} as x has, got {out.shape}")
        if backend.is_beside(x, out):
            result = out
    if result is None:
        result = backend.empty(x.shape, dtype)
    with np.errstate(under="ignore"):  # a result that rounds to 0 is the right one
        getattr(backend, operation)("sigmoid", backend.asarray(x, dtype), result)
    if out is None or result is out:
        return result
    out[...] = result
    return out
