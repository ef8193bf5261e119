"""Telling others of points, so that none of them can harm the call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pixel_llm.events.trouble import report_trouble
from pixel_llm.monitoring.error_metrics.points import Callback, MetricPoint, MetricType


class Callbacks:
    """
    What is called with points. Safe for concurrent use; no lock is held while a callback runs.

    One that raises is reported once, to the logger ``pixel_llm``.
    """

    def __init__(self) -> None:
        self._entries: tuple[tuple[MetricType | None, Callback], ...] = ()
        self._reported: set[int] = set()
        self._lock = threading.Lock()

    def add(self, callback: Callback, kind: MetricType | None) -> Callable[[], None]:
        """Call *callback* from now on, with points of one *kind* or with all. Gives a function that ends it."""
        entry = (kind, callback)
        with self._lock:
            self._entries = (*self._entries, entry)

        def end() -> None:
            with self._lock:
                self._entries = tuple(one for one in self._entries if one is not entry)

        return end

    def tell(self, point: MetricPoint) -> None:
        """Tell all who want to know of *point*."""
        for kind, callback in self._entries:
            if kind is not None and kind is not point.metric_type:
                continue
            try:
                callback(point)
            except Exception:  # noqa: BLE001 - whatever a callback does, the call goes on
                self._report(callback)

    def forget(self) -> None:
        """In a forked child: a lock that a thread of the parent held is never given back."""
        self._lock = threading.Lock()

    def _report(self, callback: Callback) -> None:
        with self._lock:
            known = id(callback) in self._reported
            self._reported.add(id(callback))
        if not known:
            report_trouble("the metrics callback %r raised; this is reported once", callback)
