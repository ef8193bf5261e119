"""The active policies: those that ``@pixel_llm.guard`` binds to."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pixel_llm.errors import ValidationError
from pixel_llm.monitoring.logs.registry import write_to
from pixel_llm.resilience import Guarded, Stack
from pixel_llm.resilience.breaker.keys import BreakerKey
from pixel_llm.resilience.roads.guard import guard_later
from pixel_llm.resilience.roads.options import Alternative

if TYPE_CHECKING:
    from pixel_llm.runtime.policies import Policies

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.RLock()
_active: Policies | None = None
#: Those that were loaded because a guard was called and there were none: they make room for any others.
_stopgap: Policies | None = None
#: Those that were loaded and are not closed, in that order. Only the active ones are kept alive.
_loaded: list[weakref.ref[Policies]] = []


def loaded(policies: Policies) -> None:
    """Note that *policies* were loaded: they are the active ones if no others are."""
    with _lock:
        _loaded.append(weakref.ref(policies))
        if _active is None or _active is _stopgap:
            _become_active(policies)


def activate(policies: Policies) -> None:
    """Make *policies* the active ones."""
    with _lock:
        _become_active(policies)


def closed(policies: Policies) -> None:
    """Note that *policies* were closed: if they were the active ones, the first that are still there are."""
    with _lock:
        _loaded[:] = [known for known in _loaded if known() not in (None, policies)]
        if _active is policies:
            _become_active(_loaded[0]() if _loaded else None)


def log_changed(policies: Policies) -> None:
    """Note that *policies* have another log: if they are the active ones, loggers write to that."""
    with _lock:
        if _active is policies:
            write_to(policies.log)


def _become_active(policies: Policies | None) -> None:
    global _active
    _active = policies
    write_to(None if policies is None else policies.log)


def active_policies() -> Policies:
    """
    The active policies: those that were activated, else the first that were loaded and are not closed.

    Where there are none, ``load_policies()`` loads some, until the program loads its own.

    Raises:
        PolicyError: If they have to be loaded and can't be.
    """
    global _stopgap
    from pixel_llm.runtime.policies import load_policies

    with _lock:
        if _active is None:
            _stopgap = load_policies()
            return _stopgap
        return _active


def guard(
    target: str,
    *,
    key: Callable[..., Any] | None = None,
    cooperative: bool = False,
    cacheable: Callable[[Any], bool] | None = None,
    alternative: Alternative | None = None,
    breaker_key: BreakerKey | None = None,
    stream: bool = False,
) -> Callable[[Callable[P, R]], Guarded[P, R]]:
    """
    Guard a function, sync or async, by a target of the active policies; a decorator.

    It binds with the first call, so a module can be imported before any policy is loaded. From then on it stays
    with those policies, whichever are active later. See :meth:`Policies.wrap` for the arguments.

    Raises:
        ValidationError: If the function can't be guarded at all. That of its first call, and PolicyError, say
            whether the policy fits it.
    """
    if not isinstance(target, str):
        raise ValidationError(f'guard needs the name of a target: @pixel_llm.guard("billing.charge") (got {target!r})')

    def decorate(function: Callable[P, R]) -> Guarded[P, R]:
        def find_stack() -> Stack:
            return active_policies().adopt(guarded)

        guarded = guard_later(
            target,
            function,
            find_stack,
            key=key,
            cooperative=cooperative,
            cacheable=cacheable,
            alternative=alternative,
            breaker_key=breaker_key,
            stream=stream,
        )
        return guarded

    return decorate
