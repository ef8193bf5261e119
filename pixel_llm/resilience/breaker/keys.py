"""Which of a target's circuit breakers a call belongs to, where it has one for each key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.policy.suggestions import one_of
from pixel_llm.resilience.breaker.circuit_breaker import CircuitBreaker
from pixel_llm.resilience.breaker.keyed import KeyedBreakers
from pixel_llm.resilience.breaker.no_breaker import NoBreaker

#: Gives the key from the arguments of a call; or such functions by what the policy may say under ``per``.
BreakerKey = Callable[..., Hashable] | Mapping[str, Callable[..., Hashable]]

#: Gives the breaker of a call from its positional and its keyword arguments.
FindBreaker = Callable[[tuple[Any, ...], Mapping[str, Any]], CircuitBreaker]

#: Gives what a call passes: its breaker, or what stands in a breaker's place.
FindGate = Callable[[tuple[Any, ...], Mapping[str, Any]], CircuitBreaker | NoBreaker]


def breaker_finder(
    target: str, breakers: KeyedBreakers, per: str, breaker_key: BreakerKey | None, function: Callable[..., Any]
) -> FindBreaker:
    """
    A function that gives the breaker of a call of *function*.

    Raises:
        ValidationError: If nothing says how the key of a call is found.
    """
    get_key = _key_getter(target, per, breaker_key, function)

    def find(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CircuitBreaker:
        try:
            return breakers.get(get_key(args, kwargs))
        except Exception as error:
            text = f"this call has no key for its circuit breaker: {type(error).__name__}: {error}"
            raise ValidationError(text, target=target) from error

    return find


def _key_getter(
    target: str, per: str, breaker_key: BreakerKey | None, function: Callable[..., Any]
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Hashable]:
    if breaker_key is None:
        return _argument(target, per, function)
    make = breaker_key.get(per) if isinstance(breaker_key, Mapping) else breaker_key
    if make is None:
        names = one_of(sorted(breaker_key)) if isinstance(breaker_key, Mapping) and breaker_key else "nothing"
        text = f"its circuit_breaker is per {per}, but breaker_key= only knows {names}"
        raise ValidationError(f"{target}: {text}", error_code=ErrorCode.ERR_VAL_MISSING_FIELD)
    if not callable(make) or inspect.iscoroutinefunction(make):
        raise ValidationError(f"{target}: breaker_key= must be a plain function, or a map of them (got {make!r})")
    found = make
    return lambda args, kwargs: found(*args, **kwargs)


def _argument(
    target: str, name: str, function: Callable[..., Any]
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Hashable]:
    """A function that finds the argument called *name* among those of a call."""
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions do not say
        parameters = {}
    named = parameters.get(name)
    if named is None and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ValidationError(
            f"{target}: its circuit_breaker is per {name}, but the function has no argument {name!r}: wrapping it "
            "needs breaker_key=, a function that gives the key from the call's arguments",
            error_code=ErrorCode.ERR_VAL_MISSING_FIELD,
        )
    default = None if named is None or named.default is named.empty else named.default
    positions = [parameter.name for parameter in parameters.values() if parameter.kind in _BY_POSITION]
    position = positions.index(name) if name in positions else len(positions)

    def find(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        if name in kwargs:
            key: Hashable = kwargs[name]
        else:
            key = args[position] if position < min(len(args), len(positions)) else default
        return key

    return find


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
