"""Counting without a lock."""

from __future__ import annotations

import itertools
import threading

from pixel_llm.monitoring.counts import Counts, Peak


class TestCounts:
    def test_nothing_is_lost(self, busily):
        """
        Threads that count at once, new keys among them, count every one.
        """
        counts = Counts()

        def work():
            for number in range(2000):
                counts.add(number % 100)

        busily([work] * 8)

        assert dict.fromkeys(range(100), 160) == counts.read()


class TestPeak:
    def test_is_the_highest(self):
        """
        Whatever comes in whatever order.
        """
        peak = Peak()

        assert [0, 3, 3, 3, 7, 7] == [peak.raised_to(number) for number in (0, 3, 1, 3, 7, 0)]

    def test_that_is_raised_meanwhile_does_not_go_back(self):
        """
        Whoever is interrupted, while he looks which number is higher, does not put the lower one in its place.
        """
        looks, goes_on = threading.Event(), threading.Event()

        class Interrupted(int):
            def __gt__(self, other):
                if not looks.is_set():
                    looks.set()
                    assert goes_on.wait(30)
                return int(self) > int(other)

        peak = Peak()
        thread = threading.Thread(target=peak.raised_to, args=(Interrupted(1),))
        thread.start()
        assert looks.wait(30)
        raised = peak.raised_to(2)
        goes_on.set()
        thread.join(30)

        assert (2, 2) == (raised, peak.raised_to(0))

    def test_never_goes_back(self, busily):
        """
        However many raise it at once, nobody gets less than what anybody had before he asked.
        """
        peak, numbers, had = Peak(), itertools.count(), [0]

        def work():
            fallen = 0
            for _ in range(1000):
                before = had[-1]
                number = peak.raised_to(max(0, next(numbers) - 5))
                fallen += number < before
                had.append(number)
                had.append(max(had[-2:]))
            return fallen

        assert [0] * 8 == busily([work] * 8)

    def test_remembers_no_more_than_it_needs(self, busily):
        """
        What is no longer the highest is forgotten.
        """
        peak = Peak()
        busily([lambda: [peak.raised_to(number) for number in range(1000)]] * 4)
        peak.raised_to(1000)

        assert {1000: None} == peak._known
