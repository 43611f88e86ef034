"""``deltaprop train``: several networks on a table, or a single network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from deltaprop.backends import get_backend
from deltaprop.cli.options import TrainOptions, check_seed, hidden_sizes
from deltaprop.files.atomic_file import check_writable
from deltaprop.inputs.files import TABLES, ending_of
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import failing_together
from deltaprop.tabular import MOST_MEMBERS

#: Options that only one of the two ways knows.
OF_TABLES = frozenset(
    {
        *("drop", "features", "categorical", "numerical", "class_weight", "members", "time_limit"),
        *("sep", "decimal", "encoding"),
    }
)
OF_NETWORKS = frozenset(
    {
        *("epochs", "batch_size", "lr", "l2", "optimizer", "momentum", "activation", "output_activation", "loss"),
        *("init", "validation", "test", "patience", "scale", "dtype", "checkpoint", "checkpoint_every", "resume"),
        "plot",
    }
)
#: What serves a table in place of such an option.
INSTEAD = {"test": ", or rows of the table in another file, for 'deltaprop evaluate'"}


def train(options: TrainOptions, ranks: Ranks = ALONE) -> Iterator[str]:
    """Train on the data and yield the lines to print, each as soon as it is known.

    Of several ranks, the first alone writes files, and its lines alone are whole.

    Raises
    ------
    ValueError, OSError, BackendError
        If an option or the data are bad; nothing has been trained then.
    DivergenceError
        If the cost is no longer finite.
    KeyboardInterrupt
        After Ctrl-C, when what has been learned is saved.
    """
    with failing_together(ranks):
        if ranks.size > 1 and options.data == "-":  # and mpiexec of Open MPI does not pass on that it has ended
            raise ValueError("--ranks: expected a file, which every rank reads, got standard input ('-')")
    table = is_table(options.data)
    if options.plain or not table:
        with failing_together(ranks):
            _refuse(
                options, OF_TABLES, _no_table(options.data) if not table else "belongs to tables; expected no --plain"
            )
        from deltaprop.cli.train_network import train_network as run
    else:
        with failing_together(ranks):
            _refuse(options, OF_NETWORKS, "belongs to a single network; expected --plain with it")
            _check(options, writes=ranks.is_first)
        yield f"reading     {'standard input' if options.data == '-' else options.data}"  # imports take a second or two
        from deltaprop.cli.train_table import train_table as run
    yield from run(options, ranks)


def _check(options: TrainOptions, *, writes: bool) -> None:
    """Refuse what is wrong before a table is read; a process that `writes` has to be able to."""
    if options.data != "-" and not Path(options.data).exists():
        raise FileNotFoundError(f"{options.data}: no such file")
    get_backend(options.backend)
    if options.out is not None and writes:
        check_writable(options.out)
    if options.hidden is not None:
        hidden_sizes(options.hidden)
    if options.task not in ("auto", "classification", "regression"):
        raise ValueError(f"--task: expected auto, classification or regression, got {options.task!r}")
    if not 1 <= options.members <= MOST_MEMBERS:
        raise ValueError(f"--members: expected from 1 to {MOST_MEMBERS}, got {options.members}")
    if options.time_limit is not None and not 0 < options.time_limit < math.inf:
        raise ValueError(f"--time-limit: expected seconds above 0, got {options.time_limit}")
    if options.class_weight not in (None, "balanced"):
        raise ValueError(f"--class-weight: expected balanced, got {options.class_weight!r}")
    check_seed(options.seed)


def is_table(source: str) -> bool:
    """Return whether data are a file of a table, or standard input."""
    return source == "-" or ending_of(source) in TABLES


def _no_table(source: str) -> str:
    return f"belongs to tables, and {source} is none: a single network learns it"


def _refuse(options: TrainOptions, names: frozenset[str], reason: str) -> None:
    """Refuse options that the way to train does not know."""
    for name in sorted(options.given & names):
        raise ValueError(f"--{name.replace('_', '-')}: {reason}{INSTEAD.get(name, '')}")
