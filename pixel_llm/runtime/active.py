"""The active policies: those that ``@pixel_llm.guard`` binds to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pixel_llm.errors import ValidationError
from pixel_llm.resilience import Guarded, Stack
from pixel_llm.resilience.breaker_keys import BreakerKey
from pixel_llm.resilience.guard import guard_later
from pixel_llm.resilience.options import Alternative

if TYPE_CHECKING:
    from pixel_llm.runtime.policies import Policies

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.RLock()
_active: Policies | None = None


def activate(policies: Policies, *, unless_others_are: bool = False) -> None:
    """Make *policies* the active ones."""
    global _active
    with _lock:
        if _active is None or not unless_others_are:
            _active = policies


def deactivate(policies: Policies) -> None:
    """Have no active policies, if *policies* are."""
    global _active
    with _lock:
        if _active is policies:
            _active = None


def active_policies() -> Policies:
    """
    The active policies: those that were activated, else the first that were loaded and are not closed.

    Where there are none, they are loaded, as ``load_policies()`` does without arguments.

    Raises:
        PolicyError: If they have to be loaded and can't be.
    """
    from pixel_llm.runtime.policies import load_policies

    with _lock:
        return _active if _active is not None else load_policies()


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
