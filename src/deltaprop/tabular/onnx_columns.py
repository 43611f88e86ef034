"""The encoding of a table in ONNX operators: columns of a table in, inputs of networks out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deltaprop.backends.array_types import Indices
from deltaprop.files.onnx_file import Graph
from deltaprop.inputs.encoded_rows import LARGEST, LIMIT
from deltaprop.tabular.category_encoding import CategoryEncoding
from deltaprop.tabular.number_encoding import NumberEncoding
from deltaprop.tabular.onnx_dates import DateParts
from deltaprop.tabular.table_encoding import TableEncoding

#: The version of the set of operators that `LabelEncoder` is of, which runtimes of 2022 read.
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 2


@dataclass(frozen=True)
class _Number:
    """A column of numbers, (m, 1), its encoding, and the number of its first input."""

    value: str
    encoding: NumberEncoding
    first: int


class InputGroups:
    """Inputs of networks, made in groups of one kind: their order is another than the networks'.

    Parameters
    ----------
    graph : Graph
        Where operators are added.

    Attributes
    ----------
    values : list of str
        The names of the groups, each (m, n) of float32.
    order : list of int
        The number that each input has for the networks, group after group.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[str] = []
        self.order: list[int] = []

    def add(self, value: str, order: list[int]) -> None:
        """Add a group."""
        self.values.append(value)
        self.order += order

    def numbers(self, columns: list[_Number]) -> None:
        """Add what becomes of numbers: squashed, their gaps, and in bins."""
        graph = self.graph
        X = graph.node("Concat", [column.value for column in columns], axis=1)
        gaps = graph.node("IsNaN", [X])
        centres, scales = ([[getattr(c.encoding, field) for c in columns]] for field in ("centre", "scale"))
        X = graph.node("Sub", [X, graph.number(centres, np.float64)])
        X = graph.node("Div", [X, graph.number(scales, np.float64)])
        X = graph.node("Where", [gaps, graph.number(0.0, np.float64), X])
        X = graph.node("Clip", [X, graph.number(-LARGEST, np.float64), graph.number(LARGEST, np.float64)])
        X = graph.cast(X, np.float32)
        share = graph.node("Div", [X, graph.number(LIMIT)])
        root = graph.node("Sqrt", [graph.node("Add", [graph.node("Mul", [share, share]), graph.number(1.0)])])
        self.add(graph.node("Div", [X, root]), [column.first for column in columns])
        with_gaps = [k for k, column in enumerate(columns) if column.encoding.has_gaps]
        if with_gaps:
            some = graph.node("Gather", [graph.cast(gaps, np.float32), graph.number(with_gaps, np.int64)], axis=1)
            self.add(some, [columns[k].first + 1 for k in with_gaps])
        self._bins(X, columns)

    def _bins(self, X: str, columns: list[_Number]) -> None:
        """Add clip((x − b₀)/(b₁ − b₀), 0, 1) − ½ for all bins of all columns."""
        graph = self.graph
        sources: list[int] = []
        order: list[int] = []
        lows, widths = [], []
        for k, column in enumerate(columns):
            edges = column.encoding.edges.astype(np.float32)
            if len(edges):
                sources += [k] * (len(edges) - 1)
                first = column.first + 1 + column.encoding.has_gaps
                order += range(first, first + len(edges) - 1)
                lows.append(edges[:-1])
                widths.append(edges[1:] - edges[:-1])
        if not sources:
            return
        x = graph.node("Gather", [X, graph.number(sources, np.int64)], axis=1)
        x = graph.node("Sub", [x, graph.number(np.concatenate(lows))])
        x = graph.node("Div", [x, graph.number(np.concatenate(widths))])
        x = graph.node("Clip", [x, graph.number(0.0), graph.number(1.0)])
        self.add(graph.node("Sub", [x, graph.number(0.5)]), order)

    def categories(self, value: str, encoding: CategoryEncoding, first: int) -> None:
        """Add what becomes of a column of text, (m, 1): an input a level, and means of the target."""
        graph, levels = self.graph, encoding.one_hot
        gap = {"": len(encoding.levels)} if encoding.has_gaps else {}
        place = {text: k for k, text in enumerate(encoding.levels)} | gap
        place |= {text: levels + k for k, text in enumerate(encoding.rare)}
        places = graph.node(
            "LabelEncoder",
            [value],
            domain=ML_DOMAIN,
            keys_strings=list(place),
            values_int64s=list(place.values()),
            default_int64=-1,
        )
        same = graph.node("Equal", [places, graph.number([np.arange(levels)], np.int64)])
        self.add(graph.cast(same, np.float32), list(range(first, first + levels)))
        count, columns = encoding.means.shape
        if columns:
            # The row of 0 at the end is for levels that are new.
            table = graph.number(np.vstack([encoding.means, np.zeros(columns)]))
            new = graph.node("Less", [places, graph.number(0, np.int64)])
            rows = graph.node("Where", [new, graph.number(count, np.int64), places])
            means = graph.node("Gather", [table, rows])
            means = graph.node("Reshape", [means, graph.number([-1, columns], np.int64)])
            self.add(means, list(range(first + levels, first + levels + columns)))


def add_encoding(graph: Graph, encoding: TableEncoding, columns: Mapping[str, str]) -> tuple[str, Indices]:
    """Add the operators that make inputs of the columns of a table.

    Parameters
    ----------
    graph : Graph
        Its dtype is float32.
    encoding : TableEncoding
        What the operators have to do.
    columns : mapping of str to str
        The name of the graph's value for each column of the table, (m, 1): float64 for numbers, text for categories,
        whole seconds since 1970 in int64 for dates.

    Returns
    -------
    value : str
        The name of the inputs, (m, width), in an order of their own.
    order : array, (width,)
        For each, the number that it has in the encoding.
    """
    groups, numbers, first = InputGroups(graph), [], 0
    dates: dict[str, DateParts] = {}
    for column in encoding.columns:
        name, own = column.name, column.encoding
        if isinstance(own, CategoryEncoding):
            groups.categories(columns[name], own, first)
        else:
            if column.part and name not in dates:
                dates[name] = DateParts(graph, columns[name])
            value = dates[name].part(column.part) if column.part else columns[name]
            numbers.append(_Number(value, own, first))
        first += sum(piece.width for piece in own.pieces(0))
    if numbers:
        groups.numbers(numbers)
    value = groups.values[0] if len(groups.values) == 1 else graph.node("Concat", groups.values, axis=1)
    return value, np.array(groups.order)
