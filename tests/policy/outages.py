"""
Outages, played to real stacks on an event loop in virtual time: many calls that overlap.

The bounds of a breaker are held against them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from schedules import FUNCTIONS, TARGET
from virtual_time import LoopClock, run_virtual

from pixel_llm.events import CircuitStateChanged, RetryScheduled
from pixel_llm.policy import PolicyConfig, TargetPolicy
from pixel_llm.policy.bounds import CHAT, GENERATE
from pixel_llm.resilience import Stack, guard


@dataclass
class Outage:
    """
    Calls come at *rate* a second, the first one *phase* of the time between two after the outage has begun.

    Attributes:
        silent: No attempt gets an answer; else connections are refused.
        jitter: Which part of the largest jitter each wait has.
        overhead: Seconds that go by between the end of an attempt and the decision about it.
    """

    rate: float
    silent: bool
    phase: float = 1.0
    jitter: float = 1.0
    overhead: float = 0.0

    def opens_after(self, calls: int, nest: Nest) -> float | None:
        """When the breaker opens, in seconds from the outage's beginning; None if *calls* calls don't open it."""
        clock = LoopClock(1024.0)
        with mock.patch("random.uniform", lambda low, high: low + self.jitter * (high - low)):
            return run_virtual(clock, self._opens_after(calls, nest, clock))

    async def _opens_after(self, calls: int, nest: Nest, clock: LoopClock) -> float | None:
        opened: list[float] = []

        def emit(event: object) -> None:
            if isinstance(event, CircuitStateChanged) and event.new_state == "open":
                opened.append(clock.monotonic() - 1024.0)
            elif isinstance(event, RetryScheduled):
                clock.advance(self.overhead)

        async def attempt() -> None:
            if self.silent:
                await asyncio.get_running_loop().create_future()
            raise ConnectionRefusedError

        call = nest(clock, emit, attempt)

        async def arrive(number: int) -> None:
            await asyncio.sleep((number + self.phase) / self.rate)
            with contextlib.suppress(Exception):
                await call()

        tasks = [asyncio.ensure_future(arrive(number)) for number in range(calls)]
        await asyncio.wait(tasks, timeout=10_000)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return opened[0] if opened else None


#: Puts the stacks around an attempt: clock, listener, attempt in; a coroutine function out.
Nest = Callable[[LoopClock, Callable[[object], None], Callable[[], Awaitable[None]]], Callable[[], Awaitable[Any]]]


def alone(policy: TargetPolicy, successes: int = 0) -> Nest:
    """The stack of one target, of which so many calls have succeeded right before the outage."""

    def nest(clock: LoopClock, emit: Any, attempt: Any) -> Any:
        stack = Stack(TARGET, policy, clock=clock, emit=emit, find_function=FUNCTIONS.__getitem__)
        for _ in range(successes):
            stack.gate.record_success(stack.gate.acquire(), 0.0)
        return guard(stack, attempt)

    return nest


def nested(config: PolicyConfig) -> Nest:
    """The stack of ``pixel_llm.generate`` around that of the chat; the encoder takes no time."""

    def nest(clock: LoopClock, emit: Any, attempt: Any) -> Any:
        chat = guard(Stack(CHAT, config.targets[CHAT], clock=clock, emit=emit), attempt)

        async def ask() -> None:
            await chat()

        return guard(Stack(GENERATE, config.targets[GENERATE], clock=clock, emit=emit), ask)

    return nest
