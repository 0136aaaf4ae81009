"""Sphinx's settings for the companion as web pages; `srlib site` lays out what they are made of."""

import sys
from pathlib import Path

import srlib

sys.path.insert(0, str(Path(__file__).parent))

project = "srlib"
author = "The srlib authors"
copyright = "The srlib authors, MIT licence"
version = srlib.__version__
language = "en"
smartquotes = False
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
    "pages",
]
exclude_patterns = ["*.py", "README.md"]  # the index includes the last
suppress_warnings = ["ref.python"]  # words of a type, such as "shape", that several classes have as an attribute

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"version": srlib.__version__}

autodoc_typehints = "none"
napoleon_google_docstring = False
default_role = "py:obj"
add_module_names = False

html_theme = "furo"
html_title = "srlib"
html_static_path = ["srlib.css"]
html_css_files = ["srlib.css"]
html_favicon = "favicon.svg"
html_copy_source = False
html_domain_indices = False  # the reference is by subject
html_show_sphinx = False
