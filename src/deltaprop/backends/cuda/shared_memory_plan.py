"""The structures that Python fills in for ``kernels/cuda/resident.cu``, which explains their fields."""

from __future__ import annotations

import ctypes

from deltaprop.backends.kernel_structures import fields_of

FILE = "cuda/resident.cu"


class Layer(ctypes.Structure):
    """How a layer lies in shared memory, and how threads share its work out."""

    _fields_ = fields_of(FILE, "Layer")


class Shape(ctypes.Structure):
    """How a network lies in shared memory."""

    _fields_ = fields_of(FILE, "Shape", {"Layer": Layer})


class ResidentPlan(ctypes.Structure):
    """What the epochs of a launch are to do."""

    _fields_ = fields_of(FILE, "ResidentPlan", {"Shape": Shape})


#: As many layers as a shape has room for.
MOST_LAYERS: int = dict(Shape._fields_)["layer"]._length_
