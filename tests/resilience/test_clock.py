import asyncio
import time

import pytest

from pixel_llm.resilience import SYSTEM_CLOCK, SystemClock
from pixel_llm.testing import VirtualClock


class TestSystemClock:
    def test_is_monotonic(self):
        """
        The real clock is time.monotonic(), so that a change of the wall clock moves nothing.
        """
        before = time.monotonic()
        now = SYSTEM_CLOCK.monotonic()

        assert before <= now <= time.monotonic()

    def test_patience_is_the_whole_wait(self):
        """
        A real clock waits as long as it is asked to.
        """

        assert 12.5 == SystemClock().patience(12.5)

    def test_sleeps_in_both_worlds(self):
        """
        sleep blocks the thread, sleep_async suspends the task.
        """
        SYSTEM_CLOCK.sleep(0)
        asyncio.run(SYSTEM_CLOCK.sleep_async(0))

        assert time.sleep is SYSTEM_CLOCK.sleep
        assert asyncio.sleep is SYSTEM_CLOCK.sleep_async

    def test_takes_no_attributes(self):
        """
        The process-wide clock can't be tampered with through an attribute.
        """
        with pytest.raises(AttributeError):
            SYSTEM_CLOCK.monotonic = lambda: 0.0


class TestVirtualClock:
    def test_moves_only_when_told(self):
        """
        Time stands still until someone advances it.
        """
        clock = VirtualClock(5.0)
        clock.advance(2.5)

        assert 7.5 == clock.monotonic() == clock.monotonic()

    def test_sleep_returns_at_once(self):
        """
        A sleep moves the clock on and is remembered, in both worlds.
        """
        clock = VirtualClock(0.0)
        clock.sleep(30)
        asyncio.run(clock.sleep_async(12))

        assert [30, 12] == clock.sleeps
        assert 42.0 == clock.monotonic()

    def test_sleep_async_lets_others_run(self):
        """
        An async sleep gives other tasks a turn.
        """
        clock, order = VirtualClock(), []

        async def sleeper():
            await clock.sleep_async(10)
            order.append("sleeper")

        async def other():
            order.append("other")

        async def main():
            await asyncio.gather(sleeper(), other())

        asyncio.run(main())

        assert ["other", "sleeper"] == order

    def test_patience_is_short(self):
        """
        Waits look at the clock every few real milliseconds; shorter waits stay as they are.
        """

        assert 0.005 == VirtualClock().patience(30)
        assert 0.001 == VirtualClock().patience(0.001)
