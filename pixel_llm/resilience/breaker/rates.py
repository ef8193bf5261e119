"""The rates of failed and of slow calls, and when they are too high."""

from __future__ import annotations

from pixel_llm.policy import CircuitBreakerConfig
from pixel_llm.policy.durations import format_duration
from pixel_llm.resilience.breaker.windows import make_window


class Rates:
    """
    The rates of a breaker's latest calls. Not safe for concurrent use: the breaker's lock guards it.

    Args:
        config: Window, minimum of calls, and the limits of the rates.
    """

    __slots__ = ("_config", "_window")

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self._config = config
        self._window = make_window(config.measured_over)

    def record(self, *, failed: bool, slow: bool, now: float) -> str | None:
        """
        Add a call that ended at *now*, in seconds.

        Returns:
            Which rate is too high, in words; None if none is.
        """
        config, window = self._config, self._window
        window.record(failed=failed, slow=slow, now=now)
        calls = window.calls
        if calls < config.minimum_calls:
            return None
        if config.failure_rate is not None and window.failures / calls >= config.failure_rate:
            return f"{window.failures} of {calls} calls failed"
        if config.slow_call_rate is not None and window.slow / calls >= config.slow_call_rate:
            return (
                f"{window.slow} of {calls} calls took longer than {format_duration(config.slow_call_duration or 0.0)}"
            )
        return None
