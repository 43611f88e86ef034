"""The ranks that fit one estimator together: which they are, and what they have to agree on before they train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from deltaprop.estimators.fit_data import HeldOut, Training
from deltaprop.estimators.hyperparameters import Hyperparameters
from deltaprop.estimators.records import Records
from deltaprop.network import Network
from deltaprop.ranks.base import Ranks
from deltaprop.ranks.choice import find_ranks
from deltaprop.ranks.failures import failing_together
from deltaprop.training.agreement import require_same, same_generator, sample_of

#: Parameters that rank 0 alone goes by, that say where a rank computes, or that are compared in another form.
RANKS_MAY_DIFFER = {"verbose", "progress", "callbacks", "backend", "ranks", "class_weight", "random_state"}


def ranks_of(mlp: Hyperparameters) -> Ranks:
    """Return the ranks that an estimator is fitted by.

    Raises
    ------
    ValueError
        If its solver has no minibatches to share.
    BackendError
        If MPI cannot be had.
    """
    ranks = find_ranks(mlp.ranks)
    if mlp.ranks is not None:
        with failing_together(ranks):
            if mlp.solver == "lbfgs":
                raise ValueError(
                    "ranks: expected None with solver='lbfgs', which trains on all samples at once; ranks share the "
                    "minibatches of 'adam' and 'sgd'"
                )
    return ranks


def refuse_ranks(where: str, estimator: Any, grid: Any = ()) -> None:
    """Refuse ranks within what trains many networks; they would all wait for one another.

    where : what trains them, for the message; grid : the parameters that a search tries.

    Raises
    ------
    ValueError
        If a network of ours, maybe within a pipeline, has ranks, or would get them.
    """
    settings = estimator.get_params() if isinstance(estimator, BaseEstimator) else {}
    grids = [each for each in (grid if isinstance(grid, list) else [grid]) if isinstance(each, dict)]
    tried = [own for each in grids for own in each.items()]
    for name, value in (*settings.items(), *tried):
        owner, _, last = name.rpartition("__")
        is_ours = _is_ours(settings.get(owner, estimator))
        if last == "ranks" and is_ours and value is not None and value != [None]:
            raise ValueError(
                f"{name}: expected None in {where}, which trains many networks, got {value!r}; joblib spreads these "
                "over machines: n_jobs=-1 within joblib.parallel_config"
            )


def _is_ours(estimator: object) -> bool:
    return any(kind.__module__.startswith("deltaprop.") for kind in type(estimator).__mro__)


def same_beginning(ranks: Ranks, own: np.random.RandomState, given: object, network: Network) -> np.random.RandomState:
    """Do what `same_generator` does, also for the seed of a network and its number of epochs."""
    if ranks.size > 1:
        network.seed, network.epochs_trained = ranks.from_first((network.seed, network.epochs_trained))
    return same_generator(ranks, own, given)


def require_same_fit(
    ranks: Ranks,
    mlp: Hyperparameters,
    training: Training,
    held_out: HeldOut | None,
    records: Records,
    others: dict[str, Any],
) -> None:
    """Refuse parameters, data or earlier records of an estimator that differ from rank to rank.

    others : what else is compared, by name.

    Raises
    ------
    ValueError
        On every rank.
    """
    if ranks.size == 1:
        return
    network, given, kept = training.network, mlp.random_state, mlp.__dict__
    settings = {name: value for name, value in mlp._described().items() if name not in RANKS_MAY_DIFFER}
    settings |= {"random_state": None if isinstance(given, np.random.RandomState) else given}
    arrays = {"X": training.X, "y": training.Y, "sample_weight or class_weight": training.sample_weight}
    if held_out is not None:
        own = (held_out.X, held_out.Y, held_out.sample_weight)
        arrays |= dict(zip(("validation X", "validation y", "validation weights"), own, strict=True))
    with failing_together(ranks):
        samples = {name: sample_of(array, network.backend) for name, array in arrays.items()}
    names = {name: _as_list(kept.get(name)) for name in ("classes_", "feature_names_in_")}
    earlier = {"t_": records.t, "loss_curve_": records.loss_curve, "validation_scores_": records.validation_scores}
    require_same(ranks, settings | network.configuration | others | names | samples | earlier)


def _as_list(array: Iterable[Any] | None) -> list[Any] | None:
    return None if array is None else np.asarray(array).tolist()
