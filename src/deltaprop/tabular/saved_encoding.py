"""The encoding of a table, in JSON and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.files.model_file import Tensors, in_one_line
from deltaprop.tabular.category_encoding import CategoryEncoding
from deltaprop.tabular.date_encoding import parts_of
from deltaprop.tabular.number_encoding import NumberEncoding
from deltaprop.tabular.saved_schema import Categories, Numbers
from deltaprop.tabular.table_encoding import NO_PART, ColumnEncoding, TableEncoding


def encoding_to_file(encoding: TableEncoding) -> tuple[list[dict[str, Any]], Tensors]:
    """Describe how each column becomes inputs: a JSON object a column, and tensors by the column's number."""
    described: list[dict[str, Any]] = []
    tensors: Tensors = {}
    for place, column in enumerate(encoding.columns):
        own = column.encoding
        if isinstance(own, NumberEncoding):
            described.append(
                {
                    "kind": "numbers",
                    "name": column.name,
                    "part": column.part,
                    "day_first": None if column.day_first is None else bool(column.day_first),
                    "centre": own.centre,
                    "scale": own.scale,
                    "has_gaps": bool(own.has_gaps),
                    "edges": len(own.edges),
                }
            )
            if len(own.edges):
                tensors[f"edges.{place}"] = own.edges
            continue
        described.append(
            {
                "kind": "categories",
                "name": column.name,
                "levels": list(own.levels),
                "has_gaps": bool(own.has_gaps),
                "rare": len(own.rare),
                "has_means": bool(own.means.shape[1]),
            }
        )
        if own.means.shape[1]:
            tensors[f"means.{place}"] = own.means
        if own.rare:
            tensors[f"rare.{place}"] = np.frombuffer(_bytes(own.rare), np.uint8)
    return described, tensors


def _bytes(texts: Sequence[str]) -> bytes:
    """Write a list of texts as JSON in bytes.

    Raises
    ------
    ValueError
        If a text holds half of a character.
    """
    for text in texts:
        refuse_half_characters(text)
    return msgspec.json.encode(list(texts))


def refuse_half_characters(text: str) -> None:
    """Refuse text that is no Unicode, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"a text holds half of a character, {half!r}, which no file can") from None


def encoding_from_file(saved: Sequence[Numbers | Categories], tensors: Tensors) -> TableEncoding:
    """Make the encoding that a file describes, whose values and tensors `tabular_content` has checked.

    Raises
    ------
    ValueError
        If there is no such encoding: edges that do not increase, a level twice, no such part of a date.
    """
    parts = {NO_PART, *parts_of(np.zeros(1, "datetime64[us]"))}
    columns = []
    for place, one in enumerate(saved):
        if isinstance(one, Categories):
            columns.append(ColumnEncoding(one.name, NO_PART, _categories(one, place, tensors)))
            continue
        if one.part not in parts:
            raise ValueError(f"there is no part {in_one_line(repr(one.part))} of a date")
        edges = tensors[f"edges.{place}"] if one.edges else np.zeros(0)
        if not _increase(edges):
            raise ValueError(f"the edges of column {in_one_line(repr(one.name))} do not increase")
        numbers = NumberEncoding(one.centre, one.scale, one.has_gaps, edges)
        columns.append(ColumnEncoding(one.name, one.part, numbers, one.day_first))
    return TableEncoding(columns)


def _categories(one: Categories, place: int, tensors: Tensors) -> CategoryEncoding:
    rare: list[str] = []
    if one.rare:
        rare = _texts(tensors[f"rare.{place}"])
    levels = len(one.levels) + len(rare)
    if len(rare) != one.rare or len({*one.levels, *rare}) != levels:
        raise ValueError(
            f"expected {len(one.levels)} and {one.rare} different levels of column {in_one_line(repr(one.name))}"
        )
    means = tensors[f"means.{place}"] if one.has_means else np.zeros((0, 0))
    return CategoryEncoding(one.levels, one.has_gaps, rare, means)


def _texts(content: HostArray) -> list[str]:
    """Read a list of texts from JSON in bytes."""
    try:
        return msgspec.json.decode(content.tobytes(), type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no list of levels: {in_one_line(error)}") from error


def _increase(edges: HostArray) -> bool:
    """Return whether edges increase in the dtype of stored rows as well."""
    narrow = edges.astype(np.float32)
    return bool((narrow[1:] > narrow[:-1]).all())
