"""Tables and sheets as HTML: every cell is text, whatever it holds, and text and HTML have the same cells."""

import numpy as np
import pytest
import sklearn
from html_tables import read_html

import deltaprop as dp
from deltaprop.reports.html_table import html_page, html_table
from deltaprop.reports.search_results import SHOWN, search_sheet
from deltaprop.reports.sheet import Sheet
from deltaprop.reports.text_table import Table

BAD = "<script>alert(\"1\" & '2')</script>"


def test_cells_are_text() -> None:
    table = Table(["name", BAD])
    table.add(BAD, "1")
    table.add("[bold]", "a\nb", strong=True)
    reader = read_html(html_table(table))
    assert reader.tables == [[["name", BAD], [BAD, "1"], ["[bold]", "a\nb"]]]
    assert reader.strong == ["[bold]"]


def test_the_parts_of_a_sheet_are_in_its_text_and_its_html() -> None:
    table = Table(["unit", "a"])
    table.add("1", "0.5")
    sheet = Sheet("A title", {"loss": BAD, "dtype": "float64"}, "", {}, table, "A sentence.")
    assert sheet.text().splitlines() == [
        "A title",
        f"loss   {BAD}",
        "dtype  float64",
        "╭──────┬─────╮",
        "│ unit │   a │",
        "├──────┼─────┤",
        "│ 1    │ 0.5 │",
        "╰──────┴─────╯",
        "A sentence.",
    ]
    html = sheet.html()
    assert read_html(html).tables == [[["loss", BAD], ["dtype", "float64"]], [["unit", "a"], ["1", "0.5"]]]
    assert "<h3>A title</h3>" in html
    assert "<p>A sentence.</p>" in html


def test_a_title_of_a_page_is_text() -> None:
    page = html_page(BAD, Sheet(BAD).html())
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("&lt;script&gt;") == 2
    assert '<meta name="color-scheme" content="light dark">' in page
    read_html(page)


def test_the_gradient_shows_the_size_of_every_layer() -> None:
    rng = np.random.default_rng(0)
    net = dp.Network([3, 4, 2], backend="numpy")
    X, Y = rng.standard_normal((9, 3)), rng.random((9, 2))
    _, gradient = net.cost_and_gradient(X, Y)
    ((_, *rows),) = read_html(gradient._repr_html_()).tables
    W, b = (list(map(np.asarray, arrays)) for arrays in (gradient.weights, gradient.biases))
    arrays = {
        "weights[0]": W[0],
        "biases[0]": b[0],
        "weights[1]": W[1],
        "biases[1]": b[1],
        "flat": np.asarray(gradient.flat),
    }
    assert [row[:3] for row in rows] == [[name, str(each.shape), str(each.size)] for name, each in arrays.items()]
    for row, values in zip(rows, arrays.values(), strict=True):
        entries = [float(value) for value in values.ravel()]
        expected = [sum(v * v for v in entries) ** 0.5, sum(entries) / len(entries), min(entries), max(entries)]
        assert [float(cell) for cell in row[3:]] == pytest.approx(expected, rel=6e-4, abs=1e-12)


def test_a_stack_has_its_gradients_in_one_table() -> None:
    rng = np.random.default_rng(0)
    stack = dp.NetworkStack(2, [3, 2], backend="numpy")
    _, gradient = stack.cost_and_gradient(rng.standard_normal((9, 3)), rng.random((9, 2)))
    ((_, *rows),) = read_html(gradient._repr_html_()).tables
    assert [row[:3] for row in rows] == [
        ["weights[0]", "(2, 2, 3)", "12"],
        ["biases[0]", "(2, 2)", "4"],
        ["flat", "(2, 8)", "16"],
    ]
    assert float(rows[2][3]) == pytest.approx(float(np.sqrt((np.asarray(gradient.flat) ** 2).sum())), rel=6e-4)


def test_the_best_candidates_come_first() -> None:
    mean = np.linspace(0.5, 0.9, SHOWN + 2)
    results = {
        "params": [{"alpha": k, "solver": BAD} for k in range(len(mean))],
        "mean_test_score": mean,
        "std_test_score": mean / 10,
        "rank_test_score": np.arange(len(mean), 0, -1, dtype=np.int32),
        "mean_fit_time": mean * 2,
    }
    sheet = search_sheet(results, True, 3, len(mean) - 1)
    reader = read_html(sheet.html())
    facts, (header, *rows) = reader.tables
    assert facts == [["best candidate", f"alpha=11, solver={BAD}"], ["its mean test score", "0.9000 ± 0.0900"]]
    assert header == ["rank", "mean test score", "±", "alpha", "seconds a fit"]
    assert rows[0] == ["1", "0.9000", "0.0900", "11", "1.8"]
    assert [row[3] for row in rows] == [str(k) for k in range(11, 1, -1)]
    assert reader.strong == ["1"]
    assert f"The first {SHOWN} of {SHOWN + 2} candidates." in sheet.text()
    assert sheet.text().startswith("Results of 12 candidates on 3 splits\n")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_sweep_shows_its_results_by_the_score_of_refit() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    base = dp.MLPClassifier((2,), max_iter=2, random_state=0, backend="numpy")
    scoring = ["accuracy", "neg_log_loss"]
    sweep = dp.SweepCV(base, {"alpha": [0.1, 0.2]}, cv=2, scoring=scoring, refit="neg_log_loss")
    assert "Results" not in sweep._repr_html_()
    sweep.fit(X, y)
    bundle = sweep._repr_mimebundle_()
    assert sorted(bundle) == ["text/html", "text/plain"]
    for html in (bundle["text/html"], sweep._repr_html_()):
        diagram, results = html.split('<div class="deltaprop">')
        assert "SweepCV" in diagram
        facts, (header, *rows) = read_html(f'<div class="deltaprop">{results}').tables
        assert header[1] == "mean test neg_log_loss"
        assert facts[0] == ["best candidate", f"alpha={sweep.best_params_['alpha']}"]
        assert float(rows[0][1]) == pytest.approx(float(sweep.best_score_), abs=6e-5)
        assert rows[0][3] == str(sweep.best_params_["alpha"])
    with sklearn.config_context(display="text"):
        assert list(sweep._repr_mimebundle_()) == ["text/plain"]
        assert not hasattr(sweep, "_repr_html_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_halving_shows_its_last_iteration_first() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    base = dp.MLPClassifier((2,), random_state=0, backend="numpy")
    grid = {"alpha": [0.1, 0.2, 0.3, 0.4], "activation": ["relu", "tanh"]}
    sweep = dp.HalvingSweepCV(base, grid, resource="max_iter", max_resources=8, factor=2, min_resources=2, cv=2)
    assert "Results" not in sweep._repr_html_()
    sweep.fit(X, y)
    results = sweep.cv_results_
    for html in (sweep._repr_mimebundle_()["text/html"], sweep._repr_html_()):
        diagram, shown = html.split('<div class="deltaprop">')
        assert "HalvingSweepCV" in diagram
        reader = read_html(f'<div class="deltaprop">{shown}')
        facts, (header, *rows) = reader.tables
        assert header == ["max_iter", "mean test score", "±", "activation", "alpha", "seconds a fit"]
        assert [row[0] for row in rows] == ["8"] * 2 + ["4"] * 4 + ["2"] * 4
        means = [float(row[1]) for row in rows]
        assert means[:2] == sorted(means[:2], reverse=True)
        assert means[2:6] == sorted(means[2:6], reverse=True)
        assert means[:2] == pytest.approx(sorted(results["mean_test_score"][results["iter"] == 2])[::-1], abs=6e-5)
        assert facts[-1] == ["candidates, by max_iter", "8 with 2, 4 with 4, 2 with 8"]
        assert reader.strong == ["8"]
        assert "Results of 8 candidates in 3 iterations on 2 splits" in shown
        assert "The first 10 of 14 results." in shown


def test_values_of_several_lines_stand_on_one() -> None:
    results = {
        "params": [{"step": "Pipeline(\n    one,\n    two)"}, {"step": "x" * 100}],
        "mean_test_score": np.array([0.5, np.nan]),
        "std_test_score": np.array([0.1, np.nan]),
        "rank_test_score": np.array([1, 2], dtype=np.int32),
        "mean_fit_time": np.array([1.0, 2.0]),
    }
    _, (_, first, second) = read_html(search_sheet(results, True, 3, 0).html()).tables
    assert first[3] == "Pipeline( one, two)"
    assert second[1:4] == ["nan", "nan", "x" * 39 + "…"]
