"""The chain rule for one variable, y = f(g(h(x))), accumulated from either end: automatic differentiation in small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from deltaprop.backends.array_types import ArrayLike
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

AccumulationMode = Literal["forward", "reverse"]


@dataclass(frozen=True)
class Accumulation:
    """All values and derivatives of a chain w_0 = x, w_{i+1} = f_i(w_i), y = w_n; ``str()`` gives a table.

    Parameters
    ----------
    mode : {"forward", "reverse"}
        From which end the derivatives were accumulated.
    values : list
        The values w_0 … w_n.
    derivatives : list
        Forward mode: dw_0/dx … dw_n/dx. Reverse mode: dy/dw_0 … dy/dw_n. Entry i belongs to ``values[i]``.

    See Also
    --------
    deltaprop.accumulate : Makes it.

    Examples
    --------
    >>> import deltaprop as dp
    >>> square, triple = lambda w: w * w, lambda w: 3.0 * w
    >>> chain = dp.accumulate([square, triple], [lambda w: 2.0 * w, lambda w: 3.0], 2.0)  # y = 3 x²
    >>> chain.values, chain.derivatives, chain.derivative
    ([2.0, 4.0, 12.0], [1.0, 4.0, 12.0], 12.0)
    """

    mode: AccumulationMode
    values: list[Any]
    derivatives: list[Any]

    @property
    def derivative(self) -> Any:
        """The derivative dy/dx: the last of dw_i/dx, or the first of dy/dw_i."""
        return self.derivatives[-1 if self.mode == "forward" else 0]

    def __str__(self) -> str:
        return self._table.render()

    def _repr_html_(self) -> str:
        return Sheet(f"The chain rule, {self.mode} mode", self._table).html()

    @property
    def _table(self) -> Table:
        table = Table(["i", "w_i", "dw_i/dx" if self.mode == "forward" else "dy/dw_i"])
        rows = [(str(i), str(w), str(d)) for i, (w, d) in enumerate(zip(self.values, self.derivatives, strict=True))]
        for row in rows if self.mode == "forward" else reversed(rows):  # in the order in which they are computed
            table.add(*row)
        return table


def accumulate(
    functions: Sequence[Callable[[Any], Any]],
    derivatives: Sequence[Callable[[Any], Any]],
    x: ArrayLike,
    mode: AccumulationMode = "forward",
) -> Accumulation:
    """Compute dy/dx of a chain of functions of one variable, with every intermediate result.

    Parameters
    ----------
    functions : sequence of callable
        The functions in the order they are applied: ``[h, g, f]`` for y = f(g(h(x))), so that ``functions[i]`` takes
        w_i to w_{i+1}.
    derivatives : sequence of callable
        The derivative of each function, in the same order.
    x : number or array
        Where to compute it; an array holds one chain an entry.
    mode : {"forward", "reverse"}
        Forward: dw_{i+1}/dx = f_i′(w_i) · dw_i/dx, beginning with dx/dx = 1, along with the values.
        Reverse: dy/dw_i = dy/dw_{i+1} · f_i′(w_i), beginning with dy/dy = 1, once all values are known.

    Returns
    -------
    Accumulation
        Its ``values`` and ``derivatives`` belong to all steps, its ``derivative`` is dy/dx.

    Raises
    ------
    ValueError
        If there are not as many derivatives as functions, or `mode` is not one of the two.
    TypeError
        If a function or a derivative cannot be called.

    See Also
    --------
    deltaprop.Network.jvp : Forward mode through a network.
    deltaprop.Network.vjp : Reverse mode through a network.

    Examples
    --------
    >>> import math
    >>> import deltaprop as dp
    >>> square, double = lambda w: w * w, lambda w: 2 * w
    >>> dp.accumulate([square, math.sin], [double, math.cos], 0.5, mode="reverse").derivative == math.cos(0.25)
    True
    """
    if mode not in get_args(AccumulationMode):
        raise ValueError(f"mode: expected 'forward' or 'reverse', got {mode!r}")
    if len(derivatives) != len(functions):
        raise ValueError(f"derivatives: expected {len(functions)}, one for each function, got {len(derivatives)}")
    for name, callables in (("functions", functions), ("derivatives", derivatives)):
        for i, function in enumerate(callables):
            if not callable(function):
                raise TypeError(f"{name}[{i}]: expected a function of one variable, got {function!r}")

    w = [x]
    for function in functions:
        w.append(function(w[-1]))
    slopes = [derivative(w_i) for derivative, (w_i, _) in zip(derivatives, pairwise(w), strict=True)]
    one = x**0  # of the kind of x
    accumulated = [one]
    for slope in slopes if mode == "forward" else reversed(slopes):
        accumulated.append(slope * accumulated[-1])
    return Accumulation(mode, w, accumulated if mode == "forward" else accumulated[::-1])
