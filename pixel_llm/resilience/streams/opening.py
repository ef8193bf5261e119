"""An attempt of a stream, before there is anything to deliver: what both worlds decide about it."""

from __future__ import annotations

from typing import Any

from pixel_llm.errors import ErrorCode, TimeoutError
from pixel_llm.policy import TimeoutConfig
from pixel_llm.resilience.call import Call
from pixel_llm.resilience.limits import Published
from pixel_llm.resilience.stack import Stack
from pixel_llm.resilience.streams.delivery import Delivery, Keep, Slot


class Opening:
    """
    An attempt of a stream up to its first content, and what becomes of it.

    Attributes:
        limits: Its limits.
        slot: Its slot in the bulkhead, if there is one.
    """

    __slots__ = ("_call", "_permit", "_stack", "_timeout", "limits", "slot")

    def __init__(self, stack: Stack, call: Call, permit: int) -> None:
        call.attempts += 1
        self._stack = stack
        self._call = call
        self._permit = permit
        timeout = self._timeout = stack.policy.timeout or TimeoutConfig()
        first = timeout.to_first_content
        self.limits = stack.timing.limits_of(call)
        self.limits[0] = call.deadline if first is None else min(call.deadline, call.attempt_started + first)
        self.slot = Slot(stack.admission)

    def cut(self, limits: Published) -> TimeoutError:
        """The error of an attempt without content when its *limits* have passed."""
        stack = self._stack
        first = self._timeout.first_token
        if first is None or limits[0] == limits[1]:
            return stack.timing.cut(limits)
        text = f"there was no content within {first:g} s"
        return TimeoutError(text, error_code=ErrorCode.ERR_TIMEOUT_RESPONSE, target=stack.target)

    def failed(self, error: BaseException) -> None:
        """It has ended in *error*, or was broken off."""
        stack, call = self._stack, self._call
        if isinstance(error, Exception):
            self.slot.said(stack.clock.monotonic() - call.attempt_started, stack.says_of_load(call, error))
            stack.settle(call, self._permit, error)
        else:
            call.gate.release(self._permit)
        self.slot.done()

    def delivery(self, source: Any, first: Any, keep: Keep | None) -> Delivery:
        """What is delivered from *first* on, which its *source* gave."""
        return Delivery(self._stack, self._call, self._permit, source, self.limits, first, keep, self.slot)
