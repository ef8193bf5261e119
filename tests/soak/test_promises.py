"""Twenty thousand schedules of faults, and some that hypothesis chooses; ``make soak`` plays a million."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import math
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pixel_llm.resilience.roads.async_guard as async_guard_module
from pixel_llm.resilience import CircuitBreaker, Stack
from pixel_llm.resilience.breaker.keyed import KeyedBreakers
from pixel_llm.resilience.caching.cache import ResultCache
from pixel_llm.resilience.counters import Counters
from pixel_llm.resilience.limits import NO_TERMS, reset_published, set_published
from pixel_llm.resilience.queues.token_bucket import TokenBucket
from pixel_llm.resilience.streams.delivery import Delivery, Slot
from pixel_llm.resilience.tracing import live
from pixel_llm.resilience.tracing.live import Ending, LiveSpan
from soak import playing
from soak.__main__ import describe
from soak.drawing import draw_schedule
from soak.judging import judge, ready
from soak.running import run_batch

#: 20 times 1,000 schedules.
PARTS = range(20)


class TestPromises:
    @pytest.mark.parametrize("part", PARTS)
    def test_hold_in_every_schedule(self, part):
        """
        Whatever attempts do, whoever goes on and whoever is cancelled: see the docstring of ``soak``.
        """
        tally = run_batch(1, range(part * 1000, (part + 1) * 1000))

        assert not tally.failures, describe(1, *next(iter(_with_world(tally.failures))))
        assert 1000 == tally.count

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def test_hold_whatever_hypothesis_draws(self, chance: Random):
        """
        The same with hypothesis' choices, which are odder than chance, and which it makes simpler by itself.
        """
        with ready():
            schedule = draw_schedule(chance)

            assert [] == judge(schedule), schedule


def _with_world(failures: dict[int, list[str]]) -> Any:
    return ((number, None, found) for number, found in failures.items())


# Code of the engine's that runs is stepped by its file's name.
PLANTED = f"{playing._ENGINE}/planted.py"


def planted(source: str, **names: Any) -> Any:
    """The function in *source*, as if it stood in the engine."""
    exec(compile(source, PLANTED, "exec"), names)
    return names["planted"]


def late(self, *args, **options):
    """A stack whose calls may take longer than they should."""
    REAL_STACK(self, *args, **options)
    self.timing.deadline += 5


REAL_STACK = Stack.__init__


def forgetful_release(self, permit=None):
    """A breaker that never gets a trial's permit back unless the trial proves something."""


def generous_acquire(self):
    """A breaker that lets every trial through."""
    limit, self.config = (
        self.config,
        mock.Mock(wraps=self.config, half_open_max_calls=99, cooldown=self.config.cooldown),
    )
    try:
        return REAL_ACQUIRE(self)
    finally:
        self.config = limit


REAL_ACQUIRE = CircuitBreaker.acquire


def keeps_the_lock(self, key, value):
    """A cache that does not let go of its lock when something goes wrong."""
    self._lock.acquire()
    if self.config.max_entries > 1:
        self._lock.release()


def ages_slowly(self, config, **options):
    """A cache whose results live longer than they may."""
    REAL_INIT(self, dataclasses.replace(config, ttl=config.ttl + 5), **options)


REAL_INIT = ResultCache.__init__


async def never_cut(step, suspended, *rest):
    """An attempt that nothing ends in time."""
    await async_guard_module.rest(step, suspended)


async def swallowing(*args):
    """An attempt in time, but what cancels it from outside gets lost."""
    try:
        await REAL_REST_WITHIN(*args)
    except asyncio.CancelledError as error:
        raise ConnectionError("lost") from error


REAL_REST_WITHIN = async_guard_module.rest_within


def keeps_the_slot(self):
    """A stream that never gives its slot back."""


def counts_pauses(self, reason, tell=None):
    """A stream whose consumer's pauses are the server's fault."""
    if reason == "paused":
        self.call.gate.record_failure(self._held[0], self.paused_too_long(), 0.0)
    REAL_LEFT(self, reason, tell)


REAL_LEFT = Delivery.left


def breaks_twice(self, error):
    """A stream whose end is counted by both who read it and who delivers it."""
    self.stack.settle(self.call, self._held[0], error)
    REAL_BROKEN(self, error)


REAL_BROKEN = Delivery.broken


def on_its_own(self, args, kwargs, key, started):
    """A call that does not know what time is left to its caller."""
    token = set_published([math.inf, math.inf, NO_TERMS, 0])
    try:
        return REAL_BEGIN(self, args, kwargs, key, started)
    finally:
        reset_published(token)


REAL_BEGIN = Stack.begin


def forgets_who_is_inside(self, before):
    """A policy that is loaded again, and begins to count anew."""


def charges_half(self, tokens, now):
    """A bucket that most of a call's tokens slip past."""
    REAL_SPEND(self, tokens / 4, now)


REAL_SPEND = TokenBucket.spend


def keeps_all(self):
    """Breakers of keys that are never forgotten."""


#: A counter that two threads can read before either writes.
LOSES_COUNTS = """
def planted(self, elapsed):
    value = next(self.latencies[0])
    self.latencies[0] = itertools.count(value)
    value = value + 1
    self.latencies[0] = itertools.count(value)
"""


def forgets_to_end(self, end):
    """What was left never ends."""


@contextlib.contextmanager
def stays_inside(self):
    """The code after a call is part of it as well."""
    live._current.set(self)
    yield


class TestItself:
    """Bugs put into the engine are found, so that silence means something."""

    @pytest.mark.parametrize(
        ("bug", "complaint"),
        [
            (mock.patch.object(CircuitBreaker, "release", forgetful_release), "in the calm, trial calls"),
            (mock.patch.object(CircuitBreaker, "acquire", generous_acquire), "trial calls at once, though"),
            (mock.patch.object(Stack, "__init__", late), "s is the longest"),
            (mock.patch.object(ResultCache, "__init__", ages_slowly), "s old, the limit being"),
            (mock.patch.object(ResultCache, "store", keeps_the_lock), "stuck: every thread waits"),
            (mock.patch.object(async_guard_module, "rest_within", never_cut), "s is the longest"),
            (mock.patch.object(async_guard_module, "rest_within", swallowing), "was cancelled, and ended with"),
            (mock.patch.object(Slot, "done", keeps_the_slot), "slots are in use"),
            (mock.patch.object(Delivery, "left", counts_pauses), "the breaker counts that a consumer paused"),
            (mock.patch.object(Delivery, "broken", breaks_twice), "was broken once, and is counted 2 times"),
            (mock.patch.object(Stack, "begin", on_its_own), "after the attempt that made it had to"),
            (mock.patch.object(Stack, "take_queues", forgets_who_is_inside), "is the most"),
            (mock.patch.object(TokenBucket, "spend", charges_half), "may be used"),
            (mock.patch.object(KeyedBreakers, "_forget_one", keeps_all), "breakers, though"),
            (mock.patch.object(Ending, "leave", forgets_to_end), "ended 0 times"),
            (mock.patch.object(LiveSpan, "inside", stays_inside), "has left its span behind"),
        ],
    )
    def test_finds_a_bug(self, bug, complaint):
        """
        A bug of each kind shows within a few thousand schedules.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(bug)
            found = first_failures(3000)

        assert any(complaint in text for texts in found for text in texts), found

    def test_finds_a_race(self):
        """
        Two threads that step on each other's counter are found, though each step of theirs is right.
        """
        with mock.patch.object(Counters, "record_success", planted(LOSES_COUNTS, itertools=itertools)):
            found = first_failures(3000)

        assert any("the stack counts" in text for texts in found for text in texts), found


def first_failures(count: int) -> list[list[str]]:
    """What the first schedules that fail show."""
    return list(run_batch(2, range(count)).failures.values())
