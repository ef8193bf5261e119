"""The retry budget against a model of it: calls of several targets, in both worlds, which share one budget."""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pixel_llm.errors import ConnectionError, RetryExhausted
from pixel_llm.policy import RetryBudgetConfig, RetryConfig, RetryStrategy, TargetPolicy
from pixel_llm.resilience import RetryBudget, Stack, guard
from pixel_llm.testing import VirtualClock

#: One 64th of the window, in seconds; and what all times are multiples of.
SLOT, TICK = 1, 0.25
SLOTS = 64
MOST_ATTEMPTS = 4
TARGETS = ("first", "second", "third")


class Model:
    """
    What the documentation says of a budget, in the plainest way: lists of what has happened, and when.

    Calls stand in *counted* with the stretch over which they are taken to have come evenly, which is a moment for
    those that failed.
    """

    def __init__(self, ratio, min_retries, now):
        self.ratio, self.min_retries = ratio, min_retries
        self.used = self.looked = Fraction(now)
        self.unseen = dict.fromkeys(TARGETS, 0)
        self.counted = []
        self.granted = []

    def use(self, now):
        """The first use in a slot looks at all targets."""
        now = Fraction(now)
        if now // SLOT > self.used // SLOT:
            self.counted.append((self.looked, now, sum(self.unseen.values())))
            self.unseen = dict.fromkeys(TARGETS, 0)
            self.looked = now
        self.used = now

    def look_at(self, targets, now):
        for target in targets:
            self.counted.append((Fraction(now), Fraction(now), self.unseen[target]))
            self.unseen[target] = 0

    def calls(self, now):
        """The calls since the slot that is 63 slots before this one."""
        since, calls = now // SLOT * SLOT - (SLOTS - 1) * SLOT, Fraction(0)
        for begins, ends, number in self.counted:
            if begins == ends:
                calls += number if begins >= since else 0
            else:
                calls += number * max(Fraction(0), ends - max(begins, since)) / (ends - begins)
        return calls

    def allowed(self, now):
        return max(Fraction(self.min_retries), self.ratio * self.calls(Fraction(now)))

    def retries(self, now):
        """The retries of the window, up to a slot more."""
        return sum(moment >= now // SLOT * SLOT - SLOTS * SLOT for moment in self.granted)

    def take(self, target, now):
        self.use(now)
        if self.retries(now) + 1 > self.allowed(now):
            self.look_at([target], now)
            if self.retries(now) + 1 > self.allowed(now):
                return False
        self.granted.append(now)
        return True

    def left(self, now):
        self.use(now)
        self.look_at(TARGETS, now)
        return max(0, math.floor(self.allowed(now)) - self.retries(now))


class BudgetMachine(RuleBasedStateMachine):
    """Three targets and their budget; what their calls meet is scripted, and so is how long attempts take."""

    @initialize(
        ratio=st.sampled_from([Fraction(0), Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(2)]),
        min_retries=st.sampled_from([0, 0, 1, 2, 5]),
        start=st.sampled_from([0.0, 1000.0, 1000.75]),
    )
    def begin(self, ratio, min_retries, start):
        self.clock = VirtualClock(start)
        config = RetryBudgetConfig(ratio=float(ratio), min_retries=min_retries, window=float(SLOTS * SLOT))
        self.budget = RetryBudget(config, clock=self.clock, name="shared")
        self.policy = TargetPolicy(
            retry=RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=MOST_ATTEMPTS, budget="shared")
        )
        self.stacks = {target: self._stack(target) for target in TARGETS}
        self.model = Model(ratio, min_retries, start)
        self.loop = asyncio.new_event_loop()

    def _stack(self, target, before=None):
        return Stack(target, self.policy, clock=self.clock, budgets={"shared": self.budget}, before=before)

    @rule(
        name=st.sampled_from(TARGETS),
        is_async=st.booleans(),
        failures=st.integers(0, MOST_ATTEMPTS),
        ticks=st.sampled_from([0, 0, 1, 5]),
    )
    def call(self, name, is_async, failures, ticks):
        """A call that meets so many failures, should it come so far; each of its attempts takes so long."""
        attempts = 0

        def attempt():
            nonlocal attempts
            attempts += 1
            self.clock.advance(ticks * TICK)
            if attempts <= failures:
                raise ConnectionError
            return attempts

        async def attempt_async():
            return attempt()

        function = guard(self.stacks[name], attempt_async if is_async else attempt)
        expected, moment = 1, self.clock.monotonic() + ticks * TICK
        ends = "well"
        if failures == 0:
            self.model.unseen[name] += 1
        else:
            self.model.use(moment)
            self.model.counted.append((Fraction(moment), Fraction(moment), 1))
        while expected <= failures:
            if expected == MOST_ATTEMPTS:
                ends = "used up"
                break
            if not self.model.take(name, moment):
                ends = "budget"
                break
            expected += 1
            moment += ticks * TICK
        if ends == "well":
            value = self.loop.run_until_complete(function()) if is_async else function()

            assert expected == value
        else:
            with pytest.raises(RetryExhausted if ends == "budget" else ConnectionError):
                self.loop.run_until_complete(function()) if is_async else function()

        assert expected == attempts
        assert moment == self.clock.monotonic()

    @rule(name=st.sampled_from(TARGETS), number=st.sampled_from([1, 3, 10, 25]))
    def many_succeed(self, name, number):
        function = guard(self.stacks[name], lambda: None)
        for _ in range(number):
            function()
        self.model.unseen[name] += number

    @rule(ticks=st.sampled_from([1, 2, 4, 9, 40, 4 * 32, 4 * 63, 4 * 64, 4 * 65, 4 * 200]))
    def wait(self, ticks):
        self.clock.advance(ticks * TICK)

    @rule(name=st.sampled_from(TARGETS))
    def reload(self, name):
        """A policy that is loaded again goes on with what has been counted."""
        self.stacks[name] = self._stack(name, before=self.stacks[name])

    @rule()
    def look(self):
        now = self.clock.monotonic()

        assert self.model.left(now) == self.budget.left()

    @invariant()
    def grants_no_more_than_the_window_allows(self):
        """Whatever window one looks at: no more than the floor, or than the share of all calls there were."""
        if not hasattr(self, "model") or not self.model.granted:
            return
        last = self.model.granted[-1]
        within = sum(last - SLOTS * SLOT < moment for moment in self.model.granted)
        calls = sum(number for _, _, number in self.model.counted)
        assert within <= max(self.model.min_retries, self.model.ratio * calls)

    def teardown(self):
        if hasattr(self, "loop"):
            self.loop.close()


TestBudgetAgainstItsModel = BudgetMachine.TestCase
TestBudgetAgainstItsModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
