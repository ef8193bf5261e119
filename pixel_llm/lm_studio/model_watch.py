"""Telling, once, that another model answers than the one that was asked."""

from __future__ import annotations

from collections.abc import Iterable

from pixel_llm.events import Listener, Listeners, ModelMismatched
from pixel_llm.lm_studio.replies import is_same_model

#: A server that makes up a new name for each answer does not fill the memory.
_MOST_PAIRS = 100

CHAT_TARGET = "lm_studio.chat"


class ModelWatch:
    """
    Compares who was asked with who answered. Safe for concurrent use.

    LM Studio may answer with the model that is loaded, whatever name is asked for. Each pair of names is told once.

    Args:
        listeners: Who is told.
    """

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._tell = Listeners(listeners)
        self._told: set[tuple[str, str]] = set()

    def compare(self, asked: str, answered: str) -> None:
        """Tell the listeners if *answered* is another model than *asked*."""
        pair = (asked, answered)
        if asked == answered or pair in self._told or is_same_model(*pair) or len(self._told) >= _MOST_PAIRS:
            return
        self._told.add(pair)
        self._tell(ModelMismatched(CHAT_TARGET, *pair))
