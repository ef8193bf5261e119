"""Pillow, without the warnings that it prints."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_state: warnings.catch_warnings[None] | None = None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """
    Hold back the warnings that Pillow itself issues: what matters in them, we raise.

    The filters are the whole process's, so all threads in here share one change of them; and only
    Pillow's own modules are silenced, so that another's change at the same time cannot lose more.
    """
    global _quiet_users, _quiet_state
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_state = warnings.catch_warnings()
            _quiet_state.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_state is not None:
                _quiet_state.__exit__(None, None, None)
                _quiet_state = None
