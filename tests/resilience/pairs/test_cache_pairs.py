"""The read-through cache, and what every layer within means for it: a hit asks none of them, a flight passes once."""

from __future__ import annotations

from pair_parts import (
    AT_ONCE,
    FULL,
    LOST,
    MINUTE,
    ONE_SLOT,
    REFUSED,
    TIMEOUT,
    injects,
    lost,
    opens_after,
    rate,
    timeout,
    waits,
)
from pair_play import fails, gives, hangs
from pair_table import pair

from pixel_llm.events import ChaosInjected
from pixel_llm.policy import BulkheadConfig, ChaosConfig, ChaosResult
from pixel_llm.resilience import CircuitState


@pair("cache", "retry")
def test_a_hit_makes_no_attempt(play):
    """
    What is kept is the value of the attempt that succeeded, for the call as a whole.
    """
    case = play(fails(lost), gives("paid"), cache=MINUTE, retry=AT_ONCE)
    found = [case.run("visa").outcome for _ in range(2)]

    assert [("paid", 2), ("paid", 0)] == [(one.value, one.attempts) for one in found]


@pair("cache", "retry")
def test_a_flight_lasts_until_the_retries_end(play):
    """
    Who comes while the leader waits to try again follows it: equal calls don't multiply the retries.
    """
    case = play(fails(lost, 1.0), gives("paid", 1.0), cache=MINUTE, retry=waits(3.0))
    found = [case.call("visa", at=moment) for moment in (0.0, 2.0, 4.5)]
    case.go()

    assert [("paid", 5.0)] * 3 == [(one.value, one.ended) for one in found]
    assert [0.0, 4.0] == case.began


@pair("cache", "circuit_breaker")
def test_a_hit_does_not_ask_the_breaker(play):
    """
    What is fresh is given while the target is ill; what isn't there is refused.
    """
    case = play(gives("paid"), fails(lost), cache=MINUTE, circuit_breaker=opens_after(1))
    case.run("visa")
    case.run("amex")

    assert ("paid", REFUSED) == (case.run("visa").value, case.run("amex").code)


@pair("cache", "circuit_breaker")
def test_equal_calls_are_one_trial(play):
    """
    While the breaker is half open one permit serves all that are equal; another call is refused meanwhile.
    """
    case = play(fails(lost), gives("paid", 2.0), cache=MINUTE, circuit_breaker=opens_after(1, 8.0))
    case.call("visa")
    equal = [case.call("visa", at=moment) for moment in (10.0, 10.5, 11.0)]
    other = case.call("amex", at=11.5)
    case.go()

    assert (["paid"] * 3, 2) == ([one.value for one in equal], case.calls)
    assert ("ERR_CB_HALF_OPEN", CircuitState.CLOSED) == (other.code, case.breaker.state)


@pair("cache", "rate_limit")
def test_hits_and_followers_use_no_start(play):
    """
    Only the call that is made is a start; an equal one may come as often as it likes.
    """
    case = play(gives("paid", 1.0), cache=MINUTE, rate_limit=rate(1, 10.0))
    found = [case.call("visa", at=moment) for moment in (0.0, 0.5, 2.0, 3.0)]
    case.go()

    assert (["paid"] * 4, [0.0]) == ([one.value for one in found], case.starts)
    assert ["call", "shared_call", "cache_hit", "cache_hit"] == [one.outcome.served_by for one in found]


@pair("cache", "bulkhead")
def test_hits_and_followers_need_no_slot(play):
    """
    Equal calls hold one slot together, and what is fresh is given while every slot is taken.
    """
    case = play(gives("paid", 4.0), cache=MINUTE, bulkhead=ONE_SLOT)
    case.run("visa")
    found = [case.call("amex", at=5.0), case.call("amex", at=6.0), case.call("visa", at=7.0)]
    case.go()

    assert [("paid", 9.0), ("paid", 9.0), ("paid", 7.0)] == [(one.value, one.ended) for one in found]


@pair("cache", "bulkhead")
def test_a_refused_leader_is_everybody_s_refusal(play):
    """
    The leader queued for all of them; they don't queue anew, one after the other.
    """
    bulkhead = BulkheadConfig(max_concurrent=1, max_waiting=1, max_wait=2.0)
    case = play(gives("paid", 9.0), cache=MINUTE, bulkhead=bulkhead)
    case.call("visa")
    found = [case.call("amex", at=1.0), case.call("amex", at=2.0)]
    case.go()

    assert [(FULL, 3.0)] * 2 == [(one.code, one.ended) for one in found]
    assert 1 == case.calls


@pair("cache", "timeout")
def test_an_attempt_out_of_time_has_failed_for_all(play):
    """
    The timeout is the target's, not the leader's: followers fail with it, and don't try a target that hangs.
    """
    case = play(hangs(), cache=MINUTE, timeout=timeout(2.0))
    found = [case.call("visa"), case.call("visa", at=1.0)]
    case.go()

    assert [(TIMEOUT, 2.0)] * 2 == [(one.code, one.ended) for one in found]
    assert 1 == case.calls


@pair("cache", "timeout")
def test_a_result_that_comes_too_late_is_not_kept(play):
    """
    A plain function that was left behind may end well: its caller was told otherwise, and the next call is made.
    """
    case = play(hangs(3.0), gives("paid"), cache=MINUTE, timeout=timeout(2.0), plain=True)
    late, after = case.call("visa"), case.call("visa", at=5.0)
    case.go()

    assert (TIMEOUT, "paid", 2) == (late.code, after.value, case.calls)


@pair("cache", "chaos")
def test_an_injected_error_is_not_kept(play):
    """
    An injected failure is everybody's, like a real one, and the next call is made, and meets chaos anew.
    """
    case = play(gives("paid"), cache=MINUTE, chaos=injects())

    assert [LOST, LOST] == [case.run("visa").code for _ in range(2)]
    assert 2 == len(case.of(ChaosInjected))


@pair("cache", "chaos")
def test_an_injected_result_is_kept(play):
    """
    To the layers above it is the callable's own; a hit meets no chaos, since nothing is called.
    """
    case = play(gives("paid"), cache=MINUTE, chaos=ChaosConfig(result=ChaosResult(rate=1.0, value="odd")))

    assert ["odd", "odd"] == [case.run("visa").value for _ in range(2)]
    assert 1 == len(case.of(ChaosInjected))
