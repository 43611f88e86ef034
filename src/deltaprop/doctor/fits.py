"""Describes a training, and measures how far its parameters end from those of NumPy step by step.

The bounds: a step rounds each number a few times, by 1.1e-16 of it in float64 and 6e-8 in float32, and training over
some hundred steps carries these errors on. On an H200 the trainings below ended 1e-14 and 4e-6 from the reference
(relative, by norm), 2e-5 where products round their operands to 11 significant bits (tf32, fp16) and 2e-4 where to 8
(bf16). Ten to a hundred times that is allowed; an update that is left out, or a wrong row, is found at 1e-2 and above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.backends import Backend
from deltaprop.backends.array_types import ArrayLike, Floats, Indices
from deltaprop.backends.base import Precision
from deltaprop.backends.choices import BackendName, FloatName, LossName
from deltaprop.derivation.optimizers import SGD, Adam, AdamW
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.network import Network
from deltaprop.reports.history import History

#: Largest relative error allowed by dtype, and of float32 networks by precision: there, the rounding of one operand.
ALLOWED = {"float64": 1e-12, "float32": 4e-5, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}
#: The optimizers, by the names they have in checks.
OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "Nesterov": SGD(0.05, momentum=0.8, nesterov=True),
    "Adam": Adam(0.01),
    "AdamW": AdamW(0.01),
}
LOSS: LossName = "categorical_cross_entropy"
#: The seed of the parameters, and of the order of samples.
SEED = 3


@dataclass(frozen=True)
class Fit:
    """A training on random data: odd sizes, a shorter last minibatch, an L2 penalty.

    Attributes
    ----------
    dtype : {"float64", "float32"}
    rule : str
        One of `OPTIMIZERS`.
    samples, batch, epochs : int
    layer_sizes : tuple of int
    precision : {"tf32", "bf16", "fp16"} or None
    """

    dtype: FloatName = "float64"
    rule: str = "SGD"
    samples: int = 61
    batch: int = 7
    epochs: int = 2
    layer_sizes: tuple[int, ...] = (20, 33, 17, 4)
    precision: Precision | None = None

    @property
    def allowed(self) -> float:
        """The largest relative error that counts as rounding."""
        return ALLOWED[self.precision or self.dtype]

    @property
    def name(self) -> str:
        """The name of its check."""
        return f"{self.precision or self.dtype} {self.rule}"

    def data(self) -> tuple[Floats, Indices]:
        """X and the classes, the same in every process."""
        rng = np.random.default_rng(0)
        inputs, classes = self.layer_sizes[0], self.layer_sizes[-1]
        return rng.standard_normal((self.samples, inputs)), rng.integers(0, classes, self.samples)

    def network(self, backend: BackendName | Backend) -> Network:
        """The network before training."""
        options: dict[str, Any] = {} if self.precision is None else {"precision": self.precision}
        return Network(self.layer_sizes, loss=LOSS, seed=SEED, dtype=self.dtype, backend=backend, **options)

    def train(self, network: Network, X: ArrayLike, y: ArrayLike) -> History:
        """Train it."""
        return network.fit(X, y, optimizer=OPTIMIZERS[self.rule], batch_size=self.batch, epochs=self.epochs, l2=0.1)

    def error(self, backend: Backend) -> float:
        """How far the parameters and the cost of each epoch are from what the reference learns in float64."""
        ours, (X, y) = self.network(backend), self.data()
        reference = Network(self.layer_sizes, loss=LOSS, seed=SEED, dtype="float64", backend="reference")
        reference.parameters = backend.to_numpy(ours.parameters).astype(np.float64)  # float32 has rounded them
        # Lists are no device arrays, so the backend decides where it keeps the data.
        costs, expected = (self.train(network, X.tolist(), y).cost for network in (ours, reference))
        of_parameters = relative(backend.to_numpy(ours.parameters), reference.parameters)
        return worst(of_parameters, relative(np.array(costs), np.array(expected)))


def relative(got: Floats, expected: Floats) -> float:
    """‖got − expected‖/‖expected‖."""
    difference = np.linalg.norm(got.astype(np.float64) - expected.astype(np.float64))
    return float(difference / np.linalg.norm(expected))


def worst(*errors: float) -> float:
    """Return the largest error, or nan if one is nan."""
    return float(np.max(np.array(errors)))
