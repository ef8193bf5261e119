"""Stand-ins for what ``threading`` has, which hand over to another thread instead of blocking."""

from __future__ import annotations

import contextlib
import functools
import operator
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from types import ModuleType
from typing import Any

from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.threads.pool import WORKERS
from soak.stepper import Stepper

#: Modules whose threading is replaced: these, and all below them.
REPLACED_IN = (
    "pixel_llm.resilience",
    "pixel_llm.events",
    "pixel_llm.errors",
    "pixel_llm.runtime.compiled",
    "pybreaker",
)

#: The one whose time is replaced: it keeps the time for others, whatever their clock.
TIMED = "pixel_llm.resilience.streams.later"

_active: Stepper | None = None
_director: int | None = None
_locks: list[Lock] = []


def _stepper() -> Stepper | None:
    """Who steps this thread; None in a thread that nobody does."""
    return _active if _active is not None and _active.steps_this_thread() else None


def _is_outsider() -> bool:
    """Whether this is a real thread that was there before: neither stepped, nor the one that has it all played."""
    return threading.get_ident() != _director and _stepper() is None


class Lock:
    """
    ``threading.Lock``.

    Attributes:
        guards: Whether it is held by a ``with``: then it is no signal, and must be given back.
    """

    def __init__(self) -> None:
        self._held = False
        self.guards = False
        _locks.append(self)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        stepper = _stepper()
        if stepper is None:
            if self._held:
                raise RuntimeError("a lock is taken that nobody will give back")
            self._held = True
            return True
        stepper.point()
        ends = inf if timeout < 0 else stepper.clock.now + timeout
        while self._held:
            if not blocking or not stepper.wait(self, ends - stepper.clock.now):
                return False
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        stepper = _stepper()
        if stepper is not None:
            stepper.wake(self)
            stepper.point()

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        self.acquire()
        self.guards = True
        return True

    def __exit__(self, *_: object) -> None:
        self.guards = False
        self.release()


class RLock(Lock):
    """``threading.RLock``."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = threading.get_ident()
        if self._owner != me:
            if not super().acquire(blocking, timeout):
                return False
            self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            super().release()

    def _is_owned(self) -> bool:
        return self._owner == threading.get_ident()


class Condition:
    """``threading.Condition``. Its waiters are woken in the order in which they came, as there."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock if lock is not None else RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiters: list[object] = []

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: object) -> None:
        self._lock.__exit__(*args)

    def wait(self, timeout: float | None = None) -> bool:
        stepper = _stepper()
        if stepper is None:
            raise RuntimeError("a condition is waited for outside of a stepped thread")
        token = object()
        self._waiters.append(token)
        # Nothing comes between giving the lock back and waiting, so that no notice is missed.
        depth = getattr(self._lock, "_depth", 0)
        if depth:
            self._lock._depth, self._lock._owner = 0, None  # type: ignore[attr-defined]
        self._lock._held = False
        stepper.wake(self._lock)
        noticed = stepper.wait(token, inf if timeout is None else timeout)
        if token in self._waiters:
            self._waiters.remove(token)
        self._lock.acquire()
        if depth:
            self._lock._depth = depth  # type: ignore[attr-defined]
        return noticed

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        stepper = _stepper()
        ends = None if timeout is None or stepper is None else stepper.clock.now + timeout
        while not (result := predicate()):
            left = None if ends is None or stepper is None else ends - stepper.clock.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        stepper = _stepper()
        woken, self._waiters = self._waiters[:n], self._waiters[n:]
        for token in woken:
            if stepper is not None:
                stepper.wake(token)
            elif _active is not None:
                _active.wake(token)

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class Event:
    """``threading.Event``."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        if _active is not None:
            _active.wake(self)
        stepper = _stepper()
        if stepper is not None:
            stepper.point()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        stepper = _stepper()
        if stepper is None or self._set:
            return self._set
        ends = inf if timeout is None else stepper.clock.now + timeout
        while not self._set and stepper.wait(self, ends - stepper.clock.now):
            pass
        return self._set


class SimpleQueue:
    """``queue.SimpleQueue``."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        if _active is not None:
            _active.wake(self, 1)
        stepper = _stepper()
        if stepper is not None:
            stepper.point()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        stepper = _stepper()
        ends = inf if timeout is None or stepper is None else stepper.clock.now + timeout
        while not self._items:
            if stepper is None or not block or not stepper.wait(self, ends - stepper.clock.now):
                raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class Thread:
    """``threading.Thread``."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] = lambda: None,
        name: str = "thread",
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self.daemon = daemon
        self._body = lambda: target(*args, **(kwargs or {}))
        self._stays = getattr(target, "__self__", None) is LATER  # it waits for work for ever
        self._stepped: Any = None

    def start(self) -> None:
        if _active is None or _is_outsider():
            raise RuntimeError("a thread is started by nobody who is stepped")
        self._stepped = _active.spawn(self._body, self.name, stays=self._stays)
        if _active.steps_this_thread():
            _active.point()

    def is_alive(self) -> bool:
        return self._stepped is not None and not self._stepped.ended

    def join(self, timeout: float | None = None) -> None:
        stepper = _stepper()
        if stepper is not None and self.is_alive():
            stepper.wait(self._stepped, inf if timeout is None else timeout)


def _make_stand_in() -> ModuleType:
    """The module ``threading`` as stepped code sees it. What has no stand-in is not there."""
    module = ModuleType("threading")
    vars(module).update(Lock=Lock, RLock=RLock, Condition=Condition, Event=Event, Thread=Thread)
    for name in ("local", "get_ident", "current_thread", "main_thread", "TIMEOUT_MAX"):
        setattr(module, name, getattr(threading, name))
    return module


def _make_queue() -> ModuleType:
    """The module ``queue``, likewise."""
    module = ModuleType("queue")
    vars(module).update(SimpleQueue=SimpleQueue, Empty=queue.Empty)
    return module


def _make_time() -> ModuleType:
    """The module ``time`` as the keeper of time sees it."""
    module = ModuleType("time")
    vars(module).update(monotonic=_monotonic)
    return module


def _monotonic() -> float:
    if _is_outsider():
        return time.monotonic()
    return _active.clock.now if _active is not None else 0.0


_STAND_IN = _make_stand_in()
_TIME = _make_time()
_QUEUE = _make_queue()
_REAL_LOCKS = {type(threading.Lock()): Lock, type(threading.RLock()): RLock}


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """Within, the engine's modules see the stand-ins. What they have made before keeps its real locks."""
    global _director
    undo: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if not any(name == room or name.startswith(f"{room}.") for room in REPLACED_IN):
            continue
        names = vars(module)
        for key, value in list(names.items()):
            stand_in = _TIME if name == TIMED and key == "time" else _stand_in(value)
            if stand_in is not None:
                undo.append((module, key, value))
                setattr(module, key, stand_in)
            for cached in _with_a_lock(value, name):
                undo.append((cached, "lock", cached.lock))
                cached.lock = RLock()
    _director = threading.get_ident()
    try:
        # Real threads can't be stepped: those that wait for work, and those that will, keep to themselves.
        with _apart(WORKERS), _apart(LATER):
            yield
    finally:
        _director = None
        for holder, key, value in undo:
            setattr(holder, key, value)


@contextlib.contextmanager
def _apart(shared: Any) -> Iterator[None]:
    """Within, *shared* is as good as new for all but the threads from outside, who find in it what they left there."""
    kind, mine = type(shared), dict(vars(type(shared)()))

    def attribute(name: str) -> property:
        def where(self: Any) -> dict[str, Any]:
            return vars(self) if _is_outsider() else mine

        return property(lambda self: where(self)[name], lambda self, value: operator.setitem(where(self), name, value))

    shared.__class__ = type(kind.__name__, (kind,), {name: attribute(name) for name in mine})
    try:
        yield
    finally:
        shared.__class__ = kind


def _with_a_lock(value: Any, module: str) -> list[Any]:
    """The cached properties of a class of *module*. Before Python 3.12 each takes a lock while it is worked out."""
    if not isinstance(value, type) or value.__module__ != module:
        return []
    made = (part for part in vars(value).values() if isinstance(part, functools.cached_property))
    return [cached for cached in made if hasattr(cached, "lock")]


def _stand_in(value: Any) -> Any:
    if value is threading:
        return _STAND_IN
    if value is queue:
        return _QUEUE
    if value is queue.SimpleQueue:
        return SimpleQueue
    for name in ("Lock", "RLock", "Condition", "Event", "Thread"):
        if value is getattr(threading, name):
            return getattr(_STAND_IN, name)
    made = _REAL_LOCKS.get(type(value))
    return made() if made is not None else None


@contextlib.contextmanager
def stepped_by(stepper: Stepper) -> Iterator[list[Lock]]:
    """Within, *stepper* runs the threads. Gives the locks that are made meanwhile."""
    global _active
    _active = stepper
    _locks.clear()
    try:
        yield _locks
    finally:
        _active = None
