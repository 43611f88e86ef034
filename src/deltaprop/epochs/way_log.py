"""The log: which way of training is taken, and why it is not a faster one.

The logger is named "deltaprop". INFO has a line for each training, DEBUG more of it; nothing is printed unless the
program asks `logging` for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from logging import Logger

from deltaprop.epochs.engines import obstacles
from deltaprop.epochs.members import MembersEpoch
from deltaprop.epochs.stack_trainer import StackTrainer
from deltaprop.epochs.trainer import Trainer

logger: Logger = logging.getLogger("deltaprop")
logger.addHandler(logging.NullHandler())


def log_way(trainer: Trainer, between: Sequence[str] = ()) -> None:
    """Log how a network is trained; `between` names what has to be done after every epoch."""
    if not logger.isEnabledFor(logging.INFO):
        return
    network, batches = trainer.network, len(trainer.sizes)
    what = f"{_shape(network.layer_sizes)} on {network.backend.label} in {network.dtype.name}"
    if trainer.chunked is not None:
        feed = type(trainer.chunked.feed).__name__
        logger.info("training %s: chunk by chunk (%s), as the data are not where the network is", what, feed)
        return
    way = trainer.whole_epoch
    parts = ["step by step, in Python" if way is None else way.label + (f" ({way.details})" if way.details else "")]
    if way is not None and trainer.epochs_at_once > 1:
        parts.append(f"one epoch a call, because of {', '.join(between)}" if between else "many epochs a call")
    parts += [f"not {label}: {why}" for label, why in obstacles(trainer.task, way)]
    logger.info("training %s, %d steps an epoch: %s", what, batches, "; ".join(parts))
    logger.debug(
        "loss %r, output activation %r, optimizer %r, batch size %d, shuffled %s, sample weights %s, dropout %s",
        network.loss,
        network.output_activation,
        trainer.optimizer,
        trainer.batch_size,
        trainer.shuffled,
        trainer.host_weight is not None,
        list(trainer.dropout),
    )


def log_members_way(trainer: StackTrainer, layer_sizes: Sequence[int], backend: str) -> None:
    """Log how the members of a stack are trained."""
    if logger.isEnabledFor(logging.INFO):
        way: MembersEpoch | None = None if trainer.one_by_one else trainer.way
        how = "one after another" if way is None else way.label
        logger.info("training %d members %s on %s: %s", len(trainer.members), _shape(layer_sizes), backend, how)


def _shape(layer_sizes: Sequence[int]) -> str:
    return "-".join(map(str, layer_sizes))
