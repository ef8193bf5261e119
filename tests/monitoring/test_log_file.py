"""The log file: whole lines, turned over, through full disks and other processes."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from logs_reading import read

from pixel_llm.monitoring.logs.file import FileSink
from pixel_llm.monitoring.logs.outputs import Output
from pixel_llm.monitoring.logs.record import note
from pixel_llm.policy import RotationConfig


def records(count, first=0, **extra):
    return [note("record", number=number, **extra) for number in range(first, first + count)]


def numbers(*files):
    return [record["extra"]["number"] for file in files for record in read(file)]


@contextmanager
def file_size_limit(size):
    """No file may be larger than so many bytes: to whoever writes, that is a disk which is full after them."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "shop.log"


@pytest.fixture
def open_sink(file):
    sinks = []

    def open_sink(path=file, **rotation):
        sinks.append(Output(FileSink(str(path), RotationConfig(**rotation) if rotation else None)))
        return sinks[-1]

    yield open_sink
    for sink in sinks:
        sink.close()


def old(file, number):
    return file.with_name(f"{file.name}.{number}")


class TestRotation:
    def test_begins_anew_before_the_file_is_too_large(self, open_sink, file):
        """
        No file is larger than the policy says, no record is cut or lost while there are files enough, all are in order.
        """
        sink = open_sink(max_size=2000, keep=50)
        sink.write(records(40))
        sink.write(records(40, first=40))
        files = sorted(file.parent.iterdir(), key=lambda path: -int(path.suffix[1:]) if path != file else 1)

        assert list(range(80)) == numbers(*files)
        assert all(path.stat().st_size <= 2000 for path in files)
        assert len(files) > 5

    def test_keeps_so_many_files(self, open_sink, file):
        """
        The oldest are deleted.
        """
        sink = open_sink(max_size=500, keep=2)
        for number in range(20):
            sink.write(records(1, first=number))

        assert {file, old(file, 1), old(file, 2)} == set(file.parent.iterdir())
        assert 19 == numbers(file)[-1]

    def test_goes_on_with_a_file_that_is_there(self, open_sink, file):
        """
        What an earlier run has written counts.
        """
        file.write_text("x" * 499 + "\n")
        open_sink(max_size=500, keep=2).write(records(1))

        assert [0] == numbers(file)
        assert 500 == old(file, 1).stat().st_size

    def test_takes_a_record_that_is_larger(self, open_sink, file):
        """
        A single record that is larger than a file may be has one for itself.
        """
        sink = open_sink(max_size=100, keep=5)
        sink.write(records(3))

        assert [2, 1, 0] == numbers(file, old(file, 1), old(file, 2))

    def test_that_cannot_be_lets_the_file_grow(self, open_sink, file, caplog):
        """
        Where files can't be moved, that is reported once; a large file is better than none.
        """
        (old(file, 1) / "in the way").mkdir(parents=True)
        sink = open_sink(max_size=100, keep=1)
        for number in range(3):
            sink.write(records(1, first=number))

        assert [0, 1, 2] == numbers(file)
        assert 1 == sum("cannot be written: Is a directory" in record.getMessage() for record in caplog.records)

    def test_by_several_at_once_loses_nothing(self, open_sink, file):
        """
        Others may write to the same file, and turn it over: nobody's records are lost, and no line is torn.
        """

        def work(worker):
            sink = open_sink(max_size=3000, keep=1000)
            for number in range(200):
                sink.write(records(1, first=number, worker=worker))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [
            (record["extra"]["worker"], record["extra"]["number"])
            for path in file.parent.iterdir()
            for record in read(path)
        ]

        assert sorted(seen) == [(worker, number) for worker in range(4) for number in range(200)]


class TestOtherPrograms:
    @pytest.mark.parametrize("rotation", [{}, {"max_size": 10_000}])
    def test_may_move_the_file_away(self, open_sink, file, rotation):
        """
        After logrotate, or whoever deletes the file, a fresh one is made.
        """
        sink = open_sink(**rotation)
        sink.write(records(1))
        file.rename(file.with_name("moved"))
        sink.write(records(1, first=1))
        file.unlink()
        sink.write(records(1, first=2))

        assert [0] == numbers(file.with_name("moved"))
        assert [2] == numbers(file)


class TestTrouble:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_is_counted_and_told(self, open_sink, file, caplog):
        """
        What a full disk did not take is told as soon as something else takes records again.
        """
        file.symlink_to("/dev/full")
        sink = open_sink()
        sink.write(records(3))
        sink.write(records(2))
        file.unlink()
        sink.close()
        sink.write(records(1, first=5))
        sink.write(records(1, first=6))

        assert [("records_lost", {"lost": 5}), ("record", {"number": 5}), ("record", {"number": 6})] == [
            (record["message"], record["extra"]) for record in read(file)
        ]
        assert [f"the log file {file} cannot be written: No space left on device; calls go on without it"] == [
            record.getMessage() for record in caplog.records
        ]

    def test_in_the_middle_of_a_line_spoils_that_line_only(self, open_sink, file):
        """
        A disk that is full after half a line leaves that half: the next record begins on a line of its own.
        """
        sink = open_sink()
        with file_size_limit(500):
            sink.write(records(4))
        sink.write(records(1, first=4))
        lines = file.read_text().splitlines()
        whole = [json.loads(line) for line in (*lines[:-3], *lines[-2:])]

        assert 500 == len("\n".join(lines[:-2]))
        assert [0, 1, {"lost": 2}, 4] == [
            record["extra"] if record["message"] == "records_lost" else record["extra"]["number"] for record in whole
        ]

    def test_is_remembered_when_the_log_is_closed(self, keep):
        """
        A log that is closed and written to again tells what was lost, on a line of its own behind what is half a line.
        """
        kept = keep()
        kept.logger.info("first")
        assert kept.log.flush(30)
        with file_size_limit(kept.file.stat().st_size + 20):
            kept.logger.info("second")
            assert not kept.log.close()
        kept.logger.info("third")
        assert kept.log.flush(30)
        first, half, *rest = kept.file.read_text().splitlines()

        assert ("first", 20) == (json.loads(first)["message"], len(half))
        assert ["records_lost", "third"] == [json.loads(line)["message"] for line in rest]

    def test_is_what_a_path_without_meaning_makes(self, open_sink, caplog):
        """
        A path that no file can have is reported like a full disk.
        """
        sink = open_sink("a\0b")
        sink.write(records(1))
        sink.write(records(1))

        assert ["the log file a\0b cannot be written: embedded null byte; calls go on without it"] == [
            record.getMessage() for record in caplog.records
        ]


class TestHomeFolder:
    def test_is_a_tilde(self, open_sink, file, monkeypatch):
        """
        ``~`` is the home folder; that of somebody who is not known stays what it says.
        """
        monkeypatch.setenv("HOME", str(file.parent))
        monkeypatch.chdir(file.parent)
        open_sink("~/logs/shop.log").write(records(1))
        open_sink("~nobody-of-this-name/shop.log").write(records(1))

        assert [0] == numbers(file.parent / "logs" / "shop.log")
        assert [0] == numbers(file.parent / "~nobody-of-this-name" / "shop.log")


class TestFork:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_opens_the_file_anew(self, open_sink, file):
        """
        What was open in the parent is not what the child writes to: a lock of the one would be one of the other.
        """
        sink = open_sink(max_size=10_000)
        sink.write(records(1))
        before = sink._sink._descriptor
        sink.forget()

        assert before is not None
        assert sink._sink._descriptor is None
