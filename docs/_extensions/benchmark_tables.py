"""The tables, charts and figures in sentences of the pages on benchmarks, read from benches/results at build time.

A page writes a directive ``{benchmark} peers`` for a table. Its option ``:chart:`` adds the chart before it, and
``:no-origin:`` leaves out the line that says where the figures come from. The role ``{measured}`` puts one figure into
a sentence: ``{measured}`peers; min; best peer ÷ deltaprop```. The names are in ``benches/published/catalogue.py``. The
directive ``{benchmark-headlines}`` is the table of ``benches/headlines.py``, which the README has too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from deltaprop.benches import headlines
from deltaprop.benches.published import catalogue
from deltaprop.benches.published.charts import CHARTS, draw
from deltaprop.benches.published.figures import Figures, MissingFigureError
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole


def results_of(env: Any) -> Path:
    """Return the folder of the results in the checkout whose pages are built."""
    return Path(env.srcdir).parent / "benches" / "results"


def depend(env: Any, figures: Figures) -> None:
    """Have the page read anew when a file that was read for it changes, or what makes tables of the files."""
    for module in Path(catalogue.__file__).parent.glob("*.py"):
        env.note_dependency(str(module))
    for path in figures.files():
        env.note_dependency(str(path))


def _parsed(directive: SphinxDirective, lines: list[str], style: str) -> list[nodes.Node]:
    """Make nodes of Markdown, for which the style sheet has a class."""
    holder = nodes.Element()
    directive.state.nested_parse(StringList(lines, directive.get_source_info()[0]), 0, holder)
    for node in holder.children:
        node["classes"].append(style)
    return list(holder.children)


class Benchmark(SphinxDirective):
    """A table, the chart before it, and the line that says where its figures come from."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"chart": directives.flag, "no-origin": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Make the nodes; what a file lacks ends the build."""
        name, figures = self.arguments[0], Figures(results_of(self.env))
        try:
            table = catalogue.table(figures, name)
            path = os.path.relpath(figures.folder, Path(self.env.doc2path(self.env.docname)).parent)
            shown = [] if "no-origin" in self.options else table.sources
            origin = [catalogue.origin(figures, source, path) for source in shown]
            made = self._chart(figures, name) if "chart" in self.options else []
        except MissingFigureError as error:
            raise self.error(f"benchmark {name!r}: {error}") from error
        depend(self.env, figures)
        made += _parsed(self, table.markdown().splitlines(), "benchmark")
        return made + _parsed(self, origin, "benchmark-origin")

    def _chart(self, figures: Figures, name: str) -> list[nodes.Node]:
        chart = CHARTS[name](figures)
        folder, images = Path(self.env.doctreedir) / "benchmark_charts", []
        for kind in ("light", "dark"):
            path = folder / f"benchmark-{name.replace(' ', '-')}-{kind}.svg"
            draw(chart, path, dark=kind == "dark")
            uri = Path(os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent)).as_posix()
            images.append(nodes.image(uri=uri, alt=chart.description(), classes=[f"only-{kind}", "benchmark-chart"]))
        return images


class Headlines(SphinxDirective):
    """The table of headline ratios, with the command that made each."""

    def run(self) -> list[nodes.Node]:
        """Make the table; what a file lacks ends the build."""
        figures = Figures(results_of(self.env))
        try:
            lines = headlines.markdown(figures).splitlines()
        except MissingFigureError as error:
            raise self.error(f"benchmark-headlines: {error}") from error
        depend(self.env, figures)
        self.env.note_dependency(headlines.__file__)
        return _parsed(self, lines, "benchmark-headlines")


class History(SphinxDirective):
    """The files of earlier commits, which no table shows."""

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        path = os.path.relpath(results_of(self.env), Path(self.env.doc2path(self.env.docname)).parent)
        lines = [f"- [`{name}.json`]({path}/{name}.json): {what}" for name, what in catalogue.HISTORY.items()]
        return _parsed(self, lines, "benchmark-history")


class Measured(SphinxRole):
    """One figure in a sentence."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the text; a name that no table has ends the build."""
        figures = Figures(results_of(self.env))
        try:
            figure = catalogue.measured(figures, self.text)
        except MissingFigureError as error:
            where = ":".join(str(part) for part in self.get_source_info())
            raise ExtensionError(f"{where}: measured {self.text!r}: {error}") from error
        depend(self.env, figures)
        return [nodes.Text(figure.text)], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_directive("benchmark", Benchmark)
    app.add_directive("benchmark-headlines", Headlines)
    app.add_directive("benchmark-history", History)
    app.add_role("measured", Measured())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
