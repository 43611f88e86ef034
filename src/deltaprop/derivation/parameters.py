"""One flat vector for all parameters of a network (or their gradient), the layers being views of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from deltaprop.backends import Array, Backend
from deltaprop.backends.array_types import AnyArray
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table


class Parameters:
    """Weights and biases of every layer in one contiguous array: all weights first, layer by layer, then all biases.

    With the weights in front, the l2 penalty, which leaves biases alone, is one operation on one slice. A leading
    member axis, written ``…``, holds several networks of the same widths; without it, it is one.

    Parameters
    ----------
    backend : Backend
        Where the array lives.
    layer_sizes : sequence of int
        Widths s_1 … s_L.
    dtype : dtype
        Of the array, if it is new.
    members : int, optional
        How many networks; by default one, without the axis.
    flat : array, (…, n), optional
        Memory to take; by default new, and 0.

    Attributes
    ----------
    flat : array, (…, n)
        Everything.
    size : int
        How many entries a network has.
    n_weights : int
        How many of its first entries are weights.
    weights : list of array, (…, s_out, s_in)
        Views, one a layer.
    biases : list of array, (…, s_out)
        Views, one a layer.

    Examples
    --------
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 3, 1], loss="squared_error")
    >>> cost, gradient = net.cost_and_gradient([[0.0, 1.0]], [1.0])
    >>> gradient.flat.shape, gradient.n_weights
    ((13,), 9)
    >>> [W.shape for W in gradient.weights], [b.shape for b in gradient.biases]
    ([(3, 2), (1, 3)], [(3,), (1,)])
    >>> [Theta.shape for Theta in gradient.thetas]
    [(3, 3), (1, 4)]
    """

    backend: Backend
    layer_sizes: tuple[int, ...]
    #: What compiled code has been told of this memory, see `deltaprop.epochs.compiled_evaluation`; it goes with the
    #: memory, not with copies of it.
    evaluation: object = None

    def __init__(
        self,
        backend: Backend,
        layer_sizes: Sequence[int],
        dtype: DTypeLike,
        members: int | None = None,
        *,
        flat: Array | None = None,
    ) -> None:
        self.backend, self.layer_sizes = backend, tuple(layer_sizes)
        pairs = list(pairwise(layer_sizes))
        self.n_weights: int = sum(s_in * s_out for s_in, s_out in pairs)
        lead: tuple[int, ...] = () if members is None else (members,)
        self.size: int = self.n_weights + sum(layer_sizes[1:])
        self.flat: Array = backend.zeros((*lead, self.size), dtype) if flat is None else flat
        lead = self.flat.shape[:-1]
        self.weights: list[Array] = []
        self.biases: list[Array] = []
        w, b = 0, self.n_weights
        for s_in, s_out in pairs:
            self.weights.append(self.flat[..., w : w + s_in * s_out].reshape(*lead, s_out, s_in))
            self.biases.append(self.flat[..., b : b + s_out])
            w, b = w + s_in * s_out, b + s_out

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but what compiled code has been told."""
        return {name: value for name, value in self.__dict__.items() if name != "evaluation"}

    def on(self, backend: Backend) -> Parameters:
        """Copy the parameters to a backend.

        Parameters
        ----------
        backend : Backend
            It may be the same one.

        Returns
        -------
        copy : Parameters
            They share no memory with these.
        """
        dtype = self.backend.dtype_of(self.flat)
        flat = backend.asarray(self.backend.to_numpy(self.flat), dtype)
        if backend.owns(self.flat):
            flat = backend.copy(flat)
        return Parameters(backend, self.layer_sizes, dtype, flat=flat)

    @property
    def flat_weights(self) -> Array:
        """The view of all weights, (…, n_weights), without the biases."""
        return self.flat[..., : self.n_weights]

    def require_writeable(self) -> None:
        """Refuse to be changed where somebody has made the memory read-only, as a whole or a layer of it.

        Raises
        ------
        ValueError
            If somebody has.
        """
        named: list[tuple[str, object]] = [("parameters", self.flat)]
        named += [(f"weights[{l}]", W) for l, W in enumerate(self.weights)]
        named += [(f"biases[{l}]", b) for l, b in enumerate(self.biases)]
        for name, array in named:
            while isinstance(array, np.ndarray):  # a view has a flag of its own
                if not array.flags.writeable:
                    raise ValueError(f"{name}: expected a writeable array, got a read-only one")
                array = array.base

    @property
    def thetas(self) -> list[Array]:
        """The Θ^(l) = [b^(l), W^(l)], (…, s_out, 1 + s_in), one a layer: copies, the bias in column 0."""
        result = []
        for W, b in zip(self.weights, self.biases, strict=True):
            theta = self.backend.empty((*W.shape[:-1], 1 + W.shape[-1]), W.dtype)
            theta[..., 0] = b
            theta[..., 1:] = W
            result.append(theta)
        return result

    def _repr_html_(self) -> str:
        """Show the size of every layer's entries; they are copied to the host for it."""
        with self.backend.scope():
            arrays = [
                (self.backend.to_numpy(W), self.backend.to_numpy(b))
                for W, b in zip(self.weights, self.biases, strict=True)
            ]
        table = Table(["", "shape", "entries", "norm", "mean", "smallest", "largest"])
        for l, pair in enumerate(arrays):
            for name, values in zip((f"weights[{l}]", f"biases[{l}]"), pair, strict=True):
                table.add(name, str(values.shape), *_figures(values))
        flat = np.concatenate([values.ravel() for pair in arrays for values in pair])
        table.add("flat", str(self.flat.shape), *_figures(flat), strong=True)
        return Sheet(f"Weights and biases: {' → '.join(map(str, self.layer_sizes))}", table).html()


def _figures(values: AnyArray) -> list[str]:
    """Write how many entries there are, their Euclidean norm, mean, minimum and maximum."""
    exact = values.astype(np.float64)
    figures = (float(np.linalg.norm(exact)), exact.mean(), exact.min(), exact.max())
    return [f"{exact.size:,}", *(f"{figure:.4g}" for figure in figures)]
