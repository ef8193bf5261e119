"""The fallback, and what every layer within means for it: it serves in place of all of them."""

from __future__ import annotations

import pytest
from pair_parts import (
    AT_ONCE,
    FULL,
    LOST,
    MINUTE,
    ONE_SLOT,
    ONE_SLOT_AND_A_QUEUE,
    RATE,
    REFUSED,
    SORRY,
    TIMEOUT,
    asks_a_function,
    injects,
    lost,
    opens_after,
    rate,
    timeout,
    wrong_key,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.errors import ErrorCode
from pixel_llm.policy import ChaosConfig, ChaosResult, RetryBudgetConfig, RetryConfig, RetryStrategy
from pixel_llm.resilience import CircuitState, current_limits


@pair("fallback", "cache")
def test_what_a_fallback_served_is_not_kept(play):
    """
    The next call is made; and a fresh result is given without asking the fallback.
    """
    case = play(fails(lost), gives("paid"), fallback=SORRY, cache=MINUTE)
    found = [case.run("visa").outcome for _ in range(3)]

    assert [("sorry", True), ("paid", False), ("paid", False)] == [(one.value, one.degraded) for one in found]
    assert ("cache_hit", 2) == (found[2].served_by, case.calls)


@pair("fallback", "cache")
def test_each_follower_has_its_own_fallback(play):
    """
    One call has failed for all that are equal; each is served in its place, and its outcome says so.
    """
    case = play(fails(lost, 2.0), fallback=SORRY, cache=MINUTE)
    found = [case.call("visa", at=moment) for moment in (0.0, 0.5, 1.0)]
    case.go()

    assert [("sorry", 2.0)] * 3 == [(one.value, one.ended) for one in found]
    assert (1, [1, 0, 0]) == (case.calls, [one.outcome.attempts for one in found])


@pair("fallback", "cache")
def test_it_serves_who_follows_until_its_caller_s_deadline(play):
    """
    The inner call's fallback comes before the caller's: its value is there when the caller's time is up.
    """
    case = play(gives("paid", 8.0), fallback=SORRY, cache=MINUTE)
    leader, late = case.call("visa"), case.call("visa", at=1.0, within=2.0)
    case.go()

    assert (("sorry", 3.0), "paid") == ((late.value, late.ended), leader.value)


@pair("fallback", "retry")
def test_it_serves_when_the_attempts_are_used_up(play):
    """
    Never before; the outcome counts the attempts, and knows the last error.
    """
    case = play(fails(lost, 1.0), fallback=SORRY, retry=AT_ONCE)
    found = case.run()

    assert ("sorry", 3, 3.0) == (found.value, found.outcome.attempts, found.ended)
    assert (LOST, 3) == (found.outcome.error.error_code, len(found.outcome.error.history))


@pair("fallback", "retry")
def test_it_serves_when_the_retry_budget_is_empty(play):
    """
    An empty budget ends the retries, not the call: the fallback stands in for it.
    """
    budget = RetryBudgetConfig(ratio=0.0, min_retries=1)
    retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=3, budget=budget)
    found = play(fails(lost), fallback=SORRY, retry=retry).run()

    assert ("sorry", 2) == (found.value, found.outcome.attempts)
    assert ErrorCode.ERR_RETRY_BUDGET is found.outcome.error.error_code


@pair("fallback", "circuit_breaker")
def test_it_serves_while_the_breaker_refuses(play):
    """
    Without an attempt; and what it serves is no success that would close the breaker.
    """
    case = play(fails(lost), fallback=SORRY, circuit_breaker=opens_after(1))
    case.run()
    found = case.run()

    assert ("sorry", 0, REFUSED) == (found.value, found.outcome.attempts, found.outcome.error.error_code)
    assert (CircuitState.OPEN, 1) == (case.breaker.state, case.calls)


@pair("fallback", "circuit_breaker")
def test_what_trying_again_cannot_mend_is_neither_counted_nor_served(play):
    """
    A wrong key must be seen: it passes the breaker without opening it, and the fallback without being hidden.
    """
    case = play(fails(wrong_key), fallback=SORRY, circuit_breaker=opens_after(1))

    assert ErrorCode.ERR_API_UNAUTHORIZED is case.run().code
    assert CircuitState.CLOSED is case.breaker.state


@pair("fallback", "rate_limit")
def test_it_serves_when_the_rate_limit_refuses(play):
    """
    At once, without an attempt, and without using a start that another call may have.
    """
    case = play(gives("paid"), fallback=SORRY, rate_limit=rate(1, 10.0))
    found = [case.call(at=moment) for moment in (0.0, 1.0, 10.0)]
    case.go()

    assert ["paid", "sorry", "paid"] == [one.value for one in found]
    assert (RATE, 0.0) == (found[1].outcome.error.error_code, found[1].took)


@pair("fallback", "bulkhead")
def test_it_serves_when_the_bulkhead_is_full(play):
    """
    Without an attempt, while others have all the slots.
    """
    case = play(gives("paid", 4.0), fallback=SORRY, bulkhead=ONE_SLOT)
    first, second = case.call(), case.call(at=1.0)
    case.go()

    assert ("paid", "sorry", 1.0) == (first.value, second.value, second.ended)
    assert (FULL, 0) == (second.outcome.error.error_code, second.outcome.attempts)


@pair("fallback", "bulkhead")
def test_its_steps_hold_no_slot(play):
    """
    The failed attempt's slot is given back before a step is asked, which may take its time.
    """
    seen = []
    case = play(fails(lost), fallback=asks_a_function(), bulkhead=ONE_SLOT, functions={"ask": lambda: seen[0]()})
    seen.append(lambda: f"{case.in_use} in use")

    assert "0 in use" == case.run().value


@pair("fallback", "bulkhead")
def test_it_serves_who_queues_until_its_caller_s_deadline(play):
    """
    The inner call's fallback comes before the caller's: its value is there when the caller's time is up.
    """
    case = play(gives("paid", 8.0), fallback=SORRY, bulkhead=ONE_SLOT_AND_A_QUEUE)
    case.call()
    late = case.call(at=1.0, within=2.0)
    case.go()

    assert ("sorry", 3.0) == (late.value, late.ended)


@pair("fallback", "timeout")
def test_it_serves_for_an_attempt_out_of_time(play):
    """
    At the end of the timeout, which bounds no step of the fallback: only the deadline does.
    """
    left = []

    def ask():
        left.append(current_limits().remaining())
        return "asked"

    case = play(hangs(), deadline=9.0, fallback=asks_a_function(), timeout=timeout(2.0), functions={"ask": ask})
    found = case.run()

    assert ("asked", 2.0, TIMEOUT) == (found.value, found.ended, found.outcome.error.error_code)
    assert [7.0] == left


@pair("fallback", "chaos")
@pytest.mark.parametrize(
    ("code", "expected"), [(LOST, "sorry"), (ErrorCode.ERR_API_UNAUTHORIZED, None)], ids=["transient", "permanent"]
)
def test_injected_errors_are_served_for_like_real_ones(play, code, expected):
    """
    What would be served for if it were real, and nothing else; and the steps meet no chaos of their own.
    """
    case = play(gives("paid"), fallback=SORRY, chaos=injects(code))
    found = case.run()

    assert (expected, 0) == ((found.error is None and found.value) or None, case.calls)
    assert code is (found.error or found.outcome.error).error_code


@pair("fallback", "chaos")
def test_an_injected_result_is_no_failure(play):
    """
    To the fallback it is a result like any other: nothing is degraded.
    """
    found = play(gives("paid"), fallback=SORRY, chaos=ChaosConfig(result=ChaosResult(rate=1.0, value="odd"))).run()

    assert ("odd", False) == (found.value, found.outcome.degraded)
