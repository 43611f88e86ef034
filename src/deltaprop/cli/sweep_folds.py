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
from deltaprop.backends.native.library import load_ahead
from deltaprop.backends.native.scipy_threads import numpy_on_one_thread
from deltaprop.cli.options import TrainOptions
from deltaprop.cli.train_network import network_options, optimizer_of, scaling, scaling_of_target, widths_of
from deltaprop.errors import DivergenceError
from deltaprop.inputs.files import Dataset
from deltaprop.inputs.raw_rows import RawRows
from deltaprop.stack import NetworkStack
from deltaprop.tabular.trained import Label, class_numbers

#: Bytes that the networks of all stacks may take, and how many numbers a parameter has besides itself: gradient, two of
#: the optimizer, the last good and the best ones.
MEMORY, COPIES = 2**30, 6
#: Bytes that the data may take, which are scaled once a fold.
DATA_MEMORY = 2**30


@dataclass(frozen=True)
class Fold:
    """The numbers of the rows to train on, and of those to score on."""

    train: Indices
    test: Indices


class FoldData:
    """The data scaled once a fold, by the fold's own rows to train on: one copy below the other.

    Parameters
    ----------
    dataset : Dataset
        The data.
    classes : list, or None
        The labels; None for a quantity.
    folds : sequence of Fold
        The folds.
    options : TrainOptions
        How to scale.

    Attributes
    ----------
    X : array, (folds · m, n)
        Inputs.
    y : array, (folds · m,) or (folds · m, 1)
        Numbers of classes, or quantities scaled by the rows to train on.
    train, test : list of array
        For each fold, its rows in these.
    """

    def __init__(
        self, dataset: Dataset, classes: list[Label] | None, folds: Sequence[Fold], options: TrainOptions
    ) -> None:
        assert dataset.y is not None
        rows = len(dataset.X)
        self.X = np.empty((len(folds) * rows, dataset.X.shape[1]), options.dtype)
        targets = []
        for number, fold in enumerate(folds):
            offset, spread = scaling(RawRows(dataset.X, fold.train), options.scale, common_range=dataset.common_range)
            self.X[number * rows : (number + 1) * rows] = RawRows(dataset.X).scaled(offset, spread, options.dtype)
            if classes is None:
                quantities: Floats = dataset.y.astype(np.float64)
                mean, spread_of_target = scaling_of_target(quantities[fold.train])
                targets.append(((quantities - mean) / spread_of_target)[:, np.newaxis])
            else:
                targets.append(class_numbers(dataset.y, classes))
        self.y: HostArray = np.concatenate(targets)
        self.train: list[Indices] = [number * rows + fold.train for number, fold in enumerate(folds)]
        self.test: list[Indices] = [number * rows + fold.test for number, fold in enumerate(folds)]


def folds_at_once(dataset: Dataset, folds: Sequence[Fold], options: TrainOptions, jobs: int) -> list[list[Fold]]:
    """Divide folds into parts whose data do not take too much memory; with several processes each fold is one."""
    size = dataset.X.size * np.dtype(options.dtype).itemsize
    at_once = 1 if jobs != 1 else max(1, DATA_MEMORY // size)
    return [list(folds[start : start + at_once]) for start in range(0, len(folds), at_once)]


def score_candidates(
    dataset: Dataset,
    classes: list[Label] | None,
    folds: Sequence[Fold],
    candidates: Sequence[TrainOptions],
    memory: int = MEMORY,
) -> tuple[Floats, float]:
    """Train every candidate on every fold, those of the same widths as one stack.

    Parameters
    ----------
    dataset : Dataset
        The data.
    classes : list, or None
        The labels; None for a quantity.
    folds : sequence of Fold
        The folds.
    candidates : sequence of TrainOptions
        The candidates.
    memory : int, default 2³⁰
        Bytes that the networks of one stack may take.

    Returns
    -------
    scores : array, (folds, candidates)
        The accuracy, or R²; nan for a network that diverged.
    seconds : float
        How long it took.
    """
    load_ahead(get_backend(candidates[0].backend), np.dtype(candidates[0].dtype))
    began = time.perf_counter()
    data = FoldData(dataset, classes, folds, candidates[0])
    scores = np.full((len(folds), len(candidates)), math.nan)
    for jobs in _together(candidates, len(folds), data.X.shape[1], len(classes or [0]), memory):
        group = [candidates[place] for _, place in jobs]
        stack = NetworkStack(
            len(group),
            seeds=[each.seed for each in group],
            backend=get_backend(group[0].backend),
            **network_options(dataset, classes, widths_of(group[0]), group[0]),
        )
        diverged = _fit(stack, data, [fold for fold, _ in jobs], group)
        with numpy_on_one_thread():  # threads of a BLAS spin after a product, and these products are small
            for network, (fold, place), failed in zip(stack, jobs, diverged, strict=True):
                if not failed:
                    own = data.test[fold]
                    outputs = stack.backend.to_numpy(network.predict(data.X[own]))
                    scores[fold, place] = _score(outputs, data.y[own], classes)
    return scores, time.perf_counter() - began


def _fit(stack: NetworkStack, data: FoldData, folds: Sequence[int], group: Sequence[TrainOptions]) -> list[bool]:
    """Train a stack, each member on a fold; return which diverged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the score of a member that diverged says so
            histories = stack.fit(
                data.X,
                data.y,
                samples=[data.train[fold] for fold in folds],
                optimizer=[optimizer_of(each) for each in group],
                batch_size=[each.batch_size for each in group],
                l2=[each.l2 for each in group],
                epochs=group[0].epochs,
            )
    except DivergenceError:
        return [True] * len(group)
    return [history.diverged for history in histories]


def _together(
    candidates: Sequence[TrainOptions], folds: int, inputs: int, outputs: int, memory: int
) -> list[list[tuple[int, int]]]:
    """Divide the fits, each a fold and a candidate by number, into stacks that do not take too much memory.

    Networks of a stack have the same widths, activation and number of epochs.
    """
    groups: dict[tuple[tuple[int, ...], str, int], list[tuple[int, int]]] = {}
    for place, each in enumerate(candidates):
        jobs = groups.setdefault((widths_of(each), each.activation, each.epochs), [])
        jobs += [(fold, place) for fold in range(folds)]
    parts = []
    for (widths, _, _), jobs in groups.items():
        sizes = [inputs, *widths, outputs]
        parameters = sum((1 + below) * above for below, above in pairwise(sizes))
        at_once = max(1, memory // (parameters * COPIES * np.dtype(candidates[0].dtype).itemsize))
        parts += [jobs[start : start + at_once] for start in range(0, len(jobs), at_once)]
    return parts


def _score(outputs: HostArray, truth: HostArray, classes: list[Label] | None) -> float:
    if classes is not None:
        return float((outputs.argmax(axis=1) == truth).mean())
    error, spread = truth - outputs, truth - truth.mean()
    total = float((spread**2).sum())
    return 1.0 - float((error**2).sum()) / total if total else math.nan
