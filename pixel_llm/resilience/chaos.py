"""
Chaos: faults injected on purpose, innermost of all layers.

To the layers above, what is injected looks as if the callable had done it. Modelled after Envoy's
fault injection (a delay and an abort, drawn apart) and Polly's chaos strategies (fault, latency,
outcome).
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any, NamedTuple

from pixel_llm.errors import (
    APIError,
    ConnectionError,
    EncoderError,
    ErrorCode,
    ErrorFamily,
    PixelLMError,
    TimeoutError,
)
from pixel_llm.events import ChaosInjected
from pixel_llm.policy import ChaosConfig
from pixel_llm.resilience.clock import Clock
from pixel_llm.resilience.limits import current_limits

_TYPES: dict[ErrorFamily, type[PixelLMError]] = {
    ErrorFamily.CONNECTION: ConnectionError,
    ErrorFamily.TIMEOUT: TimeoutError,
    ErrorFamily.API: APIError,
    ErrorFamily.ENCODER: EncoderError,
}

#: The HTTP status with which a server says it, for policies that name errors by status.
_STATUS = {
    ErrorCode.ERR_API_RATE_LIMIT: 429,
    ErrorCode.ERR_API_OVERLOAD: 503,
    ErrorCode.ERR_API_UNAUTHORIZED: 401,
    ErrorCode.ERR_API_MODEL_NOT_FOUND: 404,
    ErrorCode.ERR_API_CONTEXT_LENGTH: 400,
    ErrorCode.ERR_API_BAD_REQUEST: 400,
    ErrorCode.ERR_API_SERVER_ERROR: 500,
}


class Fault(NamedTuple):
    """What happens to one attempt: a delay in seconds, then an error or a result in place of the call."""

    delay: float = 0.0
    error_code: ErrorCode | None = None
    result: bool = False


NO_FAULT = Fault()


class Chaos:
    """
    A compiled `chaos` section. Safe for concurrent use.

    With a seed, the n-th attempt of the target meets the n-th draw, whatever the process and whatever
    the other attempts did; of attempts that begin at once it is open which is the n-th.

    Args:
        target: The target's name; targets with the same seed meet different faults.
        config: Rates and faults; durations are seconds.
        clock: Where time comes from, and what delays wait by.
        report: Takes an event's class and its fields after the target. It must not raise.
    """

    def __init__(
        self, target: str, config: ChaosConfig, *, clock: Clock, report: Callable[..., object] = lambda *event: None
    ) -> None:
        self.config = config
        self._target = target
        self._clock = clock
        self._report = report
        self._lock = threading.Lock()
        self._random = random.Random(None if config.seed is None else f"{config.seed} {target}")  # noqa: S311 - no secret

    def draw(self) -> Fault:
        """The fault of the next attempt."""
        config = self.config
        with self._lock:
            # Always as many numbers, so that a rate can be changed without moving the other draws.
            delayed, failed, which, replaced = (self._random.random() for _ in range(4))
        delay = config.delay.duration if config.delay is not None and delayed < config.delay.rate else 0.0
        if config.error is not None and failed < config.error.rate:
            return Fault(delay, config.error.codes[int(which * len(config.error.codes))])
        if config.result is not None and replaced < config.result.rate:
            return Fault(delay, result=True)
        return Fault(delay)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """*function*, a plain one, with faults injected."""

        @functools.wraps(function)
        def chaotic(*args: Any, **kwargs: Any) -> Any:
            fault = self.draw()
            if fault == NO_FAULT:
                return function(*args, **kwargs)
            if fault.delay:
                self._clock.sleep(self._delay(fault.delay))
                self._end_in_time()
            return self._replaced(fault) if self._replaces(fault) else function(*args, **kwargs)

        return chaotic

    def around_async(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """*function*, a coroutine function, with faults injected."""

        @functools.wraps(function)
        async def chaotic(*args: Any, **kwargs: Any) -> Any:
            fault = self.draw()
            if fault == NO_FAULT:
                return await function(*args, **kwargs)
            if fault.delay:
                await self._clock.sleep_async(self._delay(fault.delay))
                self._end_in_time()
            return self._replaced(fault) if self._replaces(fault) else await function(*args, **kwargs)

        return chaotic

    def _delay(self, seconds: float) -> float:
        """How long to wait: never longer than the attempt may take."""
        self._report(ChaosInjected, "delay", None, seconds)
        remaining = current_limits().remaining()
        return seconds if remaining is None else min(seconds, remaining)

    def _end_in_time(self) -> None:
        """Fail as the timeout layer would, where a delay took all the time there was."""
        limits = current_limits()
        if limits.remaining() == 0.0:
            code = ErrorCode.ERR_TIMEOUT_DEADLINE if limits.deadline_passed() else ErrorCode.ERR_TIMEOUT_REQUEST
            raise self._error(code, "the injected delay took all the time that was left")

    @staticmethod
    def _replaces(fault: Fault) -> bool:
        return fault.error_code is not None or fault.result

    def _replaced(self, fault: Fault) -> Any:
        """What an attempt gives in place of the call."""
        if fault.error_code is not None:
            self._report(ChaosInjected, "error", fault.error_code, 0.0)
            raise self._error(fault.error_code, f"{fault.error_code.info.message} (injected by chaos)")
        self._report(ChaosInjected, "result", None, 0.0)
        # A copy: whoever changes what was given must not change the policy.
        return deepcopy(self.config.result.value) if self.config.result is not None else None

    def _error(self, code: ErrorCode, message: str) -> PixelLMError:
        details: dict[str, Any] = {"chaos": True}
        if code in _STATUS:
            details["status"] = _STATUS[code]
        kind = TimeoutError if code is ErrorCode.ERR_CONN_TIMEOUT else _TYPES[code.info.family]
        return kind(message, error_code=code, target=self._target, details=details)
