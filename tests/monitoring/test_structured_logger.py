from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import structlog
from logs_reading import unheard

from pixel_llm.errors import APIError, ErrorCode, ValidationError
from pixel_llm.monitoring import LogContext, LogLevel, current_context, get_default_logger, get_logger, set_context
from pixel_llm.monitoring.logs import registry
from pixel_llm.monitoring.logs.record import FIELDS
from pixel_llm.policy import LogContent
from pixel_llm.request import set_request_id


@pytest.fixture(autouse=True)
def fresh_context():
    """Each test begins without context, and leaves none behind."""
    names = dict.fromkeys(current_context())
    set_context(**names)
    yield
    set_context(**dict.fromkeys(current_context()))


class TestRecords:
    def test_have_eight_fields(self, keep):
        """
        The fields are always the same ones, in the same order; what is not there is null.
        """
        kept = keep()
        kept.logger.info("order placed", order=17, total=3.5, gift=True, note=None)
        record = kept.record()
        timestamp = record.pop("timestamp")

        assert FIELDS == ("timestamp", *record)
        assert {
            "level": "info",
            "message": "order placed",
            "context": {"logger": "shop"},
            "error_code": None,
            "exception_type": None,
            "stack_trace": None,
            "extra": {"order": 17, "total": 3.5, "gift": True, "note": None},
        } == record
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)

    @pytest.mark.parametrize("level", list(LogLevel))
    def test_have_the_level_of_their_method(self, keep, level):
        """
        Each level has a method; ``log()`` takes any.
        """
        kept = keep(level=LogLevel.DEBUG)
        getattr(kept.logger, level.value.lower())("one")
        kept.logger.log(level.value.lower(), "two")
        kept.logger.log(level, "three")

        assert [level.value.lower()] * 3 == [record["level"] for record in kept.records()]

    def test_of_an_exception_have_its_type_code_and_trace(self, keep):
        """
        An exception is told by its class, the code that classifying gives it, and where it came from.
        """
        kept = keep()
        try:
            raise ConnectionRefusedError("no")
        except OSError as error:
            kept.logger.error("payment failed", exc_info=error)
            kept.logger.exception("payment failed")
            kept.logger.critical("payment failed", exc_info=(type(error), error, error.__traceback__))
        records = kept.records()

        assert {("ConnectionRefusedError", "ERR_CONN_REFUSED")} == {
            (record["exception_type"], record["error_code"]) for record in records
        }
        for record in records:
            assert record["stack_trace"].startswith("Traceback (most recent call last):\n")
            assert 'raise ConnectionRefusedError("no")' in record["stack_trace"]
            assert record["stack_trace"].endswith("ConnectionRefusedError: no")

    def test_of_an_error_of_ours_have_its_code_and_request(self, keep):
        """
        So are errors of ours; the request that one came about in is known where it is logged later.
        """
        kept = keep()
        set_request_id("req-9")
        error = APIError("busy", error_code=ErrorCode.ERR_API_OVERLOAD)
        set_request_id(None)
        kept.logger.warning("busy", exc_info=error)
        record = kept.record()

        kind = "pixel_llm.errors.exceptions.APIError"
        assert ("ERR_API_OVERLOAD", kind, f"{kind}: busy") == (
            record["error_code"],
            record["exception_type"],
            record["stack_trace"],
        )
        assert {"logger": "shop", "request_id": "req-9"} == record["context"]

    @pytest.mark.parametrize("given", ["itself", "a future's", "a tuple"])
    def test_of_an_exception_that_was_never_raised_say_what_it_says(self, keep, given):
        """
        Without a traceback there is still the exception's text, as the standard library prints it.
        """
        kept, error = keep(), ValueError("disk 7 is full")
        future = Future()
        future.set_exception(error)
        kept.logger.error(
            "failed",
            exc_info={"itself": error, "a future's": future.exception(), "a tuple": (ValueError, error, None)}[given],
        )
        record = kept.record()

        assert ("ValueError", "ValueError: disk 7 is full") == (record["exception_type"], record["stack_trace"])

    def test_may_have_fields_of_any_name(self, keep):
        """
        A value may be called what the method's own arguments are called.
        """
        kept = keep()
        kept.logger.info("odd", message=1, level=2, self=3, extra=4)

        assert {"message": 1, "level": 2, "self": 3, "extra": 4} == kept.record()["extra"]

    def test_are_described_on_their_page(self):
        """
        The table of the log entry format has a row for each field, in their order.
        """
        page = (Path(__file__).parents[2] / "docs" / "how-to" / "logging.md").read_text("utf-8")
        table = page.split("## The log entry format")[1].split("\n\n")[2]

        assert list(FIELDS) == re.findall(r"^\| `(\w+)`", table, re.MULTILINE)

    def test_may_be_given_a_code(self, keep):
        """
        A code that is given counts.
        """
        kept = keep()
        kept.logger.error("refused", error_code=ErrorCode.ERR_CB_OPEN, exc_info=ValueError("x"))

        assert "ERR_CB_OPEN" == kept.record()["error_code"]

    def test_without_an_exception_have_none(self, keep):
        """
        ``exception()`` outside an ``except`` is an error like any.
        """
        kept = keep()
        kept.logger.exception("odd")

        assert (None, None) == (kept.record()["exception_type"], kept.record()["stack_trace"])

    def test_hold_what_was_there_at_the_call(self, keep):
        """
        What is changed later does not change a record that still waits.
        """
        kept = keep()
        basket, nested = ["pear"], {"deep": {"list": [1]}}
        error = ValueError("before")
        with LogContext(basket=basket):
            kept.logger.info("basket", basket=basket, nested=nested, error=error)
            basket.append("plum")
            nested["deep"]["list"].append(2)
            error.args = ("after",)
        record = kept.record()

        assert ["pear"] == record["context"]["basket"]
        assert {"basket": ["pear"], "nested": {"deep": {"list": [1]}}, "error": "ValueError: before"} == record["extra"]

    def test_are_in_order(self, keep):
        """
        100,000 records of one thread, as fast as it can write them, come in its order, and none is missing.
        """
        count = 100_000
        kept = keep(queue_size=count)
        with unheard():
            for number in range(count):
                kept.logger.info("counted", number=number)

        assert list(range(count)) == [record["extra"]["number"] for record in kept.records()]
        assert 0 == kept.logger.dropped

    def test_of_threads_are_whole_and_in_order(self, keep):
        """
        Those of each thread are in its order, whatever the others write, and none is missing.
        """
        workers, count = 8, 2_500
        kept = keep(queue_size=workers * count)
        begin = threading.Barrier(workers)

        def work(name):
            begin.wait(30)
            for number in range(count):
                kept.logger.info("counted", name=name, number=number)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(workers)]
        with unheard():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        seen = {name: [] for name in range(workers)}
        for record in kept.records():
            seen[record["extra"]["name"]].append(record["extra"]["number"])

        assert {name: list(range(count)) for name in range(workers)} == seen
        assert 0 == kept.logger.dropped


class TestLevels:
    def test_of_the_policy_decide(self, keep):
        """
        Below the policy's level nothing is written.
        """
        kept = keep(level=LogLevel.WARNING)
        for level in LogLevel:
            kept.logger.log(level, level.value)

        assert ["WARNING", "ERROR", "CRITICAL"] == [record["message"] for record in kept.records()]

    def test_of_a_name_decide_for_it(self, keep):
        """
        A level for the logger's name, or the most specific pattern that covers it, counts in place of the general.
        """
        kept = keep(
            level=LogLevel.ERROR,
            levels={"shop": LogLevel.DEBUG, "web.*": LogLevel.INFO, "web.pay.*": LogLevel.CRITICAL},
        )
        wants = kept.log.wants

        assert [logging.DEBUG, logging.INFO, logging.CRITICAL, logging.ERROR, logging.ERROR] == [
            min(number for number in (10, 20, 30, 40, 50) if wants(name, number))
            for name in ("shop", "web.cart", "web.pay.card", "web", "other")
        ]

    def test_change_at_run_time(self, keep):
        """
        A logger's level may be changed; None gives it back to the policy. What is bound to it follows.
        """
        kept = keep()
        bound = kept.logger.bind(part=1)
        kept.logger.debug("1")
        kept.logger.change_level(LogLevel.DEBUG)
        kept.logger.debug("2")
        bound.debug("3")
        kept.logger.change_level("error")
        kept.logger.warning("4")
        kept.logger.change_level(None)
        kept.logger.info("5")

        assert ["2", "3", "5"] == [record["message"] for record in kept.records()]

    def test_of_the_log_change_at_run_time(self, keep):
        """
        So may those of the whole log, or of one name in it.
        """
        kept = keep()
        kept.log.levels.change("ERROR")
        kept.logger.info("1")
        kept.log.levels.change("DEBUG", "shop")
        kept.logger.debug("2")

        assert ["2"] == [record["message"] for record in kept.records()]

    @pytest.mark.parametrize("level", ["LOUD", "", 11, True, None, 10.0])
    def test_that_are_none_are_refused(self, keep, level):
        """
        A level that there is not is named, with those that there are.
        """
        with pytest.raises(ValidationError, match="must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"):
            keep().logger.log(level, "one")

    def test_of_names_go_back_to_the_policy_s(self, keep):
        """
        With None the policy's level holds again, of a name and of all others.
        """
        kept = keep(level=LogLevel.ERROR, levels={"shop": LogLevel.WARNING})
        levels = kept.log.levels
        for name in ("shop", "other", None):
            levels.change("DEBUG", name)
        assert {logging.DEBUG} == {levels.of(name) for name in ("shop", "other", "third")}
        for name in ("shop", "other", "never.changed"):
            levels.change(None, name)

        assert [logging.WARNING, logging.DEBUG] == [levels.of(name) for name in ("shop", "other")]

        levels.change(None)

        assert [logging.WARNING, logging.ERROR] == [levels.of(name) for name in ("shop", "other")]

    def test_may_be_the_numbers_of_the_standard_library(self, keep):
        """
        ``logging.DEBUG`` means what ``"DEBUG"`` means, wherever a level is given.
        """
        kept = keep()
        kept.logger.change_level(logging.DEBUG)
        kept.logger.log(logging.DEBUG, "1")
        kept.logger.change_level(None)
        kept.log.levels.change(logging.ERROR, "shop")

        assert (["1"], False) == (
            [record["message"] for record in kept.records()],
            kept.logger.is_enabled_for(logging.WARNING),
        )

    @pytest.mark.parametrize("name", ["", 7])
    def test_are_those_of_names(self, keep, name):
        """
        What is no name is refused; one that nobody has yet is taken.
        """
        with pytest.raises(ValidationError, match="that of a target or logger"):
            keep().log.levels.change("DEBUG", name)

    def test_can_be_asked(self, keep):
        """
        Whoever makes a costly record can ask first.
        """
        logger = keep().logger

        assert (True, False) == (logger.is_enabled_for("info"), logger.is_enabled_for(LogLevel.DEBUG))

    def test_are_remembered_for_a_bounded_number_of_names(self, keep):
        """
        A program that makes up names without end does not fill the memory.
        """
        log = keep().log
        for number in range(12_000):
            log.wants(f"name.{number}", 20)

        assert 10_000 == len(log.levels._known)


class TestContext:
    def test_is_in_all_records_that_follow(self, keep):
        """
        What is set once is in every record; None takes it out.
        """
        kept = keep()
        set_context(tenant="acme", user=7)
        kept.logger.info("1")
        set_context(user=None)
        kept.logger.info("2")

        assert [{"logger": "shop", "tenant": "acme", "user": 7}, {"logger": "shop", "tenant": "acme"}] == [
            record["context"] for record in kept.records()
        ]

    def test_ends_with_its_block(self, keep):
        """
        ``LogContext`` gives back what was there before, after an error too.
        """
        set_context(tenant="acme")
        seen = []

        def fail():
            with LogContext(tenant="other", request_id="r-1"), LogContext(step=2):
                seen.append(current_context())
                raise KeyError

        with pytest.raises(KeyError):
            fail()

        assert [{"tenant": "other", "step": 2, "request_id": "r-1"}] == seen
        assert {"tenant": "acme"} == current_context()

    def test_may_be_entered_again(self):
        """
        One context may be entered several times, one inside the other.
        """
        context = LogContext(step=1)
        with context, context:
            assert {"step": 1} == current_context()

        assert {} == current_context()

    def test_of_tasks_are_their_own(self, keep):
        """
        A task begins with the context of the one that started it, and changes only its own.
        """
        kept = keep()

        async def work(number):
            set_context(number=number)
            await asyncio.sleep(0)
            kept.logger.info("worked")

        async def main():
            set_context(app="shop")
            await asyncio.gather(*map(work, range(5)))
            return current_context()

        assert {"app": "shop"} == asyncio.run(main())
        assert [{"logger": "shop", "app": "shop", "number": number} for number in range(5)] == [
            record["context"] for record in kept.records()
        ]

    def test_of_threads_are_their_own(self):
        """
        A thread begins without context, or with a copy that it is given.
        """
        set_context(app="shop")
        seen = []

        def work():
            seen.append(current_context())
            set_context(other=1)

        for run in (lambda work: work(), contextvars.Context().run, contextvars.copy_context().run):
            thread = threading.Thread(target=run, args=(work,))
            thread.start()
            thread.join()

        assert [{}, {}, {"app": "shop"}] == seen
        assert {"app": "shop"} == current_context()

    def test_that_is_left_in_another_context_does_no_harm(self):
        """
        An async generator that is closed elsewhere can't give back what it did not set there.
        """

        def generate():
            with LogContext(request_id="r", inside=1):
                yield

        generator = generate()
        contextvars.copy_context().run(next, generator)
        generator.close()

        assert {} == current_context()

    def test_is_under_what_is_bound(self, keep):
        """
        What a logger is bound to is nearer than what goes for all records, the request id too; its name is its own.
        """
        kept = keep()
        with LogContext(tenant="all", request_id="r-1", user=7, logger="L"):
            kept.logger.bind(tenant="mine", request_id="r-2", logger="zzz").info("bound")
            kept.logger.info("plain")

        assert [
            {"logger": "shop", "tenant": "mine", "user": 7, "request_id": "r-2"},
            {"logger": "shop", "tenant": "all", "user": 7, "request_id": "r-1"},
        ] == [record["context"] for record in kept.records()]

    def test_has_what_is_bound(self, keep):
        """
        A logger that is bound to more writes that too; the one it came from does not.
        """
        kept = keep()
        kept.logger.bind(job=3, api_key="sk-1").info("bound")
        kept.logger.info("plain")

        assert [{"logger": "shop", "job": 3, "api_key": "[redacted]"}, {"logger": "shop"}] == [
            record["context"] for record in kept.records()
        ]

    def test_holds_no_secrets(self):
        """
        Secrets are redacted when they are set.
        """
        with LogContext(password="x", headers={"Authorization": "Bearer x"}, user="me"):
            assert {"password": "[redacted]", "headers": "[redacted]", "user": "me"} == current_context()


class TestContent:
    def test_is_redacted(self, keep):
        """
        Prompts, captions and pictures are not written, however deep; how many there were is.
        """
        kept = keep()
        kept.logger.info("asked", prompt="secret", nested={"caption": "secret", "images": ["secret"]}, images=3)

        assert {
            "prompt": "[redacted]",
            "nested": {"caption": "[redacted]", "images": "[redacted]"},
            "images": 3,
        } == kept.record()["extra"]

    def test_is_written_where_the_policy_says_so(self, keep):
        """
        ``log_content: full`` lets prompts and captions through; keys and headers never.
        """
        kept = keep(log_content=LogContent.FULL)
        kept.logger.info("asked", prompt="What?", api_key="sk-1", x={"Authorization": "Bearer y"})

        assert {"prompt": "What?", "api_key": "[redacted]", "x": {"Authorization": "[redacted]"}} == (
            kept.record()["extra"]
        )


class TestRegistry:
    def test_gives_the_same_logger_for_a_name(self):
        """
        A logger is known by its name.
        """
        assert get_logger("shop") is get_logger("shop")
        assert get_default_logger() is get_logger("pixel_llm")
        assert "shop" == get_logger("shop").name

    @pytest.mark.parametrize("name", ["", None, 7])
    def test_wants_a_name(self, name):
        """
        Anything but a text is no name.
        """
        with pytest.raises(ValidationError, match="named by a text"):
            get_logger(name)


class TestApplication:
    def test_gets_the_records(self, keep, caplog):
        """
        Handlers on ``pixel_llm``, or on the root, get every record in the caller's thread, as JSON.
        """
        kept = keep()
        caplog.set_level(logging.DEBUG, "pixel_llm")
        kept.logger.warning("low", left=2)
        (record,) = caplog.records

        assert ("pixel_llm.shop", "WARNING", threading.get_ident()) == (record.name, record.levelname, record.thread)
        assert kept.file.read_text() == f"{record.getMessage()}\n" if kept.log.flush() else False

    def test_without_policy_or_handlers_hears_of_warnings(self, capsys, monkeypatch):
        """
        Where nobody has said anything about logging, the standard library prints warnings, as of any other library.
        """
        monkeypatch.setattr(registry._outlet, "log", registry._WITHOUT_POLICY)  # another test's policies may be active
        with unheard():
            get_logger("quiet").info("nothing")
            get_logger("quiet").warning("something")
        output = capsys.readouterr()

        assert "" == output.out
        assert "something" in output.err
        assert "nothing" not in output.err

    def test_keeps_its_structlog(self, keep):
        """
        What the application has told structlog is neither read nor changed.
        """
        mine = {"processors": [lambda *_: "theirs"], "wrapper_class": structlog.BoundLogger}
        structlog.configure(**mine, cache_logger_on_first_use=True)
        structlog.contextvars.bind_contextvars(theirs=1)
        try:
            kept = keep()
            kept.logger.info("ours", mine=1)
            config = structlog.get_config()

            assert {"mine": 1} == kept.record()["extra"]
            assert {"logger": "shop"} == kept.record()["context"]
            assert mine == {name: config[name] for name in mine}
        finally:
            structlog.reset_defaults()
            structlog.contextvars.clear_contextvars()

    def test_keeps_its_handlers(self, keep):
        """
        Nothing is added to the root logger, or to ``pixel_llm``, or to the registered loggers.
        """
        loggers = [logging.getLogger(), logging.getLogger("pixel_llm")]
        before = [(list(logger.handlers), logger.level, logger.propagate, logger.disabled) for logger in loggers]
        keep(console=False).logger.info("one")

        assert before == [
            (list(logger.handlers), logger.level, logger.propagate, logger.disabled) for logger in loggers
        ]
        assert "pixel_llm.shop" not in logging.Logger.manager.loggerDict
