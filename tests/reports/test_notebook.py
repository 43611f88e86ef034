"""A notebook that is run shows each result once: one table, one page, one picture, one line of progress."""

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest
from conftest import require
from html_tables import read_html

import deltaprop as dp
from deltaprop.reports.notebook import notebook_shell
from deltaprop.reports.progress import Bar

SETUP = """
import warnings
import numpy as np
import deltaprop as dp
rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
net = dp.Network([4, 9, 3], loss="categorical_cross_entropy", backend="numpy")
tiny = dp.Network([2, 3, 2], backend="numpy")
"""
SEARCH = """
classifier = dp.MLPClassifier((8,), max_iter=2, random_state=0, backend="numpy")
sweep = dp.SweepCV(classifier, {"alpha": [0.1, 0.2]}, cv=2, progress=True)
with warnings.catch_warnings(action="ignore"):
    sweep.fit(X, y)
"""
DRAWING = """
from matplotlib import pyplot as plt
curve = dp.History(cost=[2.0, 1.0])
"""
FRAME = '<iframe title="One sample through a network 2 → 3 → 2" sandbox="allow-scripts" '
#: Cells, and a text that their one output of HTML has.
SHOWN = {
    "net": "<td>75</td>",
    "net.summary()": "<td>75</td>",
    "summary = net.summary()": "<td>75</td>",
    "summary": "<td>75</td>",
    "dp.NetworkStack(4, [4, 9, 3], backend='numpy')": "<td>300</td>",
    "history = net.fit(X, y, epochs=7, validation=(X, y), progress=True)": "epoch 7/7",
    "history": "History of 7 epochs",
    "net.fit_full_batch(X, y, max_iter=2, progress=True);": "iteration 2/2",
    "dp.check_gradient(net, X[:5], y[:5])": "Gradient check",
    "dp.accumulate([np.sin], [np.cos], 0.5)": "The chain rule, forward mode",
    "net.cost_and_gradient(X, y)[1]": "Weights and biases: 4 → 9 → 3",
    "tiny.explain([0.5, -1.0], 1)": FRAME,
    "explanation = tiny.explain([0.5, -1.0], 1)": FRAME,
    "explanation": FRAME,
    "net.explain(X[0], y[0], steps=0)": "<h3>One sample through a network 4 → 9 → 3</h3>",
    SEARCH: "candidate 2/2",
    "sweep": "Results of 2 candidates on 2 splits",
}
#: Cells, and how many pictures they show.
DRAWN = {
    "curve.plot()": 1,
    "figure = curve.plot()\nfigure.axes[0].set_title('J')\nplt.show()": 1,
    "figure": 1,
    "net.plot_weights()": 1,
    "sweep.plot()": 1,
    "for _ in range(2):\n    curve.plot()": 2,
    "curve.plot()\ncurve.plot()": 2,
    "plt.get_fignums()": 0,
}
PRINTED = ["str(explanation)", "tiny.explain([0.5, -1.0], 1, format='markdown')"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Run all cells in one kernel, and return what each has put out."""
    nbclient, nbformat = require("nbclient"), require("nbformat")
    require("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    cells = [SETUP, *SHOWN, DRAWING, *DRAWN, *PRINTED]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)
        for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name))
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return {cell.source: cell.outputs for cell in notebook.cells}


@pytest.mark.parametrize("cell", SHOWN)
def test_a_cell_shows_a_result_once(outputs: dict[str, list[Any]], cell: str) -> None:
    (output,) = outputs[cell]
    assert output.output_type in ("execute_result", "display_data")
    html = output.data["text/html"]
    assert SHOWN[cell] in html
    if SHOWN[cell] == FRAME:
        assert "J = " in output.data["text/plain"]
        _, html = html.split("</iframe>")
    if cell != "sweep":  # which has scikit-learn's diagram
        read_html(html)


@pytest.mark.parametrize("cell", DRAWN)
def test_a_cell_shows_a_picture_once(outputs: dict[str, list[Any]], cell: str) -> None:
    assert len([output for output in outputs[cell] if "image/png" in output.data]) == DRAWN[cell]
    assert all(output.output_type != "stream" for output in outputs[cell])


def test_nothing_is_left_to_pyplot(outputs: dict[str, list[Any]]) -> None:
    assert outputs["plt.get_fignums()"][0].data["text/plain"] == "[]"


def test_text_stays_text(outputs: dict[str, list[Any]]) -> None:
    (written,) = outputs["str(explanation)"]
    assert list(written.data) == ["text/plain"]
    assert "Θ^(1) = [b^(1), W^(1)], the bias in column 0" in written.data["text/plain"]
    assert "╭───" in written.data["text/plain"]
    (markdown,) = outputs[PRINTED[1]]
    assert (markdown.output_type, markdown.name) == ("stream", "stdout")
    assert "### Layer 1, the input: a^(1) = x\n\n| unit |" in markdown.text


def test_no_cell_writes_to_standard_error(outputs: dict[str, list[Any]]) -> None:
    assert [output for shown in outputs.values() for output in shown if output.get("name") == "stderr"] == []


class Shell:
    """What `notebook_shell` asks of IPython's shell, and a display that keeps what it is given."""

    def __init__(self, kernel: object) -> None:
        self.kernel, self.execution_count = kernel, 1
        self.shown: list[dict[str, str]] = []

    def get_ipython(self) -> "Shell":
        return self

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool = False) -> "Shell":
        assert raw
        self.shown.append(bundle)
        return self

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        self.display(bundle, raw=raw)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    return shell


def test_a_terminal_is_no_notebook(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notebook_shell() is shell
    shell.kernel = None  # IPython in a terminal
    assert notebook_shell() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert notebook_shell() is None


def test_a_result_is_shown_once_a_cell(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    summary = dp.Network([2, 1], backend="numpy").summary()
    (bundle,) = shell.shown
    assert bundle == {"text/plain": str(summary), "text/html": summary._repr_html_()}
    summary._ipython_display_()  # as the value of the cell: nothing
    assert len(shell.shown) == 1
    shell.execution_count += 1
    with pytest.raises(NotImplementedError):  # by which IPython goes on to the HTML
        summary._ipython_display_()
    assert capsys.readouterr().out == ""


def test_the_bar_is_one_line_of_text_and_html(shell: Shell) -> None:
    bar = Bar(4, 100, "<epoch>")
    history = dp.History(cost=[0.5], metrics={"<b>": [0.25]})
    with bar.display:
        bar.samples(50)
        bar.samples(50)
        bar.epoch(history)
    first, last = shell.shown[0]["text/html"], shell.shown[-1]
    assert '<progress value="0" max="400">' in first
    assert '<progress value="100" max="400">' in last["text/html"]
    read_html(last["text/html"])
    assert "<span>cost 0.5000  validation &lt;b&gt; 0.2500</span>" in last["text/html"]
    assert last["text/plain"].startswith("<epoch> 1/4  cost 0.5000  validation <b> 0.2500  ")
    assert "\n" not in last["text/plain"]


def test_a_bar_is_not_drawn_with_every_step(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    bar = Bar(1000, 1, "epoch")
    with bar.display:
        for _ in range(1000):
            now += 0.001
            bar.samples(1)
            bar.epoch(dp.History(cost=[0.5]))
    assert len(shell.shown) <= 1 + 1.0 / 0.1 + 1  # at the start, ten times in a second, at the end
    assert '<progress value="1000" max="1000">' in shell.shown[-1]["text/html"]


def test_a_page_is_saved_from_a_notebook_too(shell: Shell, tmp_path: Path) -> None:
    seen = dp.Network([2, 3, 2], backend="numpy").explain([0.5, -1.0], 1)
    seen.save_html(tmp_path / "page.html")
    assert shell.shown[0]["text/plain"] == str(seen)
    before, _, after = (
        escape(part)
        for part in re.split("(?s)(<noscript>.*</noscript>)", (tmp_path / "page.html").read_text(encoding="utf-8"))
    )
    shown = shell.shown[0]["text/html"]
    assert f'srcdoc="{before}' in shown
    assert f'{after}"></iframe>' in shown
