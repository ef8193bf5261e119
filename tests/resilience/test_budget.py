from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pixel_llm.policy import RetryBudgetConfig
from pixel_llm.resilience.retrying.budget import SLOTS, RetryBudget
from pixel_llm.testing import VirtualClock


class Target:
    """A target as the budget knows it: a counter of calls that succeed, and calls that fail."""

    def __init__(self, budget):
        self.successes = 0
        self.budget = budget
        self.share = budget.share(lambda: self.successes)

    def succeed(self, calls=1):
        self.successes += calls

    def fail(self):
        """A call whose first attempt fails; True if it may be tried again."""
        self.share.count_call()
        return self.retry()

    def retry(self):
        return self.share.take()


@pytest.fixture
def clock():
    return VirtualClock(1000.1)


def make(clock, **config):
    return RetryBudget(RetryBudgetConfig(**config), clock=clock)


class TestFloor:
    def test_allows_retries_to_who_calls_seldom(self, clock):
        """
        A window allows ``min_retries``, however few calls there are.
        """
        target = Target(make(clock, ratio=0.0, min_retries=3))

        assert [True, True, True, False, False] == [target.fail() for _ in range(5)]

    def test_is_there_again_after_a_window(self, clock):
        """
        What was granted comes back when it has left the window, not before, and at most 1/64 of it later.
        """
        target = Target(make(clock, ratio=0.0, window=64.0, min_retries=1))

        assert target.fail()
        clock.advance(64.0)
        assert not target.retry()
        clock.advance(1.0)
        assert target.retry()

    @pytest.mark.parametrize("ratio", [0.0, 0.5])
    def test_may_be_none(self, clock, ratio):
        """
        Without a floor only calls allow retries; with neither there is none.
        """
        target = Target(make(clock, ratio=ratio, min_retries=0))

        assert [False, ratio > 0] == [target.fail(), target.fail()]


class TestRatio:
    def test_counts_calls_that_failed(self, clock):
        """
        In an outage every call is seen when it fails, so the ratio is exact from the first one on.
        """
        target = Target(make(clock, ratio=0.25, min_retries=0))

        assert [False, False, False, True] * 5 == [target.fail() for _ in range(20)]

    def test_counts_calls_that_succeeded(self, clock):
        """
        Calls that succeeded at once are read from the target's counter when somebody asks.
        """
        target = Target(make(clock, ratio=0.25, min_retries=0))
        target.succeed(39)

        assert [True] * 10 + [False] == [target.fail()] + [target.retry() for _ in range(10)]

    def test_counts_a_call_once(self, clock):
        """
        Further attempts of a call are no calls: retries don't earn retries.
        """
        target = Target(make(clock, ratio=1.0, min_retries=0))

        assert [True, False, False] == [target.fail(), target.retry(), target.retry()]

    def test_above_one(self, clock):
        """
        A ratio above 1 lets calls be tried again more than once each.
        """
        target = Target(make(clock, ratio=2.0, min_retries=0))

        assert [True, True, False] == [target.fail(), target.retry(), target.retry()]

    def test_forgets_calls_that_left_the_window(self, clock):
        """
        Calls count for a window, at least 63/64 of it.
        """
        target = Target(make(clock, ratio=0.5, window=64.0, min_retries=0))
        target.succeed(100)
        assert 50 == target.budget.left()
        clock.advance(62.5)
        assert 50 == target.budget.left()
        clock.advance(1.5)
        assert 0 == target.budget.left()

    def test_says_how_much_of_it_is_used(self, clock):
        """
        The retries of the window, and how many may be: calls as of the last look, retries to the moment.
        """
        target = Target(make(clock, ratio=0.5, window=64.0, min_retries=0))
        target.succeed(99)
        assert (0, pytest.approx(0.0, abs=1e-5)) == target.budget.used()
        clock.advance(1.0)
        target.fail()

        assert (1, pytest.approx(50.0, abs=1e-5)) == target.budget.used()
        assert 49 == target.budget.left()

    def test_takes_a_quiet_stretch_for_even(self, clock):
        """
        Successes between two looks count as if they had come evenly: what lies before the window does not count.
        """
        target = Target(make(clock, ratio=1.0, window=64.0, min_retries=0))
        clock.advance(640.0)
        target.succeed(640)

        assert 63 <= target.budget.left() <= 64

    def test_is_near_for_even_calls(self, clock):
        """
        With a steady stream of calls, of which some fail, what is granted is the ratio of it, to 1/64.
        """
        target = Target(make(clock, ratio=0.1, window=10.0, min_retries=0))
        granted = 0
        for number in range(10_000):  # 100 calls a second
            clock.advance(0.01)
            if number % 5:
                target.succeed()
            elif target.fail() and number >= 5_000:
                granted += 1

        assert 500 * (1 - 2 / SLOTS) <= granted <= 500


class TestSharing:
    def test_each_target_s_calls_count(self, clock):
        """
        What succeeds at one target allows retries at another; what one takes, the other lacks.
        """
        budget = make(clock, ratio=0.1, window=64.0, min_retries=0)
        well, ill = Target(budget), Target(budget)
        well.succeed(100)
        clock.advance(1.0)
        granted = [ill.fail() for _ in range(12)]

        assert [True] * 11 + [False] == granted
        assert not well.fail()

    def test_others_are_looked_at_once_a_slot(self, clock):
        """
        Asking is cheap however many targets share: the others' counters are read when the next slot begins.
        """
        budget = make(clock, ratio=1.0, window=64.0, min_retries=0)
        reads = []
        others = [budget.share(lambda: reads.append(1) or 0) for _ in range(3)]
        target = Target(budget)
        reads.clear()
        for _ in range(100):
            target.fail()
        assert 0 == len(reads)
        clock.advance(1.0)
        target.fail()

        assert 3 == len(reads) == len(others)

    def test_a_target_that_is_gone_is_forgotten(self, clock):
        """
        A budget keeps no target alive.
        """
        budget = make(clock)
        target = Target(budget)
        target.budget.share(lambda: 0)
        del target
        gc.collect()

        assert 0 == len(budget._shares)


class TestInWords:
    def test_names_itself(self, clock):
        """
        A shared budget says its name.
        """
        config = RetryBudgetConfig()

        assert config.in_words() == RetryBudget(config).in_words()
        assert f"lm_studio: {config.in_words()}" == RetryBudget(config, name="lm_studio").in_words()


@st.composite
def days(draw):
    """A budget, and what happens: seconds that pass, calls that succeed, a call that fails, a call's next retry."""
    config = RetryBudgetConfig(
        ratio=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 3.0])),
        window=draw(st.sampled_from([1.0, 10.0, 64.0])),
        min_retries=draw(st.integers(0, 5)),
    )
    passing = st.floats(0, 3 * config.window).map(lambda seconds: ("pass", seconds))
    short = st.floats(0, config.window / 20).map(lambda seconds: ("pass", seconds))
    calls = st.integers(1, 200).map(lambda number: ("succeed", number))
    other = st.sampled_from([("fail", 0), ("retry", 0)])
    return config, draw(st.lists(passing | short | calls | other | other | short, max_size=120))


class TestInvariants:
    @settings(deadline=None, max_examples=400)
    @given(days())
    def test_never_more_than_allowed(self, day):
        """
        Whenever a retry is granted, those of the window that ends there are within the floor, or within the ratio
        of the calls since the budget was last asked before that window, to 1/64 of it.
        """
        config, events = day
        clock = VirtualClock(1000.1)
        target = Target(RetryBudget(config, clock=clock))
        calls, granted, looks = [], [], [clock.monotonic()]
        for what, number in events:
            now = clock.monotonic()
            if what == "pass":
                clock.advance(number)
                continue
            if what == "succeed":
                target.succeed(number)
                calls += [now] * number
                continue
            calls += [now] if what == "fail" else []
            looks.append(now)
            if target.fail() if what == "fail" else target.retry():
                granted.append(now)
                since = now - config.window
                asked = max((look for look in looks if look <= since), default=looks[0]) - config.window / SLOTS
                within = sum(moment > since for moment in granted)
                counted = sum(moment >= asked for moment in calls)
                assert within <= max(config.min_retries, config.ratio * counted + 1e-5)

    @settings(deadline=None, max_examples=300)
    @given(days())
    def test_exact_while_calls_fail(self, day):
        """
        Where every call is one that fails, the window's calls themselves bound what is granted, to one slot.
        """
        config, events = day
        clock = VirtualClock(1000.1)
        target = Target(RetryBudget(config, clock=clock))
        calls, granted = [], []
        slot = config.window / SLOTS
        for what, number in events:
            now = clock.monotonic()
            if what == "pass":
                clock.advance(number)
            elif what != "succeed":
                calls += [now] if what == "fail" else []
                allowed = target.fail() if what == "fail" else target.retry()
                narrow = sum(moment > now - config.window + 1.001 * slot for moment in calls)
                before = sum(moment > now - config.window - 1.001 * slot for moment in granted)
                if before + 1 <= max(config.min_retries, config.ratio * narrow):
                    assert allowed
                if allowed:
                    granted.append(now)
                    within = sum(moment > now - config.window for moment in granted)
                    counted = sum(moment > now - config.window for moment in calls)
                    assert within <= max(config.min_retries, config.ratio * counted + 1e-5)

    def test_holds_under_threads(self, clock):
        """
        Threads that ask at once are granted, together, exactly what the window allows.
        """
        budget = make(clock, ratio=0.2, min_retries=5)
        targets = [Target(budget) for _ in range(8)]
        start = threading.Barrier(8)

        def run(target):
            start.wait()
            return sum(target.fail() for _ in range(500))

        with ThreadPoolExecutor(8) as pool:
            granted = sum(pool.map(run, targets))

        assert 800 == granted
        assert 0 == budget.left()

    def test_memory_is_bounded(self, clock):
        """
        However many calls and however long, a budget keeps a fixed number of numbers.
        """
        target = Target(make(clock))
        for _ in range(1000):
            clock.advance(0.7)
            target.succeed(10**9)
            target.fail()

        assert SLOTS + 1 == len(target.budget._calls) == len(target.budget._retries)
