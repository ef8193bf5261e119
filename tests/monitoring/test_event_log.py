import gc
import json
import logging
import os
import re
import threading
from pathlib import Path

import pytest
import structlog

from pixel_llm.errors import ErrorCode
from pixel_llm.events import (
    AbandonedThreadEnded,
    AttemptFailed,
    CallFailed,
    CallRecovered,
    CallRefused,
    CallWouldBeRefused,
    ChaosInjected,
    CircuitStateChanged,
    Event,
    FallbackServed,
    FallbackSkipped,
    HedgeSent,
    HedgeSkipped,
    HedgeWon,
    ModelLoaded,
    ModelLoadFailed,
    ModelMismatched,
    RetryScheduled,
    StreamAbandoned,
    StreamBroken,
    ThreadAbandoned,
)
from pixel_llm.monitoring import EventLog, LogContext
from pixel_llm.monitoring.event_log import LEVELS
from pixel_llm.monitoring.logs.record import FIELDS
from pixel_llm.policy import LoggingConfig, LogLevel, RetryConfig, RetryStrategy, TargetPolicy
from pixel_llm.resilience import Stack, guard
from pixel_llm.testing import VirtualClock

LOST = ErrorCode.ERR_CONN_LOST
EVENTS = [
    AttemptFailed("shop.pay", 1, LOST, "gone", 0.25),
    RetryScheduled("shop.pay", 1, 1.5, LOST),
    CallRecovered("shop.pay", 2, 2.0),
    CallRefused("shop.pay", "circuit_breaker", ErrorCode.ERR_CB_OPEN, 12.0),
    CallFailed("shop.pay", 3, None, "KeyError: 'x'", 4.0, "this error is not retried"),
    CircuitStateChanged("shop.pay", "closed", "open", 5, LOST),
    CallWouldBeRefused("shop.pay", "circuit_breaker", ErrorCode.ERR_CB_OPEN, 12.0, "llava-7b"),
    FallbackServed("shop.pay", "cache", LOST, 60.0),
    FallbackSkipped("shop.pay", "cache", "holds no fresh result of this request"),
    StreamBroken("shop.pay", 12, LOST, "gone", 3.5),
    StreamAbandoned("shop.pay", "paused", 12, 63.5),
    ThreadAbandoned("shop.pay", 30.0, 3, 16),
    AbandonedThreadEnded("shop.pay", 12.5, 2, 16),
    ChaosInjected("shop.pay", "error", LOST, 0.0),
    HedgeSent("shop.pay", 2, 0.5),
    HedgeWon("shop.pay", 2, 0.75),
    HedgeSkipped("shop.pay", "bulkhead", ErrorCode.ERR_LIMIT_BULKHEAD),
    ModelMismatched("shop.pay", "qwen", "llava"),
    ModelLoaded("shop.pay", "http://localhost:1234/v1", "qwen", 12.5),
    ModelLoadFailed("shop.pay", "http://localhost:1234/v1", "qwen", LOST, "gone", 12.5),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "logs" / "pixel_llm.log"


@pytest.fixture
def open_log(file):
    """Opens logs, by default with a file, and closes them at the end."""

    def open_log(profile="production", **config):
        log = EventLog(LoggingConfig(**({"file": str(file)} | config)), profile=profile)
        OPENED.append(log)
        return log

    yield open_log
    for log in OPENED:
        log.close()
    OPENED.clear()


@pytest.fixture
def reports(caplog):
    """What was reported to the logger ``pixel_llm`` itself, records of events left out."""
    caplog.set_level(logging.DEBUG, "pixel_llm")

    def reports():
        flush()
        return [record.getMessage() for record in caplog.records if record.name == "pixel_llm"]

    return reports


#: The logs of the test that runs.
OPENED = []


def flush():
    """Everything that was told so far is written, where it can be: a thread of the log's own does that."""
    for log in OPENED:
        log.log.flush(30)


def read(file):
    flush()
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


class TestRecords:
    def test_are_one_json_object_a_line(self, open_log, file):
        """
        A record has time, level, the event's name, context, code, and the event's other fields.
        """
        open_log()(AttemptFailed("shop.pay", 2, LOST, "gone", 0.123456789))
        (record,) = read(file)
        timestamp = record.pop("timestamp")

        assert {
            "level": "warning",
            "message": "attempt_failed",
            "context": {"profile": "production", "target": "shop.pay"},
            "error_code": "ERR_CONN_LOST",
            "exception_type": None,
            "stack_trace": None,
            "extra": {"attempt": 2, "error": "gone", "elapsed": 0.123457},
        } == record
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)

    def test_name_their_own_profile_and_target(self, open_log, file):
        """
        What the program says of itself in the same words does not hide which target failed.
        """
        with LogContext(target="warehouse-7", profile="premium", logger="L", tenant="acme", request_id="r-1"):
            open_log()(AttemptFailed("pay.charge", 1, LOST, "gone", 0.1))
        (record,) = read(file)

        assert {"profile": "production", "target": "pay.charge", "tenant": "acme", "request_id": "r-1"} == record[
            "context"
        ]

    def test_begin_with_what_is_looked_for_first(self, open_log, file):
        """
        Fields come in the same order in every line.
        """
        log = open_log(level=LogLevel.DEBUG)
        for event in EVENTS:
            log(event)

        assert {FIELDS} == {tuple(record) for record in read(file)}

    @pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
    def test_hold_every_field_of_the_event(self, open_log, file, event):
        """
        No kind of event loses anything on its way into the log.
        """
        open_log(level=LogLevel.DEBUG)(event)
        (record,) = read(file)
        written = {"target": record["context"]["target"], **record["extra"]}
        if record["error_code"] is not None:
            written["error_code"] = record["error_code"]

        assert event == type(event)(**({"error_code": None} if hasattr(event, "error_code") else {}) | written)
        assert event.name == record["message"]

    def test_of_every_event_have_a_level(self):
        """
        There is no event without a level.
        """

        assert {kind.__name__ for kind in Event.__subclasses__()} == {kind.__name__ for kind in LEVELS}

    @pytest.mark.parametrize(
        "text",
        [
            'first\n{"level": "info", "message": "forged"}',
            "carriage\rreturn",
            "both\r\n",
            "next line\x85",
            "line\u2028separator",
            "paragraph\u2029separator",
            "form\x0cfeed and vertical\x0btab and file\x1cseparator",
            "nul\x00 and escape\x1b[31m",
        ],
        ids=ascii,
    )
    def test_stay_within_one_line(self, open_log, file, text):
        """
        An error's text can't forge a record, whatever a reader takes for the end of a line.
        """
        open_log()(AttemptFailed("shop.pay", 1, None, text, 0.0))
        flush()
        written = file.read_text(encoding="utf-8")

        assert 1 == len(written.splitlines())
        assert text == json.loads(written)["extra"]["error"]
        assert all(character.isprintable() for character in written.removesuffix("\n"))

    @pytest.mark.parametrize(
        "text",
        ["Grüße, 東京 🐈", 'quote " and \\ backslash', "photo-\udcff.jpg"],
        ids=["unicode", "quotes", "no UTF-8"],
    )
    def test_hold_any_text(self, open_log, file, text, reports):
        """
        Every text comes back as it was, the name of a file that is no UTF-8 too.
        """
        open_log()(AttemptFailed("shop.pay", 1, None, text, 0.0))

        assert text == read(file)[0]["extra"]["error"]
        assert [] == reports()

    def test_hold_neither_arguments_nor_results(self, open_log, file):
        """
        Prompts, pictures, keys and answers that go through a stack never reach the log.
        """
        retry = RetryConfig(strategy=RetryStrategy.IMMEDIATE, max_attempts=2)
        stack = Stack("shop.pay", TargetPolicy(retry=retry), clock=VirtualClock(), emit=open_log(level=LogLevel.DEBUG))
        failures = [ConnectionResetError("reset"), ConnectionResetError("reset")]

        def ask(prompt, *, key):
            if failures:
                raise failures.pop()
            return "the secret answer"

        guarded = guard(stack, ask)
        with pytest.raises(ConnectionResetError):
            guarded("the secret prompt", key="the secret key")
        failures.append(ConnectionResetError("reset"))

        assert "the secret answer" == guarded("the secret prompt", key="the secret key")
        assert 7 == len(read(file))
        assert "secret" not in file.read_text()

    def test_of_a_success_there_are_none(self, open_log, file):
        """
        A clean success writes nothing, and makes no file.
        """
        guard(Stack("shop.pay", TargetPolicy(), emit=open_log(level=LogLevel.DEBUG)), lambda: 1)()
        flush()

        assert not file.exists()


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "names"),
        [
            (LogLevel.DEBUG, {event.name for event in EVENTS}),
            (LogLevel.INFO, {event.name for event in EVENTS if LEVELS[type(event)] is not LogLevel.DEBUG}),
            (
                LogLevel.WARNING,
                {event.name for event in EVENTS if LEVELS[type(event)] in (LogLevel.WARNING, LogLevel.ERROR)},
            ),
            (LogLevel.ERROR, {"call_failed"}),
            (LogLevel.CRITICAL, set()),
        ],
    )
    def test_below_the_policy_s_nothing_is_written(self, open_log, file, level, names):
        """
        The policy's level decides, not the application's.
        """
        log = open_log(level=level)
        for event in EVENTS:
            log(event)
        flush()

        assert names == ({record["message"] for record in read(file)} if file.exists() else set())


class TestFile:
    def test_is_made_with_its_folder(self, open_log, tmp_path):
        """
        Folders that are missing are made; nothing is made before the first record.
        """
        file = tmp_path / "a" / "b" / "c.log"
        log = open_log(file=str(file))

        assert [] == list(tmp_path.iterdir())

        log(EVENTS[0])

        assert 1 == len(read(file))

    def test_is_appended_to(self, open_log, file):
        """
        A log that is opened again goes on where it ended.
        """
        for _ in range(2):
            log = open_log()
            log(EVENTS[0])
            log.close()

        assert 2 == len(read(file))

    def test_is_relative_to_the_working_directory(self, open_log, tmp_path, monkeypatch):
        """
        A relative path starts where the process was when the log was opened.
        """
        monkeypatch.chdir(tmp_path)
        log = open_log(file="logs/here.log")
        monkeypatch.chdir("/")
        log(EVENTS[0])

        assert 1 == len(read(tmp_path / "logs" / "here.log"))

    def test_keeps_lines_whole_under_threads(self, open_log, file):
        """
        Records of threads never run into each other.
        """
        log = open_log()

        def work(number):
            for _ in range(50):
                log(AttemptFailed(f"target.{number}", 1, LOST, "x" * 300, 0.1))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        targets = [record["context"]["target"] for record in read(file)]

        assert {f"target.{number}": 50 for number in range(8)} == {name: targets.count(name) for name in set(targets)}

    def test_of_another_policy_is_not_written_to(self, open_log, tmp_path):
        """
        Two policies in one process have a file each, and a level each.
        """
        first = open_log(profile="first", file=str(tmp_path / "first.log"), level=LogLevel.DEBUG)
        second = open_log(profile="second", file=str(tmp_path / "second.log"), level=LogLevel.ERROR)
        for log in (first, second):
            for event in EVENTS:
                log(event)

        assert len(EVENTS) == len(read(tmp_path / "first.log"))
        assert {"first"} == {record["context"]["profile"] for record in read(tmp_path / "first.log")}
        assert ["second"] == [record["context"]["profile"] for record in read(tmp_path / "second.log")]

    def test_is_closed_with_the_log(self, open_log, file):
        """
        After close() the file is whole, and nobody holds it.
        """
        log = open_log()
        log(EVENTS[0])
        log.close()

        assert 1 == len(read(file))
        assert "pixel-llm log" not in {thread.name for thread in threading.enumerate()}

    def test_is_opened_again_by_a_later_record(self, open_log, file):
        """
        Whoever closes a log and writes on, as a closed model does that is called again, loses no record.
        """
        log = open_log()
        for _ in range(3):
            log(EVENTS[0])
            log.close()
        log.close()

        assert 3 == len(read(file))

    def test_is_closed_when_the_log_is_dropped(self, file):
        """
        A log that goes out of use without close() leaves no open file behind.
        """
        log = EventLog(LoggingConfig(file=str(file)), profile="production")
        log(EVENTS[0])
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "pixel-llm log"]
        del log
        gc.collect()
        thread.join(10)

        assert not thread.is_alive()
        assert not [name for name in Path("/proc/self/fd").iterdir() if name.resolve() == file]
        assert 1 == len(read(file))


class TestUnwritableFile:
    def test_with_a_folder_in_the_way(self, open_log, tmp_path, reports):
        """
        A file that can't be opened is reported once, and the calls go on.
        """
        (tmp_path / "folder.log").mkdir()
        log = open_log(file=str(tmp_path / "folder.log"))
        for _ in range(3):
            log(EVENTS[0])

        assert [
            f"the log file {tmp_path / 'folder.log'} cannot be written: Is a directory; calls go on without it"
        ] == reports()

    def test_with_a_file_where_its_folder_should_be(self, open_log, tmp_path, reports):
        """
        So is one whose folder can't be made.
        """
        (tmp_path / "logs").write_text("a file")
        log = open_log(file=str(tmp_path / "logs" / "pixel_llm.log"))
        for _ in range(3):
            log(EVENTS[0])

        assert 1 == len(reports())
        assert "cannot be written" in reports()[0]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_on_a_full_disk(self, open_log, reports):
        """
        A full disk is reported once; neither the calls nor closing the log fail.
        """
        log = open_log(file="/dev/full")
        for _ in range(3):
            log(EVENTS[0])
        log.close()

        assert [
            "the log file /dev/full cannot be written: No space left on device; calls go on without it"
        ] == reports()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_without_permission(self, open_log, tmp_path, reports):
        """
        Nor does a folder that may not be written to fail a call.
        """
        tmp_path.chmod(0o500)
        try:
            open_log(file=str(tmp_path / "pixel_llm.log"))(EVENTS[0])
        finally:
            tmp_path.chmod(0o700)

        assert 1 == len(reports())

    def test_that_becomes_writable_is_written(self, open_log, tmp_path, reports):
        """
        Trouble that passes is over: records go to the file again.
        """
        file = tmp_path / "pixel_llm.log"
        file.mkdir()
        log = open_log(file=str(file))
        log(EVENTS[0])
        flush()
        file.rmdir()
        log(EVENTS[0])

        assert [
            ("records_lost", {"lost": 1}),
            ("attempt_failed", {"attempt": 1, "error": "gone", "elapsed": 0.25}),
        ] == [(record["message"], record["extra"]) for record in read(file)]


class TestConsole:
    def test_is_standard_error(self, open_log, capsys):
        """
        Records for the console go to standard error: standard output is the program's own.
        """
        open_log(file=None, console=True)(EVENTS[0])
        flush()
        output = capsys.readouterr()

        assert "" == output.out
        assert "attempt_failed" == json.loads(output.err)["message"]

    def test_is_silent_unless_wanted(self, open_log, file, capsys):
        """
        With a file and no console, nothing is printed.
        """
        open_log()(EVENTS[0])
        flush()

        assert ("", "") == capsys.readouterr()

    def test_and_file_hold_the_same(self, open_log, file, capsys):
        """
        Both sinks get every record.
        """
        open_log(console=True)(EVENTS[0])

        assert read(file) == [json.loads(capsys.readouterr().err)]


class TestApplication:
    def test_gets_no_handlers_of_ours(self, open_log):
        """
        The loggers of the application, and our own public one, are left as they are.
        """
        loggers = [logging.getLogger(), logging.getLogger("pixel_llm")]
        before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
        open_log(console=True)(EVENTS[0])
        flush()

        assert before == [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
        assert "pixel_llm.events" not in logging.Logger.manager.loggerDict

    def test_finds_the_records_at_pixel_llm(self, open_log, caplog):
        """
        Without sinks of its own the log still reaches handlers that the application has set up.
        """
        caplog.set_level(logging.DEBUG, "pixel_llm")
        open_log(file=None)(EVENTS[4])
        (record,) = caplog.records

        assert ("pixel_llm.events", "ERROR") == (record.name, record.levelname)
        assert "call_failed" == json.loads(record.getMessage())["message"]

    def test_that_disables_logging_leaves_the_file_alone(self, open_log, file, caplog):
        """
        ``logging.disable()`` silences handlers, as it does everyone's; the policy's own file is the policy's.
        """
        log = open_log()
        logging.disable(logging.CRITICAL)
        try:
            log(EVENTS[0])
        finally:
            logging.disable(logging.NOTSET)

        assert 1 == len(read(file))
        assert [] == caplog.records

    def test_settings_of_structlog_s_do_not_matter(self, open_log, file):
        """
        An application that has set up structlog its own way changes nothing in our log.
        """
        structlog.configure(
            processors=[lambda *_: "theirs"], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=True
        )
        try:
            open_log()(EVENTS[0])
        finally:
            structlog.reset_defaults()

        assert "attempt_failed" == read(file)[0]["message"]
