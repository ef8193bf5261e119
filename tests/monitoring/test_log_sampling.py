"""Most of many records that say the same are left out, and nobody is left in the dark about it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from logs_reading import read
from PIL import Image

from pixel_llm import HybridPixelLLM, load_policies
from pixel_llm.errors import ErrorCode
from pixel_llm.events import CallRefused, CircuitStateChanged, Event, FallbackServed, ModelLoaded, PolicyReloadFailed
from pixel_llm.monitoring.event_log import EventLog
from pixel_llm.monitoring.logs.sampling import MOST_KEYS, Sampling
from pixel_llm.policy import LoggingConfig, LogLevel, SamplingConfig
from pixel_llm.testing import Answer, ScriptedLMStudio, VirtualClock


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

    def test_another_exception_is_other_news(self, keep):
        """
        The same words with an exception of another type are another bug: it is written.
        """
        kept = keep(sampling=SamplingConfig(every=100))
        for error in (ValueError("a"), ValueError("b"), KeyError("a"), KeyError("b")):
            kept.logger.error("failed", exc_info=error)

        assert ["ValueError", "KeyError"] == [record["exception_type"] for record in kept.records()]

    def test_without_sampling_leaves_nothing_out(self, keep):
        """
        By default every record is written.
        """
        kept = keep()
        for _ in range(5):
            kept.logger.info("busy")

        assert (5, 0) == (len(kept.records()), kept.log.left_out)


class TestEvents:
    def test_another_exception_without_a_code_is_other_news(self, tmp_path):
        """
        A target that fails of a second bug says so, however often the first one was told.
        """
        errors = [KeyError(1), KeyError(2), KeyError(3), RuntimeError(1), RuntimeError(2)]
        (tmp_path / "shop.yaml").write_text(
            f"version: 1\nlogging: {{file: {tmp_path}/log, sampling: {{every: 100}}}}\ntargets: {{shop.pay: {{}}}}"
        )

        def fail() -> None:
            raise errors.pop(0)

        with load_policies(tmp_path, "shop", variables={}) as policies:
            pay = policies.wrap("shop.pay", fail)
            while errors:
                with pytest.raises((KeyError, RuntimeError)):
                    pay()
        failed = [record["extra"] for record in read(tmp_path / "log") if record["message"] == "call_failed"]

        assert ["KeyError: 1", "RuntimeError: 1"] == [extra["error"] for extra in failed]

    @pytest.mark.parametrize(
        ("first", "second", "same"),
        [
            (
                CircuitStateChanged("shop.pay", "closed", "open", 5, ErrorCode.ERR_CONN_LOST),
                CircuitStateChanged("shop.pay", "half_open", "closed", 0, ErrorCode.ERR_CONN_LOST),
                CircuitStateChanged("shop.pay", "closed", "open", 7, ErrorCode.ERR_CONN_LOST),
            ),
            (
                FallbackServed("shop.pay", "cache", None, 3.0),
                FallbackServed("shop.pay", "default_value", None, None),
                FallbackServed("shop.pay", "cache", None, 4.0),
            ),
            (
                CallRefused("shop.pay", "bulkhead", None, 1.0),
                CallRefused("shop.pay", "timeout", None, 1.0),
                CallRefused("shop.pay", "bulkhead", None, 2.0),
            ),
            (
                ModelLoaded("shop.pay", "http://a", "qwen", 1.0),
                ModelLoaded("shop.pay", "http://b", "qwen", 1.0),
                ModelLoaded("shop.pay", "http://a", "qwen", 2.0),
            ),
            (
                PolicyReloadFailed("shop", ("a",)),
                PolicyReloadFailed("shop", ("b",)),
                PolicyReloadFailed("shop", ("a",)),
            ),
        ],
        ids=lambda event: event.name,
    )
    def test_what_names_something_else_is_other_news(self, tmp_path, first: Event, second: Event, same: Event):
        """
        A breaker that closes does not say what one that opens says; numbers make no difference.
        """
        log = EventLog(LoggingConfig(file=str(tmp_path / "log"), sampling=SamplingConfig(every=100)), profile="shop")
        for event in (first, second, same):
            log(event)
        log.close()
        told: list[dict[str, Any]] = read(tmp_path / "log")

        assert [first.name, second.name, "records_left_out"] == [record["message"] for record in told]

    def test_content_is_never_left_out(self, tmp_path):
        """
        ``log_content: full`` writes each prompt and its caption down, sampling or not.
        """
        logging = {"file": f"{tmp_path}/log", "log_content": "full", "sampling": {"every": 100}}
        prompts = [f"What is it, {number}?" for number in range(5)]
        with ScriptedLMStudio(then=Answer()) as server:
            config = {"lm_studio": {"base_url": server.base_url, "vision": "image"}, "logging": logging}
            with HybridPixelLLM("basic", error_config=config) as model:
                for prompt in prompts:
                    model.generate(Image.new("RGB", (4, 4)), prompt=prompt)
        contents = [record["extra"] for record in read(tmp_path / "log") if record["message"] == "content"]

        assert prompts == [content["prompt"] for content in contents]
