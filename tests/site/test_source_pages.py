"""Links of a small site to files of its repository lead to pages of these files, however the site is built."""

import subprocess
import sys
from pathlib import Path

import pytest
from site_pages import Page

ROOT = Path(__file__).parents[2]
CONF = """
import sys
sys.path.insert(0, {extensions!r})
extensions = ["myst_parser", "source_pages"]
html_theme = "basic"
exclude_patterns = ["_build"]
"""
INDEX = """# Index

[a module](../src/a.py), [its second line](../src/a.py#L2), [lines](../src/a.py#L2-L3), [the folder](../src),
[a page](other.md), [a file with an odd name](<../src/b&c d.txt>), [how to help](../CONTRIBUTING.md#a-new-file),
[elsewhere](https://example.org/src/a.py)

```{toctree}
other
contributing
```
"""
FILES = {
    "docs/index.md": INDEX,
    "docs/other.md": "# Other\n\n[the kernel](../kernels/k.cu)\n",
    "docs/contributing.md": "```{include} ../CONTRIBUTING.md\n:relative-docs: docs/\n```\n",
    "CONTRIBUTING.md": "# Contributing\n\n[the other](docs/other.md) and [a module](src/a.py)\n\n(a-new-file)=\n## A new file\n\nText.\n",
    "src/a.py": 'def f(x):\n    """Return x < 1 & more."""\n    return x\n',
    "src/b&c d.txt": "plain <text>\n",
    "src/empty.py": "",
    "src/inner/deep.py": "y = 1\n",
    "src/__pycache__/a.pyc": "no text",
    "src/.hidden": "hidden\n",
    "kernels/k.cu": "__global__ void k() {}\n",
}


@pytest.fixture
def repository(tmp_path):
    for package in ("sphinx", "myst_parser"):
        pytest.importorskip(package)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "src" / "data.bin").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "docs" / "conf.py").write_text(CONF.format(extensions=str(ROOT / "docs" / "_extensions")))
    return tmp_path


def build(repository, *options, builder="html"):
    out = repository / "docs" / "_build" / builder
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", builder, *options, str(repository / "docs"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


def check(out):
    links = Page(out / "index.html").links
    for link in ("code/src/a.py.html", "code/src/a.py.html#L-2", "code/src.html", "other.html"):
        assert link in links
    assert links.count("code/src/a.py.html#L-2") == 2  # a line, and the first of several
    assert "contributing.html#a-new-file" in links
    assert "https://example.org/src/a.py" in links
    assert "code/kernels/k.cu.html" in Page(out / "other.html").links
    assert {"code/src/a.py.html", "other.html"} <= set(Page(out / "contributing.html").links)
    module = Page(out / "code" / "src" / "a.py.html")
    assert {"L-1", "L-2", "L-3"} <= module.ids
    assert module.headings == ["src/a.py"]
    assert "x &lt; 1 &amp; more" in module.path.read_text(encoding="utf-8")


def test_links_lead_to_pages_of_files(repository):
    out = build(repository)
    check(out)
    folder = Page(out / "code" / "src.html")
    names = ("src/a.py.html", "src/b%26c%20d.txt.html", "src/inner.html")
    assert set(names) <= set(folder.links)
    text = folder.path.read_text(encoding="utf-8")
    assert "<li>data.bin</li>" in text  # listed, and without a page
    for name in ("empty.py", "__pycache__", ".hidden"):
        assert name not in text
    odd = Page(out / "code" / "src" / "b&c d.txt.html")
    assert odd.headings == ["src/b&c d.txt"]
    assert "plain &lt;text&gt;" in odd.path.read_text(encoding="utf-8")
    assert "src/deep.py.html" not in folder.links
    assert (out / "code" / "src" / "inner" / "deep.py.html").is_file()


def test_a_second_build_and_one_by_several_processes_have_the_same_pages(repository):
    out = build(repository, "-j", "2")
    check(out)
    (repository / "docs" / "other.md").write_text("# Other\n\n[a file](../src/inner/deep.py)\n")
    (repository / "src" / "a.py").write_text(FILES["src/a.py"] + "\n\ndef g():\n    return 1\n")
    build(repository)
    assert "code/src/inner/deep.py.html" in Page(out / "other.html").links
    assert "L-7" in Page(out / "code" / "src" / "a.py.html").ids  # as the file is now, though no page has changed
    assert "code/src/a.py.html#L-2" in Page(out / "index.html").links


def test_other_builders_read_the_same_pages(repository):
    """What was read is kept for all builders, and where a link leads depends on the builder."""
    doctrees = ("-d", str(repository / "docs" / "_build" / "doctrees"))
    build(repository, *doctrees)
    folders = build(repository, *doctrees, builder="dirhtml")
    assert "code/src/a.py/#L-2" in Page(folders / "index.html").links
    assert (folders / "code" / "src" / "a.py" / "index.html").is_file()
    text = build(repository, *doctrees, builder="text")
    assert "a module" in (text / "index.txt").read_text(encoding="utf-8")
