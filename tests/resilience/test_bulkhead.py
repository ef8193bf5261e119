"""The bulkhead: never over its limit, never a slot lost, first come first served, in both worlds at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import ErrorCode, LimitExceeded, TimeoutError
from pixel_llm.policy import AdaptiveConfig, BulkheadConfig
from pixel_llm.resilience import Bulkhead
from pixel_llm.resilience.caching.memory import memory_size
from pixel_llm.resilience.queues.fair_queue import FairQueue, TaskWaiter, ThreadWaiter, Waiter
from pixel_llm.testing import VirtualClock


def bulkhead(clock: Any = None, **settings: Any) -> Bulkhead:
    options = {} if clock is None else {"clock": clock}
    return Bulkhead("shop.pay", BulkheadConfig(**settings), **options)


def until(condition: Any) -> None:
    """Wait, in real time, for another thread to get there."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.0005)


class TestWithRoom:
    def test_takes_and_gives_back_slots(self):
        """
        A slot that is free is taken at once, and is free again afterwards.
        """
        slots = bulkhead(max_concurrent=2)

        slots.enter()
        slots.enter()

        assert slots.in_use == 2
        assert not slots.try_enter()
        slots.leave()
        assert slots.in_use == 1
        assert slots.try_enter()

    def test_async(self):
        """
        A task takes a free slot without being suspended.
        """
        slots = bulkhead(max_concurrent=1)

        with pytest.raises(StopIteration):
            slots.enter_async().send(None)

        assert slots.in_use == 1

    def test_is_small_until_it_is_used(self):
        """
        Compiled, and never called, it takes less than 1 KiB beside its config.
        """
        config = BulkheadConfig(max_concurrent=100_000, adaptive=AdaptiveConfig())

        slots = Bulkhead("shop.pay", config)

        assert memory_size(slots) - memory_size(config) < 1024


class TestRefusals:
    def test_full_without_queue(self):
        """
        Without a queue, one call too many is refused, with the numbers and what to do.
        """
        slots = bulkhead(max_concurrent=1)
        slots.enter()

        with pytest.raises(LimitExceeded) as caught:
            slots.enter()

        assert caught.value.error_code is ErrorCode.ERR_LIMIT_BULKHEAD
        assert caught.value.details == {"in_use": 1, "limit": 1, "waiting": 0}
        assert str(caught.value) == (
            "shop.pay: the bulkhead is full: 1 under way (limit 1), 0 waiting; "
            "send fewer calls at once, or raise max_concurrent, max_waiting or max_wait"
        )

    def test_full_queue(self):
        """
        The queue is bounded: one more is refused, and nobody in it loses his place.
        """
        clock = LoopClock()
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1)

        async def main() -> None:
            slots.enter()
            waiting = asyncio.ensure_future(slots.enter_async())
            await asyncio.sleep(0)
            with pytest.raises(LimitExceeded) as caught:
                await slots.enter_async()
            assert caught.value.details == {"in_use": 1, "limit": 1, "waiting": 1}
            slots.leave()
            await waiting

        run_virtual(clock, main())

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_max_wait(self):
        """
        Who has waited for max_wait is refused, and is out of the queue.
        """
        clock = LoopClock(0.0)
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1, max_wait=2.0)

        async def main() -> None:
            slots.enter()
            with pytest.raises(LimitExceeded, match=r"had no slot within max_wait, 2 s: 1 under way"):
                await slots.enter_async(3.0)

        run_virtual(clock, main())

        assert (slots.in_use, slots.waiting, clock.monotonic()) == (1, 0, 2.0)

    def test_deadline(self):
        """
        The deadline ends the wait, with its own error.
        """
        clock = LoopClock(0.0)
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1, max_wait=2.0)

        async def main() -> None:
            slots.enter()
            with pytest.raises(TimeoutError) as caught:
                await slots.enter_async(2.0)
            assert caught.value.error_code is ErrorCode.ERR_TIMEOUT_DEADLINE
            assert caught.value.target == "shop.pay"
            said = "shop.pay: the deadline has passed while the call waited for a slot of the bulkhead"
            assert said == str(caught.value)

        run_virtual(clock, main())

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_thread_notices_a_virtual_clock(self):
        """
        A thread that waits sees that a test has moved the clock past its max_wait.
        """
        clock = VirtualClock()
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1, max_wait=60.0)
        slots.enter()
        refused = threading.Event()

        def wait() -> None:
            with pytest.raises(LimitExceeded):
                slots.enter()
            refused.set()

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: slots.waiting == 1)
        clock.advance(60.0)
        thread.join(10)

        assert refused.is_set()
        assert slots.waiting == 0

    def test_task_notices_a_virtual_clock(self):
        """
        So does a task.
        """
        clock = VirtualClock()
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1)

        async def main() -> None:
            slots.enter()
            waiting = asyncio.ensure_future(slots.enter_async(clock.monotonic() + 60))
            await asyncio.sleep(0.001)
            clock.advance(61)
            with pytest.raises(TimeoutError):
                await waiting

        asyncio.run(main())


class TestHandingOver:
    def test_cancelled_in_the_moment_of_the_handover(self):
        """
        A slot handed to a task that is cancelled in the same moment goes to the next one.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=2)

        async def main() -> None:
            slots.enter()
            first = asyncio.ensure_future(slots.enter_async())
            second = asyncio.ensure_future(slots.enter_async())
            await asyncio.sleep(0)
            slots.leave()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await second

        asyncio.run(main())

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_cancelled_before_the_handover(self):
        """
        A cancelled waiter is skipped, and the slot goes to the next one.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=2)

        async def main() -> None:
            slots.enter()
            first = asyncio.ensure_future(slots.enter_async())
            second = asyncio.ensure_future(slots.enter_async())
            await asyncio.sleep(0)
            first.cancel()
            slots.leave()
            await second
            assert first.cancelled()

        asyncio.run(main())

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_time_is_up_in_the_moment_of_the_handover(self):
        """
        Who gets a slot in the last moment has it, and is not refused.
        """
        clock = LoopClock(0.0)
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1, max_wait=1.0)
        waiter = ThreadWaiter()
        slots.enter()
        waits = slots._waits(waiter, inf)
        next(waits)
        clock.advance(1.0)
        slots.leave()

        assert list(waits) == []
        assert waiter.granted
        assert slots.in_use == 1

    def test_granted_between_the_look_at_the_clock_and_leaving(self):
        """
        The same, when the slot comes between finding that the time is up and leaving the queue.
        """
        clock = LoopClock(0.0)
        slots = bulkhead(clock, max_concurrent=1, max_waiting=1, max_wait=1.0)
        slots.enter()
        waiter = ThreadWaiter()
        waits = slots._waits(waiter, inf)
        next(waits)
        slots._clock = _Then(1.0, slots.leave)

        assert list(waits) == []
        assert waiter.granted

    def test_loop_that_is_closed(self):
        """
        A slot handed to a task whose event loop is closed goes to the next one.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=3)
        slots.enter()
        loop = asyncio.new_event_loop()
        left = loop.create_task(slots.enter_async())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        got = threading.Event()
        thread = threading.Thread(target=lambda: (slots.enter(), got.set()))
        thread.start()
        until(lambda: slots.waiting == 2)

        slots.leave()
        thread.join(10)

        assert got.is_set()
        left.get_coro().close()  # what it had is gone already, and isn't given back twice
        left._log_destroy_pending = False
        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_waking_that_comes_too_late(self):
        """
        Who has taken his slot, and is gone when the waking comes, his event loop closed, loses nothing by it.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=1)
        slots.enter()

        async def main() -> Any:
            entering = asyncio.ensure_future(slots.enter_async())
            await asyncio.sleep(0)
            waiter = slots._waiters[0]
            slots.leave()
            await entering
            return waiter

        slots._wake([asyncio.run(main())])
        slots._tidy()

        assert slots.in_use == 1

    def test_task_that_is_dropped(self):
        """
        A task that is dropped while it waits leaves the queue.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=1)
        slots.enter()
        coroutine = slots.enter_async()

        async def step() -> None:
            coroutine.send(None)

        asyncio.run(step())
        assert slots.waiting == 1
        coroutine.close()

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_interrupted_thread(self, monkeypatch: pytest.MonkeyPatch):
        """
        Ctrl-C while a thread waits leaves the queue.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=1)
        slots.enter()

        def interrupted(self: object, seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(ThreadWaiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            slots.enter()

        assert (slots.in_use, slots.waiting) == (1, 0)

    def test_given_back_by_a_finaliser_while_the_lock_is_held(self):
        """
        Giving back never blocks, even if this thread holds the lock; it is done when the lock is free.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=1)
        slots.enter()
        waiter = ThreadWaiter()
        waits = slots._waits(waiter, inf)
        next(waits)

        with slots._lock:
            slots.leave()
            assert not waiter.granted
        slots.try_enter()  # whoever comes next
        slots._tidy()

        assert waiter.granted

    def test_first_come_first_served(self):
        """
        Threads and tasks of two event loops stand in one queue.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=9)
        slots.enter()
        order: list[int] = []
        threads = []

        def from_thread(number: int) -> None:
            slots.enter()
            order.append(number)
            slots.leave()

        def from_loop(number: int) -> None:
            async def main() -> None:
                await slots.enter_async()
                order.append(number)
                slots.leave()

            asyncio.run(main())

        for number in range(9):
            body = from_thread if number % 3 == 0 else from_loop
            threads.append(threading.Thread(target=body, args=(number,)))
            threads[-1].start()
            until(lambda number=number: slots.waiting == number + 1)
        slots.leave()
        for thread in threads:
            thread.join(10)

        assert order == list(range(9))
        assert (slots.in_use, slots.waiting) == (0, 0)

    def test_nobody_overtakes(self):
        """
        Who comes when others wait queues, even if a slot is just free.
        """
        slots = bulkhead(max_concurrent=1, max_waiting=2)
        slots.enter()
        waits = slots._waits(ThreadWaiter(), inf)
        next(waits)
        with slots._lock:  # the slot is free, and not handed over yet
            slots.leave()
            assert not slots.try_enter()


class _Then(VirtualClock):
    """A clock that stands at one moment, and does something when it is looked at."""

    def __init__(self, now: float, what: Any) -> None:
        super().__init__(now)
        self._what = what

    def monotonic(self) -> float:
        what, self._what = self._what, lambda: None
        what()
        return super().monotonic()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestFork:
    def test_child_begins_anew(self):
        """
        In a forked child all slots are free: who held them is not there. What it gives back itself changes nothing.
        """
        slots = bulkhead(max_concurrent=2, max_waiting=1)
        slots.enter()
        slots.enter()
        waits = slots._waits(ThreadWaiter(), inf)
        next(waits)
        slots._lock.acquire()
        child = os.fork()
        if child == 0:
            slots.leave()  # taken by this very thread, before the fork
            fresh = (slots.in_use, slots.waiting) == (0, 0) and slots.try_enter() and slots.try_enter()
            os._exit(0 if fresh and not slots.try_enter() else 1)
        slots._lock.release()

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (slots.in_use, slots.waiting) == (2, 1)


@pytest.mark.parametrize("adaptive", [None, AdaptiveConfig()])
def test_slot_of_a_parent_changes_nothing(adaptive: AdaptiveConfig | None):
    """
    What was taken before a fork and comes back in the child makes no slot there.
    """
    slots = bulkhead(max_concurrent=1, adaptive=adaptive)
    slots.enter()

    slots.forget()
    slots.leave()

    assert [slots.try_enter(), slots.try_enter()] == [True, False]


class Machine(RuleBasedStateMachine):
    """Every interleaving of arrivals, wakings, ends, cancellations and time, against a model: a queue and a set."""

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.clock = LoopClock(0.0)
        self.slots = bulkhead(self.clock, max_concurrent=2, max_waiting=3, max_wait=5.0)
        self.holding = 0
        self.asleep = 0  # of those that hold a slot
        self.queue: list[Any] = []

    @rule(target=waiting, deadline=st.sampled_from([2.0, 5.0, inf]))
    def arrive(self, deadline: float) -> Any:
        waiter = ThreadWaiter()
        waits = self.slots._waits(waiter, self.clock.monotonic() + deadline)
        arrival = (waiter, waits)
        if self.holding < 2:
            assert list(waits) == []
            self.holding += 1
        elif len(self.queue) == 3:
            with pytest.raises(LimitExceeded):
                next(waits)
        else:
            next(waits)
            self.queue.append(arrival)
        return arrival

    @rule()
    def arrive_without_waiting(self) -> None:
        got = self.slots.try_enter()
        assert got == (self.holding < 2)
        self.holding += got

    @rule()
    def leave(self) -> None:
        if self.holding > self.asleep:
            self.holding -= 1
            self.slots.leave()
            self._next_is_served()

    @rule(arrival=consumes(waiting))
    def cancel(self, arrival: Any) -> None:
        """At any point: queued, handed a slot but not awake yet, or refused."""
        waiter, waits = arrival
        done = waits.gi_frame is None
        if done:
            return
        waits.close()
        self.slots._give_back(waiter)
        if arrival in self.queue:
            self.queue.remove(arrival)
        else:
            self.holding -= 1
            self.asleep -= 1
            self._next_is_served()

    @rule(arrival=waiting)
    def look(self, arrival: Any) -> None:
        """Wake up, for whatever reason."""
        waiter, waits = arrival
        if waits.gi_frame is None:
            return
        try:
            assert next(waits) > 0
        except StopIteration:
            assert waiter.granted
            assert arrival not in self.queue
            self.asleep -= 1
        except (LimitExceeded, TimeoutError):
            assert not waiter.granted
            self.queue.remove(arrival)

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _next_is_served(self) -> None:
        if self.queue:
            waiter, _ = self.queue.pop(0)
            assert waiter.granted
            self.holding += 1
            self.asleep += 1

    @invariant()
    def agrees(self) -> None:
        assert self.slots.in_use == self.holding <= 2
        assert list(self.slots._waiters) == [waiter for waiter, _ in self.queue]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


moments = st.integers(0, 8).map(lambda half: half / 2)
calls = st.lists(
    st.tuples(moments, moments, st.none() | moments, st.sampled_from([1.0, 3.0, inf])), min_size=1, max_size=12
)


@given(calls, st.integers(1, 3), st.sampled_from([0, 2, 12]), st.sampled_from([None, 1.5]))
@settings(max_examples=200, deadline=None)
def test_schedules_of_tasks(schedule: Any, limit: int, max_waiting: int, max_wait: float | None):
    """
    Whenever calls come, end, are cancelled or run out of time: never over the limit, in order, and no slot is lost.
    """
    clock = LoopClock(0.0)
    slots = bulkhead(clock, max_concurrent=limit, max_waiting=max_waiting, max_wait=max_wait)
    under_way: list[int] = []
    arrived: list[int] = []
    begun: dict[int, float] = {}

    async def call(number: int, at: float, takes: float, deadline: float) -> None:
        await asyncio.sleep(at)
        arrived.append(number)
        await slots.enter_async(at + deadline)
        begun[number] = clock.monotonic()
        under_way.append(number)
        assert len(under_way) <= limit
        try:
            await asyncio.sleep(takes)
        finally:
            under_way.remove(number)
            slots.leave()

    async def main() -> None:
        tasks = []
        for number, (at, takes, cancelled, deadline) in enumerate(schedule):
            task = asyncio.ensure_future(call(number, at, takes, deadline))
            tasks.append(task)
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, LimitExceeded | TimeoutError | asyncio.CancelledError)

    run_virtual(clock, main())

    in_order = [begun[number] for number in arrived if number in begun]
    assert in_order == sorted(in_order)
    assert (slots.in_use, slots.waiting) == (0, 0)


@pytest.mark.parametrize("adaptive", [None, AdaptiveConfig(initial_limit=3)])
def test_threads_and_loops_hammering(adaptive: AdaptiveConfig | None):
    """
    Eight threads and two event loops, some cancelled and some impatient: never over the limit, no slot lost.
    """
    slots = bulkhead(max_concurrent=3, max_waiting=50, max_wait=0.02, adaptive=adaptive)
    under_way: list[None] = []
    most: list[int] = []
    failed: list[BaseException] = []

    def call(pause: float) -> None:
        under_way.append(None)
        most.append(len(under_way))
        time.sleep(pause)
        under_way.pop()
        slots.leave(pause, True)

    def from_threads(number: int) -> None:
        for turn in range(60):
            with contextlib.suppress(LimitExceeded, TimeoutError):
                slots.enter(time.monotonic() + (0.0002 if turn % 5 == number % 5 else 1.0))
                call(0.0001 if turn % 3 else 0)

    def from_loop(number: int) -> None:
        async def one(turn: int) -> None:
            with contextlib.suppress(LimitExceeded, TimeoutError):
                await slots.enter_async(time.monotonic() + 1.0)
                call(0)
                await asyncio.sleep(0)

        async def main() -> None:
            for _ in range(15):
                tasks = [asyncio.ensure_future(one(turn)) for turn in range(10)]
                await asyncio.sleep(0)
                for task in tasks[number::3]:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert result is None or isinstance(result, asyncio.CancelledError)

        asyncio.run(main())

    def run(body: Any, number: int) -> None:
        try:
            body(number)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(from_threads, number)) for number in range(8)]
    threads += [threading.Thread(target=run, args=(from_loop, number)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    gc.collect()

    assert failed == []
    assert max(most) <= 3
    assert (slots.in_use, slots.waiting) == (0, 0)
    assert [slots.try_enter() for _ in range(4)] == [True, True, True, False]


class TestAdaptive:
    def test_limit_sinks_and_grows(self):
        """
        Overload makes the slots that come back vanish; successes make new ones, and who waits gets them.
        """
        clock = LoopClock(100.0)
        slots = bulkhead(clock, max_concurrent=8, max_waiting=8, adaptive=AdaptiveConfig(backoff_ratio=0.5))
        for _ in range(4):
            slots.enter()
        slots.leave(1.0, False)

        assert slots.limit == 2
        slots.leave(1.0, None)
        assert slots.in_use == 2
        assert not slots.try_enter()

        waiter = ThreadWaiter()
        next(slots._waits(waiter, inf))
        slots.leave(0.0, True)
        assert (waiter.granted, slots.in_use, slots.limit) == (True, 2, 2)
        slots.leave(0.0, True)
        assert (slots.in_use, slots.limit) == (1, 2)

    def test_free_slots_vanish(self):
        """
        A limit that sinks takes the free slots away too.
        """
        slots = bulkhead(LoopClock(100.0), max_concurrent=8, adaptive=AdaptiveConfig(backoff_ratio=0.3))
        for _ in range(4):
            slots.enter()
        for _ in range(3):
            slots.leave()
        slots.leave(1.0, False)

        assert slots.limit == 1
        assert [slots.try_enter() for _ in range(2)] == [True, False]


class TestWaiters:
    def test_waking_twice(self):
        """
        A waking is not lost if it comes before the wait, and two are as good as one.
        """
        waiter = ThreadWaiter()

        assert waiter.wake()
        assert waiter.wake()
        waiter.wait(60.0)

    def test_task_woken_before_it_waits(self):
        """
        The same for tasks.
        """

        async def main() -> None:
            waiter = TaskWaiter()
            waiter.wake()
            await waiter.wait(inf)

        asyncio.run(main())

    def test_a_task_s_waking_ends_one_wait(self):
        """
        The next wait lasts until the next waking, or until its time is up.
        """
        clock = LoopClock()

        async def main() -> None:
            waiter = TaskWaiter()
            waiter.wake()
            began = clock.monotonic()
            await waiter.wait(5.0)
            assert began == clock.monotonic()

            await waiter.wait(5.0)
            assert began + 5.0 == clock.monotonic()

        run_virtual(clock, main())

    def test_base_classes(self):
        """
        The base classes leave to others what only those know.
        """
        with pytest.raises(NotImplementedError):
            Waiter().wake()
        with pytest.raises(NotImplementedError):
            FairQueue()._settle()
