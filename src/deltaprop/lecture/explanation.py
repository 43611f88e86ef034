"""A few samples' way through a small network and back, with a name for every number of the derivation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import Literal, TypeAlias, get_args

import numpy as np

from deltaprop.arguments import check_number, check_whole_number
from deltaprop.backends import Array, backend_of
from deltaprop.backends.array_types import ArrayLike
from deltaprop.derivation.backprop import Objective
from deltaprop.derivation.state import NetworkState
from deltaprop.files.atomic_file import write_atomically
from deltaprop.lecture import explained_page
from deltaprop.lecture.descent import MOST_STEPS, Start
from deltaprop.lecture.passes import Matrix, Passes, both_passes, number
from deltaprop.reports.html_table import html_output, html_table
from deltaprop.reports.notebook import ShownOnce
from deltaprop.reports.text_table import Table
from deltaprop.training.data_door import DataDoor

Format: TypeAlias = Literal["table", "markdown"]
#: A layer wider than this makes a table that nobody reads, and more samples than this as well.
WIDEST, MOST_SAMPLES = 16, 8


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


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(ShownOnce):
    """Every quantity of one forward and one backward pass; ``str()`` gives them as tables, `save_html` as a page.

    Arrays of one sample have no axis of samples: shapes with m are those of several samples, one a row.

    Parameters
    ----------
    Theta : list of array, (s_{l+1}, 1 + s_l)
        Θ^(l) = [b^(l), W^(l)].
    a : list of array, (s_l,) or (m, s_l)
        The outputs a^(1) … a^(L) of the layers; a^(1) is x.
    z : list of array, (s_l,) or (m, s_l)
        The inputs z^(2) … z^(L) of the activations.
    slope : list of array, (s_l,) or (m, s_l), or None
        The derivatives g′(z^(2)) … g′(z^(L)); None for a softmax layer, whose derivative is a matrix.
    delta : list of array, (s_l,) or (m, s_l)
        The errors δ^(2) … δ^(L), of each sample by itself.
    Delta : list of array, (s_{l+1}, 1 + s_l)
        Δ^(l) = δ^(l+1) [1; a^(l)]ᵀ, the bias in column 0, summed over the samples.
    D : list of array, (s_{l+1}, 1 + s_l)
        ∂J/∂Θ^(l) = Δ^(l)/m + λ/m [0, W^(l)], or as the conventions of `Network.cost` have it.
    y : array, (s_L,) or (m, s_L)
        The target.
    cost : float
        The cost J, with the penalty.
    sections : list of Section
        The headings and tables, in the order in which their numbers are computed.
    start : Start
        Where the training steps of the page begin; they are computed when the page is made.
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
    start: Start
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
        """Write a page that steps through both passes and the update, unit by unit, for up to 50 training steps.

        It is one HTML file of less than 300 kB that needs no other file and no network; all or nothing. Where no script
        runs, it shows the tables, if it has room for them.

        Parameters
        ----------
        path : path
            A file that is there is replaced.

        Raises
        ------
        ValueError
            If a layer has more than 8 units, or there are more than 12 layers.
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
        tables = replace(self, format="table").text
        write_atomically(path, explained_page.page(self._title, self.start, tables).encode())

    @property
    def _title(self) -> str:
        samples = "One sample" if self.y.ndim == 1 else f"{len(self.y)} samples"
        return f"{samples} through a network {' → '.join(str(a.shape[-1]) for a in self.a)}"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Show the page in a frame, with the tables below it; the tables alone, where there is no such page."""
        if not explained_page.is_possible(self.start.network.layer_sizes):
            return self._tables()
        framed = explained_page.frame(self._title, self.start)
        return f"{framed}<details><summary>The same numbers as tables</summary>{self._tables()}</details>"

    def _tables(self) -> str:
        parts = [f"<h3>{escape(self._title)}</h3>"]
        for step, sections in groupby(self.sections, key=lambda section: section.step):
            columns = (f"<div><h5>{_formulas(escape(each.title))}</h5>{_table(each.table)}</div>" for each in sections)
            parts.append(f'<h4>{escape(step)}</h4><div class="side">{"".join(columns)}</div>')
        return html_output(*parts)

    def __repr__(self) -> str:
        samples = "one sample" if self.y.ndim == 1 else f"{len(self.y)} samples"
        return f"<Explanation of {samples}: a^(L) = {self.a[-1]}, J = {self.cost:.6g}>"


def check_widths(widths: Sequence[int], name: str = "explain") -> None:
    """Refuse layers that are too wide for tables; an error begins with `name`.

    Raises
    ------
    ValueError
        If a layer has too many units.
    """
    if max(widths) > WIDEST:
        raise ValueError(
            f"{name}: expected layers of at most {WIDEST} units, as every number is shown, got {list(widths)}; in "
            "Python, forward, deltas and cost_and_gradient give the same as arrays"
        )


def explain(
    network: NetworkState,
    x: ArrayLike,
    y: ArrayLike,
    objective: Objective,
    *,
    learning_rate: float = 0.5,
    steps: int = 20,
    format: Format = "table",
) -> Explanation:
    """Explain both passes over one sample or several: what `Network.explain` shows, with its arguments and errors."""
    if format not in get_args(Format):
        raise ValueError(f"format: expected 'table' or 'markdown', got {format!r}")
    check_widths(network.layer_sizes)
    learning_rate = check_number("learning_rate", learning_rate, above=0.0)
    steps = check_whole_number("steps", steps, least=0)
    if steps > MOST_STEPS:
        raise ValueError(f"steps: expected 0 … {MOST_STEPS}, got {steps}")
    with network.backend.scope():
        X, Y = _data(network, x, y)
        start = Start(network, X, Y, objective, learning_rate, steps)
        return _explained(network, start, format)


def _data(network: NetworkState, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Check and convert samples and targets; one of them may come without the axis of samples."""
    door = DataDoor(network)
    if _axes(x) == 1:
        x = _one_row(x)
    samples = len(door.inputs(x, "x"))
    if samples > MOST_SAMPLES:
        raise ValueError(f"x: expected 1 … {MOST_SAMPLES} samples, got {samples}")
    axes = _axes(y)
    if axes == 0 or (samples == 1 and axes == 1 and len(y) == network.layer_sizes[-1] > 1):
        y = _one_row(y)
    return door.data(x, y, "x", "y")


def _axes(value: ArrayLike) -> int | None:
    """Count the axes; None where rows have different lengths, which is refused by name later."""
    try:
        return np.ndim(value)
    except ValueError:
        return None


def _one_row(value: ArrayLike) -> ArrayLike:
    """Make a matrix of one sample; an array stays of its kind."""
    return value[None] if backend_of(value) else [value]


def _explained(network: NetworkState, start: Start, format: Format) -> Explanation:
    """Run both passes, and name and write their numbers."""
    passes, _ = both_passes(network, start.X, start.Y, start.objective)
    explanation = Explanation(
        Theta=passes.Theta,
        a=_samples(passes.a),
        z=_samples(passes.z),
        slope=[None if slope is None else _samples([slope])[0] for slope in passes.slope],
        delta=_samples(passes.delta),
        Delta=passes.Delta,
        D=passes.D,
        y=_samples([passes.y])[0],
        cost=passes.cost,
        sections=[],
        start=start,
        format=format,
    )
    return replace(explanation, sections=list(_sections(network, passes, start.objective)))


def _samples(arrays: list[Matrix]) -> list[Matrix]:
    """Leave out the axis of samples where there is one sample."""
    return [array[0] if len(array) == 1 else array for array in arrays]


def _sections(network: NetworkState, seen: Passes, objective: Objective) -> Iterator[Section]:
    """Yield the parts of the two passes, in the order in which they are computed."""
    L, m = len(network.layer_sizes), len(seen.y)
    rows = "" if m == 1 else ", one row a sample"
    for l, theta in enumerate(seen.Theta, start=1):
        yield Section("Parameters", f"Θ^({l}) = [b^({l}), W^({l})], the bias in column 0", _matrix(theta, f"Θ^({l})"))
    yield from _layer("Forward", f"Layer 1, the input: a^(1) = x{rows}", {"a^(1)": seen.a[0]})
    for l in range(2, L + 1):
        g = network.activations[l - 2]
        columns = {f"z^({l})": seen.z[l - 2], f"a^({l})": seen.a[l - 1], f"g′(z^({l}))": seen.slope[l - 2]}
        if l == L:
            columns["y"] = seen.y
        formula = f"z^({l}) = W^({l - 1}) a^({l - 1}) + b^({l - 1}), a^({l}) = g(z^({l})), g = {g}"
        yield from _layer("Forward", f"Layer {l}: {formula}{rows}", columns)
    penalty = objective.penalty(m)
    decay = f" + {penalty:g}/2 Σ W²" if penalty else ""
    loss = network.loss if isinstance(network.loss, str) else "a pair of functions"
    share = "" if m == 1 else f", {'mean' if objective.reduction == 'mean' else 'sum'} over {m} samples"
    yield Section("Cost", f"J = {seen.cost:.9g}, {loss}{decay}{share}", None)
    for l in range(L, 1, -1):
        yield from _layer("Backward", f"{_delta_formula(network, l)}{rows}", {f"δ^({l})": seen.delta[l - 2]})
    mean = f"/m{{}}, m = {m}" if m == 1 or objective.reduction == "mean" else "{}"
    for l in range(1, L):
        Delta, D = _matrix(seen.Delta[l - 1], f"Δ^({l})"), _matrix(seen.D[l - 1], f"D^({l})")
        sum_of = "" if m == 1 else "Σ "
        yield Section("Gradient", f"Δ^({l}) = {sum_of}δ^({l + 1}) [1; a^({l})]ᵀ, the bias in column 0", Delta)
        decay = f" + {penalty:g} [0, W^({l})]" if penalty else ""
        yield Section("Gradient", f"D^({l}) = ∂J/∂Θ^({l}) = Δ^({l}){mean.format(decay)}", D)


def _layer(step: str, title: str, columns: dict[str, Matrix | None]) -> Iterator[Section]:
    """Yield a layer's quantities, (m, s_l): as columns of one table, or of several samples as a table each."""
    if all(values is None or len(values) == 1 for values in columns.values()):
        yield Section(step, title, _columns({name: None if v is None else v[0] for name, v in columns.items()}))
        return
    for name, values in columns.items():
        if values is not None:
            table = Table([name, *(str(i + 1) for i in range(values.shape[1]))])
            for i, row in enumerate(values):
                table.add(str(i + 1), *map(number, row))
            yield Section(step, title or name, table)
            title = ""  # which stands above the first


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
        table.add(str(i + 1), *("–" if values is None else number(values[i]) for values in columns.values()))
    return table


def _matrix(values: Matrix, name: str) -> Table:
    """Make a table with one row a unit of the layer above and one column an input of it; the bias is input 0."""
    table = Table([name, *map(str, range(values.shape[1]))])
    for i, row in enumerate(values):
        table.add(str(i + 1), *map(number, row))
    return table
