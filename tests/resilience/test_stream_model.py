"""Streams under random schedules: whatever server and consumer do, what is held comes back, and nothing twice."""

import asyncio
import gc
import threading
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virtual_time import LoopClock, run_virtual

from pixel_llm.errors import CircuitBreakerOpen, ConnectionError, LimitExceeded, TimeoutError
from pixel_llm.events import StreamAbandoned
from pixel_llm.policy import (
    BulkheadConfig,
    CircuitBreakerConfig,
    RetryConfig,
    RetryStrategy,
    TargetPolicy,
    TimeoutConfig,
)
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import VirtualClock

END = object()

SERVER = st.lists(
    st.lists(st.sampled_from(["deliver", "deliver", "fail", "slow", "hang"]), max_size=5), min_size=1, max_size=3
)
CONSUMER = st.lists(
    st.sampled_from(["read", "read", "read", "wait", "pause", "close", "drop", "cancel", "close beside"]), max_size=8
)
SCHEDULES = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Server:
    """What happens to the attempts, and what has come of them."""

    def __init__(self, attempts):
        self.attempts = attempts
        self.begun = self.running = self.most = 0
        self.content = []  # the attempts that delivered something

    def begin(self):
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        return self.attempts[min(self.begun, len(self.attempts)) - 1]

    def chunk(self, number):
        self.content.append(self.begun)
        return (self.begun, number)


def make_stack(clock, events):
    return Stack(
        "writer.write",
        TargetPolicy(
            deadline=500.0,
            retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1000),
            bulkhead=BulkheadConfig(max_concurrent=1, max_waiting=0),
            timeout=TimeoutConfig(attempt=20.0, idle=10.0, max_pause=60.0),
        ),
        clock=clock,
        emit=events.append,
    )


class Ledger:
    """Counts how the breaker was told of the ends of attempts."""

    def __init__(self, stack):
        self.failures = self.successes = self.neutral = self.admitted = 0
        breaker, ledger = stack.breaker, self

        class Told:
            closed_period = -1
            eventful = True
            state = breaker.state

            def __getattr__(self, name):
                return getattr(breaker, name)

            def acquire(self):
                ledger.admitted += 1
                return 0

            def record_success(self, *told):
                ledger.successes += 1

            def record_failure(self, *told):
                ledger.failures += 1

            def release(self, *told):
                ledger.neutral += 1

        stack.gate = Told()

    @property
    def settled(self):
        return self.failures + self.successes + self.neutral


def check(stack, ledger, server, read, events):
    """What must hold when all is over."""
    assert 0 == stack.admission.bulkhead.in_use
    assert 0 == server.running
    assert server.most <= 1
    assert ledger.admitted == ledger.settled == server.begun
    attempts = {attempt for attempt, _ in read}
    assert len(attempts) <= 1
    assert [number for _, number in read] == list(range(len(read)))
    assert all(attempt == server.begun for attempt in server.content), "tried again after content"
    stats = stack.stats()
    abandoned = sum(isinstance(event, StreamAbandoned) for event in events)
    assert stats.succeeded + stats.failed + abandoned <= 1
    assert ledger.successes == stats.succeeded


class TestAnySchedule:
    @SCHEDULES
    @given(SERVER, CONSUMER)
    def test_async(self, attempts, consumer):
        """
        Permits and slots come back once, nothing is tried again after content, every chunk comes once and in order.
        """
        server, clock, events, read = Server(attempts), LoopClock(1000.0), [], []
        stack = make_stack(clock, events)
        ledger = Ledger(stack)

        async def write():
            steps = server.begin()
            try:
                for number, step in enumerate(steps):
                    if step == "fail":
                        raise ConnectionError
                    await asyncio.sleep({"slow": 3.0, "hang": 1000.0}.get(step, 0.0))
                    yield server.chunk(number)
            finally:
                server.running -= 1

        async def next_chunk(stream):
            try:
                chunk = await anext(stream, END)
            except (ConnectionError, TimeoutError, LimitExceeded, CircuitBreakerOpen):
                return
            if chunk is not END:
                read.append(chunk)

        async def main():
            stream = guard(stack, write)()
            for action in consumer:
                if action == "read":
                    await next_chunk(stream)
                elif action in ("wait", "pause"):
                    await asyncio.sleep(30.0 if action == "wait" else 61.0)
                elif action == "close":
                    await stream.aclose()
                elif action == "drop":
                    break
                else:
                    reading = asyncio.create_task(next_chunk(stream))
                    await asyncio.sleep(1.0)
                    if action == "cancel":
                        reading.cancel()
                    else:
                        await stream.aclose()
                    await asyncio.gather(reading, return_exceptions=True)
                    assert 0 == reading.cancelling() or action == "cancel"
            del stream
            gc.collect(0)
            await asyncio.sleep(1.0)
            if stack.admission.bulkhead.in_use:  # what was dropped may have grown old meanwhile
                gc.collect()
                await asyncio.sleep(1.0)
            assert {asyncio.current_task()} == asyncio.all_tasks()

        run_virtual(clock, main())

        check(stack, ledger, server, read, events)

    @SCHEDULES
    @given(SERVER, CONSUMER)
    def test_sync(self, attempts, consumer):
        """
        The same in the sync world, whose code sees to its time by itself.
        """
        clock = VirtualClock(1000.0)

        def hang():
            clock.advance(11.0)
            raise TimeoutError

        self.play(clock, attempts, consumer, hang, cooperative=True)

    @settings(SCHEDULES, max_examples=60)
    @given(SERVER, CONSUMER)
    def test_own_thread(self, attempts, consumer):
        """
        The same where the code runs in a thread of its own, and is left behind when it hangs.
        """
        clock, go_on = VirtualClock(1000.0), threading.Event()

        def hang():
            clock.advance(25.0)
            go_on.wait(5)

        self.play(clock, attempts, consumer, hang, cooperative=False, at_the_end=go_on.set)

    def play(self, clock, attempts, consumer, hang, *, cooperative, at_the_end=lambda: None):
        server, events, read = Server(attempts), [], []
        stack = make_stack(clock, events)
        ledger = Ledger(stack)

        def write():
            steps = server.begin()
            try:
                for number, step in enumerate(steps):
                    if step == "hang":
                        hang()
                    if step == "fail":
                        raise ConnectionError
                    clock.advance(3.0 if step == "slow" else 0.0)
                    yield server.chunk(number)
            finally:
                server.running -= 1

        stream = guard(stack, write, cooperative=cooperative)()
        for action in consumer:
            if action in ("wait", "pause"):
                clock.advance(30.0 if action == "wait" else 61.0)
            elif action.startswith("close"):
                stream.close()
            elif action == "drop":
                break
            else:
                try:
                    chunk = next(stream, END)
                except (ConnectionError, TimeoutError, LimitExceeded, CircuitBreakerOpen):
                    continue
                if chunk is not END:
                    read.append(chunk)
        stream.close()
        at_the_end()
        del stream
        ends = time.monotonic() + 5.0
        while (stack.admission.bulkhead.in_use or server.running) and time.monotonic() < ends:
            time.sleep(0.001)

        check(stack, ledger, server, read, events)
