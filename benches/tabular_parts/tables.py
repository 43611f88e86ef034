"""Tables to compare on: a folder of CSV files with targets in origins.tsv, and those that come with scikit-learn."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn.datasets
from sklearn.model_selection import train_test_split

#: scikit-learn's own tables, and what each is.
SHIPPED = {
    "breast_cancer": "classification",
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
    "diabetes": "regression",
}
#: Rows to train on and to test on, at most.
TRAIN, TEST = 4000, 10_000


@dataclass(frozen=True)
class BenchTable:
    """A table: its frame without the target, and the targets (numbers of classes, or quantities)."""

    name: str
    task: str
    X: pd.DataFrame
    y: Any


@dataclass(frozen=True)
class BenchSplit:
    """What a contestant is given, and what it is tested on."""

    table: str
    task: str
    seed: int
    X: pd.DataFrame
    y: Any
    X_test: pd.DataFrame
    y_test: Any

    @property
    def classifies(self) -> bool:
        return self.task == "classification"


def tables(folder: Path | None) -> Iterator[BenchTable]:
    """Yield the tables of the folder, if there is one, and scikit-learn's."""
    if folder is not None:
        with (folder / "origins.tsv").open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                frame = pd.read_csv(folder / row["file"])
                yield _table(row["file"].split(".")[0], row["task"], frame, row["target"])
    for name, task in SHIPPED.items():
        frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
        yield _table(name, task, frame, "target")


def _table(name: str, task: str, frame: pd.DataFrame, target: str) -> BenchTable:
    y = frame.pop(target)
    values = y.to_numpy(float) if task == "regression" else pd.factorize(y, sort=True)[0]
    return BenchTable(name, task, frame, values)


def split(table: BenchTable, seed: int) -> BenchSplit:
    """Hold out a fifth, by class, and train on at most `TRAIN` of the other rows."""
    labels = table.y if table.task == "classification" else None
    train, test = train_test_split(np.arange(len(table.y)), test_size=0.2, random_state=seed, stratify=labels)
    if len(train) > TRAIN:
        labels = table.y[train] if table.task == "classification" else None
        train, _ = train_test_split(train, train_size=TRAIN, random_state=seed, stratify=labels)
    test = test[:TEST]
    X = table.X
    return BenchSplit(
        table.name,
        table.task,
        seed,
        X.iloc[train].reset_index(drop=True),
        table.y[train],
        X.iloc[test].reset_index(drop=True),
        table.y[test],
    )
