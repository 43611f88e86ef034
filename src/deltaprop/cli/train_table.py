"""``deltaprop train`` on a table: what was read, what each column is taken for, training, and the score."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deltaprop.backends import get_backend
from deltaprop.backends.native.library import load_ahead
from deltaprop.cli.members_bar import members_bar
from deltaprop.cli.options import TrainOptions, hidden_sizes
from deltaprop.cli.score_report import score_of_classes, score_of_quantities
from deltaprop.cli.screen import LONGEST_NAME, counted, in_lines, shortened
from deltaprop.cli.table_columns import (
    ChosenColumns,
    Target,
    choose_columns,
    choose_target,
    class_texts,
    named_target,
    roles_shown,
)
from deltaprop.epochs.interruption import Interruption
from deltaprop.ranks.base import ALONE, Ranks
from deltaprop.ranks.failures import failing_together
from deltaprop.reports.history import History
from deltaprop.tabular.classifier import TabularClassifier
from deltaprop.tabular.regressor import TabularRegressor
from deltaprop.tabular.suspects import row_taken_for_names
from deltaprop.tabular.table import Table
from deltaprop.tabular.table_file import read_table
from deltaprop.tabular.targets import gaps_of_target, labels_of, quantities_of

#: How many columns are named as the most important.
SHOWN = 5


def train_table(options: TrainOptions, ranks: Ranks = ALONE) -> Iterator[str]:
    """Read, train, score and save, and yield the lines to print; of several ranks, the first scores and saves.

    Raises
    ------
    ValueError, OSError, BackendError
        If an option or the data are bad; nothing has been trained then.
    KeyboardInterrupt, SystemExit
        After a signal, when what has been learned is saved.
    """
    with failing_together(ranks):
        hidden = None if options.hidden is None else hidden_sizes(options.hidden)
        table = read_table(
            options.data,
            sep=options.sep,
            decimal=options.decimal,
            encoding=options.encoding,
            text=[-1 if options.target is None else options.target],
        )
        name = named_target(table, options)
        written = f" ({table.written})" if table.written else ""
        yield from in_lines("data", f"{counted(table.rows, 'row')}, {counted(len(table.columns), 'column')}{written}")
        doubt = row_taken_for_names(table)
        if doubt:
            yield from in_lines("warning", doubt)
        gaps = gaps_of_target(table.columns[name])
        if gaps.any():
            table = table.take(np.flatnonzero(~gaps))
            yield from in_lines("", f"left out: {counted(int(gaps.sum()), 'row')} without a target")
        if not table.rows:
            raise ValueError(f"{options.data}: expected a target in some rows, but {name!r} has only gaps")
        target = choose_target(table.columns[name], options.task, is_last=options.target is None)
        if options.class_weight is not None and not target.classifies:
            raise ValueError(f"--class-weight: expected classes as targets, but {name!r} is taken for a quantity")
        yield from in_lines("target", f"{name!r}{', the last column' if target.is_last else ''}: {target.reason}")
        chosen = choose_columns(table, target.column, options)
        yield from _columns(chosen, options)
        model = _model(target, chosen, hidden, options, ranks)
    yield from _trained(model, target, chosen, options, ranks)


def _columns(chosen: ChosenColumns, options: TrainOptions) -> Iterator[str]:
    """Show what each column is taken for, and warn of those that should not be predicted from."""
    others = " of --features" if options.features else ""
    yield f"columns     {len(chosen.table.columns)} of {len(chosen.roles)}{others} are used to predict"
    yield from roles_shown(chosen.roles)
    reasons = {role.name: role.reason for role in chosen.roles}
    for name, how in chosen.suspects.items():
        yield from in_lines("warning", f"{name!r} is left out: {reasons[name]}. To use it: {how}")


def _model(
    target: Target, chosen: ChosenColumns, hidden: Sequence[int] | None, options: TrainOptions, ranks: Ranks
) -> Any:
    kind: Any = TabularClassifier if target.classifies else TabularRegressor
    weight = {} if options.class_weight is None else {"class_weight": options.class_weight}
    return kind(
        options.members,
        hidden,
        time_limit=options.time_limit,
        random_state=options.seed,
        backend=options.backend,
        ranks=None if ranks.size == 1 else ranks,
        **chosen.options,
        **weight,
    )


def _trained(model: Any, target: Target, chosen: ChosenColumns, options: TrainOptions, ranks: Ranks) -> Iterator[str]:
    """Train the model, and yield what is said of it."""
    interruption, ended = Interruption(), list[list[History]]()
    name = target.column.name
    how = f" by {ranks.size} ranks" if ranks.size > 1 else ""
    how += "" if options.time_limit is None else f" within {options.time_limit:g} s"
    yield f"training    {counted(options.members, 'network')}{how}; Ctrl-C ends it early and keeps the best so far"
    with failing_together(ranks):
        load_ahead(get_backend(options.backend), np.dtype(np.float32))  # in which tables are learned
    began = time.perf_counter()
    with interruption.awaited():  # also while the model is saved
        # Of several ranks, the bar shows the networks of the first; each has as many, or one less.
        shown, members = options.progress and ranks.is_first, -(-options.members // ranks.size)
        with members_bar(shown, members, options.time_limit, interruption) as moved:

            def told(event: Any) -> bool:
                if not ended or ended[-1] is not event.history:  # members may be trained some after others
                    ended.append(event.history)
                moved(event)
                return interruption()

            model._callbacks = [told]
            try:
                model.fit(Table({**chosen.table.columns, name: target.column}, chosen.table.rows), name)
            finally:
                del model._callbacks
        own = [history for histories in ended for history in histories]
        histories = [history for of_rank in ranks.gather(own) for history in of_rank]
        interruption.hear_others(ranks)
        seconds, ended_early = time.perf_counter() - began, interruption()
        with failing_together(ranks):
            if ranks.is_first:
                yield from _how_it_ended(histories, options.members, seconds, model)
                yield from _score(model, target)
                yield from _saved(model, options, interrupted=ended_early)
            interruption.obey()


def _how_it_ended(histories: Sequence[History], members: int, seconds: float, model: Any) -> list[str]:
    best = [history.best_epoch for history in histories if history.best_epoch]
    kept = f", the best {_span(best)}" if best else ""
    layers = "-".join(map(str, model.stack_.layer_sizes))
    # Ctrl-C may come before the later members have begun; these are not in the model.
    some = "" if len(model.stack_) == members else f"{len(model.stack_)} of {counted(members, 'network')} "
    return in_lines(
        "trained",
        f"{some}in {seconds:.1f} s; epochs {_span([history.epochs for history in histories])}{kept}; networks {layers} "
        f"on {model.stack_.backend.label}",
    )


def _span(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _score(model: Any, target: Target) -> list[str]:
    """Say how good predictions are for rows held out."""
    predictions = model.oof_predictions_
    seen = ~np.isnan(predictions if predictions.ndim == 1 else predictions[:, 0])
    count, every = int(seen.sum()), len(seen)
    rows = f"{counted(count, 'row')} held out" if count == every else f"{counted(count, 'row')} held out of {every:,}"
    if not target.classifies:
        return score_of_quantities(quantities_of(target.column)[seen], predictions[seen], rows)
    numbers = np.searchsorted(model.classes_, labels_of(target.column))
    return score_of_classes(class_texts(target.column), numbers[seen], predictions[seen], rows)


def _importances(model: Any) -> list[str]:
    """Name the columns that matter most."""
    each = zip(model.feature_names_in_.tolist(), model.feature_importances_.tolist(), strict=True)
    most = sorted((item for item in each if item[1] > 0), key=lambda item: -item[1])[:SHOWN]
    if not most:
        return in_lines("importance", "no column helps to predict rows held out")
    names = ", ".join(f"{shortened(name, LONGEST_NAME)} {value:.3g}" for name, value in most)
    what = "log loss" if hasattr(model, "classes_") else "squared error, as a share of the variance,"
    return in_lines("importance", f"{names}: so much the {what} rises if the column is shuffled")


def _saved(model: Any, options: TrainOptions, *, interrupted: bool) -> Iterator[str]:
    """Save the model if there is a file for it; after Ctrl-C, say what is kept and how to go on."""
    if options.out is not None:
        yield from _importances(model)  # the file holds them
        model.save(options.out)
        early = " (training was ended early: the best of each network so far)" if interrupted else ""
        yield f"model       {options.out}{early}"
    elif interrupted:
        yield from in_lines("model", "not kept: with --out FILE, the best of each network so far would be in it")
    if interrupted:
        yield from in_lines(
            "go on", "the same command trains from the start again; --time-limit SECONDS lets it end by itself"
        )
