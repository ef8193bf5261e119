"""How the pages become a site: `make site`. What is in its contents the index page says."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "pixel-llm"
version = release = version_of("pixel-llm")
author = "the pixel-llm developers"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"pixel-llm {release}"
html_copy_source = False

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
napoleon_use_rtype = False
# Docstrings name the types of others (torch, httpx), and private ones, which have no page here. Links between the
# pages are checked all the same.
nitpick_ignore_regex = [("py:.*", ".*")]

_GROUP = re.compile(r"^## ([^:\n]+)[^\n]*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"\]\(([\w/.-]+)\.md\)")


def add_contents(app: Any, page: str, source: list[str]) -> None:
    """Make the contents of the site out of the lists on the index page, which people read elsewhere, too."""
    if page == "index":
        for heading, group in _GROUP.findall(source[0]):
            pages = "\n".join(_PAGE.findall(group))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"
    if page == "reference/rules":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\nrules/*\n```\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
