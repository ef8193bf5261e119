"""Trouble with a sink: reported once, to the standard library's logger ``pixel_llm``."""

from __future__ import annotations

import logging


class Trouble:
    """
    Reports the first trouble with one sink.

    Args:
        subject: What can't be written, in words.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._is_reported = False

    def report(self, error: BaseException) -> None:
        """Say what is wrong, unless it was said before."""
        if not self._is_reported:
            self._is_reported = True
            reason = getattr(error, "strerror", None) or error
            logging.getLogger("pixel_llm").warning(
                "%s cannot be written: %s; calls go on without it", self._subject, reason
            )
