"""The lecture in Chinese: after the site is built, its lecture is built once more from the same pages, into ``zh/``.

The texts are in ``locales/zh_CN/LC_MESSAGES``, a catalogue a page. ``zh/conf.py`` holds the settings. CONTRIBUTING.md
says how a catalogue is brought up to date after its page has changed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

FOLDER = "zh"


def build(app: Sphinx, exception: Exception | None) -> None:
    """Build the lecture in Chinese beside the site; its warnings are errors where the site's are."""
    if exception is not None or app.builder.name != "html":
        return
    source, out = Path(app.srcdir), Path(app.outdir)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(source / FOLDER)]
    command += ["-d", str(Path(app.doctreedir) / FOLDER), "-D", f"inventory={out / 'objects.inv'}"]
    strict = ["-W"] if app.warningiserror else []
    if subprocess.run([*command, *strict, str(source), str(out / FOLDER)], check=False).returncode:
        raise ExtensionError("the lecture in Chinese could not be built: see above")


def twin(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Tell a page of the lecture where it stands in the other language."""
    if pagename.startswith("lecture/"):
        up = "../" * pagename.count("/")
        chinese = app.config.language == "zh_CN"
        context["other_language"] = f"{up}../{pagename}.html" if chinese else f"{up}{FOLDER}/{pagename}.html"
        context["other_language_name"] = "English" if chinese else "中文"
        context["other_language_code"] = "en" if chinese else "zh-CN"
    if app.config.language == "zh_CN":  # the logo leads to the site's front page, from every folder
        context["theme_logo"] = context["theme_logo"] | {"link": "../" * (pagename.count("/") + 1) + "index.html"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of this extension."""
    app.add_config_value("inventory", "", "env")
    app.connect("html-page-context", twin)
    if app.config.language != "zh_CN":
        app.connect("build-finished", build)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
