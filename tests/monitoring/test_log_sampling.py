"""Most of many records that say the same are left out, and nobody is left in the dark about it."""

from __future__ import annotations

import logging
import threading

from pixel_llm.errors import ErrorCode
from pixel_llm.monitoring.logs.sampling import MOST_KEYS, Sampling
from pixel_llm.policy import LogLevel, SamplingConfig
from pixel_llm.testing import VirtualClock


def sampling(every=3, period=10.0):
    clock = VirtualClock()
    return Sampling(SamplingConfig(every=every, period=period), clock.monotonic), clock


class TestTake:
    def test_writes_the_first_and_every_so_many_th(self):
        """
        The first is written, then every n-th, which tells how many were left out.
        """
        one, _ = sampling(every=3)

        assert [0, None, None, 2, None, None, 2] == [one.take("a") for _ in range(7)]
        assert 4 == one.left_out

    def test_tells_different_records_apart(self):
        """
        What says something else counts for itself.
        """
        one, _ = sampling()

        assert [0, 0, None, None] == [one.take(key) for key in "abab"]

    def test_begins_anew_after_a_period(self):
        """
        After a while the first is news again; it tells what was left out before.
        """
        one, clock = sampling(every=100, period=10.0)
        for _ in range(5):
            one.take("a")
        clock.advance(9.9)

        assert one.take("a") is None

        clock.advance(0.1)

        assert 5 == one.take("a")
        assert one.take("a") is None

    def test_remembers_a_bounded_number(self):
        """
        Messages without end do not fill the memory; what was left out of those that are forgotten is told at the end.
        """
        one, _ = sampling()
        one.take("first")
        one.take("first")
        for number in range(MOST_KEYS):
            one.take(number)

        assert MOST_KEYS == len(one._seen)
        assert (1, 0) == (one.untold(), one.untold())

    def test_counts_exactly_under_threads(self):
        """
        Written, told and untold are all there were.
        """
        one, _ = sampling(every=7, period=1e9)
        told = []

        def work():
            told.extend(left_out for _ in range(1000) if (left_out := one.take("a")) is not None)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 4000 == len(told) + sum(told) + one.untold()
        assert 4000 == len(told) + one.left_out

    def test_begins_anew_in_a_child(self):
        """
        A forked child has its own counts.
        """
        one, _ = sampling()
        one.take("a")
        one.take("a")
        one.forget()

        assert (0, 0) == (one.take("a"), one.left_out)


class TestLog:
    def test_leaves_out_and_tells(self, keep, caplog):
        """
        Records of the same level, message, logger and code are the same, whatever else they hold; neither the file nor
        the application gets those that are left out. The end tells what no record told.
        """
        caplog.set_level(logging.INFO, "pixel_llm")
        kept = keep(sampling=SamplingConfig(every=3), level=LogLevel.INFO)
        for number in range(5):
            kept.logger.info("busy", number=number)
        kept.logger.warning("busy")
        kept.logger.info("busy", error_code=ErrorCode.ERR_CB_OPEN)
        kept.logger.debug("busy")
        kept.log.close()

        assert [
            ("info", "busy", {"number": 0}),
            ("info", "busy", {"number": 3, "left_out": 2}),
            ("warning", "busy", {}),
            ("info", "busy", {}),
            ("warning", "records_left_out", {"left_out": 1}),
        ] == [(record["level"], record["message"], record["extra"]) for record in kept.records()]
        assert 3 == kept.log.left_out
        assert 3 == sum(record.levelname == "INFO" for record in caplog.records)

    def test_without_sampling_leaves_nothing_out(self, keep):
        """
        By default every record is written.
        """
        kept = keep()
        for _ in range(5):
            kept.logger.info("busy")

        assert (5, 0) == (len(kept.records()), kept.log.left_out)
