"""What a guard needs to know of the callable, besides the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pixel_llm.errors import ValidationError
from pixel_llm.resilience.stack import Stack


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How the callable behaves; see :func:`pixel_llm.resilience.guard`."""

    key: Callable[..., Any] | None = None
    cooperative: bool = False
    cacheable: Callable[[Any], bool] | None = None

    def bound_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], Any] | None:
        """The key function for one call's arguments."""
        return None if self.key is None else partial(self.key, *args, **kwargs)

    def remember(self, stack: Stack) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], None] | None:
        """A function that keeps a good result for the fallback, or None where no fallback caches."""
        cache = stack.fallback.cache if stack.fallback is not None else None
        key, cacheable = self.key, self.cacheable
        if cache is None or key is None:
            return None

        def remember(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # The call has succeeded: a fault in here must neither be retried nor papered over.
            try:
                if cacheable is None or cacheable(value):
                    cache.store(key(*args, **kwargs), value)
            except Exception as error:
                raise ValidationError(
                    f"its result can't be kept for the fallback: {type(error).__name__}: {error}", target=stack.target
                ) from error

        return remember
