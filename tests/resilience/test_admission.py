"""Admission: the layers in their order, in both worlds, and nothing left behind whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import CircuitBreakerOpen, ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.policy import BulkheadConfig, RateLimitConfig, TokenLimitConfig
from pixel_llm.resilience import Admission, Bulkhead, RateLimit
from pixel_llm.testing import VirtualClock


class FakeBreaker:
    """A breaker that does what the test says."""

    def __init__(self) -> None:
        self.closed_period = 7
        self.refuses = False
        self.asked: list[str] = []
        self.permits = 0

    def check(self) -> None:
        self.asked.append("check")
        if self.refuses:
            raise CircuitBreakerOpen

    def acquire(self) -> int:
        self.asked.append("acquire")
        if self.closed_period >= 0:
            return self.closed_period
        if self.refuses:
            raise CircuitBreakerOpen
        self.permits += 1
        return 8

    def open(self) -> None:
        self.closed_period, self.refuses = -1, True


class Setup:
    """An admission with all its parts."""

    def __init__(self, clock: Any, *, rate: Any = None, slots: Any = None) -> None:
        self.clock = clock
        self.breaker = FakeBreaker()
        self.rate = RateLimit("shop.pay", RateLimitConfig(**rate), clock=clock) if rate is not None else None
        self.slots = Bulkhead("shop.pay", BulkheadConfig(**slots), clock=clock) if slots is not None else None
        self.admission = Admission(
            "shop.pay",
            clock=clock,
            rate_limit=self.rate,
            bulkhead=self.slots,
        )


def enter(world: Any, setup: Any, until: float = inf) -> int:
    if world.name == "sync":
        return setup.admission.enter(until, setup.breaker)
    return asyncio.run(setup.admission.enter_async(until, setup.breaker))


class TestWithoutWaiting:
    def test_closed_breaker(self, world: Any):
        """
        The permit of a closed breaker is its period; nothing is asked, nothing waited for.
        """
        setup = Setup(VirtualClock(), rate={"max_calls": 5}, slots={})

        assert enter(world, setup) == 7

        assert setup.breaker.asked == []
        assert setup.slots.in_use == 1
        setup.admission.leave(1.0, True)
        assert setup.slots.in_use == 0

    def test_nothing_there(self, world: Any):
        """
        Without a breaker the permit is 0; parts that are not there are passed.
        """
        admission = Admission("shop.pay")

        assert (admission.enter() if world.name == "sync" else asyncio.run(admission.enter_async())) == 0
        admission.leave()
        admission.spend("a result")

    def test_half_open(self, world: Any):
        """
        A breaker that is not closed is asked first, and gives its permit last.
        """
        setup = Setup(VirtualClock(), slots={})
        setup.breaker.closed_period = -1

        assert enter(world, setup) == 8

        assert setup.breaker.asked == ["check", "acquire"]

    def test_tokens(self):
        """
        What a result has used goes to the rate limit.
        """
        clock = VirtualClock(0.0)
        setup = Setup(clock, rate={"tokens": TokenLimitConfig(max_tokens=10, period=60.0)})

        setup.admission.spend({"usage": {"total_tokens": 4}})

        assert setup.rate.tokens.level(0.0) == 6


class TestRefusals:
    def test_open_breaker_refuses_before_anything_queues(self, world: Any):
        """
        An open breaker takes no stamp and no slot.
        """
        setup = Setup(VirtualClock(), rate={"max_calls": 1}, slots={})
        setup.breaker.open()

        with pytest.raises(CircuitBreakerOpen):
            enter(world, setup)

        assert setup.rate.starts == ()
        assert setup.slots.in_use == 0

    def test_breaker_that_gives_no_permit(self, world: Any):
        """
        If the breaker refuses at the end, slot and stamp go back.
        """
        setup = Setup(VirtualClock(), rate={"max_calls": 1}, slots={})
        setup.breaker.closed_period = -1
        setup.breaker.check = lambda: setattr(setup.breaker, "refuses", True)

        with pytest.raises(CircuitBreakerOpen):
            enter(world, setup)

        assert setup.rate.starts == ()
        assert setup.slots.in_use == 0

    def test_full_bulkhead(self, world: Any):
        """
        A call that the bulkhead refuses leaves no stamp.
        """
        setup = Setup(VirtualClock(), rate={"max_calls": 5}, slots={"max_concurrent": 1})
        setup.slots.enter()

        with pytest.raises(LimitExceeded) as caught:
            enter(world, setup)

        assert caught.value.error_code is ErrorCode.ERR_LIMIT_BULKHEAD
        assert setup.rate.starts == ()
        assert setup.slots.in_use == 1

    def test_rate_limit(self, world: Any):
        """
        A call that the rate limit refuses takes no slot.
        """
        setup = Setup(VirtualClock(), rate={"max_calls": 1}, slots={})
        setup.rate.enter()

        with pytest.raises(LimitExceeded) as caught:
            enter(world, setup)

        assert caught.value.error_code is ErrorCode.ERR_LIMIT_RATE
        assert setup.slots.in_use == 0

    def test_deadline_passed_while_it_waited(self, world: Any):
        """
        A call that woke so late for its turn that its deadline has come doesn't begin.
        """

        class LateClock(VirtualClock):
            def sleep(self, seconds: float) -> None:
                super().sleep(seconds + 0.5)

        setup = Setup(LateClock(0.0), rate={"max_calls": 1, "period": 2.0, "max_wait": 9.0}, slots={})
        setup.rate.enter()

        with pytest.raises(TimeoutError) as caught:
            enter(world, setup, 2.5)

        assert caught.value.error_code is ErrorCode.ERR_TIMEOUT_DEADLINE
        assert setup.rate.starts in ((), (0.0,))
        assert setup.slots.in_use == 0


class TestWaiting:
    def test_waits_for_its_turn(self, world: Any):
        """
        A call that comes too early begins at its turn.
        """
        setup = Setup(VirtualClock(0.0), rate={"max_calls": 1, "period": 2.0, "max_wait": 9.0}, slots={})
        setup.rate.enter()

        assert enter(world, setup) == 7

        assert setup.clock.sleeps == [2.0]
        assert setup.rate.starts == (2.0,)

    def test_waits_for_a_slot_only(self, world: Any, monkeypatch: pytest.MonkeyPatch):
        """
        Without a rate limit only the slot is waited for.
        """
        setup = Setup(VirtualClock(0.0), slots={"max_concurrent": 1, "max_waiting": 1})
        setup.slots.try_enter()
        # It comes back right after there was none.
        monkeypatch.setattr(Admission, "enter_now", lambda self, gate: setup.slots.leave())

        assert enter(world, setup) == 7
        assert setup.slots.in_use == 1

    def test_slot_that_came_late_moves_the_start(self):
        """
        A call that waited for its slot starts when it has it: the limit holds for real starts.
        """
        clock = LoopClock(0.0)
        setup = Setup(
            clock,
            rate={"max_calls": 2, "period": 1.0, "max_wait": 9.0},
            slots={"max_concurrent": 2, "max_waiting": 9},
        )
        starts: list[float] = []

        async def call(takes: float) -> None:
            await setup.admission.enter_async(gate=setup.breaker)
            starts.append(clock.monotonic())
            await asyncio.sleep(takes)
            setup.admission.leave()

        async def main() -> None:
            await asyncio.gather(*(call(takes) for takes in (1.7, 1.7, 0.2, 0.2, 0.2, 0.2)))

        run_virtual(clock, main())

        assert starts == pytest.approx([0, 0, 1.7, 1.7, 2.7, 2.7])

    def test_breaker_that_opened_meanwhile(self):
        """
        Those who queued while the breaker opened don't begin, and hold no permit while they wait.
        """
        clock = LoopClock(0.0)
        setup = Setup(clock, rate={"max_calls": 9}, slots={"max_concurrent": 1, "max_waiting": 9})

        async def main() -> None:
            await setup.admission.enter_async(gate=setup.breaker)
            waiting = [asyncio.ensure_future(setup.admission.enter_async(gate=setup.breaker)) for _ in range(3)]
            await asyncio.sleep(0.5)
            setup.breaker.open()
            setup.admission.leave()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, CircuitBreakerOpen)

        run_virtual(clock, main())

        assert setup.breaker.permits == 0
        assert (setup.slots.in_use, setup.slots.waiting) == (0, 0)
        assert setup.rate.starts == (0.0,)


moments = st.integers(0, 12).map(lambda quarter: quarter / 4)


@given(
    st.lists(st.tuples(moments, moments, st.none() | moments, st.sampled_from([0.5, 2.0, inf])), max_size=14),
    st.integers(1, 3),
    st.integers(1, 3),
    st.none() | moments,
)
@settings(max_examples=250, deadline=None)
def test_schedules(schedule: Any, limit: int, max_calls: int, opens: float | None):
    """
    Whatever ends an admission, and whenever: never over either limit, and all is given back.
    """
    clock = LoopClock(0.0)
    setup = Setup(
        clock,
        rate={"max_calls": max_calls, "period": 1.0, "max_wait": 3.0},
        slots={"max_concurrent": limit, "max_waiting": 5, "max_wait": 2.0},
    )
    starts: list[float] = []
    under_way: list[int] = []

    async def call(number: int, at: float, takes: float, deadline: float) -> None:
        await asyncio.sleep(at)
        await setup.admission.enter_async(at + deadline, setup.breaker)
        assert clock.monotonic() < at + deadline
        starts.append(clock.monotonic())
        under_way.append(number)
        assert len(under_way) <= limit
        try:
            await asyncio.sleep(takes)
        finally:
            under_way.remove(number)
            setup.admission.leave(takes, True)

    async def main() -> None:
        tasks = []
        for number, (at, takes, cancelled, deadline) in enumerate(schedule):
            tasks.append(asyncio.ensure_future(call(number, at, takes, deadline)))
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, tasks[-1].cancel)
        if opens is not None:
            asyncio.get_running_loop().call_later(opens, setup.breaker.open)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(
                result, LimitExceeded | TimeoutError | CircuitBreakerOpen | asyncio.CancelledError
            )

    run_virtual(clock, main())

    for first, one_too_many in zip(starts, starts[max_calls:], strict=False):
        assert one_too_many - first >= 1.0
    assert set(setup.rate.starts) <= set(starts)
    assert (setup.slots.in_use, setup.slots.waiting, setup.rate.waiting) == (0, 0, 0)
    with contextlib.suppress(CircuitBreakerOpen):
        clock.advance(10)
        assert setup.admission.enter_now(setup.breaker) == 7


class TestGoOnFrom:
    RATE, SLOTS = {"max_calls": 3, "period": 9.0}, {"max_concurrent": 2}

    @pytest.mark.parametrize("slots", [None, SLOTS], ids=["no bulkhead", "a bulkhead"])
    @pytest.mark.parametrize("rate", [None, RATE], ids=["no rate limit", "a rate limit"])
    @pytest.mark.parametrize("old_slots", [None, SLOTS], ids=["had no bulkhead", "had a bulkhead"])
    @pytest.mark.parametrize("old_rate", [None, RATE], ids=["had no rate limit", "had a rate limit"])
    def test_what_both_have_is_taken_over(self, clock, rate, slots, old_rate, old_slots):
        """
        Each of the two queues goes on under its new limits where it was there before; else it begins, or is gone.
        """
        old = Setup(clock, rate=old_rate, slots=old_slots)
        new = Setup(clock, rate=rate and {**rate, "max_calls": 1}, slots=slots and {**slots, "max_concurrent": 1})
        old.admission.enter_now(old.breaker)
        new.admission.go_on_from(old.admission)

        assert new.admission.rate_limit is (old.rate if rate and old_rate else new.rate)
        assert new.admission.bulkhead is (old.slots if slots and old_slots else new.slots)
        is_full = bool((rate and old_rate) or (slots and old_slots))
        assert is_full is (new.admission.enter_now(new.breaker) is None)
