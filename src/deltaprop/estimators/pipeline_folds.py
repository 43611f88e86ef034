"""A pipeline whose last step is a network: its other steps are fitted once a split, whatever networks follow."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from deltaprop.backends.array_types import AnyArray, ArrayLike, Floats
from deltaprop.estimators.inputs import checked_inputs
from deltaprop.estimators.multilayer_perceptron import checked_weights
from deltaprop.estimators.search_jobs import TEST, TRAIN, Fold, Split
from deltaprop.estimators.together import Table


class Receiver(BaseEstimator):
    """The last step of a pipeline in place of a network: `fit` keeps what the network would get.

    Parameters
    ----------
    network : MLPClassifier or MLPRegressor
        It says which metadata are routed to it.
    """

    y: Any | None
    params: dict[str, Any]

    def __init__(self, network: Any) -> None:
        self.network = network

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **params: Any) -> Receiver:
        """Keep the arguments."""
        self.X, self.y, self.params = X, y, params
        return self

    def get_metadata_routing(self) -> Any:
        """Return the requests of the network."""
        return self.network.get_metadata_routing()


@dataclass
class PreparedSplit:
    """One split after the steps before the network.

    Attributes
    ----------
    split : int
        Its number.
    pipeline : Pipeline
        With fitted steps, except the last one.
    table : Table
        The training samples, checked as a fit of the network checks them.
    samples : tuple
        The training samples and the test samples as a scorer of predictions gets them; the first may be None.
    checked : tuple of array
        The same as arrays.
    sample_weight : array or None
        The weights of the samples in `table`.
    """

    split: int
    pipeline: Pipeline
    table: Table
    samples: tuple[Any, Any]
    checked: tuple[Any, Any]
    sample_weight: Floats | None

    @property
    def kind(self) -> Any:
        """Splits of the same kind have room in one table."""
        template = self.table.template
        names = getattr(template, "feature_names_in_", None)
        return (
            type(template),
            self.table.X.shape[1],
            self.table.X.dtype,
            None if names is None else tuple(names),
            self.sample_weight is None,
        )

    @property
    def bytes(self) -> int:
        """The memory that its samples take, once here and once in the table of several splits."""
        scored = sum(array.nbytes for array in self.checked if array is not None)
        return int(2 * (self.table.X.nbytes + scored))


@dataclass(eq=False)
class Unprepared:
    """What it takes to fit the steps before the network.

    Attributes
    ----------
    pipeline : Pipeline
        It is not changed.
    network : MLPClassifier or MLPRegressor
        The last step.
    X, y
        All samples.
    splits : sequence of pair of array of int
    fit_params : dict
        What the pipeline's `fit` gets besides.
    with_train : bool
        Whether training samples are scored as well.
    """

    pipeline: Pipeline
    network: Any
    X: ArrayLike
    y: ArrayLike
    splits: Sequence[Split]
    fit_params: dict[str, Any]
    with_train: bool


def prepare(unprepared: Unprepared, steps: dict[str, Any], number: int) -> PreparedSplit | None:
    """Fit the steps before the network on the training samples, and transform the samples of a split.

    Parameters
    ----------
    unprepared : Unprepared
    steps : dict
        Parameters of the steps before the network.
    number : int
        The number of the split.

    Returns
    -------
    prepared : PreparedSplit or None
        None where the fits of this split cannot share these samples, or where a step raises an exception: fits by
        themselves will say which.
    """
    X, y, network, split = unprepared.X, unprepared.y, unprepared.network, unprepared.splits[number]
    with_train = unprepared.with_train
    own = clone(unprepared.pipeline).set_params(**clone(steps, safe=False))
    receiver = Receiver(network)
    own.steps[-1] = (own.steps[-1][0], receiver)
    try:
        X_train, y_train = _safe_split(own, X, y, split[TRAIN])
        X_test, _ = _safe_split(own, X, y, split[TEST], split[TRAIN])
        own.fit(X_train, y_train, **_check_method_params(X, params=unprepared.fit_params, indices=split[TRAIN]))
        table = Table.of(network, receiver.X, receiver.y)
        if set(receiver.params) - {"sample_weight"} or not isinstance(table.X, np.ndarray):
            return None
        weights = checked_weights(receiver.params.get("sample_weight"), table.X)
        X_tested = _transformed(own, X_test)  # before the training samples, as they are scored
        if with_train and (not isinstance(X_train, np.ndarray) or np.may_share_memory(table.X, X_train)):
            table.X = table.X.copy()  # a step that works in place would change what the network is trained on
        samples = (_transformed(own, X_train) if with_train else None, X_tested)
        checked = tuple(None if each is None else _checked(table, each) for each in samples)
    except Exception:  # noqa: BLE001  (the fits by themselves raise it again, or score it as a failure)
        return None
    own.steps[-1] = (own.steps[-1][0], network)
    return PreparedSplit(number, own, table, samples, (checked[TRAIN], checked[TEST]), weights)


def _checked(table: Table, samples: Any) -> AnyArray:
    """Check transformed samples as a prediction of the network checks them."""
    return np.asarray(checked_inputs(table.template, samples, dtype=table.X.dtype))


def _transformed(pipeline: Pipeline, samples: Any) -> Any:
    """Transform samples by all steps but the last, as a prediction of the pipeline does."""
    for _, step in pipeline.steps[:-1]:
        if step is not None and step != "passthrough":
            samples = step.transform(samples)
    return samples


def one_table(whole: Table, prepared: Sequence[PreparedSplit], splits: Sequence[Split]) -> list[Fold]:
    """Lay the samples of several splits into one table, and return the fold of each.

    Parameters
    ----------
    whole : Table
        The targets of all samples.
    prepared : sequence of PreparedSplit
        All of one `kind`.
    splits : sequence of pair of array of int
        All splits.
    """
    blocks, rows, places, end = [], [], [], 0
    for each in prepared:
        of_split = splits[each.split]
        own = [(each.table.X, of_split[TRAIN])]
        own += [(array, of_split[side]) for side, array in enumerate(each.checked) if array is not None]
        ends = end + np.cumsum([0, *(len(array) for array, _ in own)])
        places.append([np.arange(*pair) for pair in pairwise(ends)])
        blocks += [array for array, _ in own]
        rows += [numbers for _, numbers in own]
        end = int(ends[-1])
    sources = np.concatenate(rows)
    table = Table(prepared[0].table.template, np.concatenate(blocks), whole.targets[sources], whole.y[sources])
    return [_fold(table, each, own) for each, own in zip(prepared, places, strict=True)]


def _fold(table: Table, prepared: PreparedSplit, places: list[Any]) -> Fold:
    trained, tested = places[0], places[-1]
    weights = None
    if prepared.sample_weight is not None:
        weights = np.zeros(len(table.targets), prepared.sample_weight.dtype)
        weights[trained] = prepared.sample_weight
    seen = places[1] if len(places) > 2 else trained
    # The table has those that were arrays as a network takes them.
    own = [
        given if given is not array else None for given, array in zip(prepared.samples, prepared.checked, strict=True)
    ]
    samples = own[TRAIN], own[TEST]
    return Fold(table, trained, (seen, tested), weights, samples, partial(dressed, prepared.pipeline))


def dressed(pipeline: Pipeline, fitted: Any) -> Pipeline:
    """Make the fitted pipeline whose last step is `fitted`."""
    result = copy.copy(pipeline)
    result.steps = [*pipeline.steps[:-1], (pipeline.steps[-1][0], fitted)]
    return result
