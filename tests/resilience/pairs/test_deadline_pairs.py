"""The deadline, and what every other layer means for it: it covers them all."""

from __future__ import annotations

from pair_parts import (
    AT_ONCE,
    DEADLINE,
    LOST,
    MINUTE,
    ONE_SLOT_AND_A_QUEUE,
    RATE,
    SORRY,
    TIMEOUT,
    asks_a_function,
    delays,
    lost,
    opens_after,
    rate,
    timeout,
    waits,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.events import CallQueued
from pixel_llm.resilience import CircuitState, current_limits


@pair("deadline", "fallback")
def test_what_needs_no_time_serves_after_the_deadline(play):
    """
    The deadline ends the call; a fallback without I/O serves all the same, at that very moment.
    """
    found = play(hangs(), deadline=2.0, fallback=SORRY).run()

    assert ("sorry", 2.0, DEADLINE) == (found.value, found.took, found.outcome.error.error_code)


@pair("deadline", "fallback")
def test_a_reserve_is_kept_of_the_deadline(play):
    """
    Attempts end so much earlier, and the step has until the deadline, not longer.
    """
    left = []

    def ask():
        left.append(current_limits().remaining())
        return "asked"

    found = play(hangs(), deadline=5.0, fallback=asks_a_function(reserve=2.0), functions={"ask": ask}).run()

    assert ("asked", 3.0, [2.0]) == (found.value, found.took, left)


@pair("deadline", "fallback")
def test_a_step_that_needs_time_is_skipped_without(play):
    """
    Once the deadline has passed nothing is called any more; the outcome says why.
    """
    found = play(hangs(), deadline=2.0, fallback=(*asks_a_function(), *SORRY), functions={"ask": lambda: "asked"}).run()

    assert "sorry" == found.value
    assert ["the deadline has passed"] == [step.reason for step in found.outcome.skipped]


@pair("deadline", "cache")
def test_a_leader_out_of_its_own_time_takes_no_follower_down(play):
    """
    The leader's deadline says nothing of the others': one of them leads on, within what is left of its own.
    """
    case = play(hangs(), gives("paid", 1.0), deadline=4.0, cache=MINUTE)
    leader, follower = case.call("visa"), case.call("visa", at=2.0)
    case.go()

    assert (DEADLINE, 4.0) == (leader.code, leader.ended)
    assert ("paid", 5.0, [0.0, 4.0]) == (follower.value, follower.ended, case.began)


@pair("deadline", "cache")
def test_a_follower_leaves_at_its_own_deadline(play):
    """
    Who waits for another's call waits no longer than its own time; that call goes on.
    """
    case = play(gives("paid", 5.0), deadline=8.0, cache=MINUTE)
    leader, follower = case.call("visa"), case.call("visa", at=1.0, within=2.0)
    case.go()

    assert (DEADLINE, 3.0) == (follower.code, follower.ended)
    assert ("paid", 5.0, 1) == (leader.value, leader.ended, case.calls)


@pair("deadline", "retry")
def test_a_wait_that_would_outlive_the_deadline_is_not_begun(play):
    """
    The call fails at once, with its last error, and says why there was no further attempt.
    """
    found = play(fails(lost, 1.0), deadline=4.0, retry=waits(3.0)).run()

    assert (LOST, 1.0, 1) == (found.code, found.took, found.error.attempts)

    found = play(fails(lost, 1.0), deadline=4.0, retry=waits(1.0)).run()

    assert (LOST, 3.0, 2) == (found.code, found.took, found.error.attempts)
    assert "would outlive the deadline" in found.error.__notes__[0]


@pair("deadline", "retry")
def test_the_attempts_share_one_deadline(play):
    """
    The last attempt has what those before it, and the waits, have left over; out of time is not retried.
    """
    found = play(fails(lost, 1.0), hangs(), deadline=4.0, retry=waits(1.0)).run()

    assert (DEADLINE, 4.0, 2) == (found.code, found.took, found.error.attempts)


@pair("deadline", "circuit_breaker")
def test_an_attempt_that_had_the_target_s_whole_deadline_counts(play):
    """
    The target had all the time that was its own, and did not answer: the breaker counts a failure.
    """
    case = play(hangs(), deadline=2.0, circuit_breaker=opens_after(1))
    case.run()

    assert CircuitState.OPEN is case.breaker.state


@pair("deadline", "circuit_breaker")
def test_an_attempt_that_the_caller_s_deadline_cut_is_neutral(play):
    """
    Too little time says nothing of the target: no failure is counted, and a trial gives its permit back.
    """
    case = play(hangs(), fails(lost), hangs(), gives("paid"), deadline=20.0, circuit_breaker=opens_after(1, 8.0))
    case.call(within=1.0)
    case.at(1.5, lambda: states.append(case.breaker.state))
    case.call(at=2.0)
    states = []
    trial, after = case.call(at=12.0, within=1.0), case.call(at=14.0)
    case.at(13.5, lambda: states.append(case.breaker.state))
    case.go()

    assert [CircuitState.CLOSED, CircuitState.HALF_OPEN] == states
    assert (DEADLINE, "paid") == (trial.code, after.value)


@pair("deadline", "rate_limit")
def test_a_turn_that_comes_after_the_deadline_is_not_waited_for(play):
    """
    The call is refused at once, is told when it could start, and uses no start; a turn before it is waited for.
    """
    case = play(gives("paid"), deadline=4.0, rate_limit=rate(1, 6.0, max_wait=9.0))
    case.call()
    late, in_time = case.call(at=1.0), case.call(at=3.0)
    case.go()

    assert (RATE, 0.0, 5.0) == (late.code, late.took, late.error.retry_after)
    assert ("paid", [0.0, 6.0]) == (in_time.value, case.began)


@pair("deadline", "bulkhead")
def test_the_queue_is_part_of_the_deadline(play):
    """
    Who still queues at its deadline is out of time, without having been tried; its place goes to the next.
    """
    case = play(gives("paid", 3.5), deadline=4.0, bulkhead=ONE_SLOT_AND_A_QUEUE)
    case.call()
    late, next_one = case.call(at=0.5, within=1.5), case.call(at=1.0)
    case.go()

    assert (DEADLINE, 2.0, 0) == (late.code, late.ended, late.error.attempts)
    assert (DEADLINE, 5.0, [0.0, 3.5]) == (next_one.code, next_one.ended, case.began)
    assert ([2.5], 0) == ([event.waited for event in case.of(CallQueued)], case.in_use)


@pair("deadline", "timeout")
def test_the_nearer_of_the_two_ends_the_attempt(play):
    """
    Each attempt has its timeout, as long as the deadline leaves it that; the error says which one it was.
    """
    found = play(hangs(), deadline=5.0, retry=AT_ONCE, timeout=timeout(2.0)).run()

    assert (DEADLINE, 5.0, 3) == (found.code, found.took, found.error.attempts)
    assert [TIMEOUT, TIMEOUT, DEADLINE] == [record.error_code for record in found.error.history]


@pair("deadline", "chaos")
def test_an_injected_delay_ends_at_the_deadline(play):
    """
    Chaos takes its time from the call's: when it has all of it, the callable isn't called.
    """
    case = play(gives("paid"), deadline=2.0, chaos=delays(10.0))
    found = case.run()

    assert (DEADLINE, 2.0, 0) == (found.code, found.took, case.calls)
