import contextvars
import gc
import logging
import threading
import weakref

import pytest

from pixel_llm.errors import ConnectionError, ErrorCode, LimitExceeded
from pixel_llm.events import AbandonedThreadEnded, ThreadAbandoned
from pixel_llm.resilience.threads import forking
from pixel_llm.resilience.threads.abandoned import AbandonedThreads
from pixel_llm.resilience.threads.job import WaitingJob
from pixel_llm.resilience.threads.pool import WorkerThreads
from pixel_llm.testing import VirtualClock

SOON = 10.0


@pytest.fixture
def release():
    """Lets go, at the end of the case, whatever a job still waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def threads():
    return WorkerThreads()


@pytest.fixture
def reports():
    return []


@pytest.fixture
def abandoned(clock, reports):
    return AbandonedThreads(
        "shop.pay", 2, clock=clock, report=lambda kind, *rest: reports.append(kind("shop.pay", *rest))
    )


@pytest.fixture
def begin(threads):
    """Starts a job."""

    def begin(function, *args, on_end=None, **kwargs):
        job = WaitingJob(function, args, kwargs, on_end=on_end)
        job.start("pixel-llm shop.pay", threads)
        return job

    return begin


def until(predicate):
    """Wait, without sleeping, until *predicate* holds."""
    event = threading.Event()
    for _ in range(2000):
        if predicate():
            return True
        event.wait(0.005)
    return False


class TestJob:
    def test_gives_the_value(self, begin, clock):
        """
        What the function returned is handed over.
        """
        job = begin(lambda a, b: a + b, 1, b=2)

        assert job.wait(clock.monotonic() + SOON, clock)
        assert 3 == job.result()

    def test_raises_the_error(self, begin):
        """
        What the function raised is raised, the very object, and is gone when it was handled.
        """
        errors = [ConnectionError("gone")]
        reference = weakref.ref(errors[0])

        def fail():
            raise errors.pop()

        gc.disable()
        try:
            job = begin(fail)
            job.wait_to_the_end()
            try:
                job.result()
            except ConnectionError as error:
                same = error is reference()

            assert same
            assert until(lambda: reference() is None)
        finally:
            gc.enable()

    def test_sees_the_context(self, begin):
        """
        Context variables of the caller are seen; what the function sets stays in the thread.
        """
        variable = contextvars.ContextVar("variable")
        variable.set("caller's")

        def function():
            seen = variable.get()
            variable.set("thread's")
            return seen

        job = begin(function)
        job.wait_to_the_end()

        assert ("caller's", "caller's") == (job.result(), variable.get())

    def test_out_of_time(self, begin, clock, release):
        """
        The wait ends at its moment.
        """
        job = begin(lambda: release.wait(10))

        assert not job.wait(clock.monotonic(), clock)

    def test_looks_at_the_clock_again(self, begin, clock, release):
        """
        A clock that a test moves on while the job is waited for ends the wait.
        """

        class Moving(VirtualClock):
            def patience(self, seconds):
                self.advance(4)
                return 0.001

        job, moving = begin(lambda: release.wait(10)), Moving(0)

        assert not job.wait(10.0, moving)
        assert 12.0 == moving.monotonic()

    def test_ended_at_the_last_look(self, begin, clock):
        """
        A result that is there when the time is up has come in time.
        """
        ended = threading.Event()
        job = begin(lambda: "in time", on_end=lambda error: ended.set())
        ended.wait(10)

        assert until(lambda: job.wait(clock.monotonic(), clock))
        assert "in time" == job.result()


class TestOnEnd:
    @pytest.mark.parametrize("error", [None, KeyError("x"), KeyboardInterrupt()])
    def test_comes_before_the_result(self, begin, error):
        """
        Whoever has the result knows that the end was told, with the error if there was one.
        """
        told = []

        def function():
            if error is not None:
                raise error

        job = begin(function, on_end=told.append)
        job.wait_to_the_end()

        assert [error] == told

    def test_comes_late_for_an_abandoned_job(self, begin, abandoned, release):
        """
        The end of an abandoned job is told when its thread really ends, once.
        """
        told = []
        job = begin(lambda: release.wait(10), on_end=told.append)

        assert job.abandon(abandoned, elapsed=30.0)
        assert [] == told

        release.set()

        assert until(lambda: told and abandoned.count == 0)
        assert [None] == told

    def test_that_raises_harms_nobody(self, begin, caplog):
        """
        A fault in it is logged, and the caller has the result.
        """

        def fail(error):
            raise RuntimeError("fault")

        with caplog.at_level(logging.ERROR, "pixel_llm"):
            job = begin(lambda: 1, on_end=fail)
            job.wait_to_the_end()

        assert 1 == job.result()
        assert ["what follows the end of a call in a worker thread failed"] == [r.getMessage() for r in caplog.records]

    def test_comes_when_no_thread_can_be_started(self):
        """
        Where the system has no further thread, the work has ended as well, and the error is the caller's.
        """

        class Exhausted(WorkerThreads):
            def run(self, task, name):
                raise RuntimeError("can't start new thread")

        for told in ([], None):
            job = WaitingJob(lambda: None, (), {}, on_end=None if told is None else told.append)
            with pytest.raises(RuntimeError, match="can't start new thread") as caught:
                job.start("pixel-llm shop.pay", Exhausted())

            assert told is None or [caught.value] == told


class TestAbandon:
    def test_counts_until_the_thread_ends(self, begin, abandoned, clock, reports, release):
        """
        An abandoned thread counts until it really ends, and both is reported.
        """
        job = begin(lambda: release.wait(10))

        assert job.abandon(abandoned, elapsed=30.0)
        assert 1 == abandoned.count

        clock.advance(12)
        release.set()

        assert until(lambda: len(reports) == 2)
        assert 0 == abandoned.count
        assert [ThreadAbandoned("shop.pay", 30.0, 1, 2), AbandonedThreadEnded("shop.pay", 12.0, 0, 2)] == [
            reports[0],
            AbandonedThreadEnded("shop.pay", round(reports[1].late, 6), reports[1].running, reports[1].limit),
        ]

    def test_after_the_end(self, begin, abandoned, reports):
        """
        A job that has ended can't be left: its result is there.
        """
        job = begin(lambda: "value")
        job.wait_to_the_end()

        assert not job.abandon(abandoned, elapsed=1.0)
        assert "value" == job.result()
        assert (0, []) == (abandoned.count, reports)

    def test_drops_what_comes_of_it(self, begin, abandoned, release):
        """
        Value and error of an abandoned job are kept by nothing.
        """

        class Thing:
            pass

        references = []

        def work():
            release.wait(10)
            thing = Thing()
            references.append(weakref.ref(thing))
            return thing

        def fail():
            release.wait(10)
            error = ConnectionError("too late")
            references.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        gc.disable()
        try:
            for function in (work, fail):
                job = begin(function)
                job.abandon(abandoned, elapsed=1.0)
            release.set()

            assert until(lambda: len(references) == 2 and all(reference() is None for reference in references))
        finally:
            gc.enable()


class TestAbandonedThreads:
    def test_refuses_at_the_limit(self, abandoned, clock):
        """
        When as many threads as the limit run on, the next call is refused with what to do about it.
        """
        first, second = object(), object()
        abandoned.check()
        abandoned.add(first)
        clock.advance(300)
        abandoned.check()
        abandoned.add(second)
        clock.advance(12.44)
        with pytest.raises(LimitExceeded) as caught:
            abandoned.check()

        assert ErrorCode.ERR_LIMIT_BULKHEAD is caught.value.error_code
        assert (
            "shop.pay: 2 threads run on after the time was up, the longest for 312.4 s so far, and the limit is 2: "
            "give what the function waits for a timeout of its own, or raise timeout.max_abandoned_threads"
        ) == str(caught.value)
        assert {"refused_by": "timeout", "abandoned_threads": 2, "max_abandoned_threads": 2} == caught.value.details

        abandoned.remove(first)
        abandoned.check()

    def test_refusal_of_one(self, clock):
        """
        A single thread is spoken of in the singular.
        """
        abandoned = AbandonedThreads("shop.pay", 1, clock=clock, report=lambda *event: None)
        abandoned.add(object())
        with pytest.raises(LimitExceeded, match="a thread runs on after"):
            abandoned.check()

    def test_after_fork(self, abandoned, reports):
        """
        A forked child has none of the threads; one that it inherited a memory of ends without a word.
        """
        job = object()
        abandoned.add(job)
        abandoned.add(object())
        forking._forget()
        abandoned.check()
        abandoned.remove(job)

        assert (0, []) == (abandoned.count, reports)
