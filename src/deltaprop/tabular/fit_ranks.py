"""Several ranks that fit one tabular estimator: what has to be the same on all, and what they take over from rank 0."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from deltaprop.backends import get_backend
from deltaprop.inputs.encoded_rows import EncodedRows
from deltaprop.ranks.base import Ranks
from deltaprop.tabular.column_roles import ColumnRole
from deltaprop.tabular.members import MemberTraining
from deltaprop.training.agreement import require_same, sample_of

#: Parameters that say where a rank computes and what it shows, or that are compared in another form.
RANKS_MAY_DIFFER = {"backend", "progress", "ranks", "class_weight"}


@contextmanager
def silent_unless_first(ranks: Ranks) -> Iterator[None]:
    """Have rank 0 alone warn within of what all ranks see."""
    if ranks.is_first:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def require_same_fit(
    ranks: Ranks, estimator: BaseEstimator, roles: Sequence[ColumnRole], rows: EncodedRows, training: MemberTraining
) -> None:
    """Refuse parameters or data that differ from rank to rank.

    Raises
    ------
    ValueError
        On every rank.
    """
    if ranks.size == 1:
        return
    parameters = estimator.get_params(deep=False)
    settings = {name: value for name, value in parameters.items() if name not in RANKS_MAY_DIFFER}
    if isinstance(settings["random_state"], np.random.RandomState):
        settings["random_state"] = None
    arrays: dict[str, Any] = {"X": rows, "y": training.Y, "sample_weight or class_weight": training.weights}
    samples = {name: sample_of(array, get_backend("numpy")) for name, array in arrays.items()}
    require_same(ranks, settings | {"columns": [[role.name, role.role] for role in roles]} | samples)


def take_over(ranks: Ranks, estimator: BaseEstimator) -> None:
    """Have every rank hold what rank 0 has found, to the bit, also where processors round differently."""
    if ranks.size == 1:
        return
    own = {*estimator.get_params(deep=False), "_callbacks"}
    found = ranks.from_first({name: value for name, value in vars(estimator).items() if name not in own})
    if not ranks.is_first:
        vars(estimator).update(found)
