"""What the schedules run on: threads one at a time, the shuffled loop, the stand-ins, the command."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from random import Random
from unittest import mock

import pytest

import pixel_llm.resilience.threads.pool as threads_module
from pixel_llm.policy import FallbackStrategy, TargetPolicy, TimeoutConfig
from pixel_llm.resilience import CircuitBreaker
from pixel_llm.resilience.streams.later import LATER
from pixel_llm.resilience.threads.pool import WORKERS
from soak import __main__ as command
from soak import primitives, running
from soak.clock import START, SoakClock
from soak.judging import judge, judged, ready
from soak.loop import ShuffledLoop, Stuck
from soak.primitives import Condition, Event, Lock, RLock, SimpleQueue, Thread, replaced, stepped_by
from soak.running import ENOUGH, run, run_batch, schedule_of
from soak.schedule import Act, Caller, CallPlan, Reading, Reload, Schedule
from soak.shrinking import shrink
from soak.stepper import Stepper


def stepped(*bodies, seed=0, **options):
    """Runs threads to their end; gives the stepper."""
    stepper = Stepper(SoakClock(), Random(seed), **options)
    with stepped_by(stepper):
        for number, body in enumerate(bodies):
            stepper.spawn(lambda body=body: body(stepper), f"thread {number}")
        stepper.run()
    return stepper


def is_here(code):
    return code.co_filename == __file__


class TestStepper:
    def test_time_passes_when_all_wait(self):
        """
        Sleeping takes no time; who sleeps longer wakes up later.
        """
        seen = []

        def sleep(seconds):
            def body(stepper):
                stepper.sleep(seconds)
                seen.append((seconds, stepper.clock.now - START))

            return body

        stepped(sleep(3600), sleep(5), sleep(60))

        assert [(5, 5), (60, 60), (3600, 3600)] == seen

    def test_the_seed_says_who_goes_on(self):
        """
        The same seed gives the same order, other seeds give all the others.
        """

        def order(seed):
            seen = []

            def body(name):
                def run(stepper):
                    for _ in range(2):
                        seen.append(name)
                        stepper.point()

                return run

            stepped(body("a"), body("b"), seed=seed)
            return "".join(seen)

        assert [order(seed) for seed in range(50)] == [order(seed) for seed in range(50)]
        assert {"aabb", "abab", "abba", "baab", "baba", "bbaa"} == {order(seed) for seed in range(200)}

    @pytest.mark.parametrize("opcodes", [False, True])
    def test_between_lines(self, opcodes):
        """
        A thread may be stopped between reading and writing, so that what the other wrote is lost.
        """
        results = set()
        for seed in range(100):
            box = [0]

            def count(stepper, box=box):
                value = box[0]
                box[0] = value + 1

            stepped(count, count, seed=seed, lines=2, opcodes=opcodes, stepped=is_here)
            results.add(box[0])

        assert {1, 2} == results

    def test_only_in_what_is_stepped(self):
        """
        Code that is not named runs through.
        """

        def count(stepper):
            for _ in range(100):
                pass

        assert 0 == stepped(count, count, lines=1, stepped=lambda code: False).switches
        assert stepped(count, count, lines=1, stepped=is_here).switches > 10

    def test_a_deadlock(self):
        """
        Two locks taken crosswise: who waits for what is said.
        """
        first, second = Lock(), Lock()

        def cross(one, other):
            def body(stepper):
                with one:
                    stepper.sleep(1)
                    with other:
                        pass

            return body

        with pytest.raises(Stuck, match=r"(?s)every thread waits .*\nthread . waits for <soak.primitives.Lock"):
            stepped(cross(first, second), cross(second, first))

    def test_what_a_thread_raises(self):
        """
        Nobody would see it, so it is kept.
        """

        def body(stepper):
            raise KeyError("lost")

        assert "KeyError: 'lost'" in stepped(body).problems[0]

    def test_what_never_ends(self):
        """
        Threads that change for ever are stopped.
        """

        def body(stepper):
            while True:
                stepper.point()

        with pytest.raises(Stuck, match="the threads have changed 200000 times"):
            stepped(body, body)


class TestStandIns:
    def test_a_lock_keeps_others_out(self):
        """
        However threads change, one at a time is within.
        """
        for seed in range(30):
            lock, inside = Lock(), []

            def body(stepper, lock=lock, inside=inside):
                with lock:
                    inside.append(1)
                    stepper.sleep(1)
                    assert [1] == inside
                    inside.pop()

            assert [] == stepped(body, body, body, seed=seed).problems

    def test_a_lock_can_be_given_up_on(self):
        """
        Waiting ends when its time is over, and not waiting at once.
        """
        lock, seen = Lock(), []

        def holder(stepper):
            with lock:
                stepper.sleep(10)

        def asker(stepper):
            stepper.sleep(1)
            seen.append((lock.acquire(blocking=False), lock.acquire(timeout=3), stepper.clock.now - START))
            seen.append((lock.acquire(timeout=100), stepper.clock.now - START))

        stepped(holder, asker)

        assert [(False, False, 4), (True, 10)] == seen

    def test_a_lock_that_is_lost(self):
        """
        Outside of stepped threads nothing can wait: whoever would, raises.
        """
        lock = Lock()
        with lock, pytest.raises(RuntimeError, match="that nobody will give back"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            lock.release()

    def test_a_lock_taken_again(self):
        """
        Its owner may take an RLock again; others get it when the owner has given back all.
        """
        lock, seen = RLock(), []

        def owner(stepper):
            with lock, lock:
                stepper.sleep(2)
            seen.append("free")

        def other(stepper):
            stepper.sleep(1)
            with lock:
                seen.append("mine")

        stepped(owner, other)

        assert ["free", "mine"] == sorted(seen)

    @pytest.mark.parametrize("make", [Lock, RLock])
    def test_a_condition(self, make):
        """
        As many waiters as are notified go on, the first ones first; the others' time runs out.
        """
        lock = make()
        condition, seen = Condition(lock), []

        def waiter(name, after):
            def body(stepper):
                stepper.sleep(after)
                with condition:
                    seen.append((name, condition.wait(10)))

            return body

        def notifier(stepper):
            stepper.sleep(5)
            with condition:
                condition.notify(1)
            stepper.sleep(1)
            with condition:
                condition.notify_all()

        stepped(waiter("a", 1), waiter("b", 2), waiter("late", 7), notifier)

        assert [("a", True), ("b", True), ("late", False)] == seen

    def test_an_event(self):
        """
        All who wait go on when it is set; those who come later don't wait.
        """
        event, seen = Event(), []

        def waiter(stepper):
            seen.append((event.wait(1), event.wait(), event.wait(), stepper.clock.now - START))

        def setter(stepper):
            stepper.sleep(5)
            event.set()

        stepped(waiter, waiter, setter)

        assert [(False, True, True, 5)] * 2 == seen

    def test_a_thread(self):
        """
        It runs beside the one that starts it, which can wait for it.
        """
        seen = []

        def starter(stepper):
            thread = Thread(target=stepper.sleep, args=(3,))
            thread.start()
            thread.join(1)
            seen.append((thread.is_alive(), stepper.clock.now - START))
            thread.join()
            seen.append((thread.is_alive(), stepper.clock.now - START))

        stepped(starter)

        assert [(True, 1), (False, 3)] == seen

    def test_stand_in_for_a_while(self):
        """
        The engine sees them within, and the real things afterwards; what has no stand-in is refused.
        """
        with replaced():
            assert threads_module.threading.Lock is Lock
            with pytest.raises(AttributeError):
                threads_module.threading.Semaphore(2)

        assert threads_module.threading is threading

    def test_outside_of_a_run(self):
        """
        Nothing of it can be waited for, nor started, where nobody steps.
        """
        with pytest.raises(RuntimeError):
            Thread().start()
        with pytest.raises(RuntimeError):
            Condition().wait()

        assert not Event().wait(5)
        assert primitives._active is None


class TestThreadsThatStay:
    def test_keep_nobody_waiting(self):
        """
        A run ends when all that is left waits for something to do, goes on when there is something, and ends with it.
        """
        clock, seen = SoakClock(), []
        stepper = Stepper(clock, Random(1))
        work = SimpleQueue()

        def stay():
            try:
                while True:
                    seen.append(work.get())
            finally:
                seen.append("ended")

        with stepped_by(stepper):
            stepper.spawn(stay, stays=True)
            stepper.spawn(lambda: work.put("first"))
            stepper.run()
            work.put("second")
            stepper.run()

            assert ["first", "second"] == seen

            stepper.dismiss()

        assert ["first", "second", "ended"] == seen
        assert [] == stepper.problems


class TestShuffledLoop:
    def order(self, seed):
        clock, seen = SoakClock(), []

        async def task(name):
            for _ in range(2):
                seen.append(name)
                await asyncio.sleep(0)

        async def main():
            await asyncio.gather(task("a"), task("b"))

        loop = ShuffledLoop(clock, None if seed is None else Random(seed), clock.advance_to)
        loop.run_until_complete(main())
        loop.close()
        return "".join(seen)

    def test_the_seed_says_which_task_goes_on(self):
        """
        The same seed gives the same order, other seeds others; without one it is asyncio's.
        """
        assert "abab" == self.order(None)
        assert [self.order(seed) for seed in range(50)] == [self.order(seed) for seed in range(50)]
        assert {"aabb", "abab", "abba", "baab", "baba", "bbaa"} == {self.order(seed) for seed in range(200)}

    def test_time_jumps_to_the_next_timer(self):
        """
        An hour of sleep takes no time.
        """
        clock = SoakClock()
        loop = ShuffledLoop(clock, None, clock.advance_to)
        loop.run_until_complete(asyncio.sleep(3600))
        loop.close()

        assert START + 3600 == clock.now

    def test_what_never_ends(self):
        """
        A loop that spins for ever is stopped.
        """

        async def spin():
            while True:
                await asyncio.sleep(0)

        clock = SoakClock()
        loop = ShuffledLoop(clock, None, clock.advance_to)
        task = loop.create_task(spin())
        with pytest.raises(Stuck, match="100000 steps"):
            loop.run_until_complete(task)
        loop._steps = 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()


class TestSchedules:
    def test_depend_on_seed_and_number_alone(self):
        """
        The same seed makes the same schedules, another one makes others.
        """
        assert [schedule_of(1, number) for number in range(50)] == [schedule_of(1, number) for number in range(50)]
        assert 50 == len({str(schedule_of(seed, 7)) for seed in range(50)})

    def test_cover_every_layer_and_world(self):
        """
        Each layer that a target may have is there in some and missing in others, in each world.
        """
        for world in ("async", "sync", "both"):
            schedules = [schedule_of(1, number, world) for number in range(200)]
            for layer in (
                "deadline",
                "fallback",
                "cache",
                "retry",
                "circuit_breaker",
                "rate_limit",
                "bulkhead",
                "timeout",
                "chaos",
            ):
                there = [getattr(schedule.policy, layer) is not None for schedule in schedules]
                assert {True, False} == set(there)
            if world != "both":
                assert {frozenset({world})} == {schedule.worlds for schedule in schedules}

    def test_cover_what_calls_and_policies_may_do(self):
        """
        Streams, nested calls, keys, tokens, every kind of fallback and reloads are there in some, in each world.
        """
        for world in ("async", "sync"):
            schedules = [schedule_of(1, number, world) for number in range(400)]
            plans = [plan for schedule in schedules for caller in schedule.callers for plan in caller.calls]
            policies = [schedule.policy for schedule in schedules]
            steps = {step.strategy for policy in policies for step in policy.fallback or ()}

            assert {True, False} == {plan.reading is not None for plan in plans}
            assert {True, False} == {plan.nested for plan in plans}
            assert {True, False} == {bool(schedule.reloads) for schedule in schedules}
            assert set(FallbackStrategy) == steps
            assert {"key", "target"} == {policy.circuit_breaker.per for policy in policies if policy.circuit_breaker}
            assert {True, False} == {policy.rate_limit.tokens is None for policy in policies if policy.rate_limit}
            readings = [plan.reading for plan in plans if plan.reading is not None]
            assert {True, False} == {reading.closes for reading in readings if reading.leaves is not None}
            assert {True, False} == {reading.beside is None for reading in readings}

    def test_play_the_same_again(self):
        """
        What happened, and when, is the same each time, alone or after others.
        """

        def seen(number):
            _, play = judged(schedule_of(1, number))
            calls = [
                (call.state, call.begins, call.ended_at, repr(call.value), repr(call.error)) for call in play.calls
            ]
            return calls, play.events, play.stepper.switches

        with ready():
            first = [seen(number) for number in range(100)]
            again = [seen(number) for number in reversed(range(100))]

        assert first == again[::-1]

    def test_show_all_that_matters(self):
        """
        A schedule can be read.
        """
        plan = CallPlan((Act("429", 1.5, asked=3.0), Act("ok", 1.0, blocks=True)), key=2, pause=0.5, cancel=4.0)
        policy = TargetPolicy(deadline=3.0, timeout=TimeoutConfig(attempt=2.0))
        stream = CallPlan(
            (Act(chunks=(0.5, 0.0), tokens=7),),
            reading=Reading((1.0, 0.0), leaves=2, closes=False, beside=4.0),
            nested=True,
            elsewhere=(Act("503"),),
        )
        callers = (Caller("async", (plan,)), Caller("sync", (CallPlan((Act(),)), stream), cooperative=False))
        reading = "stream, pauses 1, 0 s, dropped after 2 chunks, closed from beside after 4 s"
        chunks = "<chunks after 0.5, 0 s, takes 0 s, ok, 7 tokens>"

        assert [
            "policy:",
            "  deadline: 3.0",
            "  timeout: TimeoutConfig(attempt=2.0)",
            "bank:",
            "  deadline: 1.0",
            "after 2 s, policy:",
            "order: 5 (asyncio’s own), a switch every 25 instructions",
            "caller 0 (async):",
            "  after 0.5 s, key 2, cancelled after 4 s: <takes 1.5 s, 429, Retry-After 3 s> <blocks 1 s, ok>",
            "caller 1 (sync, plain):",
            "  after 0 s, key 0: <takes 0 s, ok>",
            f"  after 0 s, key 0, {reading}, calls the bank: {chunks}, elsewhere: <takes 0 s, 503>",
        ] == str(
            Schedule(
                policy,
                callers,
                order=5,
                shuffled=False,
                lines=25,
                opcodes=True,
                bank=TargetPolicy(deadline=1.0),
                reloads=(Reload(2.0, TargetPolicy()),),
            )
        ).splitlines()


def hangs(schedule):
    acts = [act for caller in schedule.callers for plan in caller.calls for act in plan.acts]
    return any(act.ends == "hang" for act in acts)


class TestShrink:
    def test_leaves_what_matters(self):
        """
        Everything goes but what the failure needs.
        """
        schedule = next(
            schedule
            for schedule in (schedule_of(1, number) for number in itertools.count())
            if schedule.policy.deadline and schedule.bank and schedule.reloads and hangs(schedule)
        )

        def fails(tried):
            return tried.policy.deadline is not None and hangs(tried)

        small = shrink(schedule, fails)

        assert TargetPolicy(deadline=schedule.policy.deadline) == small.policy
        assert 1 == len(small.callers) == len(small.callers[0].calls)
        assert (None, ()) == (small.bank, small.reloads)
        assert (Act("hang"),) == small.callers[0].calls[0].acts

    def test_ends_when_the_time_is_up(self):
        """
        Without time left it is what it was.
        """
        schedule = schedule_of(1, 5)

        assert schedule == shrink(schedule, lambda tried: True, seconds=0.0)


class TestRun:
    def test_stops_when_the_time_is_up(self):
        """
        A bounded run does what it can and says how much that was.
        """
        tally = run(count=10**9, seconds=0.3)

        assert 0 < tally.count < 10**6

    def test_stops_when_there_is_enough_to_look_at(self, monkeypatch):
        """
        Failures are collected, up to five.
        """
        monkeypatch.setattr(running, "judge", lambda schedule: ["wrong"])
        tally = run(count=2000, first=100)

        assert list(range(100, 100 + ENOUGH)) == sorted(tally.failures)

    def test_in_two_processes(self):
        """
        They share the schedules; each is played once.
        """
        tally = run(count=1200, jobs=2, seed=4)

        assert (1200, {}) == (tally.count, tally.failures)


class TestCommand:
    def test_prints_one_line(self, monkeypatch, capsys):
        """
        A run that found nothing is one line, with the seed that repeats it.
        """
        monkeypatch.setattr("sys.argv", ["soak", "--count", "30", "--seed", "6"])

        assert 0 == command.main()
        assert re.fullmatch(r"30 schedules, 0 failed, in \d+ s \(seed 6\)\n", capsys.readouterr().out)

    def test_shows_what_failed(self, monkeypatch, capsys):
        """
        What is wrong, how to play it again, and a smaller schedule that fails as well.
        """
        monkeypatch.setattr(CircuitBreaker, "release", lambda self, permit=None: None)
        number = next(iter(run_batch(2, range(3000)).failures))
        monkeypatch.setattr("sys.argv", ["soak", "--count", str(number + 1), "--seed", "2"])

        assert 1 == command.main()
        shown = capsys.readouterr().err
        assert f"Again: python -m soak --seed 2 --number {number}\nOr, smaller:\npolicy:\n" in shown

        monkeypatch.setattr("sys.argv", ["soak", "--seed", "2", "--number", str(number)])

        assert 1 == command.main()
        shown = capsys.readouterr().out
        assert shown.startswith("policy:\n")
        assert "in the calm" in shown

    def test_replays_a_good_one(self, monkeypatch, capsys):
        """
        A schedule that goes well is shown as well.
        """
        monkeypatch.setattr("sys.argv", ["soak", "--number", "3", "--world", "async"])

        assert 0 == command.main()
        assert capsys.readouterr().out.endswith("nothing is wrong\n")


class TestJudge:
    def test_a_hang_in_something_that_is_not_stepped(self, monkeypatch):
        """
        It is noticed, not waited for.
        """
        monkeypatch.setattr("soak.stepper.PATIENCE", 0.05)
        for_ever = threading.Lock()
        for_ever.acquire()
        monkeypatch.setattr(CircuitBreaker, "acquire", lambda self: for_ever.acquire())
        numbers = (n for n in itertools.count() if schedule_of(1, n, "sync").policy.circuit_breaker is not None)
        with ready():
            found = [judge(schedule_of(1, number, "sync")) for number in itertools.islice(numbers, 40)]

        assert any("hangs on something that is not stepped" in text for texts in found for text in texts)

    def test_threads_that_wait_for_work(self):
        """
        Real threads that other tests have left waiting are not used, and wait on afterwards.
        """
        worked = threading.Event()
        WORKERS.run(lambda: worked.set, "before")
        assert worked.wait(10)
        idle = list(WORKERS._idle)
        with ready():
            assert [] == judge(one_call())

        assert idle == WORKERS._idle != []

    def test_threads_that_come_free_meanwhile(self):
        """
        Nor is one that other tests have left at work, and comes to its end while a schedule is played.
        """
        at_work, end, ended = threading.Event(), threading.Event(), threading.Event()
        idle = list(WORKERS._idle)

        def work():
            at_work.set()
            end.wait(10)
            return ended.set

        with mock.patch.object(WORKERS, "_idle", []):
            WORKERS.run(work, "before")
        assert at_work.wait(10)
        with ready():
            end.set()
            assert ended.wait(10)
            assert [] == judge(one_call())

        assert [worker for worker in WORKERS._idle if worker not in idle] != []

    def test_what_is_due_meanwhile(self):
        """
        What other tests have left to be done later is done in time, by a thread of theirs.
        """
        done = threading.Event()
        LATER.after(0.05, done.set)
        with ready():
            while not done.is_set():
                assert [] == judge(one_call())


def one_call() -> Schedule:
    plan = CallPlan((Act("ok", takes=1.0),))
    return Schedule(TargetPolicy(timeout=TimeoutConfig(attempt=2.0)), (Caller("sync", (plan,), False),))
