"""
The reference pages that are made from the code: ``python -m tools.reference``, or ``make docs``.

One file a page, each with a function that gives its text; :data:`PAGES` in :mod:`pages` names them.
"""

from tools.reference.pages import render_pages, stale_pages, write_pages

__all__ = ["render_pages", "stale_pages", "write_pages"]
