"""The rate limit: held in every window, first come first served, and nothing is left of who did not start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from itertools import pairwise
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.lm_studio.replies import ChatReply
from pixel_llm.policy import RateLimitConfig, TokenLimitConfig
from pixel_llm.resilience import RateLimit
from pixel_llm.resilience.caching.memory import memory_size
from pixel_llm.resilience.queues.fair_queue import ThreadWaiter
from pixel_llm.resilience.queues.token_bucket import TokenBucket, count_tokens
from pixel_llm.testing import VirtualClock


def rate_limit(clock: Any, usage: Any = count_tokens, **settings: Any) -> RateLimit:
    return RateLimit("shop.pay", RateLimitConfig(**settings), clock=clock, usage=usage)


def assert_held(starts: list[float], max_calls: int, period: float) -> None:
    """No window of *period*, wherever it begins, has more than *max_calls* of *starts*."""
    for first, one_too_many in zip(starts, starts[max_calls:], strict=False):
        assert one_too_many - first >= period


class TestGivingBack:
    def test_while_the_lock_is_held(self):
        """
        A start that a finaliser gives up while its thread holds the lock is taken back by whoever comes next.
        """
        limit = rate_limit(VirtualClock(5.0), max_calls=1, period=1.0)
        assert limit.try_enter() == 5.0
        with limit._lock:
            limit.cancel(5.0)

        assert limit.try_enter() is None  # nobody waits for what is still in the mail
        assert () == limit.starts
        assert limit.try_enter() == 5.0

    def test_where_no_starts_are_counted(self):
        """
        A limit of tokens alone knows of no starts, so there is none to take back.
        """
        limit = rate_limit(VirtualClock(5.0), tokens=TokenLimitConfig(max_tokens=10, period=1.0))
        stamp = limit.try_enter()
        limit.cancel(stamp)

        assert (5.0, ()) == (stamp, limit.starts)
        assert 5.0 == limit.try_enter()


class TestSlidingLog:
    def test_every_window(self):
        """
        Ten at once, then ten in the next second: a bucket of tokens would let nineteen through in one window.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=10, period=1.0)

        clock.advance(0.95)
        assert all(limit.try_enter() == 0.95 for _ in range(10))
        clock.advance(0.9)
        assert limit.try_enter() is None
        clock.advance(0.1)
        assert limit.try_enter() == pytest.approx(1.95)

    @given(st.floats(0, 1e6), st.floats(0.001, 1e5))
    def test_rounding(self, moment: float, period: float):
        """
        However floats round, a wait ends, and two starts are not a hair nearer than one period.
        """
        clock = VirtualClock(moment)
        limit = rate_limit(clock, max_calls=1, period=period, max_wait=inf)

        first, second = limit.try_enter(), limit.enter()

        assert first is not None
        assert second - first >= period

    def test_memory_is_bounded(self):
        """
        The log holds the last max_calls starts, whatever happens; nothing is made before the first call.
        """
        clock = VirtualClock(0.0)
        config = RateLimitConfig(max_calls=100, period=0.001, tokens=TokenLimitConfig())
        limit = RateLimit("shop.pay", config, clock=clock)
        assert memory_size(limit) - memory_size(config) - memory_size(clock) < 1024

        for _ in range(1000):
            clock.advance(0.001)
            limit.enter()

        assert len(limit.starts) == 100


class TestWaiting:
    def test_sync_waits_with_the_clock(self):
        """
        A sync call waits its turn with the injected clock; what is logged is when it really started.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=2, period=1.0, max_wait=10.0)

        stamps = [limit.try_enter(), limit.try_enter(), *(limit.enter() for _ in range(4))]

        assert stamps == [0, 0, 1, 1, 2, 2]
        assert limit.starts == (2, 2)

    def test_async_waits_with_the_clock(self):
        """
        So does an async one, with a clock that moves by itself and with one that is moved.
        """
        for clock in (LoopClock(0.0), VirtualClock(0.0)):
            limit = rate_limit(clock, max_calls=2, period=1.0, max_wait=10.0)

            async def main(limit: Any = limit) -> list[float]:
                return [await limit.enter_async() for _ in range(5)]

            assert (run_virtual(clock, main()) if isinstance(clock, LoopClock) else asyncio.run(main())) == [
                *(0, 0, 1, 1, 2)
            ]

    def test_thread_with_the_real_clock(self):
        """
        With the real clock a thread blocks until its turn.
        """
        limit = RateLimit("shop.pay", RateLimitConfig(max_calls=1, period=0.01, max_wait=5.0))

        stamps = [limit.enter() for _ in range(4)]

        assert_held(stamps, 1, 0.01)

    def test_first_come_first_served(self):
        """
        Waiters start in the order in which they came, each when the window lets him.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=2, period=1.0, max_wait=10.0)
        started: list[tuple[int, float]] = []

        async def call(number: int) -> None:
            await limit.enter_async()
            started.append((number, clock.monotonic()))

        async def main() -> None:
            await asyncio.gather(*(call(number) for number in range(7)))

        run_virtual(clock, main())

        assert started == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)]

    def test_newcomer_does_not_overtake(self):
        """
        Who comes when others wait queues behind them.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=1.0, max_wait=10.0)
        limit.try_enter()
        waits = limit._waits(ThreadWaiter(), inf, None, None)
        next(waits)

        clock.advance(1.0)

        assert limit.try_enter() is None

    def test_next_one_is_woken_earlier(self):
        """
        When a waiter gives up, the next one starts in his stead, at his time.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=1.0, max_wait=10.0)

        async def main() -> float:
            await limit.enter_async()
            first = asyncio.ensure_future(limit.enter_async())
            second = asyncio.ensure_future(limit.enter_async())
            await asyncio.sleep(0.5)
            first.cancel()
            return await second

        assert run_virtual(clock, main()) == 1.0

    def test_waiter_of_a_closed_loop(self):
        """
        A waiter whose event loop is closed takes no turn.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=1.0, max_wait=10.0)
        loop = asyncio.new_event_loop()
        clock.patience = lambda seconds: seconds  # type: ignore[method-assign]
        limit.try_enter()
        left = loop.create_task(limit.enter_async())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        clock.advance(1.0)

        limit.cancel(-1.0)  # whatever makes somebody look
        assert limit.try_enter() == 1.0
        left.get_coro().close()
        assert limit.starts == (1.0,)
        left._log_destroy_pending = False


class TestRefusals:
    def test_at_once(self):
        """
        Without max_wait a call that comes too early is refused, and is told when it could start.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=2.0)
        limit.enter()
        clock.advance(0.5)

        with pytest.raises(LimitExceeded) as caught:
            limit.enter()

        assert caught.value.error_code is ErrorCode.ERR_LIMIT_RATE
        assert caught.value.retry_after == 1.5
        assert caught.value.details == {"waiting": 0}
        assert str(caught.value) == (
            "shop.pay: the rate limit of 1 call in 2s holds this call back: its turn comes in 1.5 s, after max_wait, "
            "0ms; send fewer calls, or raise rate_limit"
        )

    def test_turn_after_max_wait(self):
        """
        A wait that would be too long is not begun; those in the queue are counted in.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=2, period=1.0, max_wait=1.0)

        async def main() -> None:
            results = await asyncio.gather(*(limit.enter_async() for _ in range(7)), return_exceptions=True)
            assert results[:4] == [0, 0, 1, 1]
            assert [error.retry_after for error in results[4:]] == [2, 2, 2]

        run_virtual(clock, main())

    def test_turn_after_the_deadline(self):
        """
        So is one that would outlive the deadline: the call fails now.
        """
        limit = rate_limit(VirtualClock(0.0), max_calls=1, period=2.0, max_wait=60.0)
        limit.enter()

        with pytest.raises(LimitExceeded, match=r"its turn comes in 2 s, after the deadline; send fewer") as caught:
            limit.enter(1.0)

        assert caught.value.retry_after == 2.0

    def test_turn_at_the_deadline_was_waited_for_in_vain(self):
        """
        A turn that comes at the deadline itself is too late as well.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=2.0, max_wait=60.0)
        limit.enter()

        with pytest.raises(LimitExceeded, match="after the deadline"):
            limit.enter(2.0)

        assert clock.sleeps == []

    def test_deadline_has_passed(self):
        """
        Once the deadline has passed, that is the error.
        """
        clock = VirtualClock(5.0)
        limit = rate_limit(clock, max_calls=1, period=2.0, max_wait=60.0)
        limit.enter()

        with pytest.raises(TimeoutError) as caught:
            limit.enter(5.0)

        assert caught.value.error_code is ErrorCode.ERR_TIMEOUT_DEADLINE
        said = "shop.pay: the deadline has passed while the call waited for its turn under the rate limit"
        assert said == str(caught.value)
        assert limit.waiting == 0


class TestStamps:
    def test_cancelled_start_leaves_no_stamp(self):
        """
        A start that was none makes room for the next.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=2.0)
        stamp = limit.enter()

        limit.cancel(stamp)

        assert limit.starts == ()
        assert limit.try_enter() == 0.0

    def test_cancelled_in_the_moment_of_the_turn(self):
        """
        A waiter that is cancelled when his turn has just come leaves no stamp: the next one has it.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=1, period=1.0, max_wait=9.0)

        async def main() -> None:
            await limit.enter_async()
            first = asyncio.ensure_future(limit.enter_async())
            second = asyncio.ensure_future(limit.enter_async())
            await asyncio.sleep(0)
            clock.advance(1.0)
            limit.cancel(-1.0)  # somebody looks: it is the first one's turn
            assert limit.starts == (1.0,)
            first.cancel()
            assert await second == 1.0

        run_virtual(clock, main())

        assert limit.starts == (1.0,)

    def test_start_that_moves(self):
        """
        A call that could not begin at its turn starts again: its old stamp goes, and it is next.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_calls=2, period=1.0, max_wait=9.0)

        async def main() -> None:
            old = limit.try_enter()
            await asyncio.sleep(0.5)
            limit.try_enter()
            await asyncio.sleep(0.3)
            assert await limit.enter_async(old=old) == 0.8
            assert limit.starts == (0.5, 0.8)
            await asyncio.sleep(1.1)
            limit.try_enter()
            limit.try_enter()
            behind = asyncio.ensure_future(limit.enter_async())
            await asyncio.sleep(0)
            moved = asyncio.ensure_future(limit.enter_async(old=0.8))  # older than a period, and dropped
            assert await moved == pytest.approx(2.9)
            assert await behind == pytest.approx(2.9)

        run_virtual(clock, main())

    def test_time_left_to_wait(self):
        """
        All waits of one admission together are no longer than max_wait.
        """
        limit = rate_limit(VirtualClock(), max_calls=1, max_wait=2.0)

        assert limit.left_to_wait(0.5) == 1.5
        assert limit.left_to_wait(2.5) == 0.0


class Machine(RuleBasedStateMachine):
    """Every interleaving of arrivals, wakings, cancellations, moved starts and time."""

    waiting = Bundle("waiting")
    begun = Bundle("begun")

    def __init__(self) -> None:
        super().__init__()
        self.clock = LoopClock(0.0)
        self.limit = rate_limit(self.clock, max_calls=3, period=2.0, max_wait=3.0)
        self.starts: list[float] = []  # of those who are awake
        self.asleep: list[Any] = []
        self.queue: list[Any] = []

    @rule(target=waiting, deadline=st.sampled_from([1.0, inf]))
    def arrive(self, deadline: float) -> Any:
        return self._arrive(deadline, None)

    def _arrive(self, deadline: float, old: float | None) -> Any:
        waiter = ThreadWaiter()
        waits = self.limit._waits(waiter, self.clock.monotonic() + deadline, None, old)
        self.queue.insert(0 if old is not None else len(self.queue), waiter)
        self._step(waiter, waits)
        return waiter, waits

    @rule()
    def arrive_without_waiting(self) -> None:
        stamp = self.limit.try_enter()
        if stamp is not None:
            assert self.queue == []
            self.starts.append(stamp)

    @rule(arrival=waiting)
    def look(self, arrival: Any) -> None:
        if arrival[1].gi_frame is not None:
            self._step(*arrival)

    @rule(arrival=consumes(waiting))
    def cancel(self, arrival: Any) -> None:
        waiter, waits = arrival
        if waits.gi_frame is None:
            return
        waits.close()
        self.limit._give_back(waiter)
        if waiter in self.queue:
            self.queue.remove(waiter)
        else:
            self.asleep.remove(waiter)

    @rule(data=st.data())
    def undo_a_start(self, data: Any) -> None:
        if self.starts:
            stamp = self.starts.pop(data.draw(st.integers(0, len(self.starts) - 1)))
            self.limit.cancel(stamp)

    @rule(target=waiting, data=st.data())
    def move_a_start(self, data: Any) -> Any:
        if not self.starts:
            return self._arrive(inf, None)
        old = self.starts.pop(data.draw(st.integers(0, len(self.starts) - 1)))
        return self._arrive(inf, old)

    @rule(seconds=st.sampled_from([0.125, 0.75, 2.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _step(self, waiter: Any, waits: Any) -> None:
        try:
            assert next(waits) > 0
        except StopIteration:
            assert waiter.granted
            self.starts.append(waiter.stamp)
            while self.queue and self.queue[0].granted:
                self.asleep.append(self.queue.pop(0))
            self.asleep.remove(waiter)
        except (LimitExceeded, TimeoutError):
            assert not waiter.granted
            self.queue.remove(waiter)

    @invariant()
    def held_and_in_order(self) -> None:
        while self.queue and self.queue[0].granted:
            self.asleep.append(self.queue.pop(0))
        assert not any(waiter.granted for waiter in self.queue)
        assert list(self.limit._waiters) == self.queue
        starts = sorted([*self.starts, *(waiter.stamp for waiter in self.asleep)])
        assert_held(starts, 3, 2.0)
        recent = [start for start in starts if start > self.clock.monotonic() - 2.0]
        assert [start for start in self.limit.starts if start > self.clock.monotonic() - 2.0] == recent


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

moments = st.integers(0, 12).map(lambda quarter: quarter / 4)


@given(
    st.lists(st.tuples(moments, st.none() | moments, st.sampled_from([0.5, 2.0, inf])), max_size=14),
    st.integers(1, 3),
    st.sampled_from([0.0, 1.0, 10.0]),
)
@settings(max_examples=200, deadline=None)
def test_schedules_of_tasks(schedule: Any, max_calls: int, max_wait: float):
    """
    Whenever calls come, are cancelled or run out of time: the limit is held in every window, in order of arrival.
    """
    clock = LoopClock(0.0)
    limit = rate_limit(clock, max_calls=max_calls, period=1.0, max_wait=max_wait)
    arrived: list[int] = []
    begun: list[tuple[int, float]] = []

    async def call(number: int, at: float, deadline: float) -> None:
        await asyncio.sleep(at)
        arrived.append(number)
        stamp = limit.try_enter()
        if stamp is None:
            stamp = await limit.enter_async(at + deadline)
        assert stamp == clock.monotonic() <= at + min(deadline, max_wait)
        begun.append((number, stamp))

    async def main() -> None:
        tasks = []
        for number, (at, cancelled, deadline) in enumerate(schedule):
            tasks.append(asyncio.ensure_future(call(number, at, deadline)))
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, tasks[-1].cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, LimitExceeded | asyncio.CancelledError)

    run_virtual(clock, main())

    starts = dict(begun)
    in_order = [starts[number] for number in arrived if number in starts]
    assert in_order == sorted(in_order)
    assert_held(in_order, max_calls, 1.0)
    assert limit.waiting == 0


def test_threads_and_loops_hammering():
    """
    Four threads and two event loops, some cancelled: never over the limit in any window.
    """
    limit = RateLimit("shop.pay", RateLimitConfig(max_calls=5, period=0.01, max_wait=0.05))
    starts: list[float] = []
    failed: list[BaseException] = []

    def from_thread() -> None:
        for _ in range(40):
            with contextlib.suppress(LimitExceeded):
                starts.append(limit.enter())

    def from_loop() -> None:
        async def one() -> None:
            with contextlib.suppress(LimitExceeded):
                starts.append(await limit.enter_async())

        async def main() -> None:
            for _ in range(10):
                tasks = [asyncio.ensure_future(one()) for _ in range(6)]
                await asyncio.sleep(0.001)
                tasks[-1].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

    def run(body: Any) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in [from_thread] * 4 + [from_loop] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failed == []
    assert len(starts) > 50
    assert_held(sorted(starts), 5, 0.01)
    assert limit.waiting == 0


class TestTokens:
    def test_bucket(self):
        """
        Calls start while tokens are left; what they have used is taken out afterwards, and flows in again.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, tokens=TokenLimitConfig(max_tokens=100, period=10.0))

        assert limit.try_enter() == 0.0
        limit.charge({"usage": {"total_tokens": 100}})
        with pytest.raises(LimitExceeded, match="rate limit of 100 tokens in 10s holds") as caught:
            limit.enter()
        assert caught.value.retry_after == pytest.approx(0.1)  # one whole token
        clock.advance(0.1)
        assert limit.try_enter() == 0.1
        limit.charge({"usage": {"total_tokens": 51}})
        with pytest.raises(LimitExceeded) as caught:
            limit.enter()
        assert caught.value.retry_after == pytest.approx(5.1)

    def test_waits_for_tokens(self):
        """
        A call waits until there is a token.
        """
        clock = VirtualClock(0.0)
        limit = rate_limit(clock, max_calls=5, max_wait=60.0, tokens=TokenLimitConfig(max_tokens=60, period=60.0))
        limit.enter()
        limit.charge(SimpleNamespace(prompt_tokens=50, completion_tokens=15))

        assert limit.enter() == pytest.approx(6.0)

    def test_no_more_than_the_bucket_holds(self):
        """
        What flows in while nobody calls is lost once the bucket is full.
        """
        bucket = TokenBucket(TokenLimitConfig(max_tokens=10, period=1.0), 0.0)

        bucket.spend(4, 0.0)

        assert [bucket.level(moment) for moment in (0.0, 0.1, 60.0)] == [6, 7, 10]

    def test_immense_rate(self):
        """
        However fast tokens flow in, a wait for one is not zero: it ends.
        """
        bucket = TokenBucket(TokenLimitConfig(max_tokens=10**9, period=0.001), 1e6)
        bucket.spend(10**9, 1e6)

        assert bucket.ready_at(1e6) > 1e6

    def test_reply_of_lm_studio(self):
        """
        The replies of the LM Studio client say what they used, without a function of one's own.
        """
        reply = ChatReply(text="A cat.", model="m", requested_model="m", prompt_tokens=100, completion_tokens=20)

        assert count_tokens(reply) == 120

    def test_usage_function(self):
        """
        A function of the program's own can say what a result has used.
        """
        limit = rate_limit(VirtualClock(0.0), usage=len, tokens=TokenLimitConfig(max_tokens=10, period=60.0))

        limit.charge("four")

        assert limit.tokens is not None
        assert limit.tokens.level(0.0) == 6

    @pytest.mark.parametrize("used", [None, nan, inf, -inf + inf, "many", True, False, 1e10, 10**400, b"5", [5]])
    def test_nobody_knows_what_was_used(self, used: Any, caplog: pytest.LogCaptureFixture):
        """
        The call has succeeded, so it stands; that its tokens are not counted is logged once.
        """
        limit = rate_limit(VirtualClock(0.0), usage=lambda _: used, tokens=TokenLimitConfig(max_tokens=10))

        with caplog.at_level(logging.WARNING, "pixel_llm"):
            limit.charge("a result")
            limit.charge("a result")

        assert [record.getMessage() for record in caplog.records] == [
            "shop.pay: its token limit does nothing for results that don't say what they used: name a usage function"
        ]
        assert limit.tokens is not None
        assert limit.tokens.level(0.0) == 10

    @pytest.mark.filterwarnings("error")
    def test_a_usage_function_that_returned_a_coroutine(self, caplog: pytest.LogCaptureFixture):
        """
        It is closed, and said to be no number.
        """

        async def count(result: Any) -> int:
            return 5

        limit = rate_limit(
            VirtualClock(0.0), usage=lambda result: count(result), tokens=TokenLimitConfig(max_tokens=10)
        )
        limit.charge("a result")
        gc.collect()

        assert "is no number of tokens from 0 to 1000000000" in caplog.text
        assert limit.tokens is not None
        assert limit.tokens.level(0.0) == 10

    def test_the_most_a_result_can_have_used(self):
        """
        So many are counted, and no more.
        """
        limit = rate_limit(VirtualClock(0.0), usage=lambda _: 10**9, tokens=TokenLimitConfig(max_tokens=10))
        limit.charge("a result")

        assert limit.tokens is not None
        assert limit.tokens.level(0.0) == 10 - 10**9

    def test_nothing_to_charge(self):
        """
        Without a limit of tokens nobody asks what a result has used.
        """
        rate_limit(VirtualClock(), usage=nan, max_calls=1).charge("a result")

    def test_nothing_used(self):
        """
        Less than nothing is nothing.
        """
        limit = rate_limit(VirtualClock(0.0), usage=lambda _: -5, tokens=TokenLimitConfig(max_tokens=10))
        limit.charge("a result")

        assert limit.tokens is not None
        assert limit.tokens.level(0.0) == 10

    @pytest.mark.parametrize(
        ("result", "used"),
        [
            (SimpleNamespace(prompt_tokens=3, completion_tokens=4), 7),
            (SimpleNamespace(prompt_tokens=3, completion_tokens=None), 3),
            (SimpleNamespace(usage=SimpleNamespace(total_tokens=9)), 9),
            ({"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, 2),
            ({"usage": {"total_tokens": True}}, None),
            ({"usage": {"total_tokens": nan}}, None),
            ("text", None),
        ],
    )
    def test_what_a_result_says(self, result: Any, used: float | None):
        """
        Without a function of one's own, results are read as those of the OpenAI API.
        """
        assert count_tokens(result) == used

    @given(
        st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5), st.integers(0, 80)), min_size=1, max_size=25),
        st.floats(0.1, 20),
    )
    @settings(max_examples=150, deadline=None)
    def test_bound(self, schedule: Any, window: float):
        """
        In a window, calls that start use less than max_tokens + refill · window + what is in flight at the last.
        """
        clock = LoopClock(0.0)
        limit = rate_limit(clock, max_wait=60.0, tokens=TokenLimitConfig(max_tokens=100, period=10.0))
        begun: list[tuple[float, float, int]] = []

        async def call(at: float, takes: float, tokens: int) -> None:
            await asyncio.sleep(at)
            with contextlib.suppress(LimitExceeded):
                start = await limit.enter_async()
                begun.append((start, start + takes, tokens))
                await asyncio.sleep(takes)
                limit.charge({"total_tokens": tokens})

        async def main() -> None:
            await asyncio.gather(*(call(*one) for one in schedule))

        run_virtual(clock, main())

        for first, _, _ in begun:
            within = [one for one in begun if first <= one[0] <= first + window]
            last = max(start for start, _, _ in within)
            in_flight = sum(tokens for start, end, tokens in begun if start <= last <= end + 1e-6)
            assert sum(tokens for _, _, tokens in within) <= 100 + 10 * window + in_flight + 1e-6


def test_starts_are_in_order():
    """
    The log is in the order of time, moved and cancelled starts included.
    """
    clock = VirtualClock(0.0)
    limit = rate_limit(clock, max_calls=4, period=100.0)
    stamps = []
    for _ in range(4):
        stamps.append(limit.enter())
        clock.advance(1.0)
    limit.enter(old=stamps[1])
    limit.cancel(stamps[2])
    limit.enter()

    assert all(earlier <= later for earlier, later in pairwise(limit.starts))
