"""The backend of NumPy, and the activations and losses that there are: every other backend has the same."""

from deltaprop.backends.numpy.activation import ACTIVATIONS
from deltaprop.backends.numpy.loss import LOSSES, Targets

__all__ = ["ACTIVATIONS", "LOSSES", "Targets"]
