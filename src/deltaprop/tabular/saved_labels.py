"""Labels of classes, in JSON or as a tensor, so that their dtype comes back."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.array_types import HostArray
from deltaprop.files.model_file import Tensors
from deltaprop.tabular.saved_schema import NUMERIC_LABELS, Classes


def labels_to_file(classes: HostArray) -> tuple[dict[str, Any], Tensors]:
    """Describe the labels of classes: text in JSON, numbers and truth values as a tensor.

    Raises
    ------
    ValueError
        If a label is neither text, nor a number, nor a truth value.
    """
    if classes.dtype.name in NUMERIC_LABELS:
        tensor = classes.astype(classes.dtype.newbyteorder("="))
        return {"dtype": tensor.dtype.name, "count": len(tensor), "labels": None}, {"classes": tensor}
    labels = [str(label) for label in classes.tolist() if isinstance(label, str)]
    if len(labels) < len(classes):
        other = next(label for label in classes.tolist() if not isinstance(label, str))
        raise ValueError(f"classes_: expected labels that are text, numbers or truth values, got {other!r}")
    dtype = "str" if classes.dtype.kind == "U" else "object"
    return {"dtype": dtype, "count": len(labels), "labels": labels}, {}


def labels_from_file(saved: Classes, tensors: Tensors) -> HostArray:
    """Make the array of labels, (k,), that a file describes; `tabular_content` has checked kinds and sizes.

    Raises
    ------
    ValueError
        If they do not increase: a label twice, or in the wrong place.
    """
    classes = tensors["classes"] if saved.labels is None else np.array(saved.labels, saved.dtype)
    if not (classes[1:] > classes[:-1]).all():
        raise ValueError("the labels of classes do not increase")
    return classes
