import ast
import asyncio
import builtins
import threading
from itertools import pairwise
from math import inf
from pathlib import Path

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import pixel_llm
from pixel_llm.errors import APIError, ConnectionError, ErrorCode, TimeoutError, ValidationError
from pixel_llm.policy import Jitter, RetryConfig, RetryStrategy
from pixel_llm.policy.sections.matching import ErrorMatcher
from pixel_llm.resilience.clock import SYSTEM_CLOCK
from pixel_llm.resilience.retrying.retry import NOTHING_SENT, Retry, _engine
from pixel_llm.testing import VirtualClock

EXPONENTIAL, LINEAR = RetryStrategy.EXPONENTIAL_BACKOFF, RetryStrategy.LINEAR_BACKOFF
FIXED, IMMEDIATE = RetryStrategy.FIXED_DELAY, RetryStrategy.IMMEDIATE


def throttled(retry_after):
    return APIError("slow down", error_code=ErrorCode.ERR_API_RATE_LIMIT, retry_after=retry_after)


def waits(config, error=None, clock=SYSTEM_CLOCK, deadline=inf):
    """Every wait of a call that always fails, and why it ended."""
    sequence = Retry(config).begin(clock, deadline)
    found = []
    while (wait := sequence.after_failure(error or ConnectionError("gone"))) is not None:
        found.append(wait)
    return found, sequence.reason


class TestWaits:
    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            (EXPONENTIAL, [1.0, 3.0, 9.0, 20.0, 20.0]),
            (LINEAR, [1.0, 2.0, 3.0, 4.0, 5.0]),
            (FIXED, [1.0, 1.0, 1.0, 1.0, 1.0]),
            (IMMEDIATE, [0.0, 0.0, 0.0, 0.0, 0.0]),
        ],
    )
    def test_are_exact_without_jitter(self, strategy, expected):
        """
        Each strategy waits what its formula says, never more than max_delay.
        """
        config = RetryConfig(
            strategy=strategy,
            max_attempts=6,
            initial_delay=1.0,
            max_delay=20.0,
            backoff_multiplier=3.0,
            jitter=Jitter.NONE,
        )

        assert (expected, "all attempts are used up") == waits(config)

    def test_linear_stops_at_max_delay(self):
        """
        The cap holds for linear_backoff too.
        """
        config = RetryConfig(strategy=LINEAR, max_attempts=5, initial_delay=2.0, max_delay=5.0, jitter=Jitter.NONE)

        assert [2.0, 4.0, 5.0, 5.0] == waits(config)[0]

    @settings(deadline=None)
    @given(
        strategy=st.sampled_from(RetryStrategy),
        jitter=st.sampled_from(Jitter),
        initial=st.floats(0.0, 100),
        more=st.floats(0.0, 1000),
        multiplier=st.floats(1, 100),
        attempts=st.integers(2, 100),
    )
    def test_stay_within_the_bounds_of_the_jitter(self, strategy, jitter, initial, more, multiplier, attempts):
        """
        Each wait lies between what the jitter leaves certain and the computed length, for any settings.
        """
        config = RetryConfig(
            strategy=strategy,
            max_attempts=attempts,
            initial_delay=initial,
            max_delay=initial + more,
            backoff_multiplier=multiplier,
            jitter=jitter,
        )
        found, _ = waits(config)

        assert attempts - 1 == len(found)
        for number, wait in enumerate(found):
            least, most = config.floor(number), config.ceiling(number)
            assert 0.0 <= least <= wait <= most * (1 + 1e-9) <= config.max_delay * (1 + 1e-9)

    @settings(deadline=None)
    @given(initial=st.floats(0.01, 10), cap=st.floats(10, 100))
    def test_decorrelated_jitter_builds_on_the_wait_before(self, initial, cap):
        """
        No wait is longer than three times the one before, which was drawn, not asked for by a server.
        """
        config = RetryConfig(max_attempts=30, initial_delay=initial, max_delay=cap, jitter=Jitter.DECORRELATED)
        found, _ = waits(config)

        for before, wait in pairwise([initial, *found]):
            assert initial <= wait <= min(cap, 3 * before)

    def test_a_retry_after_does_not_feed_decorrelated_jitter(self):
        """
        A server that asks for a long wait does not make those after it longer.
        """
        config = RetryConfig(max_attempts=3, initial_delay=1.0, max_delay=1000.0, jitter=Jitter.DECORRELATED)
        sequence = Retry(config).begin()
        first = sequence.after_failure(throttled(60.0))
        second = sequence.after_failure(ConnectionError("gone"))

        assert 60.0 <= first <= 62.0
        assert 1.0 <= second <= 9.0

    def test_full_jitter_spreads(self):
        """
        Clients that failed together do not come back together.
        """
        config = RetryConfig(strategy=FIXED, max_attempts=100, initial_delay=10.0, jitter=Jitter.FULL)
        found, _ = waits(config)

        assert 99 == len(set(found))
        assert min(found) < 2.5 < 7.5 < max(found)

    @pytest.mark.parametrize(("given", "meant"), [(True, Jitter.FULL), (False, Jitter.NONE), ("none", Jitter.NONE)])
    def test_jitter_may_be_a_flag_in_python(self, given, meant):
        """
        ``jitter=True`` means full, as other libraries have it.
        """

        assert meant is RetryConfig(jitter=given).jitter


class TestAttempts:
    @pytest.mark.parametrize("attempts", [2, 3, 10])
    def test_include_the_first_call(self, attempts):
        """
        max_attempts counts the first call, which was made before the sequence began.
        """
        config = RetryConfig(strategy=IMMEDIATE, max_attempts=attempts)

        assert attempts - 1 == len(waits(config)[0])

    def test_sequences_do_not_share_a_count(self):
        """
        Sequences of one compiled section that interleave, in threads or tasks, count for themselves.
        """
        retry = Retry(RetryConfig(strategy=LINEAR, max_attempts=4, initial_delay=1.0, jitter=Jitter.NONE))
        found = {}

        def run(name, sequence):
            found.setdefault(name, []).append(sequence.after_failure(ConnectionError("gone")))

        first, second = retry.begin(), retry.begin()
        for _ in range(4):
            run("first", first)
            thread = threading.Thread(target=run, args=("second", second))
            thread.start()
            thread.join()

        assert {"first": [1.0, 2.0, 3.0, None], "second": [1.0, 2.0, 3.0, None]} == found

    def test_may_go_on_in_another_thread(self):
        """
        A sequence may be asked from a thread that has never retried before.
        """
        sequence = Retry(RetryConfig(strategy=FIXED, max_attempts=3, initial_delay=2.0, jitter=Jitter.NONE)).begin()
        found = [sequence.after_failure(ConnectionError("gone"))]

        async def main():
            found.append(await asyncio.to_thread(sequence.after_failure, ConnectionError("gone")))

        asyncio.run(main())

        assert [2.0, 2.0] == found


class TestRetryAfter:
    @pytest.mark.parametrize(("asked", "waited"), [(0.5, 2.0), (2.0, 2.0), (30.0, 30.0), (60.0, 60.0)])
    def test_is_a_floor(self, asked, waited):
        """
        Without jitter the wait is the longer of the server's and the policy's, beyond max_delay if need be.
        """
        config = RetryConfig(
            strategy=FIXED, max_attempts=2, initial_delay=2.0, max_delay=5.0, jitter=Jitter.NONE, retry_after_max=60.0
        )

        assert [waited] == waits(config, throttled(asked))[0]

    @settings(deadline=None)
    @given(asked=st.floats(0, 60))
    def test_jitter_only_adds(self, asked):
        """
        With full jitter nobody comes back before the server's time, and not all at that very moment.
        """
        config = RetryConfig(strategy=FIXED, max_attempts=2, initial_delay=2.0, retry_after_max=60.0)
        (wait,) = waits(config, throttled(asked))[0]

        assert asked <= wait <= asked + 2.0

    def test_jitter_spreads_those_who_were_told_the_same(self):
        """
        Clients that were all told to come back in 30 s do not all come back at that moment.
        """
        config = RetryConfig(strategy=FIXED, max_attempts=50, initial_delay=2.0)
        found, _ = waits(config, throttled(30.0))

        assert 49 == len(set(found))

    def test_beyond_the_longest_fails_now(self):
        """
        A server that asks for more than retry_after_max is not waited for; the error still says how long.
        """
        error = throttled(61.0)

        assert ([], "the server asks to wait 61 s, longer than retry_after_max") == waits(
            RetryConfig(retry_after_max=60.0), error
        )
        assert 61.0 == error.retry_after

    def test_beyond_the_deadline_fails_now(self):
        """
        Nor is a server waited for that asks for more than is left.
        """
        config = RetryConfig(strategy=FIXED, initial_delay=1.0, jitter=Jitter.NONE)
        found = waits(config, throttled(30.0), VirtualClock(0.0), 20.0)

        assert ([], "the next wait, 30.0 s, would outlive the deadline") == found

    def test_of_somebody_else_s_answer(self):
        """
        An answer that an HTTP library raises as its own exception is waited for like one of ours.
        """
        response = httpx.Response(503, headers={"Retry-After": "30"}, request=httpx.Request("GET", "http://x"))
        error = httpx.HTTPStatusError("busy", request=response.request, response=response)
        config = RetryConfig(strategy=IMMEDIATE, max_attempts=2, retry_on=ErrorMatcher.of("503"))

        assert [30.0] == waits(config, error)[0]

    def test_of_what_is_no_answer_does_not_count(self):
        """
        A server that was not reached asks for nothing, whatever the exception carries.
        """

        class Foreign(ConnectionResetError):
            retry_after = 50.0

        config = RetryConfig(strategy=FIXED, max_attempts=2, initial_delay=1.0, jitter=Jitter.NONE)

        assert [1.0] == waits(config, Foreign("reset"))[0]

    @settings(deadline=None)
    @given(
        jitter=st.sampled_from(Jitter),
        strategy=st.sampled_from(RetryStrategy),
        initial=st.floats(0, 100),
        asked=st.floats(0, 60),
    )
    def test_is_a_floor_for_every_jitter(self, jitter, strategy, initial, asked):
        """
        Whatever the jitter, no wait is shorter than the server asks for, and only chance is added to it.
        """
        config = RetryConfig(strategy=strategy, max_attempts=6, initial_delay=initial, max_delay=100.0, jitter=jitter)
        found, _ = waits(config, throttled(asked))

        assert 5 == len(found)
        for number, wait in enumerate(found):
            least, most = config.floor(number), config.ceiling(number)
            assert max(asked, least) - 1e-9 <= wait <= max(asked, least) + (most - least) + 1e-9
            assert asked <= wait + 1e-9


class TestDeadline:
    @pytest.mark.parametrize(("left", "expected"), [(1.0, []), (1.001, [1.0]), (0.999, [])])
    def test_no_wait_outlives_it(self, left, expected):
        """
        A wait that would end at the deadline or after it is not begun.
        """
        config = RetryConfig(strategy=FIXED, max_attempts=2, initial_delay=1.0, jitter=Jitter.NONE)

        assert expected == waits(config, clock=VirtualClock(0.0), deadline=left)[0]

    def test_that_has_passed_is_named(self):
        """
        Not even an immediate retry is made when the deadline has passed.
        """
        clock = VirtualClock(0.0)
        clock.advance(10)

        assert ([], "the deadline has passed") == waits(RetryConfig(strategy=IMMEDIATE), clock=clock, deadline=10.0)


class TestWhichErrors:
    @pytest.mark.parametrize("code", list(ErrorCode))
    def test_the_table_of_codes_decides(self, code):
        """
        What the table calls retryable is retried, all else is not.
        """
        error = APIError("wrong", error_code=code)
        found, reason = waits(RetryConfig(strategy=IMMEDIATE, max_attempts=2), error)

        assert code.info.retryable == bool(found)
        assert ("all attempts are used up" if code.info.retryable else "this error is not retried") == reason

    @pytest.mark.parametrize("error", [KeyError("x"), Exception("x"), RuntimeError("x"), TypeError("x")])
    def test_unknown_errors_and_mistakes_are_not_retried(self, error):
        """
        An error of no known kind is not retried, nor a mistake in the program.
        """

        assert ([], "this error is not retried") == waits(RetryConfig(), error)

    @pytest.mark.parametrize("error", [ConnectionRefusedError(), ConnectionResetError(), builtins.TimeoutError()])
    def test_the_built_in_ones_are_known(self, error):
        """
        Plain Python's own connection errors and timeouts are retried.
        """

        assert 1 == len(waits(RetryConfig(max_attempts=2), error)[0])

    @pytest.mark.parametrize("code", [code for code in ErrorCode if code.info.retryable])
    def test_what_is_not_idempotent_only_when_nothing_was_sent(self, code):
        """
        With ``idempotent: false`` an error must prove that nothing was sent.
        """
        sequence = Retry(RetryConfig(strategy=IMMEDIATE), idempotent=False).begin()
        wait = sequence.after_failure(APIError("wrong", error_code=code))

        assert (code in NOTHING_SENT) == (wait is not None)
        if wait is None:
            assert "the target is not idempotent and something may have been sent" == sequence.reason

    def test_nothing_sent_means_no_connection(self):
        """
        Only errors from before there was a connection prove that nothing was sent.
        """

        assert {
            ErrorCode.ERR_CONN_REFUSED,
            ErrorCode.ERR_CONN_UNAVAILABLE,
            ErrorCode.ERR_CONN_TIMEOUT,
        } == NOTHING_SENT

    def test_what_fails_in_tenacity_is_not_taken_for_the_call_s_error(self, monkeypatch):
        """
        A fault in the machinery itself is raised, not mistaken for the end of the retries.
        """
        sequence = Retry(RetryConfig()).begin()
        monkeypatch.setattr(RetryConfig, "draw", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sequence.after_failure(ConnectionError("gone"))


class TestCompiled:
    def test_equal_sections_share_tenacity(self):
        """
        Compiling makes nothing of tenacity's, and what a failure makes serves every target with as many attempts.
        """
        _engine.cache_clear()
        many = [Retry(RetryConfig(initial_delay=float(number))) for number in range(100)]

        assert 0 == _engine.cache_info().currsize
        for retry in many:
            retry.begin().after_failure(ConnectionError("gone"))
        assert 1 == _engine.cache_info().currsize

    def test_calls_within_calls(self):
        """
        An error whose own code retries another call, while it is being judged, disturbs nobody's sequence.
        """
        retry = Retry(RetryConfig(strategy=LINEAR, initial_delay=1.0, jitter=Jitter.NONE))

        class Busy(ConnectionResetError):
            @property
            def response(self):
                retry.begin().after_failure(ConnectionError("gone"))
                raise RuntimeError

        assert [1.0, 2.0] == waits(retry.config, Busy())[0]


class TestSequence:
    @pytest.mark.parametrize("error", [ValidationError("no"), TimeoutError("slow")])
    def test_leaves_the_error_as_it_was(self, error):
        """
        Deciding adds nothing to an error's traceback, whether it is retried or not.
        """
        waits(RetryConfig(strategy=IMMEDIATE, max_attempts=3), error)

        assert error.__traceback__ is None
        assert error.__context__ is None

    def test_what_cannot_be_sent_again(self):
        """
        An error may say that another attempt can't be right, whatever the policy retries.
        """
        error = ConnectionError("gone")
        error.repeatable = False

        config = RetryConfig(strategy=IMMEDIATE, max_attempts=3)
        assert ([], "what was sent can't be sent a second time") == waits(config, error)

    def test_tenacity_is_imported_in_one_module(self):
        """
        A change of tenacity's is a change in one place of ours.
        """
        root = Path(pixel_llm.__file__).parent
        found = {
            path.relative_to(root).as_posix()
            for path in root.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if (isinstance(node, ast.Import) and any(alias.name.startswith("tenacity") for alias in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tenacity"))
        }

        assert {"resilience/retrying/retry.py"} == found
