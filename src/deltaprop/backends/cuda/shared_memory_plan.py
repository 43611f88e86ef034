"""The structures that Python fills in for ``kernels/cuda/resident.cu``."""

from __future__ import annotations

import ctypes

#: As many as ``struct Shape`` has room for.
MOST_LAYERS = 8

_I, _L, _D, _P = ctypes.c_int, ctypes.c_longlong, ctypes.c_double, ctypes.c_void_p


class Layer(ctypes.Structure):
    """The twin of ``struct Layer`` in ``kernels/cuda/resident.cu``, which says what the fields mean."""

    _fields_ = tuple(
        (name, _I)
        for name in (
            *("s_in", "s_out", "activation", "split", "share", "a_stride", "w_stride", "z_stride"),
            *("W", "b", "A", "Z", "delta", "parts", "first_weight", "first_bias"),
            *("units", "rows", "lanes", "slices", "rows_back", "units_updated", "weights_from", "biases_from"),
        )
    )


class Shape(ctypes.Structure):
    """The twin of ``struct Shape`` in ``kernels/cuda/resident.cu``, which says what the fields mean."""

    _fields_ = (
        ("layers", _I),
        ("layer", Layer * MOST_LAYERS),
        *(
            (name, _I)
            for name in (
                *(
                    "loss",
                    "optimizer",
                    "batch",
                    "height",
                    "threads",
                    "rows_unrolled",
                    "n",
                    "state",
                    "X",
                    "Y",
                    "weights",
                    "order",
                ),
                *("arrivals", "partial", "sums", "entries", "x_lanes", "y_lanes", "output_lanes"),
            )
        ),
    )


class Plan(ctypes.Structure):
    """The twin of ``struct Plan`` in ``kernels/cuda/resident.cu``, which says what the fields mean."""

    _fields_ = (
        ("shape", Shape),
        *((name, _L) for name in ("samples", "steps", "epochs")),
        *((name, _P) for name in ("parameters", "first", "second", "x", "y", "weights", "order")),
        ("order_stride", _L),
        ("terms", _P),
        ("terms_stride", _L),
        *((name, _D) for name in ("momentum", "beta_1", "beta_2", "epsilon")),
        *((name, _P) for name in ("cost", "decay", "squares", "diverged")),
        *((name, _L) for name in ("keep_last_good", "x_bytes", "y_bytes")),
    )
