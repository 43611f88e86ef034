"""The columns of a table to train on: which is the target and what it says, and which of the others are used."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop.cli.options import TrainOptions, column_names
from deltaprop.cli.screen import columns_of_text, counted
from deltaprop.errors import listing
from deltaprop.tabular.column_roles import ColumnRole, ColumnRoles, amounts_in, choose_roles
from deltaprop.tabular.suspects import suspicious
from deltaprop.tabular.table import Column, Table
from deltaprop.tabular.targets import first_fraction, label_texts, labels_of

#: Whole numbers are classes if they have no more different values than these, and fewer than this share of the rows.
MOST_CLASSES, CLASSES_SHARE = 20, 0.05
#: Text with more different values than this is no label, if there are fewer than two rows a value.
MOST_TEXTS = 100
#: Classes that are named; columns that are shown one by one.
NAMED_CLASSES, SHOWN = 6, 100


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Parameters
    ----------
    column : Column
        Its cells, none a gap.
    is_last : bool
        Whether it is the target because it is the last column.
    classifies : bool
        Whether its cells are classes.
    reason : str
        What it was taken for, and why.
    """

    column: Column
    is_last: bool
    classifies: bool
    reason: str


@dataclass(frozen=True)
class ChosenColumns:
    """The columns that are predicted from, and what all of them were taken for.

    Parameters
    ----------
    table : Table
        The columns that are used.
    roles : ColumnRoles
        What each column besides the target is taken for.
    suspects : dict of str to str
        Columns that are left out though they say something, each with what keeps it.
    options : dict of str to list of str
        `categorical` and `numerical`, as far as they name columns that are used.
    """

    table: Table
    roles: ColumnRoles
    suspects: dict[str, str]
    options: dict[str, list[str]]


def named_target(table: Table, options: TrainOptions) -> str:
    """Return the name of the target column: the one the user names, or the last.

    Raises
    ------
    ValueError
        If there is no such column, or no other.
    """
    if options.target is not None and options.target not in table.columns:
        raise ValueError(
            f"{options.data}: no column {options.target!r}; the columns are {listing(list(table.columns))}"
        )
    if len(table.columns) < 2:
        name = next(iter(table.columns))
        raise ValueError(f"{options.data}: expected a column besides the target, got only {name!r}; --sep splits cells")
    return list(table.columns)[-1] if options.target is None else options.target


def choose_target(column: Column, task: str, *, is_last: bool) -> Target:
    """Decide whether a column holds classes or quantities.

    Text is classes. So are whole numbers with up to 20 different values and fewer than 5 % as many as there are rows,
    and two values in any case.

    Raises
    ------
    ValueError
        If the task does not suit the cells.
    """
    distinct, rows, name = column.distinct(), len(column), column.name
    if distinct < 2:
        raise ValueError(
            f"target {name!r}: expected different values, got the same in all of them ({counted(rows, 'row')})"
        )
    if not column.says_numbers():
        if task == "regression":
            other = next(text for text in column.counts() if np.isnan(_number(column, text)))
            raise ValueError(
                f"--task: regression needs numbers as targets, got text such as {other[:80]!r} in {name!r}"
            )
        if distinct > MOST_TEXTS and 2 * distinct > rows:
            raise ValueError(
                f"target {name!r}: expected numbers, or classes with several rows each, got {distinct} different texts "
                f"in {rows} rows{amounts_in(list(column.counts()))}; --target names another column"
            )
        labels = list(column.counts())
        named = f": {listing(labels)}" if distinct <= NAMED_CLASSES else ""
        return Target(column, is_last, True, f"{distinct} classes{named}{amounts_in(labels)}")
    numbers = column.numbers()
    fraction = first_fraction(column)
    if fraction is not None:
        if task == "classification":
            if distinct > MOST_CLASSES:
                raise ValueError(
                    f"--task: classification needs labels as targets, got {distinct} different numbers in {name!r} "
                    f"that are not all whole, such as {numbers[fraction]:.6g}; --task regression predicts them"
                )
            as_text = Column(name, "text", *column.texts(), is_category=True)
            return Target(as_text, is_last, True, f"numbers, {distinct} different, taken for classes by --task")
        return Target(column, is_last, False, f"a quantity, from {numbers.min():.6g} to {numbers.max():.6g}")
    few = distinct == 2 or (distinct <= MOST_CLASSES and distinct < CLASSES_SHARE * rows)
    what = f"whole numbers, {distinct} different in {rows} rows"
    if task != "auto":
        return Target(column, is_last, task == "classification", f"{what}: {KINDS[task]}, by --task")
    if few:
        return Target(column, is_last, True, f"{what}, taken for classes; --task regression takes them for a quantity")
    return Target(column, is_last, False, f"{what}, taken for a quantity; --task classification takes them for classes")


#: What the target is in each task.
KINDS = {"classification": "classes", "regression": "a quantity"}


def _number(column: Column, text: str) -> float:
    return float(column.level_numbers()[column.levels.index(text)]) if column.kind == "text" else np.nan


def choose_columns(table: Table, target: Column, options: TrainOptions) -> ChosenColumns:
    """Decide what each column is taken for, and which are used.

    Raises
    ------
    ValueError
        If an option names a column that is not there, or two options one column, or nothing is left to predict from.
    """
    named = _named_columns(table, target.name, options)
    kept = named["features"] or [name for name in table.columns if name != target.name]
    table = Table({name: column for name, column in table.columns.items() if name in kept}, table.rows)
    for option in ("drop", "categorical", "numerical"):
        named[option] = [name for name in named[option] if name in kept]
    try:
        roles = choose_roles(table, categorical=named["categorical"], numerical=named["numerical"], drop=named["drop"])
    except ValueError as error:  # names the estimators' argument, which the option is called after
        raise ValueError(f"--{error}") from error
    texts = [role.name for role in roles if _is_free_text(role, table) and role.name not in named["drop"]]
    if named["features"] and texts:  # the user wants it
        named["categorical"] += texts
        roles = choose_roles(table, categorical=named["categorical"], numerical=named["numerical"], drop=named["drop"])
        texts = []
    wanted = {name for names in named.values() for name in names}
    reasons = {name: why for name, why in suspicious(table, roles, target).items() if name not in wanted}
    shown = ColumnRoles(
        ColumnRole(role.name, "left out", reasons[role.name]) if role.name in reasons else role for role in roles
    )
    used = [role.name for role in shown if role.role != "left out"]
    warned = {*reasons, *texts}
    if not used:
        why = "; ".join(f"{role.name}: {role.reason}" for role in shown)
        raise ValueError(f"{options.data}: expected a column to predict {target.name!r} from, got none ({why})")
    return ChosenColumns(
        Table({name: table.columns[name] for name in used}, table.rows),
        shown,
        {role.name: _how_to_keep(role, table.columns[role.name]) for role in roles if role.name in warned},
        {option: [name for name in named[option] if name in used] for option in ("categorical", "numerical")},
    )


def _named_columns(table: Table, target: str, options: TrainOptions) -> dict[str, list[str]]:
    """Return the columns that options name, by the option.

    Raises
    ------
    ValueError
        If a column is not there, is the target, or is in two options that exclude each other.
    """
    named = {
        option: _checked_names(table, target, getattr(options, option), f"--{option}")
        for option in ("features", "drop", "categorical", "numerical")
    }
    for option in ("drop", "numerical"):
        for other in ("categorical", "numerical"):
            twice = sorted(set(named[option]) & set(named[other])) if option != other else []
            if twice:
                raise ValueError(f"--{option}: column {twice[0]!r} is in --{other} as well; expected it in one of them")
    return named


def _is_free_text(role: ColumnRole, table: Table) -> bool:
    """Return whether a column is left out since it hardly ever says the same twice."""
    column = table.columns[role.name]
    return role.role == "left out" and column.kind == "text" and column.distinct() > 1 and not column.says_numbers()


def _checked_names(table: Table, target: str, texts: list[str], option: str) -> list[str]:
    names = column_names(texts, option)
    for name in names:
        if name not in table.columns:
            raise ValueError(f"{option}: no column {name!r}; the columns are {listing(list(table.columns))}")
        if name == target:
            raise ValueError(f"{option}: {name!r} is the target; --target names another")
    return names


def _how_to_keep(role: ColumnRole, column: Column) -> str:
    """Name the options that keep a column."""
    option = "--numerical" if column.says_numbers() else "--categorical"
    name = shlex.quote(f'"{role.name}"' if "," in role.name else role.name)
    return f"{option} {name}, or --features with all columns to use"


def roles_shown(roles: Sequence[ColumnRole]) -> list[str]:
    """Return the lines of a table of columns, as wide as the terminal; of very many columns the first ones."""
    rows = [(role.name, role.role, role.reason) for role in roles[:SHOWN]]
    lines = columns_of_text(("column", "taken for", "why"), rows)
    if len(roles) > SHOWN:
        kinds: dict[str, int] = {}
        for role in roles[SHOWN:]:
            kinds[role.role] = kinds.get(role.role, 0) + 1
        counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        lines.append(f"  … and {len(roles) - SHOWN} more ({counts})")
    return lines


def class_texts(target: Column) -> list[str]:
    """Return the labels of classes, as they are written, in the order of the estimator's `classes_`."""
    return label_texts(np.unique(labels_of(target)))
