"""What a forked child must forget: the threads of its parent are not in it, nor is what they held ever given back."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """Something that knows of threads."""

    def forget(self) -> None:
        """Forget the threads of the process that this one was forked from."""


_known: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_after_fork(thing: Forgetful) -> None:
    """Have *thing* forget in every forked child, for as long as it lives."""
    _known.add(thing)


def _forget() -> None:
    for thing in _known:
        thing.forget()


# Windows does not fork.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_forget)
