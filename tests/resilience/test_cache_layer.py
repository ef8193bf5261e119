"""The read-through cache: fresh results without a call, and one call for many that are equal."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_llm.errors import ConnectionError, ErrorCode, TimeoutError, ValidationError
from pixel_llm.events import CallFailed
from pixel_llm.policy import CacheConfig, CircuitBreakerConfig, FallbackStep, FallbackStrategy, TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.resilience.caching import keys as keys_log
from pixel_llm.testing import VirtualClock

LOST = ErrorCode.ERR_CONN_LOST
SORRY = FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry")
KEY = {"key": lambda *args: args}
MINUTE = CacheConfig(ttl=60.0)


def gone():
    return ConnectionError("gone", error_code=LOST)


class TestReading:
    def test_a_fresh_result_is_given_without_a_call(self, both_worlds, events):
        """
        An equal call gets the result, and says where it is from: it is not degraded.
        """
        call = both_worlds("first", "second", cache=MINUTE, options=dict(KEY))
        found = [call.outcome("visa"), call.outcome("visa")]

        assert [("first", "call", 1), ("first", "cache_hit", 0)] == [(o.value, o.served_by, o.attempts) for o in found]
        assert [False, False] == [outcome.degraded for outcome in found]
        assert (1, []) == (call.calls, events)

    def test_other_calls_are_made(self, both_worlds):
        """
        What has another key is another call.
        """
        call = both_worlds("first", "second", cache=MINUTE, options=dict(KEY))

        assert ["first", "second", "first"] == [call("visa"), call("amex"), call("visa")]

    @pytest.mark.parametrize(("age", "expected"), [(59.9, "first"), (60.1, "second")])
    def test_never_past_ttl(self, both_worlds, clock, age, expected):
        """
        A result too old is not given.
        """
        call = both_worlds("first", "second", cache=MINUTE, options=dict(KEY))
        call("visa")
        clock.advance(age)

        assert expected == call("visa")

    def test_a_result_s_age_begins_when_it_is_there(self, both_worlds, clock):
        """
        The time that the call took is no age.
        """

        def slow():
            clock.advance(50)
            return "first"

        call = both_worlds(slow, "second", cache=MINUTE, options=dict(KEY))
        call("visa")
        clock.advance(59)

        assert "first" == call("visa")

    def test_nothing_is_made_before_it_is_needed(self, make_stack):
        """
        Thousands of targets are compiled; few are called.
        """
        stack = make_stack(cache=MINUTE, fallback=(FallbackStep(FallbackStrategy.CACHE, cache=MINUTE),))

        assert ({}, {}, {}) == (stack.cache._cache._made, stack.cache._flights, stack.fallback._cache._made)

    def test_it_needs_a_key(self, make_stack):
        """
        Nobody but the program knows which calls are equal.
        """
        with pytest.raises(ValidationError, match="it has a cache, so wrapping it needs key="):
            guard(make_stack(cache=MINUTE), lambda: 1)

    def test_is_counted(self, both_worlds):
        """
        Hits and misses are counted, and hits are successes.
        """
        call = both_worlds("first", cache=MINUTE, options=dict(KEY))
        for _ in range(3):
            call("visa")
        stats = call.stack.stats()

        assert ({"cache_miss": 1, "cache_hit": 2}, 3) == (stats.happened, stats.succeeded)

    def test_a_policy_that_is_loaded_again_keeps_it(self, make_stack, clock):
        """
        What is fresh stays so where the section is the same; the counters go on as well.
        """
        before = make_stack(cache=MINUTE)
        guard(before, lambda card: "first", **KEY)("visa")
        after = Stack("shop.pay", TargetPolicy(cache=MINUTE, deadline=5.0), clock=clock, before=before)

        assert "first" == guard(after, lambda card: "second", **KEY)("visa")
        assert {"cache_miss": 1, "cache_hit": 1} == after.stats().happened

    def test_a_policy_that_is_loaded_again_with_another_cache_begins_anew(self, make_stack, clock):
        """
        Results are not kept past what the new section says: its cache is empty.
        """
        before = make_stack(cache=MINUTE)
        assert "paid" == guard(before, lambda card: "paid", **KEY)("visa")

        after = Stack("shop.pay", TargetPolicy(cache=CacheConfig(ttl=30.0)), clock=clock, before=before)

        assert "paid again" == guard(after, lambda card: "paid again", **KEY)("visa")

    def test_sync_and_async_callables_share_it(self, make_stack):
        """
        One target, one cache, in both worlds.
        """
        stack = make_stack(cache=MINUTE)

        async def never(card):
            raise AssertionError

        guard(stack, lambda card: "sync", **KEY)("visa")

        assert "sync" == asyncio.run(guard(stack, never, **KEY)("visa"))

    def test_an_open_breaker_does_not_matter(self, both_worlds):
        """
        It stands outside of the breaker: what is fresh is given while the target is ill.
        """
        breaker = CircuitBreakerConfig(failure_threshold=1)
        call = both_worlds("first", gone(), cache=MINUTE, circuit_breaker=breaker, options=dict(KEY))
        call("visa")
        with pytest.raises(ConnectionError):
            call("amex")

        assert "first" == call("visa")

    def test_describe_and_words_name_it(self, make_stack):
        """
        It stands between fallback and retry.
        """
        stack = make_stack(cache=MINUTE, fallback=(SORRY,))

        assert ["fallback", "cache", "call"] == [layer.name for layer in stack.describe()]
        assert 60.0 == stack.describe()[1].settings["ttl"]
        assert (
            "cache",
            "results for 1m, 1000 entries, 64MiB; equal calls at once make one",
        ) == stack.policy.layers_in_words()[1]


class TestKeeping:
    def test_no_failure_and_no_fallback(self, both_worlds):
        """
        What a fallback served is no result: the next call is made.
        """
        call = both_worlds(gone(), "second", cache=MINUTE, fallback=(SORRY,), options=dict(KEY))

        assert ["sorry", "second"] == [call("visa"), call("visa")]

    def test_only_what_is_cacheable(self, both_worlds):
        """
        A result that ``cacheable`` turns down is given but not kept.
        """
        options = {**KEY, "cacheable": lambda value: value != "truncated"}
        call = both_worlds("truncated", "whole", "third", cache=MINUTE, options=options)

        assert ["truncated", "whole", "whole"] == [call("visa") for _ in range(3)]

    def test_the_fallback_s_cache_as_well(self, both_worlds, clock):
        """
        Each keeps for its own time: one while all is well, the other for when it is not.
        """
        step = FallbackStep(FallbackStrategy.CACHE, cache=CacheConfig(ttl=600.0))
        call = both_worlds("first", gone(), cache=MINUTE, fallback=(step,), options=dict(KEY))
        served = [call.outcome("visa").served_by, call.outcome("visa").served_by]
        clock.advance(61)
        found = call.outcome("visa")

        assert ["call", "cache_hit"] == served
        assert ("first", "cache", True) == (found.value, found.served_by, found.degraded)

    def test_what_is_used_up_by_reading_is_not_kept(self, both_worlds):
        """
        Each caller gets a stream of his own.
        """
        streams = [iter("ab"), iter("cd")]
        step = FallbackStep(FallbackStrategy.CACHE, cache=MINUTE)
        call = both_worlds(*streams, cache=MINUTE, fallback=(step,), options=dict(KEY))

        assert streams == [call("visa"), call("visa")]
        assert 0 == len(call.stack.fallback.cache)


class Crowd:
    """Equal calls at once, in threads or in tasks of one loop; the leader's call ends when the case says so."""

    def __init__(self, stack, *bodies):
        self.stack, self.bodies, self.calls = stack, list(bodies), 0
        self.outcomes, self.errors = [], []
        self._lock = threading.Lock()

    def next_body(self):
        with self._lock:
            self.calls += 1
            return self.bodies[min(self.calls, len(self.bodies)) - 1]


class Threads(Crowd):
    def run(self, number, **options):
        inside, go = threading.Event(), threading.Event()

        def pay(card):
            body = self.next_body()
            inside.set()
            go.wait(10)
            return body()

        guarded = guard(self.stack, pay, **KEY, **options)

        def one():
            try:
                self.outcomes.append(guarded.outcome("visa"))
            except Exception as error:  # noqa: BLE001 - the case looks at it
                self.errors.append(error)

        threads = [threading.Thread(target=one) for _ in range(number)]
        threads[0].start()
        inside.wait(10)
        for thread in threads[1:]:
            thread.start()
        flights, ends = self.stack.cache.flights, time.monotonic() + 5
        try:
            while sum(len(flight.waiting) for flight in list(flights._under_way.values())) < number - 1:
                assert time.monotonic() < ends, "they do not wait"
                time.sleep(0.001)
        finally:
            go.set()
        for thread in threads:
            thread.join(10)


class Tasks(Crowd):
    def run(self, number, **options):
        async def main():
            inside, go = asyncio.Event(), asyncio.Event()

            async def pay(card):
                body = self.next_body()
                inside.set()
                await go.wait()
                return body()

            guarded = guard(self.stack, pay, **KEY, **options)
            tasks = [asyncio.create_task(guarded.outcome("visa"))]
            await inside.wait()
            tasks += [asyncio.create_task(guarded.outcome("visa")) for _ in range(number - 1)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            go.set()
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                (self.errors if isinstance(found, BaseException) else self.outcomes).append(found)

        asyncio.run(main())


@pytest.fixture(params=[Threads, Tasks], ids=["threads", "tasks"])
def crowd(request, make_stack):
    """Runs so many equal calls at once through a stack with these layers."""

    def make(number, *bodies, **layers):
        crowd = request.param(make_stack(**{"cache": MINUTE, **layers}), *bodies)
        crowd.run(number)
        return crowd

    return make


def lost():
    raise gone()


class TestEqualCallsAtOnce:
    def test_a_hundred_make_one(self, crowd):
        """
        One is made; the others have its value and say so.
        """
        found = crowd(100, lambda: "first")

        assert (1, {"first"}) == (found.calls, {outcome.value for outcome in found.outcomes})
        assert ["call", *["shared_call"] * 99] == sorted(outcome.served_by for outcome in found.outcomes)
        assert {0, 1} == {outcome.attempts for outcome in found.outcomes}
        assert 0 == len(found.stack.cache.flights)

    def test_a_failure_is_everybody_s(self, crowd, events):
        """
        The call has failed for all of them; it is not made again a hundred times.
        """
        found = crowd(10, lost)

        assert (1, [LOST] * 10) == (found.calls, [error.error_code for error in found.errors])
        reasons = sorted(event.reason for event in events if isinstance(event, CallFailed))
        assert ["the equal call that it waited for has failed"] * 9 + ["the target does not retry"] == reasons

    def test_each_goes_to_its_own_fallback(self, crowd):
        """
        Whoever gets no value is served in its place.
        """
        found = crowd(10, lost, fallback=(SORRY,))

        assert (1, [("sorry", True)] * 10) == (found.calls, [(o.value, o.degraded) for o in found.outcomes])

    def test_each_goes_to_its_own_function(self, crowd):
        """
        So are they where the fallback takes time: each asks for itself.
        """
        asked = []
        steps = (FallbackStep(FallbackStrategy.CUSTOM_FUNCTION, value="apologise"),)
        found = crowd(10, lost, fallback=steps, functions={"apologise": lambda *args: asked.append(args) or "sorry"})

        assert (1, [("sorry", True)] * 10) == (found.calls, [(o.value, o.degraded) for o in found.outcomes])
        assert 10 == len(asked)

    def test_a_value_that_is_not_kept_is_shared_all_the_same(self, crowd):
        """
        Who asked while the call was under way gets what it brought, even if it is too large to be kept.
        """
        found = crowd(5, lambda: "x" * 5000, cache=CacheConfig(max_bytes=2000))

        assert (1, 5) == (found.calls, len(found.outcomes))

    def test_the_leader_s_own_deadline_is_not_theirs(self, crowd, clock):
        """
        The leader's time is up; a follower, which came later, leads on.
        """

        def too_late():
            clock.advance(10)
            raise TimeoutError("slow", error_code=ErrorCode.ERR_TIMEOUT_RESPONSE)

        found = crowd(3, too_late, lambda: "second", deadline=10.0, fallback=(SORRY,))

        # In virtual time all have begun at the same moment, so that all are out of time.
        assert {"sorry"} == {outcome.value for outcome in found.outcomes}
        assert 1 == found.calls

    def test_a_stream_is_shared_with_nobody(self, crowd):
        """
        What its first reader uses up is of no use to the others: each makes its own call.
        """
        found = crowd(3, lambda: iter("ab"))

        assert 3 == found.calls == len({id(outcome.value) for outcome in found.outcomes})


class TestGivingUp:
    def test_a_cancelled_leader_cancels_nobody(self, make_stack):
        """
        One of the followers leads on, and all the others follow that one.
        """
        calls = []

        async def main():
            async def pay(card):
                calls.append(card)
                await asyncio.sleep(60 if len(calls) == 1 else 0.001)
                return "paid"

            guarded = guard(make_stack(cache=MINUTE), pay, **KEY)
            leader = asyncio.create_task(guarded("visa"))
            await asyncio.sleep(0)
            followers = [asyncio.create_task(guarded("visa")) for _ in range(5)]
            await asyncio.sleep(0)
            leader.cancel()
            values = await asyncio.gather(*followers)
            return leader.cancelled(), values

        assert (True, ["paid"] * 5) == asyncio.run(main())
        assert 2 == len(calls)

    def test_a_cancelled_follower_cancels_nobody(self, make_stack):
        """
        The call goes on for the others.
        """

        async def main():
            async def pay(card):
                await asyncio.sleep(0.005)
                return "paid"

            stack = make_stack(cache=MINUTE)
            guarded = guard(stack, pay, **KEY)
            tasks = [asyncio.create_task(guarded("visa")) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            return [str(value) for value in found], len(stack.cache.flights)

        assert (["paid", "", "paid"], 0) == asyncio.run(main())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_a_leader_that_is_broken_off(self, make_stack, error):
        """
        Whatever breaks the leader's call off, nothing is left of its flight.
        """
        stack = make_stack(cache=MINUTE)

        def pay(card):
            raise error

        with pytest.raises(error):
            guard(stack, pay, **KEY)("visa")

        assert 0 == len(stack.cache.flights)

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_a_follower_waits_to_its_own_deadline(self, make_stack, clock, is_async):
        """
        It is out of time by its own caller's deadline; its fallback serves, and the leader's call goes on.
        """
        inside, go = threading.Event(), threading.Event()

        def slow(card):
            inside.set()
            go.wait(10)
            return "paid"

        stack = make_stack(cache=MINUTE, fallback=(SORRY,))
        leading = []
        leader = threading.Thread(target=lambda: leading.append(guard(stack, slow, **KEY)("visa")))
        leader.start()
        inside.wait(10)
        patience = clock.patience
        clock.patience = lambda seconds: clock.advance(3) or patience(seconds)

        async def never(card):
            raise AssertionError

        outer = make_stack("shop.order", deadline=5.0)
        if is_async:
            inner = guard(stack, never, **KEY)

            async def order():
                return await inner.outcome("visa")

            found = asyncio.run(guard(outer, order)())
        else:
            inner = guard(stack, slow, **KEY)
            found = guard(outer, lambda: inner.outcome("visa"))()
        go.set()
        leader.join(10)

        assert ("sorry", 0) == (found.value, found.attempts)
        assert ErrorCode.ERR_TIMEOUT_DEADLINE is found.error.error_code
        assert ["paid"] == leading

    def test_a_leader_out_of_time_hands_on(self, make_stack, clock):
        """
        A leader whose caller was in a hurry fails alone: the follower makes the call itself, with its own time.
        """
        inside, go, calls = threading.Event(), threading.Event(), []

        def pay(card):
            calls.append(card)
            if len(calls) == 1:
                inside.set()
                go.wait(10)
                clock.advance(5)
                raise TimeoutError("slow", error_code=ErrorCode.ERR_TIMEOUT_RESPONSE)
            return "paid"

        stack = make_stack(cache=MINUTE)
        guarded, found = guard(stack, pay, **KEY), []

        def hurried():
            try:
                guard(make_stack("shop.order", deadline=5.0), lambda: guarded("visa"))()
            except TimeoutError as error:
                found.append(type(error))

        def patient():
            found.append(guarded.outcome("visa"))

        first, second = threading.Thread(target=hurried), threading.Thread(target=patient)
        first.start()
        inside.wait(10)
        second.start()
        while not any(flight.waiting for flight in list(stack.cache.flights._under_way.values())):
            threading.Event().wait(0.001)
        go.set()
        first.join(10)
        second.join(10)
        outcomes = [outcome for outcome in found if outcome is not TimeoutError]

        assert [("paid", "call", 1)] == [(o.value, o.served_by, o.attempts) for o in outcomes]
        assert 2 == len(calls) == len(found)

    def test_a_function_that_calls_itself(self, both_worlds, world):
        """
        An equal call inside of the call does not wait for itself.
        """
        depth = []
        call = both_worlds("unused", cache=MINUTE, options=dict(KEY))

        if world.name == "sync":

            def pay(card):
                depth.append(card)
                return "inner" if len(depth) == 2 else f"outer of {guarded(card)}"

        else:

            async def pay(card):
                depth.append(card)
                return "inner" if len(depth) == 2 else f"outer of {await guarded(card)}"

        guarded = guard(call.stack, pay, **KEY)

        assert "outer of inner" == world.run(guarded, "visa")

    def test_what_landed_in_between_is_not_called_again(self, make_stack):
        """
        A call that looks into the cache just before another one lands finds its value when it leads.
        """
        stack, calls = make_stack(cache=MINUTE), []
        guarded = guard(stack, lambda card: calls.append(card) or "paid", **KEY)
        cache, first = stack.cache.cache, []

        def get(key, look=cache.get):
            if not first:
                first.append(key)
                guarded("visa")
                return None
            return look(key)

        cache.get = get
        found = guarded.outcome("visa")

        assert ("paid", "cache_hit", 1) == (found.value, found.served_by, len(calls))

    def test_the_same_in_the_async_world(self, make_stack):
        """
        As in the sync world.
        """
        stack, calls = make_stack(cache=MINUTE), []

        async def pay(card):
            calls.append(card)
            return "paid"

        guarded = guard(stack, pay, **KEY)
        cache = stack.cache.cache
        answers, look = iter([None]), cache.get
        cache.get = lambda key: next(answers, look(key))
        cache.store(("visa",), "paid")

        assert ("paid", []) == (asyncio.run(guarded("visa")), calls)


class Instant(VirtualClock):
    """Waits look at the clock with every turn of the loop."""

    def patience(self, seconds):
        return 0.0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from("ab"), st.sampled_from([None, 3.0, 8.0])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("answer"), st.sampled_from("ab"), st.sampled_from(["ok", "lost"])),
        st.tuples(st.just("advance"), st.sampled_from([1.0, 4.0, 61.0])),
    ),
    max_size=25,
)


class TestAnySchedule:
    @settings(max_examples=150, deadline=None)
    @given(STEPS)
    def test_every_call_ends_once_and_none_is_stale(self, steps):
        """
        Whatever is cancelled, fails or runs out of time: every call ends once, no value is too old, one call a key.
        """
        assert [] == asyncio.run(play(steps))


async def play(steps):
    """Plays a schedule against a stack; gives what was wrong."""
    clock, wrong = Instant(1000.0), []
    stack = Stack("shop.pay", TargetPolicy(cache=MINUTE), clock=clock)
    under_way, answers, ended = {"a": 0, "b": 0}, {"a": [], "b": []}, []

    async def pay(key):
        under_way[key] += 1
        if under_way[key] > 1:
            wrong.append(f"two calls of {key} at once")
        answer = asyncio.get_running_loop().create_future()
        answers[key].append(answer)
        try:
            return (await answer, clock.monotonic())
        finally:
            under_way[key] -= 1
            answers[key].remove(answer)

    guarded = guard(stack, pay, key=lambda key: key)

    async def caller(key, deadline):
        began = clock.monotonic()
        try:
            if deadline is None:
                value = await guarded(key)
            else:
                async with asyncio.timeout(None) as scope:
                    clock_watch = asyncio.create_task(watch(began + deadline, scope))
                    try:
                        value = await guarded(key)
                    finally:
                        clock_watch.cancel()
            if clock.monotonic() - value[1] >= 60.0:
                wrong.append("a stale value")
            ended.append("ok")
        except (ConnectionError, asyncio.CancelledError, TimeoutError, OSError) as error:
            ended.append(type(error).__name__)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def watch(until, scope):
        while clock.monotonic() < until:
            await asyncio.sleep(0)
        scope.reschedule(0)

    async def settle():
        for _ in range(12):
            await asyncio.sleep(0)

    tasks = []
    for step in steps:
        match step:
            case "call", key, deadline:
                tasks.append(asyncio.create_task(caller(key, deadline)))
            case "cancel", number if number < len(tasks):
                tasks[number].cancel()
            case "answer", key, how if answers[key]:
                if how == "ok":
                    answers[key][0].set_result(how)
                else:
                    answers[key][0].set_exception(gone())
            case "advance", seconds:
                clock.advance(seconds)
        await settle()
    for _ in range(len(tasks) + 1):
        for waiting in answers.values():
            for answer in waiting:
                if not answer.done():
                    answer.set_result("ok")
        await settle()
    await asyncio.gather(*tasks, return_exceptions=True)
    if len(ended) + sum(task.cancelled() for task in tasks) < len(tasks) or len(ended) > len(tasks):
        wrong.append(f"{len(ended)} ends of {len(tasks)} calls")
    if len(stack.cache.flights):
        wrong.append("a flight is left")
    return wrong


class TestRings:
    def test_calls_that_make_each_other_s(self):
        """
        Two calls, each of which needs what the other one brings, don't wait for each other: each makes its own.
        """
        made = []

        async def body(key, depth=0):
            made.append(key)
            await asyncio.sleep(0)
            return key if depth else await ask("ab".replace(key, ""), 1)

        ask = guard(Stack("shop.ask", TargetPolicy(cache=MINUTE)), body, key=lambda key, depth=0: key)

        async def main():
            return await asyncio.wait_for(asyncio.gather(ask("a"), ask("b")), 10)

        assert ["b", "a"] == asyncio.run(main())
        assert ["a", "b", "b", "a"] == made

    def test_a_sync_call_in_the_thread_of_the_leader_s_loop(self):
        """
        Waiting for a task of the loop that it blocks would never end, so such a call is made.
        """
        stack = Stack("shop.ask", TargetPolicy(cache=MINUTE))

        async def slow():
            await asyncio.sleep(0.01)
            return "leader"

        ask_async, ask = guard(stack, slow, key=lambda: 1), guard(stack, lambda: "own", key=lambda: 1)

        async def main():
            leader = asyncio.create_task(ask_async())
            await asyncio.sleep(0)
            return ask(), await leader

        assert ("own", "leader") == asyncio.run(main())

    @pytest.mark.parametrize("hand_on", [True, False], ids=["with the context", "without"])
    def test_an_equal_call_in_a_thread_of_the_leader_s(self, hand_on):
        """
        With its context it makes its own call; without, nothing tells it from others, and it waits until its deadline.
        """
        made = []

        def body(depth=0):
            made.append(depth)
            if depth:
                return "inner"
            run = contextvars.copy_context().run if hand_on else (lambda function, *args: function(*args))
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(run, inner, 1).result()

        outer_stack = Stack("shop.ask", TargetPolicy(cache=MINUTE, deadline=30.0))
        inner_stack = Stack("shop.ask", TargetPolicy(cache=MINUTE, deadline=0.05))
        inner_stack.cache = outer_stack.cache
        ask, inner = (guard(stack, body, key=lambda depth=0: 1) for stack in (outer_stack, inner_stack))

        if hand_on:
            assert ("inner", [0, 1]) == (ask(), made)
        else:
            with pytest.raises(TimeoutError):
                ask()
            assert [0] == made
        assert 0 == len(outer_stack.cache.flights)


class Odd:
    """A key that is unhappy when it is compared, and maybe when it is hashed."""

    def __init__(self, hashes=True):
        self.hashes = hashes

    def __hash__(self):
        if not self.hashes:
            raise RuntimeError("no hash")
        return 1

    def __eq__(self, other):
        raise RuntimeError("no comparison")


class TestOddKeys:
    def test_a_key_whose_comparison_fails_failed_the_call(self, both_worlds, caplog):
        """
        Such calls are made, and share nothing; the log says so, once. No flight is left.
        """
        keys_log._complain.cache_clear()
        call = both_worlds("first", "second", "third", cache=MINUTE, options={"key": lambda key: key})
        again = Odd()

        assert ["first", "second", "second", "third"] == [call(Odd()), call(again), call(again), call(Odd())]
        assert (0, 3) == (len(call.stack.cache.flights), len(call.stack.cache.cache))
        assert ["keys of the type Odd can't be compared, so that their calls share no results: mend its __eq__"] == [
            record.getMessage() for record in caplog.records
        ]

    def test_a_key_without_a_hash(self, both_worlds):
        """
        The call is refused before anything has happened.
        """
        call = both_worlds("first", cache=MINUTE, options={"key": lambda key: key})
        with pytest.raises(ValidationError, match="can't name this call in the cache: RuntimeError: no hash"):
            call(Odd(hashes=False))

        assert (0, 0) == (call.calls, len(call.stack.cache.flights))

    def test_a_fallback_s_cache(self, both_worlds):
        """
        What can't be compared is not found there either; it is not given for another call.
        """
        steps = (FallbackStep(FallbackStrategy.CACHE, cache=MINUTE), SORRY)
        call = both_worlds("first", gone(), fallback=steps, options={"key": lambda key: key})

        assert ["first", "sorry"] == [call(Odd()), call(Odd())]

    def test_followers_of_calls_that_collide(self):
        """
        Equal calls share one although a key that can't be compared has the same place in the table.
        """
        stack = Stack("shop.ask", TargetPolicy(cache=MINUTE))

        async def body(key):
            await asyncio.sleep(0.01)
            return key

        ask, odd = guard(stack, body, key=lambda key: key), Odd()

        async def main():
            return await asyncio.wait_for(asyncio.gather(ask(odd), ask(1), ask(odd), ask(1)), 10)

        assert [odd.__class__, int, odd.__class__, int] == [type(value) for value in asyncio.run(main())]
        assert 0 == len(stack.cache.flights)

    def test_keys_are_as_equal_as_what_they_hold(self):
        """
        A wrapped key is found by its value, and has its hash.
        """
        key = keys_log.CallKey("visa")

        assert (True, True, False, True) == (
            key == keys_log.CallKey("visa"), key == "visa", key == keys_log.CallKey("cash"), hash(key) == hash("visa")
        )  # fmt: skip
