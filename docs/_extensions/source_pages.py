"""Links from a page to a file of the repository that is no page lead to the file, highlighted.

``[backprop.py](../src/deltaprop/derivation/backprop.py)`` in a page is a link that works where the repository is read.
On the site it leads to ``code/src/deltaprop/derivation/backprop.py.html``; a link to a folder leads to a list of files.
Each line has an id, so that ``backprop.py#L12`` leads to line 12. The reference's links to sources lead there too.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
#: What a folder holds beside its files, and is not listed.
UNLISTED = re.compile(r"\.|__pycache__$|.*\.(pyc|so|egg-info)$")
#: A line, or the first of several, as hosts of repositories write it.
LINE = re.compile(r"L(\d+)(-L?\d+)?")
#: A link to a line. MyST forgets the line unless the link says that it leads to a file.
LINK_TO_LINE = re.compile(r"(\]\(<?)(?=[^():#\s]+#L\d+(?:-L?\d+)?>?\))")


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
        if path != root and path.exists() and path.is_relative_to(root) and path.suffix not in AS_THEY_ARE:
            return None if path.is_relative_to(app.srcdir) and path.is_file() else path.relative_to(root).as_posix()
    return None


def keep_lines(app: Sphinx, docname: str, content: list[str]) -> None:
    """Have MyST keep the lines that links lead to."""
    content[0] = LINK_TO_LINE.sub(r"\1path:", content[0])


def link_to_files(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each link to a file by a reference to the page of the file."""
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
        line = LINE.fullmatch(link["reftarget"].partition("#")[2])
        link.replace_self(reference_to(app, docname, path, int(line[1]) if line is not None else None, *link.children))


def reference_to(app: Sphinx, docname: str, path: str, line: int | None, *content: nodes.Node) -> nodes.reference:
    """Return a reference to a file or a line of it, which `resolve` completes, and note that its page is needed."""
    needed(app).setdefault(docname, set()).add(path)
    anchor = "" if line is None else f"#L-{line}"
    return nodes.reference("", "", *content, internal=True, source_page=path, source_line=anchor)


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Complete the references to files: where they lead depends on the builder, and builders share what was read."""
    for link in doctree.findall(nodes.reference):
        if "source_page" in link:
            page = f"{app.config.source_pages_base}{FOLDER}/{link['source_page']}"
            if app.builder.format != "html":
                link.replace_self(link.children)  # other formats have no such pages
                continue
            uri = relative_uri(app.builder.get_target_uri(docname), app.builder.get_target_uri(page))
            link["refuri"] = uri + link["source_line"]


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
    waiting, made = sorted(set().union(*needed(app).values())), set[str]()
    while waiting:
        path = waiting.pop()
        if path in made or not (root / path).exists():
            continue
        made.add(path)
        body, inside = _folder(root / path) if (root / path).is_dir() else (_file(app, root / path), [])
        waiting += [posixpath.join(path, name) for name in inside]
        title = html.escape(path)
        yield f"{FOLDER}/{path}", {"title": title, "body": f"<h1>{title}</h1>{body}", "parents": []}, "page.html"


def _folder(folder: Path) -> tuple[str, list[str]]:
    """Return the list of the files of a folder as HTML, and the names of these with a page: a picture has none."""
    items, inside = [], []
    for path in sorted(folder.iterdir()):
        if UNLISTED.match(path.name) or not (path.is_dir() or (path.is_file() and path.stat().st_size)):
            continue
        name = html.escape(path.name)
        if path.is_dir() or _text(path) is not None:
            inside.append(path.name)
            name = f'<a href="{quote(folder.name)}/{quote(path.name)}.html">{name}</a>'
        items.append(f"<li>{name}</li>")
    return f"<ul>{''.join(items)}</ul>", inside


def _text(path: Path) -> str | None:
    """Return what a file says; None if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _file(app: Sphinx, path: Path) -> str:
    """Return a file as HTML, highlighted, with numbers before its lines and the ids L-1, L-2 and so on."""
    text = _text(path)
    if text is None:
        return f"<p>{path.stat().st_size} bytes, no text.</p>"
    language = LANGUAGES.get(path.suffix)
    if language is None:
        try:
            language = get_lexer_for_filename(path.name).aliases[0]
        except ClassNotFound:
            language = "text"
    highlighter = app.builder.highlighter  # type: ignore[attr-defined]
    block = highlighter.highlight_block(text, language, linenos="inline", linespans="L", force=True)
    return str(block)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_config_value("source_pages_base", "", "env")
    app.connect("source-read", keep_lines)
    app.connect("doctree-read", link_to_files, priority=400)  # before Sphinx takes the links for downloads
    app.connect("doctree-resolved", resolve)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("html-collect-pages", pages_of_files)
    return {"version": "2", "env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
