"""Targets of a classifier: its labels and weights; of very many classes numbers, until rows are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import unique_labels

from deltaprop.backends import backend_of
from deltaprop.backends.array_types import AnyArray, ArrayLike, HostArray, Indices
from deltaprop.inputs.arrays import is_above_limit

Vector = HostArray
#: Samples up to which scikit-learn does not mind how many classes there are.
FEW = 20


class ClassTargets:
    """Numbers of classes, (m,), in place of the one-hot matrix, (m, n_classes), which would take much memory."""

    numbers: Vector
    shape: tuple[int, int]

    def __init__(self, numbers: Vector, classes: int) -> None:
        self.numbers, self.shape = numbers, (len(numbers), classes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> ClassTargets:
        return ClassTargets(self.numbers[rows], self.shape[1])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> HostArray:
        return self.one_hot(self.numbers).astype(dtype or bool, copy=False)

    def one_hot(self, numbers: Vector) -> HostArray:
        """The rows of the matrix for some numbers, of bool."""
        rows: Indices = numbers[:, None] == np.arange(self.shape[1])
        return rows


def of_known(binarizer: LabelBinarizer, y: ArrayLike) -> Any:
    """Return what `binarized` returns for labels that are all known; None where that takes a closer look.

    scikit-learn's own look at a few labels takes longer than training on them.
    """
    classes = binarizer.classes_
    if binarizer.y_type_ not in ("binary", "multiclass") or len(classes) < 2 or not _are_plain(classes, y):
        return None
    numbers: Indices = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if not (classes[numbers] == y).all():
        return None
    return _targets(binarizer, numbers)


def of_new(y: ArrayLike) -> tuple[LabelBinarizer, Any]:
    """Return a binarizer fitted to checked labels, and what `binarized` returns for them.

    Raises
    ------
    ValueError
        If they are no labels.
    """
    binarizer = LabelBinarizer()
    found = _numbered(y) if _are_plain(y, y) and y.dtype.isnative else None
    # Where a label has few samples scikit-learn warns.
    if found is None or (len(y) > FEW and 2 * len(found[0]) >= len(y) - 2):
        binarizer.fit(y)
        return binarizer, binarized(binarizer, y)
    binarizer.classes_, numbers = found
    binarizer.y_type_ = "binary" if len(binarizer.classes_) <= 2 else "multiclass"
    binarizer.sparse_input_ = False
    return binarizer, _targets(binarizer, numbers)


def _numbered(y: Vector) -> tuple[Vector, Indices]:
    """Return the different labels among plain ones, in order, and the place of each label among them."""
    if y.dtype.kind == "U":
        labels, places = np.unique(y, return_inverse=True)
        return np.array(labels.tolist()), places  # as short as they can be
    if np.can_cast(y.dtype, np.int64):
        least, span = int(y.min()), int(y.max()) - int(y.min())
        if span < len(y):  # counting takes less than sorting
            shifted = np.subtract(y, least, dtype=np.int64)
            occurs = np.bincount(shifted, minlength=span + 1) > 0
            labels = np.flatnonzero(occurs) + least
            return labels.astype(y.dtype), (np.cumsum(occurs) - 1)[shifted]
    return np.unique(y, return_inverse=True)


def _targets(binarizer: LabelBinarizer, numbers: Indices) -> Any:
    """Return the targets of labels with these numbers, as `binarized` does."""
    classes = len(binarizer.classes_)
    if binarizer.y_type_ == "binary":
        return (numbers == 1)[:, None]
    targets = ClassTargets(numbers, classes)
    return targets if is_above_limit(len(numbers), classes, np.int64) else targets.one_hot(numbers)


def _are_plain(one: ArrayLike, other: ArrayLike) -> bool:
    """Return whether both are vectors of whole numbers, of truth values or of strings."""
    return (
        all(type(each) is np.ndarray and each.ndim == 1 for each in (one, other))
        and len(other) > 0
        and (one.dtype.kind == other.dtype.kind in "bU" or (one.dtype.kind in "iu" and other.dtype.kind in "iu"))
    )


def accuracy(y: ArrayLike, predicted: ArrayLike, sample_weight: ArrayLike | None) -> float:
    """Compute scikit-learn's accuracy; of plain labels without its checks, which take longer than a small epoch."""
    if sample_weight is None and _are_plain(y, predicted) and len(y) == len(predicted):
        return float(np.mean(y == predicted))
    return float(accuracy_score(y, predicted, sample_weight=sample_weight))


def labels_of(binarizer: LabelBinarizer, outputs: HostArray) -> HostArray:
    """Return the labels that belong to a^(L), (m, n_outputs)."""
    classes = binarizer.classes_
    if binarizer.y_type_ == "multiclass":
        return np.asarray(classes.take(outputs.argmax(axis=1)))
    if binarizer.y_type_ == "binary" and len(classes) == 2:
        return np.asarray(classes.take(outputs[:, 0] > 0.5))
    return np.asarray(binarizer.inverse_transform(outputs.ravel() if outputs.shape[1] == 1 else outputs))


def binarized(binarizer: LabelBinarizer, y: ArrayLike) -> Any:
    """Return the targets of checked labels, (m, n_outputs), of bool, or as `ClassTargets` to save memory."""
    classes = len(binarizer.classes_)
    if binarizer.y_type_ == "multiclass" and is_above_limit(len(y), classes, np.int64):  # as it makes them
        return ClassTargets(np.asarray(np.searchsorted(binarizer.classes_, y)), classes)
    return binarizer.transform(y).astype(bool)


def of_seen(binarizer: LabelBinarizer, y: ArrayLike, classes: Vector, *, incremental: bool) -> Any:
    """Return what `binarized` returns where no new labels may occur; all known ones have to, unless `incremental`.

    Raises
    ------
    ValueError
        If there are others than `classes`, or some are missing.
    """
    if incremental and (known := of_known(binarizer, y)) is not None:
        return known
    check_classes(unique_labels(y), classes, all_needed=not incremental)
    return binarized(binarizer, y)


def weights_of_classes(class_weight: Any, y: ArrayLike, *, incremental: bool) -> AnyArray:
    """Return a weight for each sample from its class, (m,), or None.

    Raises
    ------
    ValueError
        If they should be balanced over samples that come in parts.
    """
    if class_weight is None:
        return None
    if incremental and class_weight == "balanced":
        raise ValueError(
            "class_weight: 'balanced' is not supported by partial_fit, which does not know how often each class "
            "will occur; pass a dict, or sample_weight"
        )
    return compute_sample_weight(class_weight, y)


def check_classes(found: Vector, known: Vector, *, all_needed: bool) -> None:
    """Refuse labels that a network fitted before has no output for.

    Raises
    ------
    ValueError
        If there are others than those `known`; where `all_needed`, as for a warm start, also if some are missing.
    """
    if all_needed:
        if set(found) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {known}, `y` has {found}"
            )
    elif len(np.setdiff1d(found, known, assume_unique=True)):
        raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {found}.")


def labels_like(labels: HostArray, outputs: AnyArray) -> AnyArray:
    """Return labels as an array of the same kind as `outputs`, if it can hold them, else as they are."""
    backend = backend_of(outputs)
    if backend is None or backend.on_host or labels.dtype.kind not in "iubf":
        return labels
    return backend.asarray(labels, labels.dtype)
