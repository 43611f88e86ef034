"""One sample's way through a small network and back, with a name for every number of the derivation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import Literal, TypeAlias

from deltaprop.backends import Array
from deltaprop.backends.array_types import Floats
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.derivatives import MatrixDerivatives
from deltaprop.derivation.state import NetworkState
from deltaprop.files.atomic_file import write_atomically
from deltaprop.reports.html_table import html_output, html_page, html_table
from deltaprop.reports.notebook import ShownOnce
from deltaprop.reports.text_table import Table

Matrix: TypeAlias = Floats
Format: TypeAlias = Literal["table", "markdown"]
#: A layer wider than this makes a table that nobody reads.
WIDEST = 16


@dataclass(frozen=True)
class Section:
    """A part of an explanation.

    Parameters
    ----------
    step : str
        Which step of the derivation it belongs to: a page shows a step's parts side by side.
    title : str
        Its heading, with the formula.
    table : Table or None
        Its numbers; None if they stand in the heading.

    Examples
    --------
    >>> import contextlib, io
    >>> import deltaprop as dp
    >>> with contextlib.redirect_stdout(io.StringIO()):  # it prints itself
    ...     seen = dp.Network([2, 1]).explain([1.0, 2.0], 1)
    >>> [section.step for section in seen.sections]
    ['Parameters', 'Forward', 'Forward', 'Cost', 'Backward', 'Gradient', 'Gradient']
    """

    step: str
    title: str
    table: Table | None


@dataclass(frozen=True, repr=False)
class Explanation(ShownOnce):
    """Every quantity of one forward and one backward pass over one sample; ``str()`` gives them as tables.

    Parameters
    ----------
    Theta : list of array, (s_{l+1}, 1 + s_l)
        Θ^(l) = [b^(l), W^(l)].
    a : list of array, (s_l,)
        The outputs a^(1) … a^(L) of the layers; a^(1) is x.
    z : list of array, (s_l,)
        The inputs z^(2) … z^(L) of the activations.
    slope : list of array, (s_l,), or None
        The derivatives g′(z^(2)) … g′(z^(L)); None for a softmax layer, whose derivative is a matrix.
    delta : list of array, (s_l,)
        The errors δ^(2) … δ^(L).
    Delta : list of array, (s_{l+1}, 1 + s_l)
        Δ^(l) = δ^(l+1) [1; a^(l)]ᵀ, the bias in column 0.
    D : list of array, (s_{l+1}, 1 + s_l)
        ∂J/∂Θ^(l) = Δ^(l)/m + λ/m [0, W^(l)], m = 1.
    y : array, (s_L,)
        The target.
    cost : float
        The cost J of this sample, with the penalty.
    sections : list of Section
        The headings and tables, in the order in which their numbers are computed.
    format : {"table", "markdown"}
        How they are written as text.

    See Also
    --------
    deltaprop.Network.explain : Makes it.

    Examples
    --------
    >>> import contextlib, io
    >>> import deltaprop as dp
    >>> net = dp.Network([2, 1], init="zeros")
    >>> with contextlib.redirect_stdout(io.StringIO()):  # it prints itself
    ...     seen = net.explain([1.0, 2.0], 1)
    >>> seen.a[-1].tolist(), seen.delta[-1].tolist()  # σ(0), and a^(2) − y
    ([0.5], [-0.5])
    >>> seen.Delta[0].tolist()  # δ^(2) [1, x_1, x_2]
    [[-0.5, -0.5, -1.0]]
    """

    Theta: list[Matrix]
    a: list[Matrix]
    z: list[Matrix]
    slope: list[Matrix | None]
    delta: list[Matrix]
    Delta: list[Matrix]
    D: list[Matrix]
    y: Matrix
    cost: float
    sections: list[Section]
    format: Format = "table"

    @property
    def text(self) -> str:
        """The tables as text."""
        markdown, parts = self.format == "markdown", []
        for section in self.sections:
            if section.table is None:
                parts.append(section.title)
                continue
            heading = f"### {section.title}\n" if markdown else section.title
            parts.append(f"{heading}\n{section.table.render(markdown=markdown)}")
        return "\n\n".join(parts)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one HTML page, which needs no other file; all or nothing.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays whole.

        Examples
        --------
        >>> import contextlib, io
        >>> import deltaprop as dp
        >>> with contextlib.redirect_stdout(io.StringIO()):  # it prints itself
        ...     seen = dp.Network([2, 3, 1]).explain([1.0, 2.0], 1)
        >>> seen.save_html("page.html")
        """
        write_atomically(path, html_page(self._title, self._repr_html_()).encode())

    @property
    def _title(self) -> str:
        return f"One sample through a network {' → '.join(str(len(a)) for a in self.a)}"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        parts = [f"<h3>{escape(self._title)}</h3>"]
        for step, sections in groupby(self.sections, key=lambda section: section.step):
            columns = (f"<div><h5>{_formulas(escape(each.title))}</h5>{_table(each.table)}</div>" for each in sections)
            parts.append(f'<h4>{escape(step)}</h4><div class="side">{"".join(columns)}</div>')
        return html_output(*parts)

    def __repr__(self) -> str:
        return f"<Explanation of one sample: a^(L) = {self.a[-1]}, J = {self.cost:.6g}>"


def explain(network: NetworkState, X: Array, Y: Array, objective: Objective, format: Format) -> Explanation:
    """Explain both passes over one sample, X : (1, s_1), Y : (1, s_L), trusted arrays of the network's backend."""
    backend, host = network.backend, network.backend.to_numpy
    unpenalised = MatrixDerivatives(network, X, Y, Objective())
    _, gradient = unpenalised.cost_and_gradient()
    work, Delta = unpenalised.work, [host(theta) for theta in gradient.thetas]
    if objective.penalty(1):
        backend.add_l2_gradient(network.flat_weights, objective.penalty(1), gradient.flat_weights)
    a, z, delta = ([host(array)[0] for array in arrays] for arrays in (work.A, work.Z, work.delta))
    J, y, D = objective.total(network, unpenalised.cost, 1), host(Y)[0], [host(theta) for theta in gradient.thetas]
    slope = [_slope(network, g, Z) for g, Z in zip(network.activations, work.Z, strict=True)]
    Theta = [host(theta) for theta in network.thetas]
    explanation = Explanation(Theta, a, z, slope, delta, Delta, D, y, J, sections=[], format=format)
    return replace(explanation, sections=list(_sections(network, explanation, objective)))


def _slope(network: NetworkState, activation: str, Z: Array) -> Matrix | None:
    if activation == "softmax":
        return None
    out = network.backend.empty(Z.shape, network.dtype)
    network.backend.activation_gradient(activation, Z, out)
    slope: Matrix = network.backend.to_numpy(out)[0]
    return slope


def _sections(network: NetworkState, seen: Explanation, objective: Objective) -> Iterator[Section]:
    """Yield the parts of the two passes, in the order in which they are computed."""
    L = len(network.layer_sizes)
    for l, theta in enumerate(seen.Theta, start=1):
        yield Section("Parameters", f"Θ^({l}) = [b^({l}), W^({l})], the bias in column 0", _matrix(theta, f"Θ^({l})"))
    yield Section("Forward", "Layer 1, the input: a^(1) = x", _columns({"a^(1)": seen.a[0]}))
    for l in range(2, L + 1):
        g = network.activations[l - 2]
        columns = {f"z^({l})": seen.z[l - 2], f"a^({l})": seen.a[l - 1], f"g′(z^({l}))": seen.slope[l - 2]}
        if l == L:
            columns["y"] = seen.y
        formula = f"z^({l}) = W^({l - 1}) a^({l - 1}) + b^({l - 1}), a^({l}) = g(z^({l})), g = {g}"
        yield Section("Forward", f"Layer {l}: {formula}", _columns(columns))
    penalty = objective.penalty(1)
    decay = f" + {penalty:g}/2 Σ W²" if penalty else ""
    loss = network.loss if isinstance(network.loss, str) else "a pair of functions"
    yield Section("Cost", f"J = {seen.cost:.9g}, {loss}{decay}", None)
    for l in range(L, 1, -1):
        yield Section("Backward", _delta_formula(network, l), _columns({f"δ^({l})": seen.delta[l - 2]}))
    for l in range(1, L):
        Delta, D = _matrix(seen.Delta[l - 1], f"Δ^({l})"), _matrix(seen.D[l - 1], f"D^({l})")
        yield Section("Gradient", f"Δ^({l}) = δ^({l + 1}) [1; a^({l})]ᵀ, the bias in column 0", Delta)
        decay = f" + {penalty:g} [0, W^({l})]" if penalty else ""
        yield Section("Gradient", f"D^({l}) = ∂J/∂Θ^({l}) = Δ^({l})/m{decay}, m = 1", D)


def _table(table: Table | None) -> str:
    return "" if table is None else _formulas(html_table(table))


def _formulas(html: str) -> str:
    """Write the layer's number in formulas such as a^(1) as a superscript."""
    return re.sub(r"\^(\(\d+\))", r"<sup>\1</sup>", html)


def _delta_formula(network: NetworkState, l: int) -> str:
    L = len(network.layer_sizes)
    if l < L:
        return f"δ^({l}) = (W^({l}))ᵀ δ^({l + 1}) ⊙ g′(z^({l}))"
    if network.output_error == "simplified":
        return f"δ^({L}) = a^({L}) − y, simplified: without g′(z^({L}))"
    if not isinstance(network.loss, str):
        return f"δ^({L}) = ∂a^({L})/∂z^({L}) ∂cost/∂a^({L})"
    return {
        "squared_error": f"δ^({L}) = (a^({L}) − y) ⊙ g′(z^({L}))",
        "absolute_error": f"δ^({L}) = sign(a^({L}) − y) ⊙ g′(z^({L}))",
        "huber": f"δ^({L}) = clip(a^({L}) − y, −1, 1) ⊙ g′(z^({L}))",
    }.get(network.loss, f"δ^({L}) = a^({L}) − y")


def _columns(columns: dict[str, Matrix | None]) -> Table:
    """Make a table with one row a unit and one column a quantity; a dash stands where there is none."""
    table = Table(["unit", *columns])
    units = max(len(values) for values in columns.values() if values is not None)
    for i in range(units):
        table.add(str(i + 1), *("–" if values is None else _number(values[i]) for values in columns.values()))
    return table


def _matrix(values: Matrix, name: str) -> Table:
    """Make a table with one row a unit of the layer above and one column an input of it; the bias is input 0."""
    table = Table([name, *map(str, range(values.shape[1]))])
    for i, row in enumerate(values):
        table.add(str(i + 1), *map(_number, row))
    return table


def _number(value: float) -> str:
    return f"{float(value):.6g}"
