"""Links from a page to a file of the repository that is no page lead to the file, highlighted.

``[backprop.py](../src/deltaprop/derivation/backprop.py)`` in a page is a link that works where the repository is read.
On the site it leads to ``code/src/deltaprop/derivation/backprop.py.html``; a link to a folder leads to a list of files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

#: Where the pages of files lie on the site.
FOLDER = "code"
#: Kinds of files that Pygments knows under another name, or not at all.
LANGUAGES = {".cu": "cuda", ".cuh": "cuda", ".h": "cpp"}
#: Pages of the repository's top, and the pages of the site that stand for them.
PAGES = {"README": "index", "CONTRIBUTING": "contributing", "SECURITY": "security", "CHANGELOG": "changelog"}
#: Files that are shown by a browser as they are, or are handed out.
AS_THEY_ARE = {".png", ".svg", ".zip"}


def repository(app: Sphinx) -> Path:
    """Return the folder of the repository."""
    return Path(app.srcdir).parent


def file_of(app: Sphinx, docname: str, target: str) -> str | None:
    """Return the path in the repository of the file or folder that a link means; None if it is none, or a page."""
    target = target.partition("#")[0]
    if not target or "://" in target:
        return None
    root = repository(app)
    for base in (Path(app.env.doc2path(docname)).parent, root):  # a page of the root is included by one of docs/
        path = (base / target.lstrip("/")).resolve()
        if path.exists() and path.is_relative_to(root) and path.suffix not in AS_THEY_ARE:
            return None if path.is_relative_to(app.srcdir) and path.is_file() else path.relative_to(root).as_posix()
    return None


def link_to_files(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each link to a file by a link to its page, and note that the page is needed."""
    docname = app.env.docname
    links = (*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref))
    for link in links:
        if isinstance(link, addnodes.pending_xref) and link.get("reftype") != "myst":
            continue
        page = Path(link["reftarget"])
        if link.get("refdomain") == "doc" and page.parent == repository(app) and page.name in PAGES:
            link["reftarget"] = PAGES[page.name]
            continue
        path = file_of(app, docname, link["reftarget"])
        if path is None:
            continue
        needed(app).setdefault(docname, set()).add(path)
        here = app.builder.get_target_uri(docname) if app.builder.format == "html" else docname
        uri = relative_uri(here, f"{app.config.source_pages_base}{FOLDER}/{path}.html")
        link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def needed(app: Sphinx) -> dict[str, set[str]]:
    """Return the paths that each page links to."""
    found: dict[str, set[str]] = app.env.__dict__.setdefault("source_pages", {})
    return found


def forget(app: Sphinx, env: Any, docname: str) -> None:
    """Forget what a page linked to, as it is read anew."""
    needed(app).pop(docname, None)


def merge(app: Sphinx, env: Any, docnames: set[str], other: Any) -> None:
    """Take over what another process has read."""
    needed(app).update(
        {name: paths for name, paths in other.__dict__.get("source_pages", {}).items() if name in docnames}
    )


def pages_of_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make the pages that links lead to, and those of the files in a folder that a link leads to."""
    if app.config.source_pages_base:  # another site has them
        return
    root = repository(app)
    waiting, made = sorted(set().union(*needed(app).values())) if needed(app) else [], set[str]()
    while waiting:
        path = waiting.pop()
        if path in made:
            continue
        made.add(path)
        body, inside = _folder(root / path) if (root / path).is_dir() else (_file(app, root / path), [])
        waiting += [posixpath.join(path, name) for name in inside]
        yield f"{FOLDER}/{path}", {"title": path, "body": f"<h1>{path}</h1>{body}", "parents": []}, "page.html"


def _folder(folder: Path) -> tuple[str, list[str]]:
    """Return the list of the files of a folder as HTML, and their names."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() or path.stat().st_size)
    names = [name for name in names if not name.startswith((".", "__pycache__"))]
    items = "".join(f'<li><a href="{folder.name}/{name}.html">{name}</a></li>' for name in names)
    return f"<ul>{items}</ul>", names


def _file(app: Sphinx, path: Path) -> str:
    """Return a file as HTML, highlighted, with numbers before its lines."""
    text = path.read_text(encoding="utf-8")
    language = LANGUAGES.get(path.suffix)
    if language is None:
        try:
            language = get_lexer_for_filename(path.name).aliases[0]
        except ClassNotFound:
            language = "text"
    block = app.builder.highlighter.highlight_block(text, language, linenos="inline", force=True)  # type: ignore[attr-defined]
    return str(block)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_config_value("source_pages_base", "", "env")
    app.connect("doctree-read", link_to_files, priority=400)  # before Sphinx takes the links for downloads
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("html-collect-pages", pages_of_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
