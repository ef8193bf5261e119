"""``pixel-llm top`` live, in a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import running_shop

from pixel_llm.runtime import Policies


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Policies, str]]:
    with running_shop(tmp_path / "policies") as running:
        yield running


@contextlib.contextmanager
def on_a_terminal(*words: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "pixel_llm", "top", *words]
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as watching:
        os.close(theirs)
        try:
            yield watching, ours
        finally:
            watching.kill()
            os.close(ours)


def read_until(terminal: int, text: str, seconds: float = 30) -> str:
    """What the terminal shows, until *text* is in it or the program has ended."""
    ends, seen = time.monotonic() + seconds, b""
    while text.encode() not in seen and time.monotonic() < ends:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the program has ended
                break
    return seen.decode(errors="replace")


def read_frame(terminal: int, *texts: str, seconds: float = 30) -> str:
    """The next whole picture that has *texts* in it and nothing of a missing answer, or the last one there was."""
    ends, seen = time.monotonic() + seconds, ""
    while time.monotonic() < ends:
        seen += read_until(terminal, "\x1b[H", 2)
        *whole, seen = seen.split("\x1b[H")
        for frame in whole:
            if "no answer" not in frame and all(text in frame for text in texts):
                return frame
    return seen


class TestLive:
    def test_watches_until_interrupted(self, shop, tmp_path):
        """The table is drawn again and again; Ctrl-C ends it, exit 0."""
        policies, url = shop
        with on_a_terminal(url, "--interval", "100ms", cwd=tmp_path) as (watching, terminal):
            first = read_until(terminal, "since the start")
            policies.wrap("shop.list", str)()
            later = read_until(terminal, "shop.list")
            watching.send_signal(signal.SIGINT)
            read_until(terminal, "\0", 5)
            code = watching.wait(10)

        assert "shop.pay" in first + later
        assert "shop.list" in later
        assert 0 == code

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_leaves_the_terminal_as_it_was(self, shop, tmp_path, number):
        """Whoever ends it: the screen comes back, and the cursor; it ends by that signal."""
        with on_a_terminal(shop[1], cwd=tmp_path) as (watching, terminal):
            read_until(terminal, "since the start")
            watching.send_signal(number)
            text = read_until(terminal, "\x1b[?1049l", 10)
            code = watching.wait(10)

        assert "\x1b[?25h" in text
        assert "\x1b[?1049l" in text
        assert "Traceback" not in text
        assert -number == code

    def test_q_ends_it(self, shop, tmp_path):
        """At once, however long the interval; other keys do nothing, and none is shown."""
        with on_a_terminal(shop[1], "--interval", "10m", cwd=tmp_path) as (watching, terminal):
            read_until(terminal, "since the start")
            os.write(terminal, b"xyz")
            assert "xyz" not in read_until(terminal, "\0", 0.5)
            os.write(terminal, b"q")
            text = read_until(terminal, "\x1b[?1049l", 10)
            code = watching.wait(10)

        assert "\x1b[?25h" in text
        assert 0 == code

    def test_stays_while_the_process_is_started_again(self, tmp_path):
        """It keeps the last figures, says that they are old, and goes on, from the start, when there is one again."""
        with contextlib.ExitStack() as process:
            policies, url = process.enter_context(running_shop(tmp_path / "shop"))
            for _ in range(100):
                policies.wrap("shop.list", str)()
            with on_a_terminal(url, "--interval", "100ms", cwd=tmp_path) as (watching, terminal):
                read_until(terminal, "last ")
                process.close()
                away = read_until(terminal, "no answer for 1 s: nothing answers there")
                policies, again = process.enter_context(running_shop(tmp_path / "shop", int(url.rpartition(":")[2])))
                back = read_frame(terminal, "since the start", "shop.pay")
                policies.wrap("shop.list", str)()
                later = read_frame(terminal, "shop.list")
                os.write(terminal, b"q")
                read_until(terminal, "\x1b[?1049l", 10)
                code = watching.wait(10)

        assert url == again
        assert "shop.list" in away.rpartition("no answer for")[0]
        assert "no answer" not in back + later
        assert "shop.list" not in back
        assert not re.search(r"-\d", back + later)
        assert "Traceback" not in away + back + later
        assert 0 == code

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
    def test_stays_while_the_process_hangs(self, tmp_path):
        """A process that gives no answer in time may give the next one; q counts meanwhile."""
        code = "import sys, running, pathlib, time\nwith running.running_shop(pathlib.Path('shop')) as (_, url):\n"
        code += "    print(url, flush=True)\n    time.sleep(60)"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as service:
            try:
                url = service.stdout.readline().strip()
                timing = ("--interval", "100ms", "--timeout", "1s")
                with on_a_terminal(url, *timing, cwd=tmp_path) as (watching, terminal):
                    read_until(terminal, "last ")
                    service.send_signal(signal.SIGSTOP)
                    hung = read_until(terminal, "s: it does not answer in time")
                    service.send_signal(signal.SIGCONT)
                    back = read_frame(terminal, "last ", "shop.pay")
                    service.send_signal(signal.SIGSTOP)
                    read_until(terminal, "s: it does not answer in time")
                    os.write(terminal, b"q")
                    read_until(terminal, "\x1b[?1049l", 10)
                    ended = watching.wait(10)
            finally:
                service.kill()

        assert "no answer for" in hung
        assert "no answer" not in back
        assert 0 == ended

    def test_must_be_answered_at_first(self, tmp_path):
        """Where nothing ever answers there is nothing to stay for: a plain line, exit 1."""
        with on_a_terminal("http://127.0.0.1:1", cwd=tmp_path) as (watching, terminal):
            text = read_until(terminal, "\0")
            code = watching.wait(10)

        assert "error: http://127.0.0.1:1: nothing answers there" in text
        assert "\x1b[?1049h" not in text
        assert 1 == code
