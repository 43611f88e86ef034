"""How Sphinx builds the site: ``python -m sphinx -W -b html docs docs/_build/html``."""

import os
import sys
from pathlib import Path

import deltaprop

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import gallery_order

project = "deltaprop"
author = "The deltaprop founders"
copyright = author
version = release = deltaprop.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "benchmark_tables",
    "house_drawing",
    "source_pages",
    "reference_pages",
    "chinese_lecture",
    "explained_page",
]
exclude_patterns = ["_build", "zh", "locales", "examples"]
suppress_warnings = ["config.cache"]  # the templates of the reference get functions, which cannot be kept
templates_path = ["_templates"]

# Pages of text
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"

# The reference
autodoc_typehints = "none"  # the docstrings say it
numpydoc_show_class_members = False  # the template of a class lists what this package defines
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # types that are no names of ours stay text
default_role = "py:obj"  # `name` in a docstring is a link where there is such a name, else code
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
smartquotes = False  # "sigmoid" is what one types, and --plain an option

# The gallery: every example is run, and one that fails fails the build.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "subsection_order": [f"examples/{section}" for section in gallery_order.SECTIONS],
    "within_subsection_order": "gallery_order.InOrder",
    "reset_modules": ("matplotlib", "gallery_order.use_style"),
    "image_srcset": ["2x"],
    "thumbnail_size": (480, 288),
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "reference_url": {"deltaprop": None},
    "doc_module": ("deltaprop",),
    "backreferences_dir": "gallery/backreferences",
    "remove_config_comments": True,
    "capture_repr": (),
}
os.environ.setdefault("MPLBACKEND", "Agg")

# Formulas: MathJax lies beside the pages, so that they can be read without a network.
mathjax_path = "mathjax/startup.js"
mathjax3_config = {"loader": {"load": ["core", "input/tex", "output/chtml"]}}

html_theme = "pydata_sphinx_theme"
html_title = "deltaprop"
html_static_path = ["_static"]
html_css_files = ["site.css", "gallery.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "deltaprop"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "article_header_start": ["breadcrumbs.html"],
    "article_header_end": ["other_language.html"],
    "footer_start": ["copyright.html"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "changelog": []}
