"""The log of a rate limit: what holds while one limit follows another."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixel_llm.resilience.queues.start_log import StartLog

limits = st.tuples(st.integers(1, 5), st.sampled_from([0.1, 0.3, 1.0, 4.0]))


def full(log: StartLog, *moments: float) -> StartLog:
    for moment in moments:
        assert log.has_room(moment)
        log.add(moment)
    return log


class TestChange:
    def test_a_smaller_limit_counts_what_has_started(self):
        """
        After the change the next start waits until the window holds fewer than the new limit.
        """
        log = full(StartLog(3, 1.0), 0.0, 0.5, 0.75)

        log.change(2, 1.0, 0.75)

        assert not log.has_room(1.0)
        assert 1.5 == log.ready_at(0, 1.0)
        assert 1.75 == log.ready_at(1, 1.0)
        assert log.has_room(1.5)

    def test_a_larger_limit_lets_more_start_at_once(self):
        """
        Where nothing was dropped, what is missing in the window may start.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.5)

        log.change(3, 1.0, 0.5)

        assert log.has_room(0.5)
        full(log, 0.5)
        assert not log.has_room(0.75)

    def test_a_longer_period_counts_what_has_started(self):
        """
        The starts of the old period are in the new one, too.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.5)

        log.change(2, 4.0, 2.0)

        assert not log.has_room(3.75)
        assert 4.0 == log.ready_at(0, 2.0)

    def test_what_the_log_has_dropped_counts_as_late_as_it_can_have_been(self):
        """
        Of more calls than the old log held, only the old limit is known: one period before those that followed.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.5, 2.0, 2.5)

        log.change(4, 10.0, 2.5)

        assert (1.0, 1.5, 2.0, 2.5) == log.starts
        assert not log.has_room(10.99)
        assert log.has_room(11.0)

    def test_what_it_has_dropped_was_before_all_that_it_holds(self):
        """
        A dropped start counts as one period before another one, or as the oldest that is held, if that is earlier.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.5, 2.0, 9.0)

        log.change(4, 10.0, 9.0)

        assert pytest.approx((1.0, 2.0, 2.0, 9.0)) == log.starts

    def test_no_more_than_it_has_dropped(self):
        """
        Starts that never were don't count.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.5, 2.0)

        log.change(9, 10.0, 2.0)

        assert (0.5, 0.5, 2.0) == log.starts
        full(log, *[2.0] * 6)
        assert not log.has_room(10.0)

    def test_no_more_than_the_new_limit_asks_for(self):
        """
        The log holds as many as its largest limit.
        """
        log = full(StartLog(1, 1.0), 0.0, 1.0, 2.0, 3.0)

        log.change(2, 1.0, 3.0)

        assert pytest.approx((2.0, 3.0)) == log.starts

    def test_a_start_that_never_was_leaves_room_for_one_that_could_have_been_now(self):
        """
        With a place free, the next start that the old limit allowed would have been now: a dropped one is a period ago.
        """
        log = full(StartLog(2, 1.0), 0.0, 4.0, 5.0)
        log.forget(5.0)

        log.change(3, 10.0, 5.0)

        assert (4.0, 4.0) == log.starts

    def test_a_limit_that_sinks_and_rises_forgets_nothing(self):
        """
        The log stays as long as it was: what has started before counts when the limit has risen again.
        """
        log = full(StartLog(3, 4.0), 0.0, 1.0, 2.0)

        log.change(1, 4.0, 2.0)
        log.change(3, 4.0, 2.0)

        assert not log.has_room(3.75)
        assert log.has_room(4.0)

    def test_an_earlier_and_shorter_period_counts_for_what_was_dropped(self):
        """
        Of what was dropped while the period was short, no more is known than that short period.
        """
        log = full(StartLog(1, 0.25), 0.0, 0.25)
        log.change(1, 4.0, 0.25)

        log.change(2, 4.0, 1.0)

        assert pytest.approx((0.0, 0.25)) == log.starts

    def test_a_start_that_never_was_gives_its_place_back(self):
        """
        The one that it pushed out of the log counts again: a longer period asks for it.
        """
        log = full(StartLog(1, 0.25), 0.5, 0.75, 1.0)
        log.change(1, 4.0, 1.5)

        log.forget(1.0)

        assert pytest.approx((0.75,)) == log.starts
        assert not log.has_room(4.7)
        assert log.has_room(4.8)

    def test_under_one_limit_it_takes_no_room(self):
        """
        A start that was pushed out is older than the period of the one that never was.
        """
        log = full(StartLog(2, 1.0), 0.0, 0.1, 1.0, 1.2)
        log.forget(1.0)

        assert log.has_room(1.2)


#: What a start becomes: it stays, never was as is known at once, or as is known some steps later.
fates = st.sampled_from(["stays", "never was", "will never have been"])


@given(
    st.lists(limits, min_size=2, max_size=4),
    st.lists(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.7]), fates, st.booleans()), max_size=12), min_size=4),
)
@example(
    [(2, 1.0), (4, 4.0)],
    [[(0.0, "stays", False)] * 2 + [(0.5, "stays", False)] * 4, [(0.0, "stays", False)] * 6, [], []],
)
@example(
    [(1, 0.1), (1, 4.0)],
    [[(0.1, "stays", False), (0.1, "will never have been", False)], [(0.0, "stays", True)] * 2, [], []],
)
def test_no_window_with_a_start_after_a_change_holds_too_many(chain: list[Any], schedule: list[Any]):
    """
    However limits follow each other, a call starts only where the window that ends with it has room for it.

    The starts are all kept here, so what the log has dropped must not have been forgotten to anybody's advantage.
    """
    log, now, starts, doubtful = StartLog(*chain[0]), 0.0, [], []
    for number, (max_calls, period) in enumerate(chain):
        if number:
            log.change(max_calls, period, now)
        for wait, fate, is_known in schedule[number]:
            now += wait
            if is_known and doubtful:
                never = doubtful.pop()
                starts.remove(never)
                log.forget(never)
            if not log.has_room(now):
                assert log.ready_at(0, now) > now
                continue
            log.add(now)
            within = [start for start in starts if now - start < period]
            assert len(within) < max_calls
            if fate == "never was":
                log.forget(now)
                continue
            starts.append(now)
            if fate != "stays":
                doubtful.append(now)
    held = log.starts
    assert all(first <= second for first, second in pairwise(held))
    assert len(held) <= max(max_calls for max_calls, _ in chain)
