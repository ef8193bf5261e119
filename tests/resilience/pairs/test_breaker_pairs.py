"""The circuit breaker, and what every layer within means for it: it comes first, and learns how each attempt ends."""

from __future__ import annotations

import pytest
from pair_parts import (
    FULL,
    LOST,
    ONE_SLOT,
    ONE_SLOT_AND_A_QUEUE,
    RATE,
    REFUSED,
    TIMEOUT,
    delays,
    injects,
    lost,
    opens_after,
    rate,
    timeout,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.errors import ErrorCode
from pixel_llm.policy import BulkheadConfig, ChaosConfig, ChaosResult, CircuitBreakerConfig
from pixel_llm.resilience import CircuitState

OPEN, HALF_OPEN, CLOSED = CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED


@pair("circuit_breaker", "rate_limit")
def test_an_open_breaker_uses_no_start(play):
    """
    It refuses before the rate limit is asked: when it lets a trial through, the start is still there.
    """
    case = play(fails(lost), gives("paid"), circuit_breaker=opens_after(1, 8.0), rate_limit=rate(2, 60.0))
    case.call()
    refused = [case.call(at=moment) for moment in (1.0, 2.0, 3.0)]
    trial = case.call(at=9.0)
    case.go()

    assert [REFUSED] * 3 == [one.code for one in refused]
    assert ("paid", [0.0, 9.0]) == (trial.value, case.starts)


@pair("circuit_breaker", "rate_limit")
@pair("circuit_breaker", "bulkhead")
@pytest.mark.parametrize("queue", [{"rate_limit": rate(1, 60.0, 60.0)}, {"bulkhead": ONE_SLOT_AND_A_QUEUE}])
def test_an_open_breaker_refuses_before_anything_queues(play, queue):
    """
    At once, though there is neither a turn nor a slot to be had.
    """
    case = play(fails(lost), gives("paid"), circuit_breaker=opens_after(1, 30.0), **queue)
    case.call()
    if "bulkhead" in queue:
        case.at(1.0, lambda: case.stack.admission.bulkhead.enter())
        case.at(9.0, lambda: case.stack.admission.bulkhead.leave())
    refused = case.call(at=2.0)
    case.go()

    assert (REFUSED, 0.0) == (refused.code, refused.took)


@pair("circuit_breaker", "rate_limit")
def test_the_rate_limit_s_refusal_is_neutral(play):
    """
    It is no failure; while the breaker is half open it takes no permit, so that a later call is the trial.
    """
    case = play(fails(lost), gives("paid"), circuit_breaker=opens_after(1, 4.0), rate_limit=rate(1, 6.0))
    case.call()
    refused, trial = case.call(at=5.0), case.call(at=7.0)
    case.go()

    assert (RATE, "paid", CLOSED) == (refused.code, trial.value, case.breaker.state)


@pair("circuit_breaker", "rate_limit")
def test_a_call_that_waits_its_turn_meets_the_breaker_again(play):
    """
    One that waits while the breaker opens doesn't start, and gives the start back that it had got.
    """
    case = play(fails(lost, 1.0), circuit_breaker=opens_after(1, 60.0), rate_limit=rate(1, 2.0, max_wait=9.0))
    case.call()
    waiting = case.call(at=0.5)
    case.go()

    assert (REFUSED, 2.0, 1) == (waiting.code, waiting.ended, case.calls)
    assert 2.0 not in case.starts


@pair("circuit_breaker", "bulkhead")
def test_who_queued_while_it_opened_does_not_start(play):
    """
    The breaker is asked again when the slot is there; the slot goes on to the next, who is refused as well.
    """
    case = play(fails(lost, 1.0), circuit_breaker=opens_after(1, 60.0), bulkhead=ONE_SLOT_AND_A_QUEUE)
    found = [case.call(at=moment) for moment in (0.0, 0.25, 0.5, 0.75)]
    case.go()

    assert [LOST, REFUSED, REFUSED, REFUSED] == [one.code for one in found]
    assert ([1.0] * 4, 1, 0) == ([one.ended for one in found], case.calls, case.in_use)


@pair("circuit_breaker", "bulkhead")
def test_a_full_bulkhead_holds_no_permit(play):
    """
    A half-open breaker's permit is taken with the slot: who is refused a slot keeps nobody from being the trial.
    """
    two = BulkheadConfig(max_concurrent=2)
    case = play(gives("slow", 12.0), fails(lost), gives("paid"), circuit_breaker=opens_after(1, 4.0), bulkhead=two)
    case.call()
    case.call(at=0.5)
    case.at(5.0, lambda: case.stack.admission.bulkhead.enter())
    refused = case.call(at=6.0)
    case.at(7.0, lambda: case.stack.admission.bulkhead.leave())
    trial = case.call(at=8.0)
    case.go()

    assert (FULL, "paid") == (refused.code, trial.value)


@pair("circuit_breaker", "bulkhead")
def test_a_full_bulkhead_is_neutral(play):
    """
    However often it refuses, it says nothing of the target.
    """
    case = play(gives("paid", 4.0), circuit_breaker=opens_after(1), bulkhead=ONE_SLOT)
    case.call()
    refused = [case.call(at=moment) for moment in (1.0, 2.0)]
    case.go()

    assert ([FULL, FULL], CLOSED) == ([one.code for one in refused], case.breaker.state)


@pair("circuit_breaker", "timeout")
def test_an_attempt_out_of_time_is_a_failure(play):
    """
    It had its whole timeout: that opens the breaker, and in a trial opens it again.
    """
    case = play(hangs(), circuit_breaker=opens_after(1, 8.0), timeout=timeout(2.0))
    found = [case.call(at=moment) for moment in (0.0, 3.0, 10.5, 14.0)]
    case.go()

    assert [TIMEOUT, REFUSED, TIMEOUT, REFUSED] == [one.code for one in found]


@pair("circuit_breaker", "timeout")
def test_what_a_left_thread_brings_settles_nothing(play):
    """
    The caller has told the breaker of a failure; that its plain function ends well, later, closes nothing.
    """
    states = []
    case = play(hangs(4.0), circuit_breaker=opens_after(1, 60.0), timeout=timeout(2.0), plain=True)
    case.call()
    case.at(5.0, lambda: states.append(case.breaker.state))
    case.go()

    assert [OPEN] == states


@pair("circuit_breaker", "chaos")
@pytest.mark.parametrize(
    ("code", "state"),
    [
        (LOST, OPEN),
        (ErrorCode.ERR_API_SERVER_ERROR, OPEN),
        (ErrorCode.ERR_API_RATE_LIMIT, CLOSED),
        (ErrorCode.ERR_API_UNAUTHORIZED, CLOSED),
    ],
)
def test_injected_errors_count_as_real_ones_do(play, code, state):
    """
    TRANSIENT ones open the breaker; 429 and PERMANENT ones are neutral.
    """
    case = play(gives("paid"), circuit_breaker=opens_after(1), chaos=injects(code))

    assert (code, state) == (case.run().code, case.breaker.state)


@pair("circuit_breaker", "chaos")
def test_an_injected_delay_makes_an_attempt_slow(play):
    """
    It is part of the attempt's time; an injected result is a success.
    """
    breaker = CircuitBreakerConfig(slow_call_rate=1.0, slow_call_duration=2.0, minimum_calls=1)
    slow = play(gives("paid"), circuit_breaker=breaker, chaos=delays(3.0))
    slow.run()

    assert OPEN is slow.breaker.state

    odd = play(fails(lost), circuit_breaker=breaker, chaos=ChaosConfig(result=ChaosResult(rate=1.0, value="odd")))

    assert ("odd", CLOSED) == (odd.run().value, odd.breaker.state)
