"""The backend of NumPy, and the activations and losses that there are: every other backend has the same."""

from deltaprop.backends.numpy.activation import ACTIVATION_FORMULAS
from deltaprop.backends.numpy.loss import LOSS_FORMULAS, Targets

__all__ = ["ACTIVATION_FORMULAS", "LOSS_FORMULAS", "Targets"]
