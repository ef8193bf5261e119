"""Results that are no good: what `retry.retry_on_result` makes of them is a failure like any other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pixel_llm.errors import RetryExhausted, ValidationError
from pixel_llm.resilience.discarding import discard

#: Answers whether a result is no good.
Rejects = Callable[[Any], Any]


def checked(
    target: str, name: str, rejects: Rejects, function: Callable[..., Any], *, is_async: bool
) -> Callable[..., Any]:
    """
    *function*, whose results are shown to *rejects*, which the policy of *target* calls *name*.

    A result that is rejected is raised as a :class:`RetryExhausted` that holds it. To the breaker it is neutral, as
    every error that `count` doesn't name: the target has answered, and whether this answer is of use says as much of
    what was asked as of who answered. `count: [ERR_RETRY_EXHAUSTED, …]` counts them.

    Raises:
        ValidationError: If *rejects* is no plain function.
    """
    if inspect.iscoroutinefunction(rejects):
        raise ValidationError(f"retry_on_result: {name} must be a plain function", target=target)

    def check(value: Any) -> Any:
        try:
            rejected = rejects(value)
        except Exception as error:
            text = f"retry_on_result: {name} failed: {type(error).__name__}: {error}"
            raise ValidationError(text, target=target) from error
        if inspect.isawaitable(rejected):
            discard(rejected)
            text = f"retry_on_result: {name} must be a plain function, but it returned a {type(rejected).__name__}"
            raise ValidationError(text, target=target)
        if rejected:
            raise _rejection(target, name, value)
        return value

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        # Code that is yet to run is no result; the guard refuses it.
        return value if inspect.isawaitable(value) else check(value)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return check(await function(*args, **kwargs))

    return call_async if is_async else call


def _rejection(target: str, name: str, value: Any) -> RetryExhausted:
    error = RetryExhausted(f"the result was rejected by {name}", target=target, details={"rejected_by": name})
    error.last_result = value
    return error


def is_rejection(error: BaseException) -> bool:
    """True if *error* stands for a result that was rejected just now, not for one of an inner target's."""
    return isinstance(error, RetryExhausted) and error.attempts is None and "rejected_by" in error.details
