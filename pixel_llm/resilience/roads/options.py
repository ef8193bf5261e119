"""What a guard needs to know of the callable, besides the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.events.trouble import report_trouble
from pixel_llm.resilience.breaker.keys import BreakerKey
from pixel_llm.resilience.caching.cache import is_used_up
from pixel_llm.resilience.caching.keys import CallKey
from pixel_llm.resilience.routes.routes import Routes
from pixel_llm.resilience.stack import Stack

#: Gives the callable that makes the same calls elsewhere, from ``"model"`` or ``"endpoint"`` and its name or address.
Alternative = Callable[[str, str], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How the callable behaves; see :func:`pixel_llm.resilience.guard`."""

    key: Callable[..., Any] | None = None
    cooperative: bool = False
    cacheable: Callable[[Any], bool] | None = None
    alternative: Alternative | None = None
    breaker_key: BreakerKey | None = None
    stream: bool = False
    routes: Routes | None = None

    def check(self, stack: Stack) -> None:
        """
        See whether the callable can be guarded by *stack*.

        Raises:
            ValidationError: If not.
        """
        if self.key is None and stack.caches:
            which = "it has a cache" if stack.cache is not None else "its fallback has a cache"
            raise ValidationError(
                f"{stack.target}: {which}, so wrapping it needs key=, a function that "
                "gives the cache key from the call's arguments",
                error_code=ErrorCode.ERR_VAL_MISSING_FIELD,
            )

    def key_maker(self, stack: Stack) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Any] | None:
        """
        A function that gives the key of a call's arguments, or None where nothing caches.

        It runs before the call, so that a wrong key is seen before anything has happened.
        """
        key = self.key
        if key is None or not stack.caches:
            return None

        def make_key(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            try:
                made = CallKey(key(*args, **kwargs))
            except Exception as error:
                text = f"key= can't name this call in the cache: {type(error).__name__}: {error}"
                raise ValidationError(text, target=stack.target) from error
            return made

        return make_key

    def keeper(self, stack: Stack) -> Callable[[Any, Any], None] | None:
        """A function that keeps a good result under its key, or None where nothing caches."""
        cacheable = self.cacheable
        if not stack.caches:
            return None

        def keep(key: Any, value: Any) -> None:
            # The call has succeeded: a fault in here must not take its value away.
            try:
                if not is_used_up(value) and (cacheable is None or cacheable(value)):
                    for cache in stack.result_caches():
                        cache.store(key, value)
            except Exception:  # noqa: BLE001 - somebody else's function
                report_trouble("%s: its result can't be kept", stack.target)

        return keep
