"""A reader's shell: one for the whole page, and further ones for what goes on running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

#: Seconds that a command, or what a server should print, is waited for.
PATIENCE = 60.0


class Shell:
    """A bash that keeps its variables and its ``$?`` from command to command."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run *command* and give what it printed, standard error included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = uuid.uuid4().hex
        script = self._folder.parent / f"{self._folder.name}.command"
        script.write_text(f"{command}\n", "utf-8")
        # Sourced with standard input of its own, so that it can't read the commands that follow.
        status = "__status"
        self._process.stdin.write(
            f"(exit ${{{status}:-0}}); . {script} </dev/null; {status}=$?; printf '%s\\n' '' {end}\n"
        )
        self._process.stdin.flush()
        watchdog = threading.Timer(PATIENCE, self.close)
        watchdog.start()
        lines: list[str] = []
        for line in self._process.stdout:
            if line == f"{end}\n":
                break
            lines.append(line)
        watchdog.cancel()
        return "".join(lines).removesuffix("\n")

    def close(self) -> None:
        """End the shell, and what still runs in it."""
        _end(self._process)


class Background:
    """A command that goes on running, such as a server in a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, condition: Callable[[str], bool]) -> str:
        """What it has printed, once that meets *condition*, or at the end of patience."""
        ends = time.monotonic() + PATIENCE / 4
        while not condition("".join(self._printed)) and time.monotonic() < ends and self._process.poll() is None:
            time.sleep(0.01)
        return "".join(self._printed)

    def close(self) -> None:
        """End it."""
        _kill(self._process)
        self._reader.join()
        _end(self._process)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed.append(line)


def _kill(process: subprocess.Popen[str]) -> None:
    """End *process*, unless it has ended, and what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end(process: subprocess.Popen[str]) -> None:
    """:func:`_kill`, and close its pipes."""
    _kill(process)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
