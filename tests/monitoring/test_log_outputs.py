"""Trouble of one output is its own: the others go on, it is told once, counted, and over when the output works."""

from __future__ import annotations

import io
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
from logs_reading import read

from pixel_llm.monitoring.logs.channel import Channel
from pixel_llm.monitoring.logs.outputs import Output
from pixel_llm.monitoring.logs.record import note


class Stream:
    """A console whose methods raise."""

    encoding = "utf-8"

    def __init__(self, error):
        self._error = error

    def write(self, text):
        raise self._error

    def flush(self):
        raise self._error


class Unspeakable(Exception):
    """An error without a text."""

    def __str__(self):
        raise RuntimeError


class Sink:
    """A sink that keeps records, or raises an error."""

    subject = "the sink"

    def __init__(self):
        self.records, self.error = [], None

    def write(self, records):
        if self.error is not None:
            raise self.error
        self.records.extend((record["message"], record["extra"]) for record in records)
        records.clear()

    def close(self):
        if self.error is not None:
            raise self.error

    forget = close


@pytest.fixture
def both(keep):
    """A log with a file and a console."""
    return keep(console=True)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "pixel_llm"]


def messages(records):
    return [record["message"] for record in records]


class TestConsoleThatFails:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ValueError("I/O operation on closed file"), "I/O operation on closed file"),
            (RuntimeError("bad stream"), "bad stream"),
            (OSError(5, "Input/output error"), "Input/output error"),
            (KeyError(), "KeyError"),
            (Unspeakable(), "Unspeakable"),
            (SystemExit(9), "9"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_leaves_the_file_alone(self, both, monkeypatch, caplog, error, said):
        """
        Whatever the console's stream raises, the file has every record; one warning tells of it, in the file too.
        """
        monkeypatch.setattr("sys.stderr", Stream(error))
        for number in range(4):
            both.logger.info(str(number))
            assert not both.log.flush(30)
        records = read(both.file)

        assert ["0", "output_failed", "1", "2", "3"] == messages(records)
        assert {"output": "the console", "reason": said} == records[1]["extra"]
        assert [f"the console cannot be written: {said}; calls go on without it"] == warnings(caplog)

    def test_is_written_again_when_it_works(self, both, monkeypatch, caplog):
        """
        A stream in place of the broken one gets what comes from then on, and how many records it has missed.
        """
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr("sys.stderr", closed)
        for number in range(3):
            both.logger.info(str(number))
        assert (False, 3) == (both.log.flush(30), both.log.lost)
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        both.logger.info("3")

        assert (True, 3) == (both.log.flush(30), both.logger.lost)
        text = stream.getvalue()
        assert ["records_lost", "3"] == [line.split('"message": "')[1].split('"')[0] for line in text.splitlines()]
        assert '{"lost": 3}' in text
        assert ["0", "1", "2", "3"] == [name for name in messages(read(both.file)) if name != "output_failed"]

    def test_may_be_closed_without_any_handler(self, both, monkeypatch):
        """
        Nor does it matter that the standard library's last resort for warnings is that same stream.
        """
        monkeypatch.setattr("logging.root.handlers", [])
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr("sys.stderr", closed)
        for number in range(3):
            both.logger.info(str(number))
            both.log.flush(30)

        assert ["0", "output_failed", "1", "2"] == messages(read(both.file))


class TestOutput:
    def test_does_not_raise_what_its_sink_raises(self):
        """
        Neither writing nor closing nor beginning anew in a child does.
        """
        sink = Sink()
        sink.error = ZeroDivisionError("broken")
        output = Output(sink)
        told = output.write([note("1")])

        assert {"output": "the sink", "reason": "broken"} == told["extra"]
        assert (None, 2, True) == (output.write([note("2")]), output.lost, output.is_in_trouble)

        output.close()
        output.forget()

        assert (0, False) == (output.lost, output.is_in_trouble)

    def test_lets_a_caller_be_interrupted(self):
        """
        At the end of the process callers write themselves: Ctrl-C is theirs, but what is lost by it is counted.
        """
        sink = Sink()
        sink.error = KeyboardInterrupt()
        output = Output(sink)
        with pytest.raises(KeyboardInterrupt):
            output.write([note("1")])

        assert 1 == output.lost

    def test_counts_what_is_missing_only(self):
        """
        A sink that has written some before it failed has lost the others.
        """

        class Half(Sink):
            def write(self, records):
                while len(records) > 1:
                    self.records.append(records.popleft()["message"])
                raise OSError("full")

        sink = Half()
        output = Output(sink)
        output.write([note("1"), note("2"), note("3")])
        output.write([note("4")])

        assert (["1", "2", "records_lost"], 2) == (sink.records, output.lost)

    def test_that_fails_with_others_is_told_by_those_that_work(self):
        """
        Two of three fail at once: the third tells of both.
        """
        sinks = [Sink(), Sink(), Sink()]
        sinks[0].error = sinks[2].error = OSError("full")
        channel = Channel([Output(sink) for sink in sinks], 10)
        channel.offer(note("1"))

        assert channel.close(30)
        assert ["1", "output_failed", "output_failed"] == [message for message, _ in sinks[1].records]

    def test_is_written_by_a_thread_that_nothing_ends(self, monkeypatch):
        """
        Not even a handler of the application that calls sys.exit() when trouble is reported to it.
        """

        def leave(*_, **__):
            sys.exit(3)

        monkeypatch.setattr("pixel_llm.monitoring.logs.outputs.report_to_application", leave)
        bad, good = Sink(), Sink()
        bad.error = OSError("full")
        channel = Channel([Output(good), Output(bad)], 10)
        for number in range(3):
            channel.offer(note(str(number)))
            assert channel.flush(30)

        assert ["0", "1", "2"] == [message for message, _ in good.records]
        assert channel.close(30)


class TestLog:
    def test_says_that_nothing_was_written(self, keep, tmp_path):
        """
        Code can learn that records are lost: flush() and close() are False, and there is a count.
        """
        (tmp_path / "shop.log").mkdir()
        kept = keep()
        for number in range(5):
            kept.logger.info("one", number=number)

        assert (False, 5, 0) == (kept.logger.flush(30), kept.logger.lost, kept.logger.dropped)
        assert not kept.log.close()

        (tmp_path / "shop.log").rmdir()
        kept.logger.info("two")

        assert (True, 5) == (kept.logger.flush(30), kept.log.lost)
        assert ["records_lost", "two"] == messages(read(kept.file))

    def test_counts_on_when_it_was_closed(self, keep):
        """
        What was dropped stays counted.
        """
        kept = keep(queue_size=1)
        while not kept.log.dropped:
            kept.logger.info("x")
        kept.log.flush(30)
        dropped = kept.log.dropped
        kept.log.close()

        assert dropped == kept.log.dropped


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
class TestPipe:
    def test_is_written_like_a_file(self, keep, tmp_path):
        """
        A pipe with a name, as /dev/stdout may be one, gets the records.
        """
        os.mkfifo(tmp_path / "shop.log")
        kept = keep(rotation=None)
        got = []
        reader = threading.Thread(target=lambda: got.append(kept.file.read_text()))
        reader.start()
        while True:  # until the reader is there
            kept.logger.info("one")
            if kept.log.flush(30):
                break
        kept.log.close()
        reader.join(30)

        assert '"message": "one"' in got[0]
        assert stat.S_ISFIFO(kept.file.stat().st_mode)

    def test_that_nobody_reads_is_trouble(self, keep, tmp_path, caplog):
        """
        Nobody waits for a reader.
        """
        os.mkfifo(tmp_path / "shop.log")
        kept = keep()
        kept.logger.info("one")

        assert not kept.log.flush(30)
        assert [f"the log file {kept.file} cannot be written: nobody reads this pipe; calls go on without it"] == (
            warnings(caplog)
        )


class TestHalfALine:
    @pytest.mark.parametrize(("before", "lines"), [("", 1), ("whole\n", 2), ("hal", 2), ("whole\nhal", 3)])
    def test_of_another_process_is_not_continued(self, keep, tmp_path, before, lines):
        """
        A program that was killed, or found the disk full, has left half a line: ours begins behind it.
        """
        Path(tmp_path / "shop.log").write_text(before)
        kept = keep()
        kept.logger.info("one")
        assert kept.log.flush(30)
        written = kept.file.read_text().splitlines()

        assert lines == len(written)
        assert written[-1].startswith('{"timestamp"')
