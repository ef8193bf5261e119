"""The layers before the call: rate limit, bulkhead, timeout and chaos, each with those within."""

from __future__ import annotations

from pair_parts import (
    FULL,
    LOST,
    ONE_SLOT,
    ONE_SLOT_AND_A_QUEUE,
    RATE,
    TIMEOUT,
    delays,
    injects,
    rate,
    timeout,
)
from pair_play import gives, hangs
from pair_table import pair

from pixel_llm.events import CallQueued
from pixel_llm.policy import BulkheadConfig


@pair("rate_limit", "bulkhead")
def test_a_start_is_when_the_slot_is_there(play):
    """
    One that queues for its slot moves its start there: the window holds for what the server sees.
    """
    case = play(
        gives("paid", 5.0),
        rate_limit=rate(2, 4.0, max_wait=60.0),
        bulkhead=BulkheadConfig(max_concurrent=2, max_waiting=9),
    )
    found = [case.call(at=moment / 8) for moment in range(6)]
    case.go()

    assert ["paid"] * 6 == [one.value for one in found]
    assert all(later - earlier >= 4.0 for earlier, later in zip(case.began, case.began[2:], strict=False))
    assert 0 == case.in_use


@pair("rate_limit", "bulkhead")
def test_a_full_bulkhead_gives_the_start_back(play):
    """
    Whoever is refused a slot has not started: another call may.
    """
    case = play(gives("paid", 2.0), rate_limit=rate(2, 60.0), bulkhead=ONE_SLOT)
    case.call()
    refused, after = case.call(at=1.0), case.call(at=3.0)
    case.go()

    assert (FULL, "paid", [0.0, 3.0]) == (refused.code, after.value, case.starts)


@pair("rate_limit", "bulkhead")
def test_who_waits_for_a_turn_holds_no_slot(play):
    """
    The turn comes first, then the slot.
    """
    seen = []
    case = play(gives("paid"), rate_limit=rate(1, 4.0, max_wait=9.0), bulkhead=ONE_SLOT)
    case.call()
    waiting = case.call(at=1.0)
    case.at(2.0, lambda: seen.append(case.in_use))
    case.go()

    assert ([0], "paid", 4.0) == (seen, waiting.value, waiting.ended)


@pair("rate_limit", "timeout")
def test_the_wait_for_a_turn_is_no_part_of_the_timeout(play):
    """
    The attempt begins with its turn, and then has all its time.
    """
    case = play(gives("first"), gives("paid", 1.75), rate_limit=rate(1, 8.0, max_wait=9.0), timeout=timeout(2.0))
    case.call()
    waiting = case.call(at=1.0)
    case.go()

    assert ("paid", 9.75) == (waiting.value, waiting.ended)
    assert [7.0] == [event.waited for event in case.of(CallQueued)]


@pair("rate_limit", "timeout")
def test_an_attempt_out_of_time_has_used_its_start(play):
    """
    The server has seen it begin: the next one must wait for its own turn.
    """
    case = play(hangs(), gives("paid"), rate_limit=rate(1, 8.0), timeout=timeout(2.0))
    late, refused, after = case.call(), case.call(at=3.0), case.call(at=8.0)
    case.go()

    assert (TIMEOUT, RATE, 5.0, "paid") == (late.code, refused.code, refused.error.retry_after, after.value)


@pair("rate_limit", "chaos")
def test_an_attempt_that_chaos_fails_has_used_its_start(play):
    """
    To the rate limit it is an attempt like any other, though the callable isn't called; a refused one meets no chaos.
    """
    case = play(gives("paid"), rate_limit=rate(1, 8.0), chaos=injects())
    failed, refused = case.call(), case.call(at=3.0)
    case.go()

    assert (LOST, RATE, [0.0], 0) == (failed.code, refused.code, case.starts, case.calls)


@pair("rate_limit", "chaos")
def test_an_injected_delay_comes_after_the_turn(play):
    """
    The start is stamped before it, so the callable is called later than its start, never before.
    """
    case = play(gives("paid"), rate_limit=rate(1, 8.0), chaos=delays(3.0))
    case.run()

    assert ([0.0], [3.0]) == (case.starts, case.began)


@pair("bulkhead", "timeout")
def test_the_queue_is_no_part_of_the_timeout(play):
    """
    The attempt begins with its slot, and then has all its time.
    """
    case = play(gives("paid", 1.75), bulkhead=ONE_SLOT_AND_A_QUEUE, timeout=timeout(2.0))
    found = [case.call(at=moment / 8) for moment in range(3)]
    case.go()

    assert [("paid", 1.75), ("paid", 3.5), ("paid", 5.25)] == [(one.value, one.ended) for one in found]


@pair("bulkhead", "timeout")
def test_an_attempt_keeps_its_slot_until_it_has_really_ended(play):
    """
    A plain function that was left in its thread still loads the server, and so does what takes its time to end when
    it is told to: nobody else has the slot until then.
    """
    seen = []
    case = play(hangs(5.0, lingers=3.0), gives("paid"), bulkhead=ONE_SLOT, timeout=timeout(2.0), plain=True)
    late, refused, after = case.call(), case.call(at=4.0), case.call(at=6.0)
    case.at(4.5, lambda: seen.append(case.in_use))
    case.go()

    assert (TIMEOUT, FULL, "paid") == (late.code, refused.code, after.value)
    assert ([1], 0) == (seen, case.in_use)


@pair("bulkhead", "chaos")
def test_an_injected_delay_holds_the_slot(play):
    """
    As a slow server would; the slot comes back when the attempt is over, injected errors included.
    """
    case = play(gives("paid"), bulkhead=ONE_SLOT, chaos=injects(delay=delays(3.0).delay))
    failed, refused, after = case.call(), case.call(at=1.0), case.call(at=4.0)
    case.go()

    assert ([LOST, FULL, LOST], 0) == ([failed.code, refused.code, after.code], case.in_use)
    assert [3.0, 0.0, 3.0] == [failed.took, refused.took, after.took]


@pair("timeout", "chaos")
def test_an_injected_delay_is_cut_by_the_timeout(play):
    """
    It is part of the attempt: one that takes all the time ends like a server that hangs, without a call.
    """
    case = play(gives("paid"), timeout=timeout(2.0), chaos=delays(5.0))
    found = case.run()

    assert (TIMEOUT, 2.0, 0) == (found.code, found.took, case.calls)


@pair("timeout", "chaos")
def test_a_shorter_delay_leaves_the_rest_of_the_timeout(play):
    """
    The callable has what the delay has left over.
    """
    in_time = play(gives("paid", 0.25), timeout=timeout(2.0), chaos=delays(1.5)).run()
    late = play(gives("paid", 0.75), timeout=timeout(2.0), chaos=delays(1.5)).run()

    assert ("paid", 1.75, TIMEOUT, 2.0) == (in_time.value, in_time.took, late.code, late.took)
