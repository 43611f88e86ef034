"""Scores of candidates in folds: in each fold the data are scaled by its own rows, and all candidates are one stack."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deltaprop.backends import get_backend
from deltaprop.backends.array_types import Floats, HostArray, Indices
from deltaprop.cli.options import TrainOptions
from deltaprop.cli.train_network import is_constant, network_options, optimizer_of, scaling, widths_of
from deltaprop.errors import DivergenceError
from deltaprop.inputs.files import Dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.trained import Label, class_numbers

#: Bytes that the networks of one stack may take, and how many numbers a parameter has besides itself: gradient, two of
#: the optimizer, the last good and the best ones.
MEMORY, COPIES = 2**30, 6


@dataclass(frozen=True)
class Fold:
    """The numbers of the rows to train on, and of those to score on."""

    train: Indices
    test: Indices


def score_candidates(
    dataset: Dataset, classes: list[Label] | None, fold: Fold, candidates: Sequence[TrainOptions]
) -> tuple[list[float], float]:
    """Train candidates on a fold; return the score of each, and the seconds that all took.

    Scaling and the scale of the target follow from the rows to train on alone. The score is the accuracy, or R²; nan
    for a network that diverged.
    """
    began = time.perf_counter()
    scores = [math.nan] * len(candidates)
    options = candidates[0]
    offset, spread = scaling(RawRows(dataset.X, fold.train), options.scale, common_range=dataset.common_range)
    X, X_test = (RawRows(dataset.X, rows).scaled(offset, spread, options.dtype) for rows in (fold.train, fold.test))
    y, y_test = _targets(dataset.y, classes, fold)
    for places in _together(candidates, X.shape[1], len(classes or [0])):
        group = [candidates[place] for place in places]
        stack = NetworkStack(
            len(group),
            seeds=[each.seed for each in group],
            backend=get_backend(options.backend),
            **network_options(dataset, classes, widths_of(group[0]), group[0]),
        )
        if not _fit(stack, X, y, group, scores, places):
            continue
        outputs = stack.backend.to_numpy(stack.predict(X_test))
        for k, place in enumerate(places):
            if not math.isnan(scores[place]):
                scores[place] = _score(outputs[k], y_test, classes)
    return scores, time.perf_counter() - began


def _fit(
    stack: NetworkStack,
    X: HostArray,
    y: HostArray,
    group: Sequence[TrainOptions],
    scores: list[float],
    places: Sequence[int],
) -> bool:
    """Train a stack; the scores of members that did not diverge become 0. False if all diverged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the score of a member that diverged says so
            histories = stack.fit(
                X,
                y,
                optimizer=[optimizer_of(each) for each in group],
                batch_size=[each.batch_size for each in group],
                l2=[each.l2 for each in group],
                epochs=group[0].epochs,
            )
    except DivergenceError:
        return False
    for place, history in zip(places, histories, strict=True):
        if not history.diverged:
            scores[place] = 0.0
    return True


def _together(candidates: Sequence[TrainOptions], inputs: int, outputs: int) -> list[list[int]]:
    """Divide candidates into stacks of the same widths, activation and epochs, which do not take too much memory."""
    groups: dict[tuple[tuple[int, ...], str, int], list[int]] = {}
    for place, each in enumerate(candidates):
        groups.setdefault((widths_of(each), each.activation, each.epochs), []).append(place)
    parts = []
    for (widths, _, _), places in groups.items():
        sizes = [inputs, *widths, outputs]
        parameters = sum((1 + below) * above for below, above in pairwise(sizes))
        at_once = max(1, MEMORY // (parameters * COPIES * np.dtype(candidates[0].dtype).itemsize))
        parts += [places[start : start + at_once] for start in range(0, len(places), at_once)]
    return parts


def _targets(y: HostArray | None, classes: list[Label] | None, fold: Fold) -> tuple[HostArray, HostArray]:
    """Return the targets of the networks: numbers of classes, or quantities scaled by the rows to train on."""
    assert y is not None
    if classes is not None:
        numbers = class_numbers(y, classes)
        return numbers[fold.train], numbers[fold.test]
    quantities: Floats = y.astype(np.float64)
    own = quantities[fold.train]
    scaled = (quantities - own.mean()) / (1.0 if is_constant(own.min(), own.max()) else own.std() or 1.0)
    return scaled[fold.train, np.newaxis], scaled[fold.test, np.newaxis]


def _score(outputs: HostArray, truth: HostArray, classes: list[Label] | None) -> float:
    if classes is not None:
        return float((outputs.argmax(axis=1) == truth).mean())
    error, spread = truth - outputs, truth - truth.mean()
    total = float((spread**2).sum())
    return 1.0 - float((error**2).sum()) / total if total else math.nan
