"""Handlers of the application get records as its own levels say, and none of them can harm a call."""

from __future__ import annotations

import logging

import pytest
from logs_reading import read, unheard

import pixel_llm
from pixel_llm.monitoring import Log, StructuredLogger
from pixel_llm.policy import LoggingConfig, LogLevel


class Handler(logging.Handler):
    """Keeps records, and then does what it is told."""

    def __init__(self, act=lambda: None):
        super().__init__()
        self.act, self.records = act, []

    def emit(self, record):
        self.records.append(record)
        self.act()

    @property
    def levels(self):
        return [record.levelname for record in self.records]


def fail():
    raise RuntimeError("handler broke")


@pytest.fixture
def handled():
    """Puts a handler on a logger of the standard library's, and levels; all is as it was afterwards."""
    undo = []

    def handled(act=lambda: None, name="", **levels):
        logger, handler = logging.getLogger(name), Handler(act)
        logger.addHandler(handler)
        undo.append(lambda: logger.removeHandler(handler))
        for named, level in levels.items():
            set_level(logging.getLogger(named.replace("__", ".").removeprefix("root")), level)
        return handler

    def set_level(logger, level):
        before = logger.level
        undo.append(lambda: logger.setLevel(before))
        logger.setLevel(level)

    with unheard():
        yield handled
    for step in reversed(undo):
        step()
    logging.disable(logging.NOTSET)


def speak(logger):
    for level in LogLevel:
        logger.log(level, level.value)


class TestHandlerThatRaises:
    def test_breaks_no_log_call(self, keep, handled):
        """
        The file has the record first, and tells of the handler once.
        """
        handled(fail)
        kept = keep()
        kept.logger.warning("1")
        kept.logger.warning("2")
        first, told, second = kept.records()

        assert ("1", "handler_failed", "2") == (first["message"], told["message"], second["message"])
        assert "RuntimeError" == told["exception_type"]
        assert told["stack_trace"].endswith("RuntimeError: handler broke")

    def test_breaks_no_call_and_takes_no_fallback(self, tmp_path, handled):
        """
        A guarded call has its result, and the log all of its story, in spite of a handler on the root logger.
        """
        handled(fail)
        overrides = {"logging": {"file": str(tmp_path / "calls.log")}, "targets": {}}
        overrides["targets"]["t.x"] = {"fallback": [{"default_value": "later"}]}

        def broken():
            raise ConnectionError("gone")

        with pixel_llm.load_policies(profile="basic", overrides=overrides) as policies:
            assert "later" == policies.wrap("t.x", broken)()
        records = read(tmp_path / "calls.log")

        assert ["attempt_failed", "handler_failed", "call_failed", "fallback_served"] == [
            record["message"] for record in records
        ]

    def test_is_told_on_standard_error_where_there_is_no_output(self, handled, capsys):
        """
        A log that only the handlers read has nothing else to tell it by, and does not tell it by them.
        """
        handler = handled(fail)
        logger = StructuredLogger("shop", Log(LoggingConfig()))
        logger.error("1")
        logger.error("2")

        assert 1 == capsys.readouterr().err.count("handler_failed")
        assert 2 == len(handler.records)

    def test_that_logs_itself_is_not_called_by_that(self, keep, handled):
        """
        A handler that logs through us would be called without end; its records are in the file.
        """
        kept = keep()
        handler = handled(lambda: kept.logger.error("from the handler"))
        kept.logger.error("1")

        assert (["1", "from the handler"], 1) == (
            [record["message"] for record in kept.records()],
            len(handler.records),
        )

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_may_end_the_program(self, keep, handled, error):
        """
        What is no error goes through, after the file has its record.
        """

        def leave():
            raise error

        handled(leave)
        kept = keep()
        with pytest.raises(error):
            kept.logger.error("1")

        assert ["1"] == [record["message"] for record in kept.records()]


class TestLevels:
    def test_of_the_application_decide_for_its_handlers_alone(self, keep, handled):
        """
        ``getLogger("pixel_llm").setLevel()`` quiets us as any library; the policy's file follows the policy.
        """
        handler = handled(pixel_llm=logging.ERROR)
        kept = keep()
        speak(kept.logger)

        assert ["ERROR", "CRITICAL"] == handler.levels
        assert ["INFO", "WARNING", "ERROR", "CRITICAL"] == [record["message"] for record in kept.records()]

    def test_of_the_root_logger_count_where_there_is_no_other(self, keep, handled):
        """
        So does ``basicConfig(level=…)``.
        """
        handler = handled(root=logging.CRITICAL)
        speak(keep().logger)

        assert ["CRITICAL"] == handler.levels

    def test_of_one_name_count_for_it(self, keep, handled):
        """
        A logger, and handlers on it, may be set up under the name that records have.
        """
        handler = handled(name="pixel_llm.till", pixel_llm__till=logging.CRITICAL, pixel_llm=logging.DEBUG)
        kept = keep()
        for name in ("till", "till.two", "other"):
            speak(StructuredLogger(name, kept.log))

        assert [("pixel_llm.till", "CRITICAL"), ("pixel_llm.till.two", "CRITICAL")] == [
            (record.name, record.levelname) for record in handler.records
        ]

    def test_of_the_policy_count_first(self, keep, handled):
        """
        Handlers get nothing that the policy does not let through.
        """
        handler = handled(root=logging.DEBUG)
        speak(keep(level=LogLevel.ERROR).logger)

        assert ["ERROR", "CRITICAL"] == handler.levels

    def test_of_nobody_who_listens_make_no_records(self, handled):
        """
        Without outputs, the application's level says whether a record is worth making.
        """
        handled(pixel_llm=logging.ERROR)
        logger = StructuredLogger("shop", Log(LoggingConfig()))

        assert (False, True) == (logger.is_enabled_for("warning"), logger.is_enabled_for("error"))

    def test_that_disable_everything_leave_the_file_alone(self, keep, handled):
        """
        ``logging.disable()`` silences the handlers.
        """
        handler = handled(root=logging.DEBUG)
        kept = keep()
        logging.disable(logging.WARNING)
        speak(kept.logger)

        assert (["ERROR", "CRITICAL"], 4) == (handler.levels, len(kept.records()))

    def test_stay_where_other_loggers_are_disabled(self, keep, handled):
        """
        A ``dictConfig`` that disables the loggers which are there does not silence us.
        """
        handler = handled()
        logger = logging.getLogger("pixel_llm")
        logger.disabled = True
        try:
            keep().logger.error("1")
        finally:
            logger.disabled = False

        assert ["ERROR"] == handler.levels

    def test_may_be_joined_by_a_filter(self, keep, handled):
        """
        A filter of the very logger counts, as the standard library has it.
        """
        handler = handled()
        logger = logging.getLogger("pixel_llm.filtered")
        logger.addFilter(lambda record: "no" not in record.getMessage())
        kept = keep()
        filtered = StructuredLogger("filtered", kept.log)
        filtered.error("yes")
        filtered.error("no")

        assert 1 == len(handler.records)


class TestPlace:
    def test_is_that_of_the_program(self, keep, handled):
        """
        ``%(pathname)s:%(lineno)d`` and ``%(funcName)s`` say where the program has logged, whichever method it called.
        """
        handler = handled()
        logger = keep().logger

        def till():
            logger.error("1")
            logger.log("error", "2")
            logger.exception("3")

        till()
        first = till.__code__.co_firstlineno

        assert [("till", first + number, __file__) for number in (1, 2, 3)] == [
            (record.funcName, record.lineno, record.pathname) for record in handler.records
        ]

    def test_has_the_fields_of_the_application_s_records(self, keep, handled):
        """
        Records are made by the factory that the application has set.
        """
        handler, make = handled(), logging.getLogRecordFactory()

        def made(*args, **kwargs):
            record = make(*args, **kwargs)
            record.tenant = "acme"
            return record

        logging.setLogRecordFactory(made)
        try:
            keep().logger.error("1")
        finally:
            logging.setLogRecordFactory(make)

        assert "acme" == handler.records[0].tenant
