"""The network of the lecture as an interactive page: made by its own ``explain`` when the site is built, and framed.

The network is the one that the first Python block of ``lecture/network.md`` defines, so that page and frame agree.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

#: The page that defines `net`, `x` and `y`.
DEFINED_IN = "lecture/network.md"
#: Where the interactive page lies in the site.
FRAMED = "_static/explained/network.html"
#: The text of the link to it, by language.
ALONE = {"en": "Open it in a tab of its own", "zh_CN": "在新标签页中打开"}


class ExplainedDirective(Directive):
    """Frame the interactive page: ``{explained}``."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Make the frame, as HTML that leads from the page it stands on to the interactive one."""
        env = self.state.document.settings.env
        up = "../" * env.docname.count("/")
        frame = f'<iframe class="explained" src="{up}{FRAMED}" title="net.explain(x, y)" loading="lazy"></iframe>'
        alone = f'<p><a href="{up}{FRAMED}" target="_blank">{ALONE.get(env.config.language, ALONE["en"])}</a></p>'
        # The container takes the id of a label before it.
        return [nodes.container("", nodes.raw("", f"{frame}\n{alone}", format="html"))]


def definition(page: Path) -> dict[str, Any]:
    """Run the first Python block of a page and return the names that it defines."""
    block = re.search(r"^```pycon\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if block is None:
        raise ValueError(f"{page}: expected a block ```pycon, got none")
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(block[1]):
        exec(example.source, names)
    return names


def write(app: Sphinx) -> None:
    """Write the interactive page into the site."""
    if app.builder.format != "html":
        return
    names = definition(Path(app.srcdir) / DEFINED_IN)
    page = Path(app.outdir) / FRAMED
    page.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # `explain` prints, too
        names["net"].explain(names["x"], names["y"]).save_html(page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_directive("explained", ExplainedDirective)
    app.connect("builder-inited", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
