"""How Sphinx builds the lecture in Chinese; ``_extensions/chinese_lecture.py`` calls it when the site is built."""

import sys
from pathlib import Path

DOCS = Path(__file__).parents[1]
sys.path.insert(0, str(DOCS))

from conf import *  # noqa: E402, F403  (the settings of the site; those below differ)
from conf import html_theme_options as _options  # noqa: E402

language = "zh_CN"
locale_dirs = ["locales"]  # beside the pages
gettext_compact = False
extensions = [
    "myst_parser",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "source_pages",
    "chinese_lecture",
    "explained_page",
]
include_patterns = ["lecture/**"]
root_doc = "lecture/index"
templates_path = [str(DOCS / "_templates")]
html_static_path = [str(DOCS / "_static")]
html_logo = html_favicon = str(DOCS / "_static" / "logo.svg")
# The pages are listed at the side, as in the other language. Without jieba Sphinx cannot search Chinese, so there is no
# box to search.
html_theme_options = _options | {
    "logo": {"text": "deltaprop", "link": "../../index.html"},
    "navbar_center": [],
    "navbar_persistent": [],
    "navbar_end": ["theme-switcher"],
}
html_sidebars = {"**": ["lecture_pages.html"]}
# Before the scripts of Sphinx, whose priority is 200.
html_js_files = [("chinese_stemmer.js", {"priority": 100})]
# What lies outside the lecture is on the site around it.
source_pages_base = "../"
intersphinx_disabled_reftypes: list[str] = []


def setup(app):
    """Find the names of the site in the inventory that it has just written."""
    if app.config.inventory:
        app.config.intersphinx_mapping = {"site": ("..", app.config.inventory)}
