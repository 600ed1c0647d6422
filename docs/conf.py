"""Sphinx settings."""

import sys
from pathlib import Path

from recuse import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "recuse"
copyright = "2026, the recuse contributors"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "reference",
]
html_theme = "furo"
html_title = "recuse"
html_static_path = ["static"]
html_css_files = ["pages.css"]
smartquotes = False  # two dashes are two dashes
autodoc_typehints = "none"
autodoc_default_options = {"no-value": True}
napoleon_attr_annotations = False
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
