"""How the pictures of a batch come to the threads that ask about them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pixel_llm.hybrid.batch import MOST_BYTES, Prepared

#: Seconds after which the thread that reads looks up. What Ctrl-C raises, the main thread raises when it is awake;
#: and a signal that comes just as it goes to sleep, or that another thread is given, does not wake it.
_LOOK_UP = 0.5


class Handover:
    """
    Hands pictures from the thread that reads them to those that ask. Safe for concurrent use.

    Whichever of those fails of something that is no mere error (:class:`SystemExit`, say) breaks the batch off: the
    others get no more pictures, and the thread that reads gets what was raised.

    Args:
        size: How many pictures may lie there.
        memory: And of how many bytes in all; one of more lies there alone.
    """

    def __init__(self, size: int, memory: int = MOST_BYTES) -> None:
        self._size, self._memory = size, memory
        self._changed = threading.Condition()
        self._lying: deque[Prepared] = deque()
        self._asking = 0
        self._is_complete = False
        self._is_broken_off = False
        self._error: BaseException | None = None

    def join(self) -> None:
        """One more thread is going to ask."""
        with self._changed:
            self._asking += 1

    def leave(self) -> None:
        """A thread that asked has come to its end."""
        with self._changed:
            self._asking -= 1
            self._changed.notify_all()

    def put(self, prepared: Prepared) -> None:
        """Lay a picture down, as soon as there is room. Raises what has broken the batch off."""
        with self._changed:
            self._read_on(lambda: self._has_room_for(prepared))
            self._lying.append(prepared)
            self._changed.notify_all()

    def take(self) -> Prepared | None:
        """The next picture; None if there are no more, or nobody wants them any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._lying or self._is_complete or self._is_broken_off)
            if self._is_broken_off or not self._lying:
                return None
            self._changed.notify_all()
            return self._lying.popleft()

    def wait(self) -> None:
        """There are no more pictures: wait until all have been asked about. Raises what has broken the batch off."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()
            self._read_on(lambda: not self._asking)

    def break_off(self, error: BaseException | None = None) -> None:
        """Hand out nothing more; *error* is raised where the pictures are read, if it is the first."""
        with self._changed:
            if not self._is_broken_off:
                self._is_broken_off, self._error = True, error
            self._changed.notify_all()

    def _has_room_for(self, prepared: Prepared) -> bool:
        memory = sum(one.memory for one in self._lying) + prepared.memory
        return len(self._lying) < self._size and (memory <= self._memory or not self._lying)

    def _read_on(self, may: Callable[[], bool]) -> None:
        """Wait until the thread that reads *may* go on. Raises what has broken the batch off."""
        while not self._changed.wait_for(lambda: may() or self._is_broken_off, _LOOK_UP):
            pass
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame: a cycle
