"""The command that serves a script."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import pixel_llm
from pixel_llm.cli.lm_studio_stub import lm_studio_stub_command
from pixel_llm.errors import PolicyError
from pixel_llm.testing import ScriptedLMStudio

#: The command in a process of its own; the first line undoes a shell that starts jobs deaf to Ctrl-C.
COMMAND = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from pixel_llm.cli.lm_studio_stub import lm_studio_stub_command
lm_studio_stub_command()
"""


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "script.yaml"
    path.write_text("steps: [{status: {status: 503, retry_after: 2}}, empty_choices]\n")
    return path


class TestLMStudioStub:
    @pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
    def test_serves_until_ctrl_c(self, script):
        """
        It says where it listens, prints a line for each request, and ends quietly.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(pixel_llm.__file__).parents[1]),
            "PYTHONIOENCODING": "utf-8",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "--script", str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )
        with process:
            first = process.stdout.readline()
            url = re.search(r"http://\S+", first)[0]
            with httpx.Client(trust_env=False) as client:
                client.post(f"{url}/chat/completions", json={})
                line = process.stdout.readline()
                client.get(f"{url}/models")
            second = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=5)

        assert f"LM Studio stub listens on {url} (script: {script}, 2 steps)\n" == first
        assert "1  POST /v1/chat/completions  → status 503 (retry_after 2)\n" == line
        assert "2  GET /v1/models  → model list\n" == second
        assert (("", ""), 0) == (rest, process.returncode)

    def test_bad_script(self, script):
        """
        A bad script stops it before it listens.
        """
        script.write_text("steps: [hagn]\n")
        result = CliRunner().invoke(lm_studio_stub_command, ["--script", str(script)])

        assert isinstance(result.exception, PolicyError)
        assert f"{script}:1:9: steps[0]: unknown step 'hagn'; did you mean \"hang\"?" == str(result.exception)

    def test_port_in_use(self, script):
        """
        A taken port is an error in one line, which names the port and the option for another one.
        """
        with ScriptedLMStudio() as server:
            arguments = ["--script", str(script), "--port", str(server.port)]
            result = CliRunner().invoke(lm_studio_stub_command, arguments)

        assert (1, "") == (result.exit_code, result.stdout)
        assert (
            f"error: cannot listen on 127.0.0.1:{server.port}: the port is in use, perhaps by another run of this "
            "program: choose another with --port\n"
        ) == result.stderr

    def test_address_of_another_machine(self, script):
        """
        So is an address that is not this machine's.
        """
        result = CliRunner().invoke(lm_studio_stub_command, ["--script", str(script), "--host", "203.0.113.1"])

        assert (1, True) == (result.exit_code, result.stderr.startswith("error: cannot listen on 203.0.113.1:0: "))
        assert result.stderr.endswith(": choose another address with --host\n")

    def test_no_script(self, tmp_path):
        """
        A script that is not there is wrong usage.
        """
        result = CliRunner().invoke(lm_studio_stub_command, ["--script", str(tmp_path / "none.yaml")])

        assert 2 == result.exit_code
