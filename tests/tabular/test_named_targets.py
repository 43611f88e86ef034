"""Targets that are named in fit: gaps in a file, and numbers that are no labels."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_tables import QUICK, QuickClassifier, QuickRegressor, two_classes

pytest.importorskip("pandas", reason="tables of this library are fitted")
pytest.importorskip("polars", reason="tables of this library are fitted")
pytest.importorskip("pyarrow", reason="tables of this library are fitted")

import pandas as pd
import polars as pl
import pyarrow as pa


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("whole", "csv"), ("whole", "parquet"), ("quantity", "csv"), ("quantity", "parquet"), ("text", "csv")],
)
@pytest.mark.parametrize("gaps", [["-", "None"], ["NA", ""]])
def test_rows_of_a_file_without_a_target_are_left_out(gaps: list[str], kind: str, ending: str, tmp_path: Path) -> None:
    """Beside text, "-" and "None" are labels."""
    table, y = two_classes(40)
    if kind == "quantity":
        targets = [f"{number:.3f}" for number in table["useful"]]
    else:
        targets = np.where(y == "yes", *(("2", "1") if kind == "whole" else ("yes", "no"))).tolist()
    targets[3], targets[7] = gaps
    path = tmp_path / f"t.{ending}"
    frame = pd.DataFrame({**table, "answer": targets})
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    model = (QuickRegressor if kind == "quantity" else QuickClassifier)(**QUICK)
    weights = np.arange(1.0, 41.0)
    if kind == "text" and gaps[0] == "-":
        model.fit(path, "answer", weights)
        assert set(model.classes_) == {"yes", "no", "-", "None"}
        return
    named = r"t\.\w+: left out 2 of 40 rows, which have no target in 'answer': rows 3, 7 \(the first is row 0\)"
    with pytest.warns(UserWarning, match=named):
        model.fit(path, "answer", weights)
    keep = np.delete(np.arange(40), [3, 7])
    rest: Any = frame.iloc[keep]
    truth = rest["answer"] if kind == "text" else rest["answer"].astype(float if kind == "quantity" else int)
    columns = rest.drop(columns="answer")
    apart = (QuickRegressor if kind == "quantity" else QuickClassifier)(**QUICK).fit(columns, truth, weights[keep])
    np.testing.assert_array_equal(model.oof_predictions_, apart.oof_predictions_)
    with pytest.warns(UserWarning, match="left out 2 of 40 rows"):
        assert model.score(path, "answer", weights) == apart.score(columns, truth, weights[keep])
    with pytest.raises(ValueError, match="sample_weight"), pytest.warns(UserWarning, match="left out"):
        model.fit(path, "answer", weights[keep])


def test_a_file_without_any_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,NA\n2,\n")
    with pytest.raises(ValueError, match=r"t\.csv: expected a target in some rows, but 'b' has only gaps"):
        QuickClassifier(**QUICK).fit(tmp_path / "t.csv", "b")


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("library", [dict, pd.DataFrame, pl.DataFrame, pa.table, "file"])
def test_quantities_are_no_classes(library: Any, text: bool, tmp_path: Path) -> None:
    """Each of them would be a class; an array of them is refused by scikit-learn's own check."""
    table, _ = two_classes(40)
    prices = [place / 4 for place in range(40)]
    columns = table | {"price": list(map(str, prices)) if text else prices}
    if library == "file":
        given: Any = tmp_path / "houses.csv"
        columns["price"] = ["-", *columns["price"][1:]]  # its row is left out, and the others are refused
        pd.DataFrame(columns).to_csv(given, index=False)
    else:
        given = library(columns)
    left_out = pytest.warns(UserWarning, match="left out 1 of 40 rows") if library == "file" else nullcontext()
    with (
        left_out,
        pytest.raises(ValueError, match=r"'price' holds numbers that are not whole, such as 0.25, .*TabularRegressor"),
    ):
        QuickClassifier(**QUICK).fit(given, "price")
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        QuickClassifier(**QUICK).fit(table, prices)


def test_a_file_without_names_is_warned_of(tmp_path: Path) -> None:
    table, y = two_classes(40)
    path = tmp_path / "t.csv"
    pd.DataFrame({**table, "answer": y}).to_csv(path, index=False, header=False)
    first = path.read_text().split("\n", 1)[0]
    with pytest.warns(UserWarning, match=r"t\.csv: the first line was taken for names, but looks like a row"):
        QuickClassifier(**QUICK).fit(path, first.rsplit(",", 1)[1])


@pytest.mark.parametrize("Estimator", [QuickClassifier, QuickRegressor])
def test_what_is_no_target_is_named(Estimator: Any) -> None:
    frame = pd.DataFrame({**two_classes(40)[0], "answer": np.arange(40) % 2})
    with pytest.raises(ValueError, match=r"y: expected targets \(m,\), or the name of a column as text, got 0"):
        Estimator(**QUICK).fit(frame, 0)
    with pytest.raises(ValueError, match=r"sample_weight: expected numbers \(m,\), got the text 'useful'"):
        Estimator(**QUICK).fit(frame, "answer", "useful")
    frame.columns = ["answer", *frame.columns[1:]]
    with pytest.raises(ValueError, match="X: expected columns of different names, got two that are called 'answer'"):
        Estimator(**QUICK).fit(frame, "answer")
