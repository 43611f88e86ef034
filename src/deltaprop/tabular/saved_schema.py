"""What the file of a tabular estimator holds: every value and tensor is checked against this before it is used."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal

from msgspec import Meta

from deltaprop.derivation.state import Configuration
from deltaprop.files.file_kinds import require_kind
from deltaprop.files.file_schema import (
    Count,
    Exact,
    Finite,
    NotNegative,
    Positive,
    StackContent,
    Tensor,
    check_tensors,
    converted,
)
from deltaprop.files.model_file import Tensors, in_one_line
from deltaprop.inputs.encoded_rows import LARGEST

#: The version of `Tabular`; it rises whenever the meaning of a field changes.
TABULAR_VERSION = 2
#: What the file holds, in errors.
WHAT = "a tabular estimator"

#: A label among the weights of classes.
Label = str | bool | int | Finite
#: Dtypes of labels that are a tensor.
NUMERIC_LABELS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


class Role(Exact):
    """A column of the table, and what it was taken for."""

    name: str
    role: Literal["number", "category", "date", "left out"]
    reason: str


class Numbers(Exact, tag_field="kind", tag="numbers"):
    """The encoding of a column of numbers, or of a part of its dates; ``edges.i`` holds its edges."""

    name: str
    part: str
    #: None if training had no dates in text.
    day_first: bool | None
    centre: Finite
    scale: Positive
    has_gaps: bool
    edges: Count

    def __post_init__(self) -> None:
        if 0 < self.edges < 2:
            raise ValueError(f"{self.edges} edges, expected none or at least 2")


class Categories(Exact, tag_field="kind", tag="categories"):
    """The encoding of a column of categories; ``rare.i`` holds its rare levels, ``means.i`` the means of all."""

    name: str
    levels: list[str]
    has_gaps: bool
    #: How many there are. They stand in a tensor, as JSON in bytes: the header of a file is of limited length.
    rare: Count
    has_means: bool

    def __post_init__(self) -> None:
        if len(self.levels) + self.has_gaps < 1:
            raise ValueError("categories without a level")


class Classes(Exact, tag_field="kind", tag="classes"):
    """The labels of classes, in a list or in the tensor ``classes``, and what belongs to them."""

    #: "str" and "object" stand for labels in `labels`; the others are the dtype of the tensor.
    dtype: Literal["str", "object"] | str
    count: Annotated[int, Meta(ge=2, le=2**53)]
    labels: list[str] | None
    temperature: Annotated[float, Meta(ge=1e-3, le=1e3)]

    def __post_init__(self) -> None:
        if self.dtype not in ("str", "object", *NUMERIC_LABELS):
            raise ValueError(f"labels of dtype {in_one_line(repr(self.dtype))}")
        if (self.labels is None) != (self.dtype in NUMERIC_LABELS):
            raise ValueError(f"labels of dtype {self.dtype} in the wrong place")
        if self.labels is not None and len(self.labels) != self.count:
            raise ValueError(f"{len(self.labels)} labels of {self.count} classes")


class Quantity(Exact, tag_field="kind", tag="quantity"):
    """How a quantity is scaled; the fields of its `ResidualIntervals` are tensors, such as ``intervals.centres``."""

    mean: Finite
    spread: Positive
    lowest: Finite
    highest: Finite
    ranges: Annotated[int, Meta(ge=1, le=2**53)]
    residuals: Annotated[int, Meta(ge=1, le=2**53)]
    #: Whether the residuals count differently: then they have weights.
    weighted: bool

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ValueError(f"a range from {self.lowest} to {self.highest}")


class Tabular(Exact):
    """What the file holds besides the members' networks."""

    #: Checked by `tabular_content`.
    version: int
    #: Arguments of the estimator that JSON can hold; the estimator checks them.
    parameters: dict[str, Any]
    class_weight: Literal["balanced"] | list[tuple[Label, NotNegative]] | None
    columns: Annotated[list[Role], Meta(min_length=1)]
    has_names: bool
    target_name: str
    encodings: Annotated[list[Numbers | Categories], Meta(min_length=1)]
    target: Classes | Quantity
    #: Not a number where R² is not defined.
    oof_score: float

    def __post_init__(self) -> None:
        roles = {column.name: column.role for column in self.columns}
        if len(roles) != len(self.columns):
            raise ValueError("two columns of one name")
        seen = set()
        for encoding in self.encodings:
            part = encoding.part if isinstance(encoding, Numbers) else ""
            kind = "category" if isinstance(encoding, Categories) else "date" if part else "number"
            if roles.get(encoding.name) != kind or (encoding.name, part) in seen:
                name = in_one_line(repr(encoding.name))
                raise ValueError(f"an encoding of column {name} that does not suit its role")
            seen.add((encoding.name, part))

    @property
    def mean_columns(self) -> int:
        """How many means a level has, where it has some."""
        return max(1, self.target.count - 1) if isinstance(self.target, Classes) else 1


class TabularContent(StackContent):
    """The configuration in the file of a tabular estimator."""

    tabular: Tabular

    def __post_init__(self) -> None:
        super().__post_init__()
        target, stack = self.tabular.target, self.stack
        outputs, loss, activation = 1, "squared_error", "identity"
        if isinstance(target, Classes):
            outputs, loss, activation = target.count, "categorical_cross_entropy", "softmax"
        found = stack.layer_sizes[-1], stack.loss, stack.output_activation, stack.dtype
        if found != (outputs, loss, activation, "float32"):
            raise ValueError(
                f"expected networks of {outputs} outputs, {loss}, {activation}, float32, got {in_one_line(found)}"
            )


def tabular_content(path: str | os.PathLike[str], configuration: Configuration, tensors: Tensors) -> TabularContent:
    """Check what the file of a tabular estimator holds, and return it; nothing is allocated that it does not hold.

    Raises
    ------
    ValueError
        If the file holds anything else; the message begins with `path`.
    """
    require_kind(path, configuration, "tabular")
    saved = configuration["tabular"]
    version = saved.get("version") if isinstance(saved, dict) else TABULAR_VERSION
    if version != TABULAR_VERSION:
        raise ValueError(
            f"{path}: {WHAT} of version {in_one_line(repr(version))}, expected {TABULAR_VERSION}: it was written by "
            "another release of deltaprop"
        )
    content = converted(path, WHAT, configuration, TabularContent)
    check_tensors(path, WHAT, _expected(content, tensors), tensors)
    return content


def _expected(content: TabularContent, tensors: Tensors) -> dict[str, Tensor]:
    """Describe the tensors, by name."""
    saved, stack = content.tabular, content.stack
    expected = {
        "parameters": Tensor((stack.members, stack.size), stack.dtype),
        "member_weights": Tensor((stack.members,), "float64", 0.0, 1.0),
        "importances": Tensor((len(saved.columns),), "float64"),
    }
    for place, encoding in enumerate(saved.encodings):
        if isinstance(encoding, Numbers):
            if encoding.edges:
                expected[f"edges.{place}"] = Tensor((encoding.edges,), "float64", -LARGEST, LARGEST)
            continue
        if encoding.has_means:
            levels = len(encoding.levels) + encoding.has_gaps + encoding.rare
            expected[f"means.{place}"] = Tensor((levels, saved.mean_columns), "float64", -LARGEST, LARGEST)
        if encoding.rare:
            text = tensors.get(f"rare.{place}")  # of any length; its content is checked when it is read
            expected[f"rare.{place}"] = Tensor((max(2, text.size if text is not None else 0),), "uint8")
    if isinstance(saved.target, Quantity):
        ranges = (saved.target.ranges,)
        expected["intervals.centres"] = Tensor(ranges, "float64")
        expected["intervals.sizes"] = Tensor(ranges, "float64", least=sys.float_info.min * sys.float_info.epsilon)
        expected["intervals.residuals"] = Tensor((saved.target.residuals,), "float64")
        if saved.target.weighted:
            expected["intervals.weights"] = Tensor((saved.target.residuals,), "float64", least=0.0)
    elif saved.target.labels is None:
        expected["classes"] = Tensor((saved.target.count,), saved.target.dtype)
    return expected
