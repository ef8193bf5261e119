"""The retries, and what every layer within means for them: each attempt passes all of it anew."""

from __future__ import annotations

from pair_parts import (
    AT_ONCE,
    FULL,
    LOST,
    ONE_SLOT,
    RATE,
    REFUSED,
    TIMEOUT,
    injects,
    lost,
    opens_after,
    rate,
    seed_that,
    timeout,
    waits,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.errors import ConnectionError, LimitExceeded
from pixel_llm.events import RetryScheduled
from pixel_llm.policy import BulkheadConfig
from pixel_llm.resilience import CircuitState


@pair("retry", "circuit_breaker")
def test_each_attempt_counts_and_the_one_that_opens_ends_the_retries(play):
    """
    Two attempts are two failures; waiting can't close an open breaker, so the call ends with its own last error.
    """
    case = play(fails(lost), retry=waits(1.0, attempts=5), circuit_breaker=opens_after(2, 60.0))
    found = case.run()

    assert (LOST, 2, 1.0) == (found.code, found.error.attempts, found.ended)
    assert CircuitState.OPEN is case.breaker.state
    assert "the circuit breaker has opened" in found.error.__notes__[0]


@pair("retry", "circuit_breaker")
def test_a_refusal_is_not_retried(play):
    """
    The call fails at once, without an attempt and without a wait.
    """
    case = play(fails(lost), retry=waits(1.0), circuit_breaker=opens_after(1, 60.0))
    case.run()
    found = case.run()

    assert (REFUSED, 0, 0.0) == (found.code, found.error.attempts, found.took)


@pair("retry", "circuit_breaker")
def test_another_call_s_failures_end_the_retries_too(play):
    """
    A call that waits to try again meets a breaker that others have opened meanwhile: refused, with its own failure
    as the cause.
    """
    case = play(fails(lost), retry=waits(4.0), circuit_breaker=opens_after(3, 60.0))
    first, second, third = case.call(), case.call(at=1.0), case.call(at=2.0)
    case.go()

    assert ([LOST, 2.0], [REFUSED, 4.0], [REFUSED, 5.0]) == (
        [third.code, third.ended],
        [first.code, first.ended],
        [second.code, second.ended],
    )
    assert (1, True) == (first.error.attempts, isinstance(first.error.__cause__, ConnectionError))


@pair("retry", "circuit_breaker")
def test_wait_for_breaker_waits_the_cooldown_out(play):
    """
    When the policy says so the retry is the trial; the wait for the breaker is no attempt.
    """
    retry = waits(1.0, wait_for_breaker=True)
    case = play(fails(lost), gives("paid"), retry=retry, circuit_breaker=opens_after(1, 8.0))
    found = case.run()

    assert ("paid", 2, [0.0, 8.0]) == (found.value, found.outcome.attempts, case.began)
    assert CircuitState.CLOSED is case.breaker.state


@pair("retry", "rate_limit")
def test_each_attempt_is_a_start(play):
    """
    Retries use starts like any other attempt, and wait for their turn where they may.
    """
    case = play(fails(lost), fails(lost), gives("paid"), retry=AT_ONCE, rate_limit=rate(2, 10.0, max_wait=10.0))
    found = case.run()

    assert ("paid", 3, [0.0, 0.0, 10.0]) == (found.value, found.outcome.attempts, case.began)


@pair("retry", "rate_limit")
def test_a_refused_start_ends_the_retries(play):
    """
    The rate limit's refusal is not retried; it carries what the attempts before it failed of.
    """
    found = play(fails(lost), retry=AT_ONCE, rate_limit=rate(2, 10.0)).run()

    assert (RATE, 2, 10.0) == (found.code, found.error.attempts, found.error.retry_after)
    assert isinstance(found.error.__cause__, ConnectionError)


@pair("retry", "bulkhead")
def test_no_slot_is_held_between_two_attempts(play):
    """
    While a call waits to try again, another one has the slot: each attempt takes it anew.
    """
    case = play(fails(lost, 1.0), gives("paid", 2.0), retry=waits(4.0), bulkhead=ONE_SLOT)
    first, second = case.call("first"), case.call("second", at=2.0)
    case.go()

    assert [("paid", 7.0), ("paid", 4.0)] == [(one.value, one.ended) for one in (first, second)]
    assert ["first", "second", "first"] == [attempt.args[0] for attempt in case.attempts]


@pair("retry", "bulkhead")
def test_a_full_bulkhead_ends_the_retries(play):
    """
    A call whose retry finds no slot is refused, not tried again and again while it is full.
    """
    case = play(fails(lost, 1.0), gives("paid", 9.0), retry=waits(2.0), bulkhead=BulkheadConfig(max_concurrent=1))
    first, second = case.call(), case.call(at=1.5)
    case.go()

    assert (FULL, 3.0, 1) == (first.code, first.ended, first.error.attempts)
    assert (True, "paid") == (isinstance(first.error, LimitExceeded), second.value)


@pair("retry", "timeout")
def test_each_attempt_has_the_whole_timeout(play):
    """
    Out of time is retried; the wait between two attempts is part of neither's timeout.
    """
    case = play(hangs(), gives("paid", 1.75), retry=waits(3.0), timeout=timeout(2.0))
    found = case.run()

    assert ("paid", 6.75, [0.0, 5.0]) == (found.value, found.ended, case.began)
    assert [TIMEOUT] == [event.error_code for event in case.of(RetryScheduled)]


@pair("retry", "timeout")
def test_an_attempt_left_behind_in_its_thread_does_not_hold_up_the_next(play):
    """
    A plain function may run on while the call tries again; its late result changes nothing.
    """
    case = play(hangs(6.0), gives("paid", 1.0), retry=AT_ONCE, timeout=timeout(2.0), plain=True)
    found = case.run()

    assert ("paid", 3.0, 2) == (found.value, found.ended, found.outcome.attempts)


@pair("retry", "chaos")
def test_an_injected_error_is_retried_and_each_attempt_draws_anew(play):
    """
    The retry meets its own draw: the callable is called once the draws spare it.
    """
    seed = seed_that(True, True, False)
    case = play(gives("paid"), retry=AT_ONCE, chaos=injects(LOST, 0.5, seed=seed))
    found = case.run()

    assert ("paid", 3, 1) == (found.value, found.outcome.attempts, case.calls)
