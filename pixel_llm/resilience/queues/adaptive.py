"""
A concurrency limit that finds out by itself how much its target can take.

Additive increase, multiplicative decrease, as TCP has it (RFC 5681, congestion avoidance): it converges to the
capacity and shares it fairly with other clients (Chiu and Jain, 1989). The shape is that of ``AIMDLimit`` in
Netflix's concurrency-limits. Gradients of the latency (``Gradient2Limit`` there, Envoy's adaptive concurrency)
take calls for alike; a language model's take as long as their answers are, so here only what is a sign of
overload lowers the limit.
"""

from __future__ import annotations

from math import inf

from pixel_llm.errors import ErrorCategory, ErrorCode, classify_error
from pixel_llm.policy import AdaptiveConfig

#: Errors that say that the target had too much to do.
_OVERLOADED = frozenset(
    {
        ErrorCode.ERR_TIMEOUT_REQUEST,
        ErrorCode.ERR_TIMEOUT_RESPONSE,
        ErrorCode.ERR_TIMEOUT_IDLE,
        ErrorCode.ERR_TIMEOUT_DEADLINE,
        ErrorCode.ERR_API_OVERLOAD,
        ErrorCode.ERR_ENC_OUT_OF_MEMORY,
    }
)
_REFUSED_HERE = frozenset({ErrorCode.ERR_LIMIT_RATE, ErrorCode.ERR_LIMIT_BULKHEAD})


def is_drop(error: BaseException) -> bool:
    """
    True if *error* is a sign of overload: a timeout, an overload error (503), 429, or memory that ran out.

    Refusals of limits in this process are none: they never got to the target.
    """
    if not isinstance(error, Exception):
        return False
    found = classify_error(error)
    if found.error_code in _REFUSED_HERE:
        return False
    return found.error_code in _OVERLOADED or found.category is ErrorCategory.THROTTLED


class AdaptiveLimit:
    """
    The limit of an adaptive bulkhead. Not safe for concurrent use: the bulkhead calls it with its lock held.

    With *L* the limit, after a call that

    - succeeded while all slots were in use: ``L + 1/L``, so one more for every *L* calls (with less in use, a
      success says nothing about what the target can take: RFC 7661 has it so, too);
    - was a drop, or took longer than ``slow_call_duration``: ``backoff_ratio · L``, but only if the call began
      after the last decrease: those begun before it tell of the limit that was too high, once is enough;

    always within ``min_limit`` and the bulkhead's ``max_concurrent``.
    """

    __slots__ = ("_estimate", "_lowered_at", "config", "maximum")

    def __init__(self, config: AdaptiveConfig, maximum: int) -> None:
        self.config = config
        self.maximum = maximum
        self._estimate = float(max(config.min_limit, min(config.initial_limit, maximum)))
        self._lowered_at = -inf

    @property
    def limit(self) -> int:
        """The limit now: whole calls."""
        return int(self._estimate)

    def go_on_from(self, before: AdaptiveLimit) -> None:
        """Take over what *before* has found out, as far as the settings of this one allow it."""
        self._estimate = max(float(self.config.min_limit), min(before._estimate, float(self.maximum)))
        self._lowered_at = before._lowered_at

    def sample(self, elapsed: float | None, ok: bool | None, *, in_use: int, now: float) -> int:
        """
        Learn from a call that has ended.

        Args:
            elapsed: Seconds that it took at the target; None if it never got there.
            ok: True for a success, False for a drop, None for what proved nothing.
            in_use: Calls under way, this one included.
            now: The moment of its end.

        Returns:
            The limit from now on.
        """
        if elapsed is None or ok is None:
            return self.limit
        slow = self.config.slow_call_duration
        if not ok or (slow is not None and elapsed > slow):
            if now - elapsed >= self._lowered_at:
                self._estimate = max(self._estimate * self.config.backoff_ratio, float(self.config.min_limit))
                self._lowered_at = now
        elif in_use >= self.limit:
            self._estimate = min(self._estimate + 1 / self._estimate, float(self.maximum))
        return self.limit
