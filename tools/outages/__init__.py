"""
The five shipped profiles under the same outage: ``python -m tools.outages``, or ``make docs``.

``outage.py`` has a server that fails by the clock, ``playing.py`` sends calls through the real stacks in virtual time,
``drawing.py`` draws what became of them, ``pictures.py`` knows the files.
"""

from tools.outages.pictures import render_pictures, stale_pictures, table_of_outages, write_pictures

__all__ = ["render_pictures", "stale_pictures", "table_of_outages", "write_pictures"]
