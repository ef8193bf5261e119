"""Hedges, and what the other layers mean for them: attempts side by side, each of which passes all within by itself."""

from __future__ import annotations

from pair_parts import (
    AT_ONCE,
    DEADLINE,
    LOST,
    MINUTE,
    ONE_SLOT,
    SORRY,
    TIMEOUT,
    beside,
    delays,
    injects,
    lost,
    opens_after,
    rate,
    seed_that,
    timeout,
    wrong_key,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.errors import ErrorCode
from pixel_llm.events import AttemptFailed, HedgeSent, HedgeSkipped, HedgeWon, RetryScheduled
from pixel_llm.policy import BulkheadConfig
from pixel_llm.resilience import CircuitState


@pair("deadline", "hedge")
def test_the_deadline_ends_all_attempts(play):
    """
    It is the whole call's, however many attempts there are side by side; the call ends once.
    """
    case = play(hangs(), deadline=3.0, hedge=beside(1.0))
    found = case.run()

    assert (DEADLINE, 3.0, 2) == (found.code, found.ended, found.error.attempts)
    assert all(attempt.ended <= 3.125 for attempt in case.attempts)


@pair("deadline", "hedge")
def test_nothing_is_sent_that_the_deadline_would_end_at_once(play):
    """
    A hedge whose moment is the deadline's is not sent.
    """
    case = play(hangs(), deadline=3.0, hedge=beside(3.0))
    found = case.run()

    assert (DEADLINE, 3.0, 1) == (found.code, found.ended, case.calls)
    assert [] == case.of(HedgeSent)


@pair("fallback", "hedge")
def test_the_fallback_serves_when_all_attempts_have_failed(play):
    """
    A failure beside another attempt is none of the call's; only when no attempt is left does the fallback serve.
    """
    saved = play(fails(lost, 2.0), gives("paid", 2.0), fallback=SORRY, hedge=beside(1.0)).run()
    served = play(fails(lost, 2.0), fails(lost, 2.0), fallback=SORRY, hedge=beside(1.0)).run()

    assert ("paid", False, 3.0) == (saved.value, saved.outcome.degraded, saved.ended)
    assert ("sorry", True, 3.0, 2) == (
        served.value,
        served.outcome.degraded,
        served.ended,
        served.outcome.attempts,
    )


@pair("cache", "hedge")
def test_the_winner_s_value_is_kept_and_a_flight_races_once(play):
    """
    Equal calls follow one race, and get the winner's value; what a loser would have given is kept nowhere.
    """
    case = play(gives("slow", 8.0), gives("quick", 1.0), cache=MINUTE, hedge=beside(1.0))
    found = [case.call("visa", at=moment) for moment in (0.0, 0.5, 1.5, 20.0)]
    case.go()

    assert (["quick"] * 4, 2) == ([one.value for one in found], case.calls)
    assert [2.0, 2.0, 2.0, 20.0] == [one.ended for one in found]


@pair("retry", "hedge")
def test_a_round_is_retried_once_all_of_it_has_failed(play):
    """
    Each retry is a round of its own; attempts count every call of the callable, retries the rounds.
    """
    case = play(fails(lost, 2.0), fails(lost, 2.0), gives("paid", 0.5), retry=AT_ONCE, hedge=beside(1.0))
    found = case.run()

    assert ("paid", 3, [0.0, 1.0, 3.0]) == (found.value, found.outcome.attempts, case.began)
    assert (2, 1) == (len(case.of(AttemptFailed)), len(case.of(RetryScheduled)))


@pair("retry", "hedge")
def test_a_failure_before_the_delay_is_retried_not_hedged(play):
    """
    A hedge is for what takes long; what fails at once is the retries' business.
    """
    case = play(fails(lost, 0.5), gives("paid", 0.5), retry=AT_ONCE, hedge=beside(1.0))

    assert ("paid", [0.0, 0.5], []) == (case.run().value, case.began, case.of(HedgeSent))


@pair("retry", "hedge")
def test_what_is_not_retried_ends_the_whole_round(play):
    """
    A PERMANENT error is the answer to all attempts: the others are ended, and nothing is tried again.
    """
    case = play(hangs(), fails(wrong_key, 0.5), deadline=60.0, retry=AT_ONCE, hedge=beside(1.0))
    found = case.run()

    assert (ErrorCode.ERR_API_UNAUTHORIZED, 1.5, 2) == (found.code, found.ended, case.calls)


@pair("hedge", "circuit_breaker")
def test_each_attempt_counts_by_itself_and_a_loser_is_neutral(play):
    """
    Two that fail side by side are two failures. One that has lost says nothing of the target.
    """
    both = play(fails(lost, 2.0), fails(lost, 2.0), hedge=beside(1.0), circuit_breaker=opens_after(2))
    both.run()

    assert CircuitState.OPEN is both.breaker.state

    won = play(hangs(), gives("paid", 0.5), deadline=60.0, hedge=beside(1.0), circuit_breaker=opens_after(1))

    assert ("paid", CircuitState.CLOSED) == (won.run().value, won.breaker.state)
    assert 1 == len(won.of(HedgeWon))


@pair("hedge", "circuit_breaker")
def test_a_trial_is_not_hedged_without_a_second_permit(play):
    """
    The half-open breaker's one permit is the first attempt's; the hedge that it refuses doesn't end the call.
    """
    breaker = opens_after(1, 8.0)
    case = play(fails(lost), gives("paid", 3.0), hedge=beside(1.0), circuit_breaker=breaker)
    case.call()
    trial = case.call(at=10.0)
    case.go()

    assert ("paid", 13.0, 2) == (trial.value, trial.ended, case.calls)
    assert ["circuit_breaker"] == [event.layer for event in case.of(HedgeSkipped)]


@pair("hedge", "rate_limit")
def test_a_hedge_is_a_start_and_never_waits_for_one(play):
    """
    One that has no start now is not sent, and takes none that another call may have.
    """
    sent = play(hangs(), gives("paid", 0.5), deadline=60.0, hedge=beside(1.0), rate_limit=rate(2, 30.0))

    assert ("paid", [0.0, 1.0]) == (sent.run().value, sent.starts)

    skipped = play(gives("paid", 3.0), hedge=beside(1.0), rate_limit=rate(1, 30.0, max_wait=60.0))

    assert ("paid", [0.0], 1) == (skipped.run().value, skipped.starts, skipped.calls)
    assert ["queue"] == [event.layer for event in skipped.of(HedgeSkipped)]


@pair("hedge", "bulkhead")
def test_a_hedge_needs_a_slot_of_its_own(play):
    """
    With one slot there is no second attempt beside the first; with two, both are held until both have ended.
    """
    alone = play(gives("paid", 3.0), hedge=beside(1.0), bulkhead=ONE_SLOT)

    assert ("paid", 1, 0) == (alone.run().value, alone.calls, alone.in_use)

    seen = []
    two = play(hangs(), gives("paid", 1.0), deadline=60.0, hedge=beside(1.0), bulkhead=BulkheadConfig(max_concurrent=2))
    found = two.call()
    two.at(1.5, lambda: seen.append(two.in_use))
    two.go()

    assert ("paid", [2], 0) == (found.value, seen, two.in_use)


@pair("hedge", "bulkhead")
def test_a_loser_that_runs_on_keeps_its_slot(play):
    """
    A plain function can't be ended: its caller has the winner's value, the server still has the work.
    """
    seen = []
    bulkhead = BulkheadConfig(max_concurrent=2)
    case = play(hangs(6.0, lingers=4.0), gives("paid", 1.0), hedge=beside(1.0), bulkhead=bulkhead, plain=True)
    found = case.call()
    case.at(3.0, lambda: seen.append(case.in_use))
    case.go()

    assert ("paid", [1], 0) == (found.value, seen, case.in_use)


@pair("hedge", "timeout")
def test_each_attempt_has_its_own_timeout(play):
    """
    It begins with the attempt: the first runs out of time while the second goes on, and wins.
    """
    case = play(hangs(), gives("paid", 1.75), hedge=beside(1.0), timeout=timeout(2.0))
    found = case.run()

    assert ("paid", 2.75) == (found.value, found.ended)
    assert [(1, TIMEOUT)] == [(event.attempt, event.error_code) for event in case.of(AttemptFailed)]


@pair("hedge", "timeout")
def test_a_timeout_before_the_delay_leaves_nothing_to_stand_beside(play):
    """
    Nothing is sent: the attempt is over before.
    """
    case = play(hangs(), hedge=beside(3.0), timeout=timeout(2.0))

    assert (TIMEOUT, 1, []) == (case.run().code, case.calls, case.of(HedgeSent))


@pair("hedge", "chaos")
def test_each_attempt_meets_chaos_of_its_own(play):
    """
    Each has a draw of its own, so the second may be spared what the first met.
    """
    case = play(gives("slow", 3.0), hedge=beside(1.0), chaos=injects(LOST, 0.5, seed=seed_that(False, True)))
    found = case.run()

    assert ("slow", 2, 1) == (found.value, found.outcome.attempts, case.calls)


@pair("hedge", "chaos")
def test_an_injected_delay_is_what_hedges_are_for(play):
    """
    An attempt that chaos delays is an attempt that takes long; the one beside it is sent in time.
    """
    case = play(gives("paid", 0.5), deadline=60.0, hedge=beside(1.0), chaos=delays(9.0, 1.0))
    found = case.run()

    assert ("paid", 9.5, 2) == (found.value, found.ended, found.outcome.attempts)
    assert [1.0] == [event.delay for event in case.of(HedgeSent)]
