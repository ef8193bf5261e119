"""The commands as people type them, in a process of their own."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import pixel_llm
from PIL import Image
from skimage import data

from pixel_llm.policy import TargetPolicy
from pixel_llm.testing import Answer, ScriptedLMStudio, Status


@pytest.fixture
def server() -> Iterator[ScriptedLMStudio]:
    with ScriptedLMStudio() as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photographs."""
    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.jpg")
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    return tmp_path


class TestCaption:
    def test_one_image(self, server, photos):
        """One image gives one line: the caption."""
        server.extend([Answer(text="An astronaut.")])
        done = pixel_llm("caption", "astronaut.jpg", "--base-url", server.base_url, cwd=photos)

        assert (0, "An astronaut.\n", "") == (done.returncode, done.stdout, done.stderr)

    def test_several_images(self, server, photos):
        """Several images give a line each, with the image's name, in the order they were given."""
        server.extend([Answer(text="A cup."), Answer(text="An astronaut.")])
        done = pixel_llm(
            "caption", "coffee.png", "astronaut.jpg", "--jobs", "1", "--base-url", server.base_url, cwd=photos
        )

        assert "coffee.png: A cup.\nastronaut.jpg: An astronaut.\n" == done.stdout

    def test_options_reach_the_server(self, server, photos):
        """Prompt and model are those of the command line."""
        words = ["--prompt", "What colour?", "--model", "other", "--base-url", server.base_url]
        pixel_llm("caption", "astronaut.jpg", *words, cwd=photos)

        (request,) = server.requests
        assert "other" == request.body["model"]
        assert "What colour?" in request.body["messages"][-1]["content"][0]["text"]

    def test_json(self, server, photos):
        """With --format json each image is one object."""
        server.extend([Answer(text="An astronaut.")])
        done = pixel_llm("caption", "astronaut.jpg", "--base-url", server.base_url, "--format", "json", cwd=photos)

        row = json.loads(done.stdout)
        assert ("astronaut.jpg", "An astronaut.", "lm_studio", False, 1, None) == (
            row["image"], row["caption"], row["served_by"], row["degraded"], row["attempts"], row["error_code"],
        )  # fmt: skip

    @pytest.mark.parametrize(("words", "code"), [([], 1), (["--allow-degraded"], 0)])
    def test_degraded(self, server, photos, words, code):
        """A caption that a fallback served is marked; it is a failure unless that is allowed."""
        server.extend([Status(status=429, retry_after=900)])
        words = ["--profile", "production", "--base-url", server.base_url, *words]
        done = pixel_llm("caption", "astronaut.jpg", *words, cwd=photos)

        assert code == done.returncode
        assert "Unable to generate caption  [degraded: default_value in place of ERR_API_RATE_LIMIT]\n" == done.stdout

    def test_failure_of_one_image_does_not_lose_the_others(self, server, photos):
        """A broken file is reported and the next image captioned; the exit code says that something failed."""
        (photos / "broken.png").write_bytes(b"not an image")
        server.extend([Answer(text="A cup.")])
        done = pixel_llm("caption", "broken.png", "coffee.png", "--base-url", server.base_url, cwd=photos)

        assert (1, "coffee.png: A cup.\n") == (done.returncode, done.stdout)
        assert done.stderr.startswith("error: broken.png: ")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("missing.png", None, "error: missing.png: "),
            ("empty.png", b"", "error: empty.png: "),
            ("text.png", b"hello", "error: text.png: "),
            ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", "error: cut.png: "),
        ],
    )
    def test_bad_image(self, photos, name, content, message):
        """A bad image is a message of two lines at most, no traceback, exit 1; no server is asked."""
        if content is not None:
            (photos / name).write_bytes(content)
        done = pixel_llm("caption", name, cwd=photos)

        assert (1, "") == (done.returncode, done.stdout)
        assert done.stderr.startswith(message)
        assert len(done.stderr.splitlines()) <= 2

    def test_server_is_not_there(self, photos):
        """A closed port is said plainly, with what to do."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
            done = pixel_llm("caption", "astronaut.jpg", "--profile", "development", "--base-url", url, cwd=photos)

        assert 1 == done.returncode
        *_log, line = done.stderr.splitlines()
        assert "connection refused; start LM Studio's server" in line
        assert line.endswith("[ERR_CONN_REFUSED]")

    def test_escapes_what_would_move_the_cursor(self, server, photos):
        """Control characters in captions and file names reach the terminal as text."""
        server.extend([Answer(text="red \x1b[31m\a"), Answer(text="two\nlines")])
        (photos / "bad\x1b.png").write_bytes(b"x")
        words = ["--jobs", "1", "--base-url", server.base_url]
        done = pixel_llm("caption", "coffee.png", "astronaut.jpg", "bad\x1b.png", *words, cwd=photos)

        assert "coffee.png: red \\x1b[31m\\x07\nastronaut.jpg: two\\nlines\n" == done.stdout
        assert done.stderr.startswith("error: bad\\x1b.png: ")

    def test_marks_a_truncated_caption(self, server, photos):
        """A caption that the token limit cut off says so."""
        server.extend([Answer(text="A half", finish_reason="length")])
        done = pixel_llm("caption", "coffee.png", "--base-url", server.base_url, cwd=photos)

        assert (0, "A half  [truncated]\n") == (done.returncode, done.stdout)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_output_that_cannot_be_written(self, server, photos):
        """A full disk is one line, not a traceback."""
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "pixel_llm", "caption", "coffee.png", "--base-url", server.base_url],
                cwd=photos, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            )  # fmt: skip

        assert (1, "error: cannot write: No space left on device\n") == (done.returncode, done.stderr)

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--base-url", "localhost:1234"], "--base-url: must be an http or https address such as http://127.0.0.1"),
            (["--base-url", "http://127.0.0.1:99999/v1"], "--base-url: must have a port from 1 to 65535"),
            (["--model", ""], "--model: must not be empty"),
            (["--prompt", " "], "--prompt: must not be empty"),
            (["--policies", "nowhere"], "--policies: nowhere: the folder of policies does not exist"),
        ],
    )
    def test_option_that_cannot_be_meant(self, photos, words, complaint):
        """A wrong value of an option is wrong usage, told by the name that was typed; exit 2."""
        done = pixel_llm("caption", "astronaut.jpg", *words, cwd=photos)

        assert 2 == done.returncode
        assert f"Invalid value for {complaint}" in done.stderr
        assert "<overrides>" not in done.stderr

    @pytest.mark.parametrize(
        ("step", "advice"),
        [
            pytest.param(Answer(text="", reasoning_content="Hm", finish_reason="length"), "raise max_tokens", id="own"),
            pytest.param(Status(status=500), "look into the server's log", id="the code's"),
        ],
    )
    def test_one_advice(self, server, photos, step, advice):
        """An error whose message says what to do is not followed by its code's suggestion."""
        server.extend([step])
        words = ["--profile", "development", "--base-url", server.base_url]
        done = pixel_llm("caption", "coffee.png", *words, cwd=photos)
        told = [line for line in done.stderr.splitlines() if not line.startswith("{")]

        assert 1 == done.returncode
        assert advice in "\n".join(told)
        assert "OpenAI-compatible" not in done.stderr

    def test_says_how_long_to_wait(self, server, photos):
        """What the server says about when to come back is in the message and in the row."""
        server.extend([Status(status=429, retry_after=900)] * 2)
        words = ["coffee.png", "--profile", "development", "--base-url", server.base_url]
        text = pixel_llm("caption", *words, cwd=photos)
        row = json.loads(pixel_llm("caption", *words, "--format", "json", cwd=photos).stdout)

        assert "(429; retry_after 900 s)" in text.stderr
        assert 900 == row["retry_after"]

    def test_every_server_failed(self, server, photos):
        """Of several servers, each one's error is told."""
        server.extend([Status(status=500)] * 9)
        (photos / "policies").mkdir()
        (photos / "policies" / "mine.yaml").write_text(
            "version: 1\nextends: development\nlm_studio:\n  endpoints:\n"
            f"    - base_url: {server.base_url}\n    - base_url: http://127.0.0.1:9/v1\n"
        )
        done = pixel_llm("caption", "coffee.png", "--profile", "mine", cwd=photos)

        assert 1 == done.returncode
        assert f"\n  {server.base_url}: ERR_API_SERVER_ERROR: " in done.stderr
        assert "\n  http://127.0.0.1:9/v1: ERR_CONN_REFUSED: " in done.stderr

    def test_wrong_profile(self, photos):
        """A wrong profile name gets a suggestion."""
        done = pixel_llm("caption", "astronaut.jpg", "--profile", "prodution", cwd=photos)

        assert 2 == done.returncode
        assert "there is no profile 'prodution'; did you mean \"production\"?" in done.stderr

    def test_wrong_policy_starts_nothing(self, server, photos):
        """A policy with an unknown key is reported and no request is made."""
        (photos / "policies").mkdir()
        (photos / "policies" / "mine.yaml").write_text(
            f"version: 1\nextends: basic\nlm_studio: {{base_url: {server.base_url}, modle: x}}\n"
        )
        done = pixel_llm("caption", "astronaut.jpg", "--profile", "mine", cwd=photos)

        assert 1 == done.returncode
        assert "policies/mine.yaml:3:" in done.stderr
        assert "lm_studio.modle: unknown key 'modle'; did you mean \"model\"?" in done.stderr
        assert () == server.requests

    def test_wrong_usage(self, photos):
        """No image and an unknown option are wrong usage: exit 2."""
        assert 2 == pixel_llm("caption", cwd=photos).returncode
        assert 2 == pixel_llm("caption", "astronaut.jpg", "--modle", "x", cwd=photos).returncode


class TestPolicyValidate:
    def test_shipped_profiles(self, tmp_path):
        """Without a folder of one's own, the shipped profiles are checked."""
        done = pixel_llm("policy", "validate", cwd=tmp_path)

        assert 0 == done.returncode
        assert done.stdout.startswith("5 policies in ")
        assert done.stdout.endswith(": no problems\n")

    def test_every_problem_at_once(self, tmp_path):
        """Each problem is a line: file:line:column: path: message; the exit code is 1."""
        (tmp_path / "a.yaml").write_text("version: 1\nlogging: {level: loud}\ntargets: {lm_studio.chat: {tries: 3}}\n")
        (tmp_path / "b.yaml").write_text("version: 2\n")
        done = pixel_llm("policy", "validate", "a.yaml", "b.yaml", cwd=tmp_path)

        *names, last = (field.name for field in dataclasses.fields(TargetPolicy))
        known = f"{', '.join(names)} or {last}"
        assert 1 == done.returncode
        assert [
            "a.yaml:2:18: logging.level: must be DEBUG, INFO, WARNING, ERROR or CRITICAL (got 'loud')",
            f"a.yaml:3:28: targets.lm_studio.chat.tries: unknown key 'tries'; known here: {known}",
            "b.yaml:1:10: version: must be 1 (got 2)",
            "2 policies: 3 errors",
        ] == done.stdout.splitlines()

    def test_one_profile(self, tmp_path):
        """--profile checks one, and knows the shipped ones by name."""
        done = pixel_llm("policy", "validate", "--profile", "low-latency", cwd=tmp_path)

        assert (0, "1 policy: no problems\n") == (done.returncode, done.stdout)

    def test_missing_file(self, tmp_path):
        """A file that is not there is a problem, not a traceback."""
        done = pixel_llm("policy", "validate", "nope.yaml", cwd=tmp_path)

        assert (1, "") == (done.returncode, done.stderr)
        assert done.stdout.startswith("nope.yaml: cannot be read: No such file or directory\n")

    def test_empty_folder(self, tmp_path):
        """A folder without policies is said to be one."""
        done = pixel_llm("policy", "validate", ".", cwd=tmp_path)

        assert (1, ".: this folder has no policy files (*.yaml)\n") == (done.returncode, done.stderr)

    def test_variables_folder(self, tmp_path):
        """$PIXEL_LLM_POLICIES that leads nowhere is named."""
        done = pixel_llm("policy", "validate", cwd=tmp_path, PIXEL_LLM_POLICIES="nowhere")

        assert 1 == done.returncode
        assert "nowhere: the folder of policies does not exist (from $PIXEL_LLM_POLICIES)\n" == done.stderr

    def test_json(self, tmp_path):
        """With --format json a problem has its place as numbers."""
        (tmp_path / "a.yaml").write_text("version: 1\ntargets: {lm_studio.chta: {}}\n")
        done = pixel_llm("policy", "validate", "--format", "json", "a.yaml", cwd=tmp_path)

        (problem,) = json.loads(done.stdout)["problems"]
        assert ("a.yaml", 2, 11) == (problem["file"], problem["line"], problem["column"])


class TestDemo:
    def test_shows_every_way_to_be_served(self, tmp_path):
        """One object a call: LM Studio, cache and default value have served, the breaker has opened and closed."""
        done = pixel_llm("demo", "--format", "json", cwd=tmp_path)

        calls = [json.loads(line) for line in done.stdout.splitlines()]
        assert (0, "") == (done.returncode, done.stderr)
        assert {"caption", "served_by", "attempts", "elapsed", "breaker_state"} <= set(calls[0])
        assert {"lm_studio", "cache", "default_value"} == {call["served_by"] for call in calls}
        assert {"closed", "open", "half_open"} == {call["breaker_state"] for call in calls}
        assert "closed" == calls[-1]["breaker_state"]
        assert [] == list(tmp_path.iterdir())


class TestCommandLine:
    def test_unknown_command(self, tmp_path):
        """An unknown command gets a suggestion; exit 2."""
        done = pixel_llm("captoin", cwd=tmp_path)

        assert 2 == done.returncode
        assert "there is no command 'captoin'; did you mean \"caption\"?" in done.stderr

    def test_help_names_the_commands(self, tmp_path):
        """The help names every command."""
        done = pixel_llm("--help", cwd=tmp_path)

        assert 0 == done.returncode
        for command in ("caption", "demo", "lm-studio-stub", "policy"):
            assert command in done.stdout

    def test_interrupt(self, photos):
        """Ctrl-C ends a command at once, without a traceback, with 130."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
            process = subprocess.Popen(
                [sys.executable, "-m", "pixel_llm", "caption", "astronaut.jpg", "--base-url", url],
                cwd=photos,
                stderr=subprocess.PIPE,
                text=True,
            )
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
            connection.close()

        assert (130, "interrupted") == (process.returncode, stderr.strip())
