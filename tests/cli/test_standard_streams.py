"""The standard streams of the commands: closed, full, in an encoding that lacks characters, and Ctrl-C at any time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import pixel_llm
from PIL import Image

from pixel_llm.cli import terminal
from pixel_llm.testing import Answer, ScriptedLMStudio

CAPTION = "Eine 猫 → 🐈."


@pytest.fixture
def server() -> Iterator[ScriptedLMStudio]:
    with ScriptedLMStudio(then=Answer(text=CAPTION)) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    return tmp_path


def in_shell(redirections: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """The command with *redirections* that only a shell can make, such as ``>&-``."""
    script = f'exec "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "pixel_llm", *words],
        cwd=cwd, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


class TestEncoding:
    @pytest.mark.parametrize("more", [[], ["--stream"]], ids=["at once", "stream"])
    def test_text(self, server, folder, more):
        """What standard output has no bytes for is escaped; the caption comes, and the exit code is 0."""
        words = ["caption", "a.png", "--base-url", server.base_url, *more]
        done = pixel_llm(*words, cwd=folder, PYTHONIOENCODING="cp1252:strict")

        assert (0, "") == (done.returncode, done.stderr)
        assert "Eine \\u732b \\u2192 \\ud83d\\udc08." in done.stdout

    def test_json(self, server, folder):
        """JSON is ASCII there, and reads back as what it was."""
        words = ["caption", "a.png", "--base-url", server.base_url, "--format", "json"]
        done = pixel_llm(*words, cwd=folder, PYTHONIOENCODING="cp1252")

        assert done.stdout.isascii()
        assert (0, CAPTION) == (done.returncode, json.loads(done.stdout)["caption"])

    def test_unencodable_paths(self, server, folder):
        """A path that is no Unicode is escaped in UTF-8, too."""
        (folder / os.fsdecode(b"\xff.png")).write_bytes((folder / "a.png").read_bytes())
        done = pixel_llm("caption", ".", "--base-url", server.base_url, cwd=folder, PYTHONIOENCODING="utf-8")

        assert (0, 2) == (done.returncode, len(done.stdout.splitlines()))

    def test_doctor(self, server, folder):
        """The arrow before what to do is escaped."""
        words = ["doctor", "--base-url", "http://127.0.0.1:9/v1", "--timeout", "20s"]
        done = pixel_llm(*words, cwd=folder, PYTHONIOENCODING="cp1252")

        assert 1 == done.returncode
        assert "\\u2192 start LM Studio" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
class TestClosedStreams:
    @pytest.mark.parametrize("words", [["-"], ["--files-from", "-"]], ids=["image", "list"])
    def test_input(self, server, folder, words):
        """Nothing can be read of a closed standard input: that is said."""
        done = in_shell("<&-", "caption", *words, "--base-url", server.base_url, cwd=folder)

        assert done.returncode in (1, 2)
        assert b"cannot be read" in done.stderr
        assert b"Traceback" not in done.stderr

    def test_output(self, server, folder):
        """Captions that go nowhere are an error."""
        done = in_shell(">&-", "caption", "a.png", "--base-url", server.base_url, cwd=folder)

        assert 1 == done.returncode
        assert b"error: cannot write: Bad file descriptor" in done.stderr

    def test_output_is_not_needed(self, server, folder):
        """With --output nothing has to be written there."""
        done = in_shell(">&-", "caption", "a.png", "--base-url", server.base_url, "--output", "c.jsonl", cwd=folder)

        assert (0, 1) == (done.returncode, len((folder / "c.jsonl").read_text().splitlines()))

    def test_errors(self, server, folder):
        """Captions come, though nobody hears of errors."""
        done = in_shell("2>&-", "caption", "a.png", "--base-url", server.base_url, cwd=folder)

        assert (0, CAPTION) == (done.returncode, done.stdout.decode().strip())


class TestInterrupt:
    def test_while_it_is_loaded(self, folder):
        """Ctrl-C before the command has begun ends it without a word, with 130."""
        program = (
            "import os, signal, sys\n"
            "class Finder:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'click':\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Finder())\n"
            "from pixel_llm.cli import main\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )

        assert (130, "", "") == (done.returncode, done.stdout, done.stderr)


class TestLeftBehind:
    def test_thread_in_mid_import(self, folder):
        """A thread that is left behind doesn't see the interpreter taken down; what is to be done at exit is."""
        program = (
            "import threading, time\n"
            "from pixel_llm.cli.main import leave\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            "class Torn:\n"
            "    def __del__(self): print('the interpreter was taken down')\n"
            "torn = Torn()\n"
            "import atexit; atexit.register(print, 'told at exit')\n"
            "print('told')\n"
            "leave(1)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )

        assert (1, "told\ntold at exit\n") == (done.returncode, done.stdout)


class TestJSONText:
    def test_utf_8(self):
        """In UTF-8, JSON has its characters as they are."""
        assert '"猫"' == terminal.json_text("猫") or not sys.stdout.encoding.lower().startswith("utf")
