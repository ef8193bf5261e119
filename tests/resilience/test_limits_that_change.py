"""Rate limits and bulkheads that a policy gives other limits while calls are inside and wait."""

from __future__ import annotations

import threading
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bulkhead import until
from virtual_time import LoopClock

from pixel_llm.errors import LimitExceeded
from pixel_llm.policy import AdaptiveConfig, BulkheadConfig, RateLimitConfig, TokenLimitConfig
from pixel_llm.resilience import Bulkhead, RateLimit
from pixel_llm.resilience.queues.fair_queue import ThreadWaiter
from pixel_llm.resilience.queues.token_bucket import TokenBucket
from pixel_llm.testing import VirtualClock


def make_bulkhead(**settings: Any) -> Bulkhead:
    return Bulkhead("shop.pay", BulkheadConfig(**settings), clock=LoopClock(100.0))


def queue(slots: Bulkhead, until: float = inf) -> tuple[ThreadWaiter, Any]:
    waiter = ThreadWaiter()
    waits = slots._waits(waiter, until)
    next(waits)
    return waiter, waits


def taken(slots: Bulkhead) -> int:
    """How many slots there are to take, all of which are taken now."""
    count = 0
    while slots.try_enter():
        count += 1
    return count


class TestBulkhead:
    def test_a_smaller_limit_gives_nothing_until_enough_have_ended(self):
        """
        Calls that entered under the larger limit count under the smaller one; free slots beyond it vanish.
        """
        slots = make_bulkhead(max_concurrent=4)
        assert 4 == taken(slots)
        slots.leave()

        slots.go_on_as(BulkheadConfig(max_concurrent=2))

        assert (3, 2) == (slots.in_use, slots.limit)
        assert not slots.try_enter()
        slots.leave()
        assert not slots.try_enter()
        slots.leave()
        assert (1, 1) == (slots.in_use, taken(slots))

    def test_a_larger_limit_wakes_those_who_wait(self):
        """
        They begin in their order, as many as the new limit lets in.
        """
        slots = make_bulkhead(max_concurrent=1, max_waiting=5)
        slots.enter()
        waiters = [queue(slots)[0] for _ in range(3)]

        slots.go_on_as(BulkheadConfig(max_concurrent=3, max_waiting=5))

        assert [True, True, False] == [waiter.granted for waiter in waiters]
        assert (3, 1) == (slots.in_use, slots.waiting)

    def test_those_who_wait_get_the_slots_of_a_smaller_limit_in_order(self):
        """
        Of two calls inside, one must end before the other one's slot goes to the first who waits.
        """
        slots = make_bulkhead(max_concurrent=2, max_waiting=5)
        taken(slots)
        first, second = queue(slots)[0], queue(slots)[0]

        slots.go_on_as(BulkheadConfig(max_concurrent=1, max_waiting=5))
        slots.leave()

        assert (False, False) == (first.granted, second.granted)
        slots.leave()
        assert (True, False) == (first.granted, second.granted)
        assert 1 == slots.in_use

    def test_who_waits_waits_as_long_as_he_meant_to(self):
        """
        A max_wait that has changed is for those who come later, a max_wait that is gone too.
        """
        slots = make_bulkhead(max_concurrent=1, max_waiting=5, max_wait=5.0)
        slots.enter()
        _, waits = queue(slots)

        slots.go_on_as(BulkheadConfig(max_concurrent=1, max_waiting=0))
        slots._clock.advance(5.0)

        with pytest.raises(LimitExceeded, match=r"no slot within max_wait, 5 s: 1 under way \(limit 1\)"):
            next(waits)
        with pytest.raises(LimitExceeded, match="full"):
            slots.enter()

    def test_a_thread_that_waits_begins(self):
        """
        It is woken by the change itself: nobody has to leave.
        """
        slots = Bulkhead("shop.pay", BulkheadConfig(max_concurrent=1, max_waiting=1))
        slots.enter()
        thread = threading.Thread(target=slots.enter)
        thread.start()
        until(lambda: slots.waiting == 1)

        slots.go_on_as(BulkheadConfig(max_concurrent=2))

        thread.join(10)
        assert 2 == slots.in_use

    def test_an_adaptive_limit_goes_on_from_where_it_was(self):
        """
        What it has found out holds, within the bounds of its new settings.
        """
        slots = make_bulkhead(max_concurrent=8, adaptive=AdaptiveConfig(initial_limit=8, backoff_ratio=0.5))
        taken(slots)
        slots.leave(1.0, False)
        assert 4 == slots.limit

        slots.go_on_as(BulkheadConfig(max_concurrent=9, adaptive=AdaptiveConfig(initial_limit=9)))
        assert (4, 7) == (slots.limit, slots.in_use)
        slots.leave(50.0, False)
        assert 4 == slots.limit  # it began before the last decrease
        slots.go_on_as(BulkheadConfig(max_concurrent=3, adaptive=AdaptiveConfig()))
        assert 3 == slots.limit
        slots.go_on_as(BulkheadConfig(max_concurrent=9, adaptive=AdaptiveConfig(min_limit=6)))
        assert (6, 6) == (slots.limit, slots.in_use)

    def test_a_fixed_limit_becomes_adaptive_and_fixed_again(self):
        """
        An adaptive limit that is new begins where its settings say; calls that entered before count all the same.
        """
        slots = make_bulkhead(max_concurrent=3)
        taken(slots)

        slots.go_on_as(BulkheadConfig(max_concurrent=8, adaptive=AdaptiveConfig(initial_limit=2)))
        assert 2 == slots.limit
        slots.leave()
        assert not slots.try_enter()
        slots.leave(1.0, True)
        assert (2, 1, 1) == (slots.limit, slots.in_use, taken(slots))

        slots.go_on_as(BulkheadConfig(max_concurrent=5))
        assert (5, None) == (slots.limit, slots.adaptive)
        slots.leave(1.0, False)
        assert (5, 4) == (slots.limit, taken(slots))

    def test_a_slot_that_came_free_while_the_limit_sank(self):
        """
        Whoever leaves in the very moment may put his slot back after the others have gone: nobody gets it.
        """
        slots = make_bulkhead(max_concurrent=2)
        taken(slots)
        slots.go_on_as(BulkheadConfig(max_concurrent=1))

        slots._free.append(None)  # as leave() does, without a lock
        assert not slots.try_enter()

        assert 1 == slots.in_use
        slots.leave()
        assert 1 == taken(slots)

    def test_a_slot_that_came_free_while_the_limit_sank_is_not_for_those_who_wait_either(self):
        """
        It goes; the next one that comes free is theirs.
        """
        slots = make_bulkhead(max_concurrent=2, max_waiting=1)
        taken(slots)
        waiter, _ = queue(slots)
        slots.go_on_as(BulkheadConfig(max_concurrent=1))

        slots._free.append(None)
        with slots._lock:
            assert not slots._has_slot()
        slots._tidy()

        assert (False, 1) == (waiter.granted, slots.in_use)
        slots.leave()
        assert (True, 1) == (waiter.granted, slots.in_use)

    def test_threads_hammering(self):
        """
        Whatever the limit becomes, no more calls are inside than the largest limit since they entered.
        """
        slots = Bulkhead("shop.pay", BulkheadConfig(max_concurrent=4, max_waiting=100))
        inside, highest, lock, over = [0], [4], threading.Lock(), []

        def work() -> None:
            for _ in range(300):
                slots.enter()
                with lock:
                    inside[0] += 1
                    if inside[0] > highest[0]:
                        over.append(inside[0])
                with lock:
                    inside[0] -= 1
                slots.leave()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(200):
            limit = 1 + number % 4
            slots.go_on_as(BulkheadConfig(max_concurrent=limit, max_waiting=100))
        slots.go_on_as(BulkheadConfig(max_concurrent=4, max_waiting=100))
        for thread in threads:
            thread.join(30)

        assert ([], 0, 0) == (over, slots.in_use, slots.waiting)
        assert 4 == taken(slots)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "change"]), st.integers(1, 5)), max_size=60))
def test_schedules_of_changing_bulkheads(steps: list[Any]):
    """
    Against a model, a number and a queue: who is inside counts, and whoever has waited longest is next.
    """
    slots, inside, limit = make_bulkhead(max_concurrent=2, max_waiting=100), 0, 2
    waiting: list[ThreadWaiter] = []
    for step, number in steps:
        if step == "enter":
            if slots.try_enter():
                inside += 1
                assert inside <= limit
                assert not waiting
            else:
                assert inside >= limit
                waiting.append(queue(slots)[0])
        elif step == "leave" and inside:
            slots.leave()
            inside -= 1
        elif step == "change":
            limit = number
            slots.go_on_as(BulkheadConfig(max_concurrent=limit, max_waiting=100))
        while waiting and inside < limit:
            assert waiting.pop(0).granted
            inside += 1
        assert not any(waiter.granted for waiter in waiting)
        assert (inside, len(waiting)) == (slots.in_use, slots.waiting)


def make_rate_limit(clock: VirtualClock, usage: Any = None, **settings: Any) -> RateLimit:
    more = {} if usage is None else {"usage": usage}
    return RateLimit("shop.pay", RateLimitConfig(**settings), clock=clock, **more)


def wait(limit: RateLimit, until: float = inf) -> tuple[ThreadWaiter, Any]:
    waiter = ThreadWaiter()
    waits = limit._waits(waiter, until, None, None)
    next(waits)
    return waiter, waits


class TestRateLimit:
    def test_starts_count_under_another_limit(self):
        """
        The window of the new period holds what has started under the old one.
        """
        clock = VirtualClock(0.0)
        limit = make_rate_limit(clock, max_calls=3, period=1.0)
        limit.enter()
        limit.enter()

        limit.go_on_as(make_rate_limit(clock, max_calls=2, period=10.0))

        clock.advance(9.0)
        assert limit.try_enter() is None
        clock.advance(1.0)
        assert 10.0 == limit.try_enter()
        assert limit.config == RateLimitConfig(max_calls=2, period=10.0)

    def test_those_who_wait_begin_in_order_when_the_limit_rises(self):
        """
        As many as it lets in start at once; the next one is told of his new turn.
        """
        clock = LoopClock(0.0)
        limit = make_rate_limit(clock, max_calls=1, period=10.0, max_wait=100.0)
        limit.enter()
        waiters = [wait(limit) for _ in range(3)]

        limit.go_on_as(make_rate_limit(clock, max_calls=3, period=5.0, max_wait=100.0))

        assert [True, True, False] == [waiter.granted for waiter, _ in waiters]
        assert 5.0 == next(waiters[2][1])

    def test_who_would_wait_too_long_now_is_refused_at_once(self):
        """
        He is woken by the change, and does not find out at the end of his wait.
        """
        clock = LoopClock(0.0)
        limit = make_rate_limit(clock, max_calls=1, period=1.0, max_wait=2.0)
        limit.enter()
        waiter, waits = wait(limit)

        limit.go_on_as(make_rate_limit(clock, max_calls=1, period=5.0, max_wait=2.0))

        waiter.wait(10)  # woken: it returns at once
        with pytest.raises(LimitExceeded, match="its turn comes in 5 s"):
            next(waits)
        assert 0 == limit.waiting

    def test_a_limit_on_calls_that_comes_and_goes(self):
        """
        Starts count from when there is a limit on them.
        """
        clock = VirtualClock(0.0)
        tokens = TokenLimitConfig(max_tokens=100, period=10.0)
        limit = make_rate_limit(clock, tokens=tokens)
        limit.enter()

        limit.go_on_as(make_rate_limit(clock, max_calls=1, period=1.0))
        assert (0.0, None, None) == (limit.try_enter(), limit.try_enter(), limit.tokens)
        limit.go_on_as(make_rate_limit(clock, tokens=tokens))
        assert ((), 0.0, 0.0) == (limit.starts, limit.try_enter(), limit.try_enter())

    def test_tokens_that_were_used_stay_used(self):
        """
        The bucket keeps its level under another limit, and results are charged by the new function.
        """
        clock = VirtualClock(0.0)
        limit = make_rate_limit(clock, lambda result: 80, tokens=TokenLimitConfig(max_tokens=100, period=10.0))
        limit.charge("result")

        limit.go_on_as(make_rate_limit(clock, lambda result: 5, tokens=TokenLimitConfig(max_tokens=1000, period=10.0)))

        assert limit.tokens is not None
        assert 20.0 == limit.tokens.level(clock.monotonic())
        limit.charge("result")
        assert 15.0 == limit.tokens.level(clock.monotonic())

    def test_a_result_of_a_call_whose_token_limit_is_gone(self):
        """
        Its charge may be on its way when the limit goes: nothing is left to charge.
        """
        clock = VirtualClock(0.0)
        limit = make_rate_limit(clock, tokens=TokenLimitConfig(max_tokens=100, period=10.0))
        limit._lock.acquire()
        limit.charge({"usage": {"total_tokens": 5}})
        limit.tokens = None
        limit._lock.release()

        limit._tidy()

        assert 0.0 == limit.try_enter()

    def test_whoever_cannot_tell_what_was_used_is_told_again(self, caplog: pytest.LogCaptureFixture):
        """
        The warning comes once for each limit.
        """
        clock, tokens = VirtualClock(0.0), TokenLimitConfig(max_tokens=100, period=10.0)
        limit = make_rate_limit(clock, tokens=tokens)
        for _ in range(2):
            limit.charge("result")
            limit.charge("result")
            limit.go_on_as(make_rate_limit(clock, tokens=tokens))

        assert 2 == len(caplog.records)


class TestTokenBucket:
    def test_a_smaller_bucket_holds_less(self):
        """
        What is beyond its new size is lost, and it fills at its new rate.
        """
        bucket = TokenBucket(TokenLimitConfig(max_tokens=100, period=10.0), 0.0)

        bucket.change(TokenLimitConfig(max_tokens=10, period=10.0), 0.0)
        assert 10.0 == bucket.level(0.0)
        bucket.spend(10, 0.0)
        assert [1.0, 10.0] == [bucket.level(1.0), bucket.level(60.0)]

    def test_a_larger_bucket_is_not_filled_at_once(self):
        """
        Its level goes on from where it was at the moment of the change, by the old rate until then.
        """
        bucket = TokenBucket(TokenLimitConfig(max_tokens=100, period=10.0), 0.0)
        bucket.spend(150, 0.0)

        bucket.change(TokenLimitConfig(max_tokens=1000, period=10.0), 1.0)

        assert [-40.0, 60.0] == [bucket.level(1.0), bucket.level(2.0)]
