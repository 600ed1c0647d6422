"""Sphinx settings."""

from recuse import __version__

project = "recuse"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
autodoc_typehints = "none"
napoleon_attr_annotations = False
myst_enable_extensions = ["dollarmath", "colon_fence"]
exclude_patterns = ["_build"]
