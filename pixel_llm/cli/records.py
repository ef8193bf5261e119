"""What of the library's own log reaches the terminal."""

from __future__ import annotations

import logging


def show_warnings() -> None:
    """
    Print the library's warnings, but not its events.

    The commands report by themselves; event records go where the policy says. Without a handler
    here, Python's last resort would print them as JSON between the captions.
    """
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("pixel-llm: %(message)s"))
    handler.addFilter(lambda record: not record.name.endswith(".events"))
    logging.getLogger("pixel_llm").addHandler(handler)
