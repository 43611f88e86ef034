"""The names that users write for activations, losses and so on, as types: a checker underlines any other name.

A checker does not run the tables that hold these names at run time, so they stand here once more; a test compares them.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

#: What hidden layers may use, and what the output layer may.
HiddenActivation: TypeAlias = Literal["sigmoid", "tanh", "relu", "identity", "leaky_relu", "softplus", "silu", "gelu"]
OutputActivation: TypeAlias = Literal[HiddenActivation, "exp", "softmax"]
#: The losses that have a name; a pair of functions may stand in their place.
LossName: TypeAlias = Literal[
    "squared_error",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "clipped_binary_cross_entropy",
    "clipped_categorical_cross_entropy",
    "poisson",
    "huber",
    "absolute_error",
]
#: The ways to draw the first parameters.
Initialization: TypeAlias = Literal[
    "glorot_uniform", "scikit_learn", "normal", "scaled_normal", "lecun", "he", "debug_initialize", "zeros"
]
#: The metrics that have a name.
MetricName: TypeAlias = Literal["accuracy", "mean_squared_error", "mean_absolute_error", "r2"]
#: The backends that have a name. No type describes "cupy:N" for every N: `get_backend` takes any text.
BackendName: TypeAlias = Literal[
    "auto", "numpy", "cupy", "reference", "cupy:0", "cupy:1", "cupy:2", "cupy:3", "cupy:4", "cupy:5", "cupy:6", "cupy:7"
]
#: The dtypes of networks, by name or as NumPy's.
FloatName: TypeAlias = Literal["float32", "float64"]
FloatDType: TypeAlias = FloatName | type[np.float32] | type[np.float64] | np.dtype[Any]
