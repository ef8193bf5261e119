"""``pixel-llm top`` live, in a terminal of its own."""

from __future__ import annotations

import contextlib
import os
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

    def test_says_when_the_process_ends(self, tmp_path):
        """It does not show old figures for ever: a plain line, exit 1."""
        with contextlib.ExitStack() as process:
            _, url = process.enter_context(running_shop(tmp_path / "short"))
            with on_a_terminal(url, "--interval", "100ms", cwd=tmp_path) as (watching, terminal):
                read_until(terminal, "shop.pay")
                process.close()
                text = read_until(terminal, "does no longer")
                code = watching.wait(10)

        assert "does no longer" in text
        assert "Traceback" not in text
        assert 1 == code
