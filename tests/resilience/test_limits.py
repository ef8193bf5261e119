import asyncio
import dataclasses
import threading

import pytest

from pixel_llm.policy import TimeoutConfig
from pixel_llm.resilience import Limits, current_limits, guard
from pixel_llm.resilience.limits import NO_LIMITS
from pixel_llm.testing import VirtualClock


class TestLimits:
    @pytest.mark.parametrize(
        ("deadline", "attempt_ends", "ends"),
        [(None, None, None), (10.0, None, 10.0), (None, 5.0, 5.0), (10.0, 5.0, 5.0), (5.0, 10.0, 5.0)],
    )
    def test_ends_at_the_nearer_moment(self, deadline, attempt_ends, ends):
        """
        An attempt is over at its own end or at the deadline, whichever comes first.
        """

        assert ends == Limits(deadline=deadline, attempt_ends=attempt_ends).ends

    def test_remaining_counts_down_to_zero(self):
        """
        What is left shrinks as the clock moves, and is never negative.
        """
        clock = VirtualClock(0.0)
        limits = Limits(clock, deadline=10.0)

        assert 10.0 == limits.remaining()

        clock.advance(4)

        assert 6.0 == limits.remaining()

        clock.advance(60)

        assert 0.0 == limits.remaining()

    def test_without_a_limit_nothing_remains_to_be_counted(self):
        """
        No limit is None, not infinity, and its deadline never passes.
        """

        assert NO_LIMITS.remaining() is None
        assert not NO_LIMITS.deadline_passed()

    def test_deadline_passes_at_its_moment(self):
        """
        At the deadline itself the time is up; the end of an attempt is no deadline.
        """
        clock = VirtualClock(0.0)
        limits = Limits(clock, deadline=10.0, attempt_ends=1.0)
        clock.advance(9.5)

        assert not limits.deadline_passed()

        clock.advance(0.5)

        assert limits.deadline_passed()

    def test_cannot_be_changed(self):
        """
        Limits are handed down by reference, so nobody may change them.
        """
        with pytest.raises(dataclasses.FrozenInstanceError):
            Limits().deadline = 1.0


class TestCurrentLimits:
    def test_outside_of_a_call_there_are_none(self):
        """
        Without a guarded call under way there is no limit.
        """

        assert NO_LIMITS == current_limits()

    def test_inside_a_call_they_are_the_attempt_s(self, both_worlds, clock):
        """
        A callable sees when its attempt must be over, when the whole call must be, and its time to connect.
        """
        seen = []
        call = both_worlds(
            lambda: seen.append(current_limits()), deadline=60.0, timeout=TimeoutConfig(attempt=20.0, connect=3.0)
        )
        start = clock.monotonic()
        call()

        assert [Limits(clock, start + 60.0, start + 20.0, 3.0)] == seen

    def test_they_end_with_the_call(self, both_worlds):
        """
        After a call, successful or not, its limits are gone.
        """
        both_worlds(None, deadline=60.0)()
        with pytest.raises(KeyError):
            both_worlds(KeyError("no"), deadline=60.0)()

        assert NO_LIMITS == current_limits()

    def test_they_end_with_the_call_in_one_task_too(self, make_stack):
        """
        A task that has awaited a guarded call has no limits left over from it.
        """
        seen = []

        async def work():
            await asyncio.sleep(0)

        async def main():
            await guard(make_stack(deadline=60.0), work)()
            seen.append(current_limits())

        asyncio.run(main())

        assert [NO_LIMITS] == seen

    def test_tasks_do_not_share_them(self, make_stack):
        """
        Calls in tasks of one loop see their own limits, though they interleave.
        """
        seen = {}

        def ask(seconds):
            async def look():
                for _ in range(3):
                    await asyncio.sleep(0)
                seen[seconds] = round(current_limits().remaining(), 6)

            return guard(make_stack(deadline=seconds), look)()

        async def main():
            await asyncio.gather(*(ask(float(seconds)) for seconds in range(1, 20)))

        asyncio.run(main())

        assert {float(seconds): float(seconds) for seconds in range(1, 20)} == seen

    def test_threads_do_not_share_them(self, make_stack):
        """
        A thread started by hand inherits nothing.
        """
        seen = []

        def start_thread():
            thread = threading.Thread(target=lambda: seen.append(current_limits()))
            thread.start()
            thread.join()

        guard(make_stack(deadline=5.0), start_thread)()

        assert [NO_LIMITS] == seen
