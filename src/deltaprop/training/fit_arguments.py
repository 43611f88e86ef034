"""What `Network.fit` is told besides the data: validation, metrics and early stopping, checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from deltaprop.backends.array_types import ArrayLike
from deltaprop.backends.choices import MetricName
from deltaprop.derivation.losses import describe
from deltaprop.derivation.optimizers import SGD
from deltaprop.derivation.state import NetworkState
from deltaprop.derivation.update_rule import Optimizer
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.reports.history import History
from deltaprop.training.data_door import DataDoor
from deltaprop.training.early_stopping import EarlyStopping
from deltaprop.training.hold_out import HeldOut, Samples, check_fraction, hold_out
from deltaprop.training.metrics import Metric, resolve_metrics

#: Validation data as users give them: a pair (X, Y), or the share of the rows that is held out.
Validation: TypeAlias = tuple[ArrayLike, ArrayLike] | float


def with_validation(
    network: NetworkState,
    samples: Samples,
    validation: Validation | None,
    metrics: Sequence[MetricName | Metric] | None,
    ranks: Ranks = ALONE,
) -> tuple[Samples, HeldOut | None, dict[str, Metric]]:
    """Return the samples to train on, the data that judge every epoch, and the metrics recorded on these.

    A fraction is held out of the samples, the same on all ranks.

    Raises
    ------
    ValueError, TypeError
        As `resolve_validation`; also if a fraction is out of range, or leaves no rows.
    """
    fraction = check_fraction(validation)
    if fraction is None:
        return samples, *resolve_validation(network, validation, metrics, ranks)
    samples, held_out = hold_out(network, samples, fraction, ranks)
    return samples, held_out, recorded_metrics(network, metrics, validates=True)


def resolve_validation(
    network: NetworkState,
    validation: object,
    metrics: Sequence[MetricName | Metric] | None,
    ranks: Ranks = ALONE,
) -> tuple[HeldOut | None, dict[str, Metric]]:
    """Convert the validation data to arrays of the network, and find the metrics that are recorded on them.

    Raises
    ------
    ValueError, TypeError
        If the data are no pair or do not suit the network, or a metric is not known or has no data.
    """
    held_out: HeldOut | None = None
    if validation is not None:
        X, Y = check_pair(validation)
        held_out = (*DataDoor(network).validation_data(X, Y, ranks), None)
    return held_out, recorded_metrics(network, metrics, validates=held_out is not None)


def recorded_metrics(
    network: NetworkState, metrics: Sequence[MetricName | Metric] | None, *, validates: bool
) -> dict[str, Metric]:
    """Find the metrics that are recorded on validation data; there are some if `validates`.

    Raises
    ------
    ValueError, TypeError
        If a metric is not known or has no data.
    """
    if metrics is None:
        return resolve_metrics(("accuracy",) if validates and describe(network.loss).classifies else ())
    if metrics and not validates:
        raise ValueError("metrics: expected validation data with them, got validation=None")
    return resolve_metrics(metrics)


def check_pair(validation: object) -> tuple[ArrayLike, ArrayLike]:
    """Return `validation`, if it is a pair (X, Y).

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        seen = repr(validation) if isinstance(validation, (bool, str)) else type(validation).__name__
        raise TypeError(f"validation: expected a pair (X, Y), or a fraction of the rows between 0 and 1, got {seen}")
    return validation[0], validation[1]


def check_optimizer(optimizer: object) -> Optimizer:
    """Return the optimizer; ``SGD()`` for None.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected a dp.Optimizer (SGD, Adam, AdamW or your own), got {optimizer!r}")
    return optimizer or SGD()


def check_early_stopping(early_stopping: object, metrics: dict[str, Metric], validates: bool) -> None:
    """Find out before training whether the number that early stopping monitors will be recorded.

    Raises
    ------
    ValueError, TypeError
        If it will not, or if `early_stopping` is no `EarlyStopping`.
    """
    if not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping: expected an EarlyStopping, got {early_stopping!r}")
    early_stopping.values(History(metrics={name: [] for name in metrics}))
    if early_stopping.monitor == "validation_cost" and not validates:
        raise ValueError(
            "early_stopping: expected validation data to monitor 'validation_cost', got validation=None; "
            "EarlyStopping(monitor='cost') watches the training cost"
        )
