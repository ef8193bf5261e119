"""Ending tasks in time: what a Watchdog does, seen through guarded calls and by itself."""

import asyncio
import gc
import time
import warnings
import weakref

import pytest

from pixel_llm.errors import TimeoutError
from pixel_llm.policy import BulkheadConfig, FallbackStep, FallbackStrategy, TargetPolicy, TimeoutConfig
from pixel_llm.resilience import Stack, current_limits, guard
from pixel_llm.resilience.roads.watchdog import _watchdog_of


def within(seconds, function, **layers):
    return guard(Stack("shop.pay", TargetPolicy(timeout=TimeoutConfig(attempt=seconds), **layers)), function)


async def forever():
    await asyncio.get_running_loop().create_future()


def suspending(closed):
    """A coroutine function that suspends without asking for a loop, and notes in *closed* that it was closed."""

    class Suspends:
        def __await__(self):
            yield

    async def body():
        try:
            await Suspends()
        finally:
            closed.append(True)

    return body


class TestManyCalls:
    def test_each_ends_at_its_own_time(self):
        """
        Calls with different ends share a timer, and each ends at its own time, whatever their order.
        """
        ended = []

        async def one(seconds):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                await within(seconds, forever)()
            ended.append(seconds)
            assert time.monotonic() - started >= seconds - 0.001

        async def main():
            await asyncio.gather(*(one(seconds) for seconds in (0.3, 0.05, 0.2, 0.1, 0.25)))

        asyncio.run(main())

        assert sorted(ended) == ended

    def test_a_thousand_at_once(self):
        """
        A thousand calls that end at the same moment all end.
        """

        async def main():
            call = within(0.2, forever)
            return await asyncio.gather(*(call() for _ in range(1000)), return_exceptions=True)

        assert 1000 == sum(isinstance(result, TimeoutError) for result in asyncio.run(main()))

    def test_what_is_done_does_not_pile_up(self):
        """
        Calls that ended in time leave nothing behind but a handful of entries, however long their timeout.
        """

        async def pause():
            await asyncio.sleep(0)

        async def main():
            call = within(3600.0, pause)
            for _ in range(2000):
                await call()
            return len(_watchdog_of(asyncio.get_running_loop())._ends)

        assert asyncio.run(main()) <= 150

    def test_one_timer_for_all(self):
        """
        However many calls wait, the loop has one timer of ours.
        """

        async def main():
            call = within(3600.0, forever)
            tasks = [asyncio.ensure_future(call()) for _ in range(100)]
            await asyncio.sleep(0)
            timers = len(asyncio.get_running_loop()._scheduled)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return timers

        assert 1 == asyncio.run(main())


class TestCancellation:
    def test_of_the_task_itself_is_passed_on(self):
        """
        A task that is cancelled while its call waits is cancelled, even if the time is up in the same moment.
        """

        async def main():
            task = asyncio.ensure_future(within(0.05, forever)())
            await asyncio.sleep(0)
            time.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        assert asyncio.run(main())

    def test_in_a_task_that_is_being_cancelled(self):
        """
        A call in the cleanup of a cancelled task ends in time by itself; the task stays cancelled.
        """
        seen = []

        async def body():
            try:
                await forever()
            finally:
                try:
                    await within(0.05, forever)()
                except BaseException as error:
                    seen.append(type(error))
                    raise

        async def main():
            task = asyncio.ensure_future(body())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())

        assert [TimeoutError] == seen

    def test_that_the_callable_swallows_gives_its_value(self):
        """
        A callable that answers its cancellation with a value has answered, late as it is.
        """

        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                return "after all"

        async def main():
            value = await within(0.05, stubborn)()
            return value, asyncio.current_task().cancelling()

        assert ("after all", 0) == asyncio.run(main())

    @pytest.mark.parametrize("layers", [{"timeout": TimeoutConfig(attempt=60.0)}, {"bulkhead": BulkheadConfig()}])
    def test_that_the_callable_answers_at_once_gives_its_value(self, layers):
        """
        So has one that answers it without waiting, whether anything bounds the call or not.
        """

        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                return "after all"

        async def main():
            task = asyncio.ensure_future(guard(Stack("shop.pay", TargetPolicy(**layers)), stubborn)())
            await asyncio.sleep(0)
            task.cancel()
            return await task

        assert "after all" == asyncio.run(main())

    def test_outside_of_a_loop(self):
        """
        Without a loop nothing can end the call in time, and that is said; the coroutine is closed.
        """
        closed = []
        coroutine = within(1.0, suspending(closed))()

        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)

        assert [True] == closed

    def test_outside_of_a_task(self):
        """
        Without a task there is nobody to cancel, and that is said; the coroutine is closed.
        """
        closed, raised = [], []

        async def main():
            coroutine, done = within(1.0, suspending(closed))(), asyncio.Event()

            def step():
                try:
                    coroutine.send(None)
                except RuntimeError as error:
                    raised.append(str(error))
                done.set()

            asyncio.get_running_loop().call_soon(step)
            await done.wait()

        asyncio.run(main())

        assert ["an async call with a deadline or a timeout must run in a task"] == raised
        assert [True] == closed

    def test_a_limit_is_only_set_up_for_what_suspends(self):
        """
        A coroutine that never waits needs no task and no loop at all.
        """

        async def body():
            return "at once"

        coroutine = within(1.0, body)()
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)

        assert "at once" == stopped.value.value


class TestNested:
    def test_the_inner_fallback_serves_at_the_common_end(self):
        """
        Where an inner target ends because its caller's time is up, its own fallback still serves, as in the sync world.
        """
        inner = within(60.0, forever, fallback=(FallbackStep(FallbackStrategy.DEFAULT_VALUE, value="sorry"),))
        outer = guard(Stack("shop.order", TargetPolicy(deadline=0.05)), inner)

        assert "sorry" == asyncio.run(outer.__call__())

    def test_the_outer_call_ends_when_the_inner_one_does_not(self):
        """
        An inner callable that swallows its cancellation and waits on is cancelled again, for its caller.
        """

        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                await forever()

        outer = guard(Stack("shop.order", TargetPolicy(deadline=0.05)), within(60.0, stubborn))

        with pytest.raises(TimeoutError, match=r"shop\.order"):
            asyncio.run(outer())


class TestLifting:
    def test_a_background_task_is_not_bound_by_a_call_that_is_over(self):
        """
        What a call started and left running has no deadline once the call has succeeded.
        """

        async def background(seen):
            seen.append(current_limits().remaining() is not None)
            await asyncio.sleep(0)
            seen.append(current_limits().remaining() is not None)

        async def main():
            seen = []

            async def body():
                return asyncio.ensure_future(background(seen))

            await (await guard(Stack("shop.pay", TargetPolicy(deadline=60.0)), body)())
            return seen

        assert [False, False] == asyncio.run(main())

    def test_what_a_failed_call_left_behind_stays_bound(self):
        """
        Work that was left behind by a call that was cut short finds its time is up.
        """

        async def main():
            left = []

            async def background():
                await asyncio.sleep(0.1)
                left.append(current_limits().remaining())

            async def body():
                tasks.append(asyncio.ensure_future(background()))
                await forever()

            tasks = []
            with pytest.raises(TimeoutError):
                await guard(Stack("shop.pay", TargetPolicy(deadline=0.05)), body)()
            await tasks[0]
            return left

        assert [0.0] == asyncio.run(main())


class TestLoops:
    def test_each_keeps_its_own(self):
        """
        Loops that take turns, as in a program with several, find their own watchdog again.
        """

        async def find():
            return _watchdog_of(asyncio.get_running_loop())

        loops = [asyncio.new_event_loop() for _ in range(2)]
        found = [loop.run_until_complete(find()) for loop in loops * 2]
        for loop in loops:
            loop.close()

        assert found[:2] == found[2:]
        assert found[0] is not found[1]
        assert loops == [watchdog.loop for watchdog in found[:2]]

    def test_a_dropped_loop_is_forgotten(self):
        """
        A loop that is dropped with a call under way, and a timer set, can be collected.
        """
        loop = asyncio.new_event_loop()
        task = loop.create_task(within(3600.0, forever)())
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        reference = weakref.ref(loop)
        loop.close()
        del loop, task
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()

        assert reference() is None
