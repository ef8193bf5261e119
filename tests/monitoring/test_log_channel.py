"""Callers never wait, and nothing is lost without being told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from logs_reading import read

from pixel_llm.monitoring.logs import exits
from pixel_llm.monitoring.logs.channel import Channel
from pixel_llm.monitoring.logs.outputs import Output
from pixel_llm.monitoring.logs.record import note


class Held:
    """A sink that writes only while it is let."""

    subject = "the held sink"

    def __init__(self):
        self.let = threading.Event()
        self.is_writing = threading.Event()
        self.records = []
        self.closed = 0

    def write(self, records):
        self.is_writing.set()
        assert self.let.wait(30)
        self.records.extend((record["message"], record["extra"]) for record in records)
        records.clear()

    def close(self):
        self.closed += 1

    def forget(self):
        pass


@pytest.fixture
def sink():
    return Held()


@pytest.fixture
def channel(sink):
    channel = Channel([Output(sink)], 100)
    yield channel
    sink.let.set()
    channel.close(30)


def offer(channel, count, first=0):
    for number in range(first, first + count):
        channel.offer(note("record", number=number))


def hold(channel, sink):
    """The thread is busy with one record, so that the queue fills."""
    offer(channel, 1, first=-1)
    assert sink.is_writing.wait(30)


class TestFullQueue:
    def test_drops_with_a_count_that_is_told(self, channel, sink):
        """
        What found the queue full is counted, and told behind what was waiting; what comes later is written again.
        """
        hold(channel, sink)
        offer(channel, 130)

        assert 30 == channel.dropped

        sink.let.set()
        assert channel.flush(30)
        offer(channel, 1, first=500)
        assert channel.flush(30)

        assert [
            *(("record", {"number": number}) for number in range(-1, 100)),
            ("records_dropped", {"dropped": 30, "dropped_in_all": 30}),
            ("record", {"number": 500}),
        ] == sink.records

    def test_counts_every_one_under_threads(self, channel, sink):
        """
        Written and dropped are all that were offered, whoever offered them.
        """
        hold(channel, sink)
        threads = [threading.Thread(target=offer, args=(channel, 500)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.let.set()
        assert channel.flush(30)
        written = sum(message == "record" for message, _ in sink.records)

        assert 4001 == written + channel.dropped
        assert channel.dropped == sum(extra.get("dropped", 0) for _, extra in sink.records)

    def test_tells_at_the_end_at_the_latest(self, channel, sink):
        """
        Closing tells what was dropped before.
        """
        hold(channel, sink)
        offer(channel, 101)
        sink.let.set()

        assert channel.close(30)
        assert ("records_dropped", {"dropped": 1, "dropped_in_all": 1}) == sink.records[-1]


class TestFlush:
    def test_says_whether_all_is_written(self, channel, sink):
        """
        It waits as long as it may.
        """
        hold(channel, sink)

        assert not channel.flush(0.01)

        sink.let.set()

        assert channel.flush(30)
        assert 1 == len(sink.records)

    def test_has_nothing_to_do_at_first(self, channel):
        """
        Without a record there is no thread.
        """
        assert channel.flush(0)
        assert "pixel-llm log" not in {thread.name for thread in threading.enumerate()}


class TestClose:
    def test_writes_what_waits(self, channel, sink):
        """
        Whatever was offered before is written; what comes later is not.
        """
        hold(channel, sink)
        offer(channel, 50)
        sink.let.set()

        assert channel.close(30)
        offer(channel, 1)
        assert channel.close(30)
        assert (51, 1) == (len(sink.records), sink.closed)

    def test_gives_up_on_a_sink_that_hangs(self, channel, sink):
        """
        A sink that hangs does not keep the program.
        """
        hold(channel, sink)

        assert not channel.close(0.01)

    def test_may_be_done_by_a_garbage_collector(self, channel, sink):
        """
        With no time at all the thread ends by itself.
        """
        hold(channel, sink)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "pixel-llm log"]

        assert not channel.close(0)

        sink.let.set()
        thread.join(30)

        assert 1 == sink.closed


class TestFinish:
    def test_writes_at_once_from_then_on(self, channel, sink):
        """
        At the end of the process there is no thread any more: whoever logs then, writes.
        """
        sink.let.set()
        offer(channel, 3)

        assert channel.finish(30)
        offer(channel, 2, first=3)
        assert list(range(5)) == [extra["number"] for _, extra in sink.records]
        assert channel.flush(0)

    def test_without_any_record_closes_the_sinks(self, channel, sink):
        """
        Nothing is started in order to be ended.
        """
        assert channel.finish(0)
        assert 1 == sink.closed

    def test_with_a_sink_that_hangs_drops_what_comes(self, channel, sink):
        """
        Nobody is made to wait for a sink that hangs, at the end neither.
        """
        hold(channel, sink)

        assert not channel.finish(0.01)
        offer(channel, 1)

    def test_does_not_wait_longer_in_all_than_it_may(self, channel, sink, monkeypatch):
        """
        All logs together get the patience of one process.
        """
        monkeypatch.setattr(exits, "PATIENCE", 0.05)
        hold(channel, sink)
        exits._watched.finish()

        assert not channel.flush(0.01) or channel.dropped == 0

    def test_loses_nothing_that_comes_meanwhile(self, sink):
        """
        Threads that go on while the process ends are written too.
        """
        sink.let.set()
        channel = Channel([Output(sink)], 100_000)
        threads = [threading.Thread(target=offer, args=(channel, 2000)) for _ in range(4)]
        for thread in threads:
            thread.start()
        channel.finish(30)
        for thread in threads:
            thread.join()

        assert 8000 == sum(message == "record" for message, _ in sink.records)


class TestConsole:
    @pytest.fixture
    def open_pipe(self, monkeypatch):
        """Makes standard error a pipe, which nobody reads yet."""
        descriptors = []

        def open_pipe():
            reader, writer = os.pipe()
            descriptors.extend((reader, writer))
            monkeypatch.setattr("sys.stderr", os.fdopen(writer, "w", closefd=False))
            return reader

        yield open_pipe
        monkeypatch.undo()
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def test_that_nobody_reads_makes_no_call_wait(self, keep, open_pipe):
        """
        A pipe that is full holds up the log's thread only; when it is read, the log goes on and tells what is missing.
        """
        kept, pipe = keep(file=None, console=True, queue_size=100), open_pipe()
        while not kept.logger.dropped:
            kept.logger.info("x" * 1000)
        os.set_blocking(pipe, False)
        text = b""
        ends = time.monotonic() + 30
        while b"records_dropped" not in text and time.monotonic() < ends:
            with contextlib.suppress(BlockingIOError):
                text += os.read(pipe, 1 << 20)

        assert b"records_dropped" in text

    def test_that_is_gone_is_reported_once(self, keep, open_pipe, caplog):
        """
        A pipe whose reader has left is trouble like a full disk: told once, and calls go on.
        """
        kept = keep(file=None, console=True)
        os.close(open_pipe())
        for _ in range(3):
            kept.logger.info("one")
            kept.log.flush(30)

        assert ["the console cannot be written: Broken pipe; calls go on without it"] == [
            record.getMessage() for record in caplog.records if record.name == "pixel_llm"
        ]

    def test_that_is_not_there_loses_what_is_written_to_it(self, keep, monkeypatch, caplog):
        """
        A program without standard error, whose policy wants it, is told once; what goes nowhere is counted.
        """
        kept = keep(console=True)
        monkeypatch.setattr("sys.stderr", None)
        for number in range(3):
            kept.logger.info(str(number))
            assert not kept.log.flush(30)

        assert 3 == kept.log.lost
        assert ["0", "output_failed", "1", "2"] == [record["message"] for record in read(kept.file)]
        assert ["the console cannot be written: there is no standard error; calls go on without it"] == [
            record.getMessage() for record in caplog.records if record.name == "pixel_llm"
        ]

    @pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes descriptors")
    def test_that_was_closed_from_the_start_loses_them_too(self):
        """
        So it is under ``2>&-``.
        """
        program = (
            "from pixel_llm.monitoring import Log, StructuredLogger; from pixel_llm.policy import LoggingConfig\n"
            "log = StructuredLogger('shop', Log(LoggingConfig(console=True)))\n"
            "log.info('one'); print(log.flush(30), log.lost)"
        )
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

        assert "False 1\n" == done.stdout

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
    def test_has_json_in_any_encoding(self, keep, monkeypatch, encoding):
        """
        What the encoding lacks is escaped as JSON does it, so that every line can be read; what it has stays.
        """
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(raw, encoding=encoding))
        kept = keep(file=None, console=True)
        kept.logger.info("déjà 😀 → \ue000 \ud800", **{"é😀": "ÿ"})
        assert kept.log.flush(30)
        text = raw.getvalue().decode(encoding)
        record = json.loads(text)

        assert ("déjà 😀 → \ue000 \ud800", {"é😀": "ÿ"}) == (record["message"], record["extra"])
        assert ("é" in text, "😀" in text) == (encoding != "ascii", encoding.startswith("utf"))

    def test_shows_what_its_encoding_lacks_as_escapes(self, keep, monkeypatch):
        """
        A console in ASCII gets ASCII.
        """
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(raw, encoding="ascii"))
        kept = keep(file=None, console=True, format="console")
        kept.logger.info("Grüße 🐈")
        kept.log.flush(30)

        assert rb"Gr\xfc\xdfe \U0001f408" in raw.getvalue()
