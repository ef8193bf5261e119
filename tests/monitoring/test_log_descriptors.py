"""``file: /dev/stdout`` and the like: records stand between what the program prints, wherever that goes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from pixel_llm.monitoring.logs.descriptors import own_descriptor
from pixel_llm.monitoring.logs.file import FileSink
from pixel_llm.monitoring.logs.record import note

pytestmark = pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs descriptors that are files")

PROGRAM = """
import os, sys
from pixel_llm.monitoring import Log, StructuredLogger
from pixel_llm.policy import LoggingConfig, RotationConfig

path, stream = sys.argv[1], getattr(sys, sys.argv[2])
# Never of a file in /dev: what turns that over by mistake breaks the machine.
rotation = RotationConfig(max_size=200, keep=3) if path == "link.log" else None
log = StructuredLogger("shop", Log(LoggingConfig(file=path, rotation=rotation)))
for number in range(4):
    log.info("record", number=number)
    assert log.flush(30)
    print("printed", number, "x" * 60, file=stream, flush=True)
"""

EXPECTED = [line for number in range(4) for line in (number, f"printed {number} {'x' * 60}")]


def lines(text):
    """The numbers of records, and other lines as they are."""
    return [json.loads(line)["extra"]["number"] if line.startswith("{") else line for line in text.splitlines()]


@pytest.fixture
def run(tmp_path):
    """Runs the program with the log at *path* and *stream* in a file, opened in *mode*; gives what that has then."""

    def run(path, stream, mode="wb"):
        out = tmp_path / "out.txt"
        with out.open(mode) as file:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, path, stream],
                cwd=tmp_path,
                check=False,
                timeout=120,
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: file},
            )
        assert 0 == done.returncode, done.stderr or out.read_text()
        return lines(out.read_text())

    return run


class TestFile:
    @pytest.mark.parametrize("mode", ["wb", "ab"])
    @pytest.mark.parametrize(
        ("path", "stream"),
        [
            ("/dev/stdout", "stdout"),
            ("/dev/stderr", "stderr"),
            ("/dev/fd/1", "stdout"),
            ("/dev/../dev/fd/2", "stderr"),
            ("link.log", "stdout"),
        ],
    )
    def test_that_the_program_prints_to_has_both(self, run, tmp_path, path, stream, mode):
        """
        ``> out.txt`` and ``>> out.txt`` keep each record and each line, in order; a link to it is not turned over.
        """
        (tmp_path / "link.log").symlink_to("/dev/stdout")

        assert run(path, stream, mode) == EXPECTED
        assert {"out.txt", "link.log"} == {file.name for file in tmp_path.iterdir()}
        assert (tmp_path / "link.log").is_symlink()

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
    def test_may_be_called_as_linux_calls_it(self, run):
        """
        ``/proc/self/fd/1`` is the same.
        """
        assert run("/proc/self/fd/1", "stdout") == EXPECTED


class TestDescriptor:
    @pytest.fixture
    def open_sink(self):
        sinks = []

        def open_sink(descriptor):
            sinks.append(FileSink(f"/dev/fd/{descriptor}", None))
            return lambda *numbers: sinks[-1].write(deque(note("record", number=number) for number in numbers))

        yield open_sink
        for sink in sinks:
            sink.close()

    def test_of_a_socket_is_written_to(self, open_sink):
        """
        Standard output under systemd is a socket, which no path opens.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            open_sink(ours.fileno())(1)

            assert [1] == lines(theirs.recv(10_000).decode())

    def test_that_lets_nobody_wait_is_waited_for(self, open_sink):
        """
        A pipe that another program has set not to block, as terminals often are, loses nothing when it is full.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        thread = threading.Thread(target=open_sink(writer), args=range(3000))
        thread.start()
        with os.fdopen(reader) as file:
            time.sleep(0.05)
            got = lines("".join(file.readline() for _ in range(3000)))
            thread.join(30)
            os.close(writer)

        assert list(range(3000)) == got

    def test_that_is_another_file_later_is_left_alone(self, open_sink, tmp_path):
        """
        What the program opens under the number of a descriptor that it has closed, such as a database, gets no records.
        """
        descriptor = os.open(tmp_path / "out.txt", os.O_WRONLY | os.O_CREAT)
        write = open_sink(descriptor)
        write(1)
        os.close(descriptor)
        assert descriptor == os.open(tmp_path / "data.db", os.O_WRONLY | os.O_CREAT)
        write(2)
        os.close(descriptor)

        assert [1, 2] == lines((tmp_path / "out.txt").read_text())
        assert "" == (tmp_path / "data.db").read_text()

    def test_that_is_closed_is_trouble(self, keep, caplog):
        """
        A program that was started with its standard output closed is told so, and loses records by the count.
        """
        descriptor = os.dup(1)
        os.close(descriptor)
        kept = keep(file=f"/dev/fd/{descriptor}")
        kept.logger.info("one")

        assert (False, 1) == (kept.log.flush(30), kept.log.lost)
        assert f"the log file /dev/fd/{descriptor} cannot be written: Bad file descriptor" in caplog.text

    @pytest.mark.parametrize("path", ["/dev/null", "/dev/fd/x", "/tmp/1", "loop"])
    def test_is_what_nothing_else_means(self, tmp_path, path):
        """
        Other paths are paths, links that lead nowhere among them.
        """
        (tmp_path / "loop").symlink_to("loop")

        assert own_descriptor(tmp_path / path) is None
