"""Processes that work for a command end with it, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = Path("/proc")

pytestmark = pytest.mark.skipif(not PROCESSES.is_dir(), reason="looks for processes in /proc")

FORKING = """
import os, time
from tools.lifeline import end_with
for _ in range(2):
    parent = os.getpid()
    if os.fork() == 0:
        end_with(parent)
        break
time.sleep(600)
"""

#: Each with the seconds of the processor after which its workers are surely at work.
COMMANDS = {
    "soak": (["-m", "soak", "--jobs", "2", "--count", "1000000000"], 1.0, signal.SIGKILL),
    "fuzz": (["-m", "fuzz", "--jobs", "2", "--count", "1000000000"], 1.0, signal.SIGTERM),
    "forks": (["-c", FORKING], 0.0, signal.SIGKILL),  # as mutants has them
}


def seen_of(process):
    """Its parent, and the seconds of the processor that it has used; None if it has ended."""
    try:
        state, *numbers = (PROCESSES / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if state in "ZX":
        return None
    return int(numbers[0]), (int(numbers[10]) + int(numbers[11])) / os.sysconf("SC_CLK_TCK")


def workers_of(process, seconds):
    """The processes that it has started and that have worked for so long; multiprocessing has an idle one as well."""
    seen = {int(entry.name): seen_of(entry.name) for entry in PROCESSES.iterdir() if entry.name.isdecimal()}
    return [child for child, found in seen.items() if found and found[0] == process and found[1] >= seconds]


def wait_until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(("words", "seconds", "kill"), COMMANDS.values(), ids=COMMANDS)
def test_end_with_the_process_that_started_them(words, seconds, kill):
    """
    Nobody is left who waits for work that will not come.
    """
    workers = []
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.DEVNULL) as command:
        try:
            wait_until(lambda: len(workers_of(command.pid, seconds)) == 2)
            workers = workers_of(command.pid, seconds)
            command.send_signal(kill)
            command.wait(30)
            wait_until(lambda: not any(map(seen_of, workers)))
        finally:
            command.kill()
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
