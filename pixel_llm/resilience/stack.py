"""
A target's compiled layers, outermost first::

    deadline → fallback → retry → circuit_breaker → timeout → call

A :class:`Stack` holds what the layers know (the breaker's state, the cache) and decides
what both worlds share; :mod:`pixel_llm.resilience.sync_guard` and
:mod:`pixel_llm.resilience.async_guard` run callables through it.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass, fields
from typing import Any

from pixel_llm.errors import (
    CircuitBreakerOpen,
    ErrorCode,
    PixelLMError,
    TimeoutError,
    classify_error,
    http_status,
)
from pixel_llm.events import CircuitStateChanged, Listener
from pixel_llm.policy import FallbackStep, TargetPolicy
from pixel_llm.policy.sections.matching import SERVED_BY_DEFAULT, ErrorMatcher
from pixel_llm.resilience.breaker import CircuitBreaker, CircuitState
from pixel_llm.resilience.clock import SYSTEM_CLOCK, Clock
from pixel_llm.resilience.fallback import FallbackChain
from pixel_llm.resilience.limits import Limits, limits_variable
from pixel_llm.resilience.retry import Retry


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack: its name, and its settings as the model has them: durations in seconds, errors by name."""

    name: str
    settings: dict[str, Any]


def _tell_nobody(event: object) -> None:
    """The listener of a stack that has none."""


class Stack:
    """
    The layers of one target, shared by everything that is wrapped for it. Safe for concurrent use.

    Args:
        target: The target's name.
        policy: Its layers; durations are seconds.
        clock: Where time comes from.
        emit: Takes the events of the stack. It must not raise; see :class:`pixel_llm.events.Listeners`.
    """

    def __init__(
        self, target: str, policy: TargetPolicy, *, clock: Clock = SYSTEM_CLOCK, emit: Listener = _tell_nobody
    ) -> None:
        self.target = target
        self.policy = policy
        self.clock = clock
        self.emit = emit
        self.retry: Retry | None = None
        self.breaker: CircuitBreaker | None = None
        self.fallback: FallbackChain | None = None
        if policy.retry is not None and policy.retry.max_attempts > 1:
            self.retry = Retry(policy.retry, idempotent=policy.idempotent is not False)
        if policy.circuit_breaker is not None:
            self.breaker = CircuitBreaker(target, policy.circuit_breaker, clock=clock, on_change=self._breaker_changed)
        if policy.fallback is not None:
            self.fallback = FallbackChain(policy.fallback, clock=clock)
        self.attempt_timeout = policy.timeout.attempt if policy.timeout else None
        self._connect = policy.timeout.connect if policy.timeout else None

    def describe(self) -> tuple[Layer, ...]:
        """The layers that are there, outermost first, the call itself last."""
        policy = self.policy
        layers: list[Layer] = []
        if policy.deadline is not None:
            layers.append(Layer("deadline", {"deadline": policy.deadline}))
        if self.fallback is not None:
            layers.append(Layer("fallback", {"steps": [_describe_step(step) for step in self.fallback.steps]}))
        for name, present, section in (
            ("retry", self.retry, policy.retry),
            ("circuit_breaker", self.breaker, policy.circuit_breaker),
            ("timeout", policy.timeout, policy.timeout),
        ):
            if present is not None and section is not None:
                layers.append(Layer(name, _settings(section)))
        return (*layers, Layer("call", {}))

    def open_limits(self, now: float) -> Limits:
        """The limits of a call that starts at *now*: its own deadline, or what is left to whoever calls it."""
        callers = limits_variable.get().ends
        own = None if self.policy.deadline is None else now + self.policy.deadline
        if callers is None or (own is not None and own <= callers):
            return Limits(self.clock, own, None, self._connect)
        return Limits(self.clock, callers, None, self._connect, inherited=True)

    def attempt_limits(self, call: Limits, now: float) -> Limits:
        """The limits of an attempt that starts at *now* within *call*."""
        if self.attempt_timeout is None:
            return call
        return Limits(self.clock, call.deadline, now + self.attempt_timeout, self._connect, call.inherited)

    def admit(self, call: Limits) -> int:
        """
        Let an attempt begin.

        Returns:
            The breaker's permit, to be handed to :meth:`settle` or to :meth:`release`.

        Raises:
            TimeoutError: If the call has no time left.
            CircuitBreakerOpen: If the breaker refuses.
        """
        if call.deadline_passed():
            error = self.out_of_time(call)
            error.details["refused_by"] = "deadline"
            raise error
        return self.breaker.acquire() if self.breaker is not None else 0

    def release(self, permit: int) -> None:
        """End an attempt that proved nothing, such as a cancelled one."""
        if self.breaker is not None:
            self.breaker.release(permit)

    def succeed(self, permit: int) -> None:
        """End an attempt that succeeded."""
        if self.breaker is not None:
            self.breaker.record_success(permit)

    def settle(self, permit: int, error: Exception, limits: Limits, *, first: bool) -> None:
        """End an attempt that failed: the breaker counts it, or it is neutral."""
        if self.breaker is None:
            return
        if self._counts(error, limits, first=first):
            self.breaker.record_failure(permit, error)
        else:
            self.breaker.release(permit)

    def would_refuse(self) -> bool:
        """True if the breaker would refuse an attempt now."""
        breaker = self.breaker
        return breaker is not None and breaker.state is CircuitState.OPEN and breaker.retry_after() > 0

    def refused_by(self, error: Exception) -> str | None:
        """The layer of this stack that kept an attempt from beginning; None if *error* is what an attempt raised."""
        if not isinstance(error, PixelLMError) or error.target != self.target or error.attempts is not None:
            return None
        if isinstance(error, CircuitBreakerOpen) and self.breaker is not None:
            return "circuit_breaker"
        return "deadline" if error.details.get("refused_by") == "deadline" else None

    def out_of_time(self, call: Limits) -> TimeoutError:
        """The error of a call whose deadline has passed."""
        own = None if call.inherited else self.policy.deadline
        text = f"the deadline of {own:g} s has passed" if own is not None else "the caller's deadline has passed"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_DEADLINE, target=self.target)

    def cut(self, limits: Limits) -> TimeoutError:
        """The error of an attempt that was cut short: by the deadline if that has passed, else by its timeout."""
        if limits.deadline_passed() or self.attempt_timeout is None:
            return self.out_of_time(limits)
        text = f"the attempt took longer than its timeout of {self.attempt_timeout:g} s"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_REQUEST, target=self.target)

    def _counts(self, error: Exception, limits: Limits, *, first: bool) -> bool:
        section = self.policy.circuit_breaker
        if section is None or not section.count.matches(classify_error(error), http_status(error)):
            return False
        if not isinstance(error, builtins.TimeoutError) or not limits.deadline_passed():
            return True
        # Cut by the deadline. It says something of the target only if the attempt had a fair
        # share of time: its full timeout, or the target's own deadline from the first attempt on.
        if limits.attempt_ends is not None and self.clock.monotonic() >= limits.attempt_ends:
            return True
        return first and not limits.inherited

    def _breaker_changed(
        self, old: CircuitState, new: CircuitState, failures: int, error_code: ErrorCode | None
    ) -> None:
        self.emit(CircuitStateChanged(self.target, old.value, new.value, failures, error_code))


def _settings(section: Any) -> dict[str, Any]:
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return {name: value.names() if isinstance(value, ErrorMatcher) else value for name, value in values.items()}


def _describe_step(step: FallbackStep) -> dict[str, Any]:
    settings: dict[str, Any] = {"strategy": step.strategy.value}
    if step.cache is not None:
        settings |= _settings(step.cache)
    elif step.value is not None:
        settings["value"] = step.value
    if step.when != SERVED_BY_DEFAULT:
        settings["when"] = step.when.names()
    return settings
