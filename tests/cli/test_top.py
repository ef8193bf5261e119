"""``pixel-llm top``: plain in a process of its own, live in a terminal of its own."""

from __future__ import annotations

import contextlib
import io
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
from command import pixel_llm
from rich.console import Console
from running import answering, gone, running_shop

from pixel_llm.cli.top.rows import Row, rows
from pixel_llm.cli.top.view import draw
from pixel_llm.errors import PolicyError
from pixel_llm.runtime import Policies


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Policies, str]]:
    with running_shop(tmp_path / "policies") as running:
        yield running


def top(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = pixel_llm("top", *words, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


def shown(*args: object, width: int = 80, **options: object) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(draw(*args, **{"url": "http://localhost", **options}))
    return console.file.getvalue().splitlines()


class TestPlain:
    def test_prints_once(self, shop, tmp_path):
        """Where the output is no terminal, what there is since the start, in 80 columns."""
        done = top(shop[1], cwd=tmp_path)
        title, heads, pay, ship, empty, errors, *_ = done.stdout.splitlines()

        assert (0, "") == (done.returncode, done.stderr)
        assert re.fullmatch(rf"shop  failing  since the start, \d s  {shop[1]}", title)
        assert ["target", "calls/s", "failed", "degraded", "p50", "p95", "breaker", "busy"] == heads.split()
        assert re.fullmatch(r"shop\.pay +[\d.e+]+ +25\.0% +25\.0% .* ms .* ms +0/4 *", pay)
        assert re.fullmatch(r"shop\.ship +[\d.e+]+ +100\.0% +0\.0% +– +– open *", ship)
        assert ("", "Recent errors") == (empty.strip(), errors)
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_shows_no_control_characters(self, shop, tmp_path):
        """What an error says can't move the cursor."""
        done = top(shop[1], cwd=tmp_path)

        assert "\x1b" not in done.stdout
        assert "gone \\x1b[2J\\nfar away" in done.stdout

    def test_trouble(self, tmp_path):
        """Rubbish and silence are one line each, exit 1; what is no address is wrong usage."""
        with answering(b"<html>") as url:
            rubbish = top(url, cwd=tmp_path)
        silence = top("http://127.0.0.1:1", cwd=tmp_path)
        usage = top("here", cwd=tmp_path)

        assert (1, 1, 2) == (rubbish.returncode, silence.returncode, usage.returncode)
        assert f"error: {url} has no metrics of pixel-llm: a snapshot must be JSON" in rubbish.stderr
        assert "error: http://127.0.0.1:1: nothing answers there" in silence.stderr
        assert (1, 1) == (len(rubbish.stderr.splitlines()), len(silence.stderr.splitlines()))


class TestRows:
    def test_show_what_happened_between_two_snapshots(self, shop):
        """Rates and shares are those since the first."""
        policies = shop[0]
        before = policies.snapshot()
        for _ in range(9):
            policies.wrap("shop.pay", lambda: 1)()
        policies.wrap("shop.pay", gone)()
        now = policies.snapshot()
        seconds = now.taken_at - before.taken_at
        pay, ship = rows(before, now)

        assert ("shop.pay", 0.1, 0.1, "", "0/4") == (pay.target, pay.failed, pay.degraded, pay.breaker, pay.busy)
        assert pytest.approx(10 / seconds) == pay.rate
        assert Row(
            target="shop.ship", rate=0, failed=None, degraded=None, p50=None, p95=None, breaker="open", busy=""
        ) == ship  # fmt: skip

    def test_begin_anew_with_a_process_that_began_anew(self, shop, tmp_path):
        """Counters that have gone back are those since the start."""
        with running_shop(tmp_path / "again") as (again, _):
            policies = shop[0]
            for _ in range(100):
                policies.wrap("shop.pay", lambda: 1)()
            (pay, _) = rows(policies.snapshot(), again.snapshot())

        assert 0.25 == pay.failed


class TestView:
    def test_says_that_nothing_was_called(self, tmp_path):
        """Targets that nobody has called are not shown."""
        from pixel_llm.runtime import load_policies

        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {}}")
        with load_policies(tmp_path, "bar", variables={}) as policies:
            lines = shown([policies.snapshot()], [])

        assert ["bar  ok  since the start, 0 s  http://localhost", "no calls yet"] == lines[:2]

    def test_says_that_an_older_policy_is_in_force(self, shop):
        """Until it can be loaded again."""
        policies = shop[0]
        file = policies.file
        text = file.read_text()
        file.write_text("targets: [")
        with pytest.raises(PolicyError):
            policies.reload()
        failing = shown([policies.snapshot()], [])
        file.write_text(text)
        policies.reload()
        mended = shown([policies.snapshot()], [])

        assert re.match(r"shop  failing  not reloaded  since the start, ", failing[0])
        assert re.match(r"shop  failing  since the start, ", mended[0])

    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_fits(self, shop, width):
        """Long names and texts are cut, whatever the width."""
        policies = shop[0]
        lines = shown([policies.snapshot()], [], url="http://" + "long." * 50, width=width)

        assert max(map(len, lines)) <= width

    def test_leaves_rows_out_where_there_is_no_room(self, shop):
        """The terminal's height is kept, and what is left out is counted."""
        policies = shop[0]
        policies.wrap("shop.list", str)()
        lines = shown([policies.snapshot()], [], height=14)

        assert any("… 2 more" in line for line in lines)
        assert not any("shop.list" in line for line in lines)


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
